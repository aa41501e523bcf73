"""URIs without their secrets, for output and files, however a library takes a URI apart.

SQLAlchemy's `URL.render_as_string` is not enough. It shows the query (`?password=...`, `?odbc_connect=...`), ends a
password at its first `@` and shows the rest as the host, and raises an error for a URI that it cannot parse.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import parse_qsl, quote, unquote, unquote_plus

from etarec.config import UserError

HIDDEN = "..."
SHORTEST = 4  # characters of a secret; a shorter one would be found in the middle of words

_SECRET = r"(?<!\w)\w*(?:pass(?:word|wd|phrase)?|pwd|token|secret|credential|(?:ssl|api|access|account|private)_?key)"  # noqa: S105 - a pattern
_ASSIGN = r"['\"]?\s*:\s*(?=['\"])|\s*=\s*|%3D"  # 'password': 'x', PWD=x, PWD%3Dx
_VALUE = r"\{(?:[^}]|\}\})*\}|%7B(?:(?!%7D).|%7D%7D)*%7D|.*?(?=;|%3B|$)"  # in braces, or up to the next setting
_NAME = re.compile(_SECRET, re.IGNORECASE)
_SETTING = re.compile(rf"(?P<name>{_SECRET})(?P<assign>{_ASSIGN})(?P<value>{_VALUE})", re.IGNORECASE | re.MULTILINE)
_URI = re.compile(r"(?<![\w+.-])[\w+.-]+://[^\s'\"<>]*(?:\.\.\.|[^\s'\"<>.,:;)\]}])")
_SCHEME = re.compile(r"[\w+.:-]+")
_NOT_A_PORT = re.compile(r"(://[^/\s:@?#\[]*:)(?!\d*(?:[/?#\s'\")\],;.]|$))[^\n]*@")  # a password with blanks or quotes
_HOST = re.compile(r"(?:\[[^\]]*\]|[^/:?#]*)(?::\d*)?(?:[/?#]|$)")


def shown_uri(uri: str) -> str:
    """The URI without user, password, query and fragment, as in `postgresql://...@host/database?...`."""
    scheme, separator, rest = uri.partition("://")
    if separator and _SCHEME.fullmatch(scheme):
        return f"{scheme}://{_without_settings(_shown(rest))}"
    rest = _without_settings(uri)
    return f"{HIDDEN}{rest[rest.rindex('@') :]}" if "@" in rest else rest


def redacted(text: str, *uris: str) -> str:
    """A text, such as an error message, in which every URI is as `shown_uri` shows it.

    uris: URIs whose passwords the text may hold by themselves, decoded or in parts.
    """
    for uri in filter(None, uris):
        text = text.replace(uri, shown_uri(uri))
    text = _NOT_A_PORT.sub(rf"://{HIDDEN}@", text)
    text = _without_settings(_URI.sub(lambda found: shown_uri(found[0]), text))
    secrets = {form for uri in uris for secret in _secrets(uri) for form in _forms(secret) if len(form) >= SHORTEST}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def of_error(text: str) -> str:
    """An error's text or traceback as `redacted` shows it, without the secrets of the tracking store's URI."""
    return redacted(text, os.environ.get("MLFLOW_TRACKING_URI", ""))


@contextmanager
def redacting(*uris: str) -> Iterator[None]:
    """Redact the message of a UserError that the block raises, as `redacted` does."""
    try:
        yield
    except UserError as error:
        raise UserError(redacted(str(error), *uris)) from error


def _shown(rest: str) -> str:
    """The part of a URI after `://`. Where `@`, `?` and `#` can be read in two ways, nothing of it is shown."""
    place, mark, query = re.match(r"([^?#]*)([?#]?)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]
    _, at, host = place.rpartition("@")
    if "@" in query or not (at or _is_path(place) or _HOST.match(place)):
        return HIDDEN
    shown = place if _is_path(place) or not at else f"{HIDDEN}@{host}"
    return f"{shown}{mark}{HIDDEN if mark else ''}"


def _is_path(place: str) -> bool:
    """Whether its `@` parts no user from a host, as in `sqlite:////home/ada@work/mlflow.db`."""
    return place.startswith("/") and ":" not in place.partition("@")[0]


def _without_settings(text: str) -> str:
    """Settings such as `PWD=...` of an ODBC string lose their values."""
    return _SETTING.sub(lambda found: f"{found['name']}{found['assign']}{HIDDEN}", text)


def _secrets(uri: str) -> Iterator[str]:
    rest = uri.partition("://")[2] or uri
    user, at, host = rest.rpartition("@")
    if at and not _is_path(rest):
        yield from _passwords(user.partition(":")[2] or user, host)
    elif not _HOST.match(rest):
        yield re.split("[/?#]", rest)[0].partition(":")[2]
    for name, value in parse_qsl(rest.partition("?")[2]):
        if _NAME.search(name):
            yield value
        yield from (found["value"].strip("{}") for found in _SETTING.finditer(value))


def _passwords(password: str, host: str) -> Iterator[str]:
    """The password, and what SQLAlchemy takes for it and for the host: it ends a password at its first `@`."""
    yield password
    for place in (place for place, character in enumerate(password) if character == "@"):
        yield from (password[:place], password[place + 1 :], re.split("[/?:]", f"{password[place + 1 :]}@{host}")[0])


def _forms(secret: str) -> Iterator[str]:
    """The ways in which an error message may write it."""
    for form in (secret, unquote(secret), unquote_plus(secret), quote(unquote(secret), safe="")):
        yield from (form, repr(form)[1:-1])
