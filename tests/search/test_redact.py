"""No secret of a URI is shown, whichever way a library reads the URI."""

import time
from itertools import product
from random import Random
from urllib.parse import quote, quote_plus

import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy.engine import make_url

from etarec.config import UserError
from search.redact import redacted, shown_uri
from search.track.mirror import first_line, store_address

PLACES = ["db.example:5432", "db.example", "[::1]:5432", "127.0.0.1:9", ""]
DRIVERS = ["postgresql", "postgresql+psycopg2", "mysql+pymysql", "mssql+pyodbc", "oracle+oracledb", "http", "https"]
RAW = ["hunter22", "hun/ter22", "hun@ter22", "@hunter22", "hunter22@", "hun:ter22", "hun?ter22", "hun#ter22",
       "hun&ter22", "hun=ter22", "hun://ter22",
       "hun;ter22", "hun%ter22", "hun//ter@@22", "1234/hunter22", "hun@ter/22?x=@y"]  # fmt: skip
PARAMETERS = ["password", "PASSWORD", "passwd", "pwd", "token", "sslpassword", "sslkey", "sslpass", "access_token",
              "api_key", "client_secret", "aws_secret_access_key", "secret"]  # fmt: skip
ODBC = ["PWD={}", "Pwd={}", "Driver={{ODBC Driver 18}};Server=tcp:h,1433;Uid=ada;Pwd={};Encrypt=yes"]


def forms(secret: str) -> list[str]:
    """Every way in which a URI that SQLAlchemy or MLflow accepts can hold the secret."""
    in_user = [f"{driver}://ada:{s}@{place}/db" for driver in DRIVERS for place in PLACES for s in written(secret)]
    tokens = [f"{driver}://{quote(secret, safe='')}@db.example/db" for driver in DRIVERS]
    unnamed = [f"{driver}://:{s}@db.example/db" for driver in DRIVERS for s in written(secret)]
    in_query = [
        f"{driver}://{user}db.example:5432/db?{query}"
        for driver, user, name in product(DRIVERS, ["", "ada@", "ada:other99@"], PARAMETERS)
        for s in written(secret)
        for query in (f"user=ada&{name}={s}", f"{name}={s}&user=ada")
    ]
    odbc = [text.format(braced(secret)) for text in ODBC] + [text.format(secret) for text in ODBC if ";" not in secret]
    in_odbc = [f"mssql+pyodbc:///?odbc_connect={quote_plus(text)}" for text in odbc]
    return [*in_user, *tokens, *unnamed, *in_query, *in_odbc, *odbc]


def braced(secret: str) -> str:
    """As ODBC wants a value with a semicolon in it."""
    return "{" + secret.replace("}", "}}") + "}"


def written(secret: str) -> list[str]:
    return list(dict.fromkeys([secret, quote(secret, safe="")]))


def leaks(text: str, secret: str) -> bool:
    """Whether the text holds the secret, or three characters of it in a row."""
    found = [part for i in range(len(secret) - 2) if any(map(str.isalnum, part := secret[i : i + 3]))]
    return any(part in text for part in (*found, *(quote(part, safe="") for part in found)))


@pytest.mark.parametrize("secret", RAW)
def test_no_form_of_a_uri_shows_its_secret(secret: str) -> None:
    shown = {uri: shown_uri(uri) for uri in forms(secret)}
    assert not {uri: text for uri, text in shown.items() if leaks(text.replace("db.example", ""), secret)}
    assert len(shown) > 500


def test_no_random_secret_is_shown() -> None:
    random = Random(0)
    for _ in range(200):
        secret = "".join(random.choices("QZXJKV789@/:?#&=;%+ '\"{}[]\\!$", k=12))
        for uri in random.sample(forms(secret), 100):
            assert secret not in shown_uri(uri) and secret not in redacted(f"cannot open '{uri}' now", uri), uri


