"""Packed files, folders of parts and addresses."""

import bz2
import gzip
import io
import lzma
import sys
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest

from etarec import readers
from etarec.config import ColumnsConfig, DataConfig, UserError
from etarec.readers import source
from etarec.readers.source import Source

TEXT = b"user_id,item_id,timestamp\na,x,1\nb,x,2\na,y,3\n"
EXPECTED = [(0, "x", 1), (1, "x", 2), (0, "y", 3)]
TABLE = pa.table({"user_id": ["a", "b", "a"], "item_id": ["x", "x", "y"], "timestamp": [1, 2, 3]})


def zipped(*contents: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number, content in enumerate(contents):
            archive.writestr(f"part-{number}.csv", content)
    return file.getvalue()


PACKED = {
    "gzip": gzip.compress(TEXT),
    "two gzip members": gzip.compress(TEXT[:30]) + gzip.compress(TEXT[30:]),
    "bzip2": bz2.compress(TEXT),
    "xz": lzma.compress(TEXT),
    "zstd": pa.compress(TEXT, "zstd", asbytes=True),
    "zip": zipped(TEXT),
}


@pytest.mark.parametrize("packing", PACKED)
@pytest.mark.parametrize("name", ["log.csv.GZ", "log"])
def test_packing_is_told_by_the_content(read, rows, packing, name) -> None:
    assert rows(read(PACKED[packing], name=name)) == EXPECTED


@pytest.mark.parametrize("packing", sorted(PACKED.keys() - {"two gzip members"}))
def test_a_damaged_packed_file_is_refused(read, packing) -> None:
    with pytest.raises(UserError, match=r"log.txt: cannot be read as "):
        read(PACKED[packing][:-20])


def test_an_archive_of_several_files_is_refused(read) -> None:
    with pytest.raises(
        UserError, match=r"the archive holds 2 files, expected one; unpack it first: 'part-0.csv', 'part-1"
    ):
        read(zipped(TEXT, TEXT))


def test_a_file_that_grows_beyond_the_limit_is_refused(read, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "FREE_BYTES", 2**20)
    bomb = gzip.compress(TEXT + b"a,x,1\n" * 2**21, mtime=0)
    with pytest.raises(UserError, match=r"unpacks to more than 200 times its size.*unpack it first"):
        read(bomb)


@pytest.mark.parametrize("name", ["a.pq", "log.parquet", "log"])
def test_parquet_and_feather_are_told_by_the_content(tmp_path: Path, rows, name) -> None:
    for write in (pa.parquet.write_table, pa.feather.write_feather):
        write(TABLE, str(tmp_path / name))
        assert rows(readers.read(DataConfig(path=str(tmp_path / name)))) == EXPECTED


def test_a_folder_of_parts_is_one_log_in_the_order_of_names(tmp_path: Path, rows) -> None:
    folder = tmp_path / "log.parquet"
    (folder / "day=1").mkdir(parents=True)
    (folder / "_metadata").write_text("no part")
    (folder / ".part-0.parquet.crc").write_text("x")
    pa.parquet.write_table(TABLE.slice(1), folder / "part-1.parquet")
    pa.parquet.write_table(TABLE.slice(0, 1), folder / "day=1" / "part-0.parquet")
    log = readers.read(DataConfig(path=str(folder)))
    assert rows(log) == EXPECTED
    assert log.reading.understood[0] == "2 files of Parquet"


def test_a_row_of_a_part_is_named_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "0.csv").write_bytes(TEXT)
    (tmp_path / "parts" / "1.csv").write_bytes(TEXT.replace(b"a,y,3", b"a,y,"))
    with pytest.raises(UserError, match=r"parts/1.csv: line 4 has no timestamp"):
        readers.read(DataConfig(path=str(tmp_path / "parts")))


def test_a_folder_of_different_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(TEXT)
    pa.parquet.write_table(TABLE, tmp_path / "log.parquet")
    with pytest.raises(
        UserError, match=r"of different kinds: .*log.csv \(text\), .*log.parquet \(Parquet\); expected parts"
    ):
        readers.read(DataConfig(path=str(tmp_path)))


def test_an_address_is_read_through_fsspec(rows) -> None:
    fsspec = pytest.importorskip("fsspec", reason="addresses are read by fsspec")
    with fsspec.open("memory://logs/log.csv.gz", "wb") as file:
        file.write(PACKED["gzip"])
    with fsspec.open("memory://logs/log.parquet", "wb") as file:
        pa.parquet.write_table(TABLE, file)
    for name in ("log.csv.gz", "log.parquet"):
        assert rows(readers.read(DataConfig(path=f"memory://logs/{name}"))) == EXPECTED


def test_an_address_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(
        UserError, match=r"s3://logs/log.csv: reading s3:// needs a package .* `pip install fsspec s3fs"
    ):
        readers.read(DataConfig(path="s3://logs/log.csv"))


def test_an_address_that_cannot_be_opened_is_refused() -> None:
    pytest.importorskip("fsspec", reason="addresses are read by fsspec")
    for address in ("memory://nothing/here.csv", "nosuch://host/log.csv"):
        with pytest.raises(UserError, match=f"{address}: "):
            readers.read(DataConfig(path=address))


def test_messages_hide_the_password_and_query_of_an_address() -> None:
    assert Source("https://me:secret@host/log.csv?token=abc").name == "https://host/log.csv"


def test_columns_may_be_named_by_number_in_parquet(tmp_path: Path, rows) -> None:
    pa.parquet.write_table(TABLE, tmp_path / "log")
    config = DataConfig(path=str(tmp_path / "log"), columns=ColumnsConfig(user=1, item=2, timestamp=3))
    assert rows(readers.read(config)) == EXPECTED


def test_parts_without_rows_and_empty_files_are_passed_over(tmp_path: Path, rows) -> None:
    pa.parquet.write_table(TABLE.slice(0, 0), tmp_path / "part-0")
    pa.parquet.write_table(TABLE, tmp_path / "part-1")
    (tmp_path / "part-2").touch()
    log = readers.read(DataConfig(path=str(tmp_path)))
    assert rows(log) == EXPECTED and log.reading.understood[0] == "2 files of Parquet"


def test_an_error_of_a_remote_package_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    class _CredentialsError(Exception):
        pass

    def fails(*_: object) -> None:
        raise _CredentialsError("Unable to locate credentials\nmore")

    fsspec = pytest.importorskip("fsspec", reason="addresses are read by fsspec")
    monkeypatch.setattr(fsspec, "open", fails)
    with pytest.raises(UserError, match=r"^s3://logs/log.csv: cannot be opened: Unable to locate credentials$"):
        readers.read(DataConfig(path="s3://logs/log.csv"))


def test_several_zstd_frames_are_one_file(read, rows) -> None:
    assert (
        rows(read(pa.compress(TEXT[:40], "zstd", asbytes=True) + pa.compress(TEXT[40:], "zstd", asbytes=True)))
        == EXPECTED
    )


def test_a_dictionary_of_times_is_read(tmp_path: Path, rows) -> None:
    place = TABLE.column_names.index("timestamp")
    coded = TABLE.set_column(place, "timestamp", TABLE["timestamp"].dictionary_encode())
    pa.parquet.write_table(coded, tmp_path / "log")
    assert rows(readers.read(DataConfig(path=str(tmp_path / "log")))) == EXPECTED
