"""Dates in many forms become seconds; ambiguous ones are refused; units are told apart."""

from datetime import UTC, datetime

import pytest

from etarec.config import UserError

MOMENTS = [datetime(2010, 12, 1, 8, 26, 40, tzinfo=UTC), datetime(2010, 12, 13, 20, 5, 9, tzinfo=UTC)]


def log_of(times: list[str], name: str = "t") -> str:
    return f"u\ti\t{name}\n" + "".join(f"a\tx\t{time}\n" for time in times)


def short(moment: datetime) -> datetime:
    return moment.replace(second=0)


@pytest.mark.parametrize(
    ("fmt", "exact"),
    [
        ("%Y-%m-%d %H:%M:%S UTC", True),
        ("%Y-%m-%dT%H:%M:%SZ", True),
        ("%Y-%m-%d %H:%M:%S.000 UTC", True),
        ("%m/%d/%Y %H:%M", False),
        ("%d/%m/%Y %H:%M", False),
        ("%d.%m.%Y %H:%M:%S", True),
        ("%m/%d/%Y %I:%M:%S %p", True),
        ("%a %b %d %H:%M:%S %Y", True),
        ("%a %b %d %H:%M:%S +0000 %Y", True),
        ("%Y/%m/%d %H:%M:%S", True),
        ("%d %b %Y, %H:%M", False),
    ],
)
def test_dates_are_guessed(read, fmt, exact) -> None:
    log = read(log_of([moment.strftime(fmt) for moment in MOMENTS]), "u", "i", "t")
    expected = [(moment if exact else short(moment)).timestamp() for moment in MOMENTS]
    assert log.times is not None and log.times.tolist() == expected


def test_days_without_leading_zeros_are_guessed(read) -> None:
    log = read(log_of(["12/1/2010 8:26", "12/13/2010 20:05"]), "u", "i", "t")
    assert log.times is not None and log.times.tolist() == [short(moment).timestamp() for moment in MOMENTS]
    assert log.reading.understood[-1] == "timestamps: dates as %m/%d/%Y %H:%M (guessed)"
    review = read(log_of(["09 13, 2009", "10 1, 2009"]), "u", "i", "t")
    assert review.times is not None and review.times.tolist() == [1252800000, 1254355200]


def test_an_ambiguous_date_is_refused_and_a_format_settles_it(read) -> None:
    text = log_of(["12/1/2010 8:26", "1/12/2010 8:26"])
    with pytest.raises(
        UserError, match=r"line 2 has the timestamp '12/1/2010 8:26', and no row tells .*'%m/%d/%Y %H:%M' or '%d/%m"
    ):
        read(text, "u", "i", "t")
    log = read(text, "u", "i", "t", time_format="%d/%m/%Y %H:%M")
    assert log.times is not None and log.times[0] == datetime(2010, 1, 12, 8, 26, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("times", "fields", "message"),
    [
        (
            ["13/1/2010 8:26", "1/13/2010 8:26"],
            {},
            "line 3 has the timestamp '1/13/2010 8:26'; expected a date as %d/%m/%Y",
        ),
        (
            ["1.2.2010", "soon"],
            {"time_format": "%d.%m.%Y"},
            r"line 3 has the timestamp 'soon'; expected a date as '%d.%m.%Y'",
        ),
        (["1.2.2010"], {"time_format": "%d.%q"}, "data.time_format: given '%d.%q', expected a format such as"),
        (
            ["soon", "1"],
            {},
            "line 2 has the timestamp 'soon'; expected a number or an ISO 8601 date and time, or data.time_f",
        ),
        (["1", "NA"], {}, r"line 3 has the timestamp 'NA'; .*data.drop: \[missing_time\]"),
        (["1", ""], {}, r"line 3 has no timestamp; .*data.drop: \[missing_time\]"),
    ],
)
def test_timestamps_that_cannot_be_read_are_refused(read, times, fields, message) -> None:
    with pytest.raises(UserError, match=message):
        read(log_of(times), "u", "i", "t", **fields)


@pytest.mark.parametrize("word", ["", "NA", "null", "nan", "NaT", "\\N", "-"])
@pytest.mark.parametrize("time", ["5", "2010-12-01"])
def test_rows_without_a_time_can_be_dropped(read, word, time) -> None:
    log = read(log_of([time, word, time]), "u", "i", "t", drop=("missing_time",))
    assert log.times is not None and len(log.times) == 2
    assert log.reading.dropped == ("1 of 3 rows (data.drop: missing_time)",)


def test_a_log_in_which_all_times_are_missing_is_refused(read) -> None:
    with pytest.raises(UserError, match=r"no row has a timestamp; .*data.columns.timestamp: null"):
        read(log_of(["NA", "NA"]), "u", "i", "t", drop=("missing_time",))


@pytest.mark.parametrize(
    ("factor", "unit"), [(1, "seconds"), (1e3, "milliseconds"), (1e6, "microseconds"), (1e9, "nanoseconds")]
)
def test_units_are_told_apart(read, factor, unit) -> None:
    log = read(log_of([str(round(moment.timestamp() * factor)) for moment in MOMENTS]), "u", "i", "t")
    assert log.reading.understood[-1] == f"timestamps: {unit} since 1970"
    assert log.reading.doubts == ()


def test_counts_have_no_unit(read) -> None:
    assert read(log_of(["1", "2"]), "u", "i", "t").reading.understood[-1] == "timestamps: numbers"


def test_mixed_units_are_said(read) -> None:
    log = read(log_of(["1291192000", "1291192001", "1291192002000"]), "u", "i", "t")
    assert "2 in seconds, 1 in milliseconds; the first in milliseconds is 1291192002000 in " in log.reading.doubts[0]
    assert "line 4" in log.reading.doubts[0]


def test_times_of_0_among_others_are_said(read) -> None:
    log = read(log_of(["1291192000", "0", "1291192002"]), "u", "i", "t")
    assert "1 timestamps are 0 or less where others are seconds since 1970; the first is in " in log.reading.doubts[0]
    assert "line 3" in log.reading.doubts[0]


def test_blanks_around_values_and_names_are_no_part_of_them(read, rows) -> None:
    assert rows(read("u, i, t\na,x, 5\nb,y, 6 \n", "u", "i", "t")) == [(0, "x", 5), (1, "y", 6)]
    dates = read("u, i, t\na,x, 2010-12-01 \nb,y,2010-12-02\n", "u", "i", "t")
    assert dates.times is not None and dates.times.tolist() == [1291161600, 1291248000]