@pytest.mark.parametrize("text", ["x" * 10**5, "://a:" * 10**4, "password" * 10**4, "a.b" * 10**5, "{" * 10**5])
def test_a_long_text_takes_no_long_time(text: str) -> None:
    begin = time.process_time()
    redacted(text, "http://ada:hunter22@db")
    assert time.process_time() - begin < 5


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("sqlite:////home/ada@work/mlflow.db", "sqlite:////home/ada@work/mlflow.db"),
        ("sqlite:///C:/runs/mlflow.db", "sqlite:///C:/runs/mlflow.db"),
        ("sqlite:///mlflow.db?cache=shared", "sqlite:///mlflow.db?..."),
        ("http://tracking:5000", "http://tracking:5000"),
        ("http://[::1]:5000/mlflow", "http://[::1]:5000/mlflow"),
        ("http://ada:secret@127.0.0.1:9", "http://...@127.0.0.1:9"),
        ("http://ada@tracking", "http://...@tracking"),
        ("http://tracking:5000/?token=secret", "http://tracking:5000/?..."),
        ("http://tracking:5000/#token=secret", "http://tracking:5000/#..."),
        ("postgresql+psycopg2://ada:p@ss/word@db:5432/mlflow", "postgresql+psycopg2://...@db:5432/mlflow"),
        ("postgresql://ada:secret/db", "postgresql://..."),
        ("postgresql:///ada:secret@db/mlflow", "postgresql://...@db/mlflow"),
        ("postgresql://db:5432/mlflow?password=p@ss", "postgresql://..."),
        ("jdbc:sqlserver://db:1433;user=sa;password=secret", "jdbc:sqlserver://..."),
        ("databricks://profile", "databricks://profile"),
        ("databricks", "databricks"),
        ("./mlruns", "./mlruns"),
        ("file:///data/mlruns", "file:///data/mlruns"),
        ("ada:secret@db:6379", "...@db:6379"),
    ],
)
def test_what_is_no_secret_is_shown(uri: str, shown: str) -> None:
    assert shown_uri(uri) == shown and shown_uri(shown) == shown
    assert redacted(f"({uri}): no answer", uri) == f"({shown}): no answer"


def test_settings_behind_a_host_lose_their_values() -> None:
    uri = "jdbc:sqlserver://db;user=sa;password=secret;encrypt=true"
    assert shown_uri(uri) == "jdbc:sqlserver://db;user=sa;password=...;encrypt=true"


def test_sqlalchemy_alone_would_show_them() -> None:
    """The reason for a function of our own; once this fails, SQLAlchemy's may do."""
    for uri in ("postgresql://ada:hun@ter22@db/mlflow", "postgresql://db/mlflow?password=hunter22"):
        assert "ter22" in make_url(uri).render_as_string(hide_password=True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cannot open http://ada:secret@h/x, or so", "cannot open http://...@h/x, or so"),
        ("'postgresql://ada:se cret@h/db' is bad", "'postgresql://...@h/db' is bad"),
        ("connect(host='h', password='secret', port=1)", "connect(host='h', password=..."),
        ("{'user': 'ada', 'password': 'se\\'cret', 'port': 1}", "{'user': 'ada', 'password': ..."),
        ('{"token": "secret"}', '{"token": ...'),
        ("Driver=x;PWD={sec}}ret;x};Server=h", "Driver=x;PWD=...;Server=h"),
        ("odbc_connect=Driver%3Dx%3BPWD%3Dsecret%3BServer%3Dh", "odbc_connect=Driver%3Dx%3BPWD%3D...%3BServer%3Dh"),
        ("url: /?token=secret&x=1 (refused)", "url: /?token=..."),
        ("set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD", None),
        ("trial-0001  FAILED  top_k 5  ValueError: x = 3; see https://docs.example/a?b", None),
    ],
)
def test_settings_and_uris_inside_a_text(text: str, expected: str | None) -> None:
    assert redacted(text) == (expected or text).replace("a?b", "a?...")


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("postgresql://ada:hunter22/db", "invalid literal for int() with base 10: 'hunter22'"),
        ("postgresql://ada:hun@ter22@db/x", 'could not translate host name "ter22@db" to address'),
        ("postgresql://ada:hunter@2x@db/x", 'could not translate host name "2x@db" to address'),
        ("postgresql://ada:hun%2Fter22@db/x", "bad password hun/ter22"),
        ("http://db/x?token=hun%2Fter22", "bad token hun/ter22"),
        ("mssql+pyodbc:///?odbc_connect=Server%3Dh%3BPWD%3Dhun%252Fter22", "bad login hun%2Fter22"),
        ("http://ada:hun\\ter22@db", "KeyError: 'hun\\\\ter22'"),
    ],
)
def test_an_error_may_hold_the_secret_without_its_uri(uri: str, text: str) -> None:
    assert not any(part in redacted(text, uri) for part in ("hun", "ter22", "2x"))


@pytest.mark.parametrize("secret", RAW)
def test_errors_about_the_store_are_told_without_its_password(monkeypatch: pytest.MonkeyPatch, secret: str) -> None:
    """Also where the line is cut off in the middle of the URI."""
    uri = f"postgresql://ada:{secret}@{'h' * 30}/db"
    monkeypatch.setattr("mlflow.get_tracking_uri", lambda: uri)
    assert not leaks(store_address(), secret)
    for padding in range(140, 200, 3):
        for error in (MlflowException(f"{'x' * padding} {uri} is bad"), UserError(f"{'x' * padding} {uri} is bad")):
            assert not leaks(first_line(error).replace("x", ""), secret)
