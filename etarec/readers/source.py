"""The bytes of a log, from a file, a folder of parts or an address; packing is told by their first bytes."""

import bz2
import gzip
import io
import lzma
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal

import pyarrow as pa

from etarec.config import UserError
from etarec.readers.place import EXPECTED_FILE, listed

Columnar = Literal["Parquet", "Feather", "JSON lines"]
Kind = Columnar | Literal["text"]

MAX_RATIO, FREE_BYTES = 200, 2**26  # largest growth by unpacking, which counts beyond the free bytes
HEAD_BYTES = 2**18
_COLUMNAR: tuple[tuple[bytes, Kind], ...] = ((b"PAR1", "Parquet"), (b"ARROW1", "Feather"))
_JSON = re.compile(rb"(\xef\xbb\xbf)?\s*(\{|\[\s*[\[{])")
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\0": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
}


@dataclass(frozen=True)
class Source:
    """One file, on disk or at an address that fsspec opens."""

    path: str

    @property
    def name(self) -> str:
        """The path for messages: an address without user, password and query."""
        scheme, separator, rest = self.path.partition("://")
        return f"{scheme}://{rest.partition('?')[0].rpartition('@')[2]}" if separator else self.path

    def raw(self) -> IO[bytes]:
        """The file's bytes as they are, to be read at any place."""
        return _remote(self.path) if "://" in self.path else Path(self.path).open("rb")

    def seekable(self) -> pa.NativeFile:
        """The same for a reader that jumps; Arrow reads a file on disk by itself."""
        return pa.PythonFile(self.raw(), mode="r") if "://" in self.path else pa.OSFile(self.path)

    def packing(self) -> str | None:
        """The packing of the file: gzip, bzip2, xz, zstd or zip; None if it is not packed."""
        with self.raw() as file:
            head = file.read(8)
        return next((name for magic, name in _PACKED.items() if head.startswith(magic)), None)

    def open(self) -> "Unpacked":
        """The file's unpacked bytes, to be read once from the beginning."""
        packing = self.packing()
        file = self.raw()
        try:
            return Unpacked(self.name, file, file if packing is None else _UNPACK[packing](file))
        except BaseException:
            file.close()
            raise

    def head(self) -> bytes:
        """The first unpacked bytes, 256 KiB at most."""
        with self.open() as file:
            return file.read(HEAD_BYTES)

    def kind(self) -> Kind:
        """The kind of log in the file, told by its first bytes and not by its name."""
        head = self.head()
        for magic, kind in _COLUMNAR:
            if head.startswith(magic):
                return kind
        return "JSON lines" if _JSON.match(head) else "text"


class Unpacked(io.RawIOBase):
    """The unpacked bytes of a file. Raises UserError where unpacking makes more of the file than any log would give."""

    def __init__(self, name: str, packed: IO[bytes], unpacked: IO[bytes]):
        self._name, self._packed, self._unpacked = name, packed, unpacked
        self._bytes = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        content = self._unpacked.read(size)
        self._bytes += len(content)
        if self._packed is not self._unpacked and self._bytes > FREE_BYTES:
            self._check(self._packed.tell())
        return content

    def _check(self, packed: int) -> None:
        if self._bytes > FREE_BYTES + MAX_RATIO * packed:
            raise UserError(
                f"{self._name}: unpacks to more than {MAX_RATIO} times its size, as a damaged or hostile file does; "
                "expected a packed log; if this is one, unpack it first"
            )

    def close(self) -> None:
        if not self.closed:
            self._unpacked.close()
            self._packed.close()
        super().close()


def sources(path: str) -> list[Source]:
    """The file at `path`, or the parts in the folder there, in the order of their names.

    Raises UserError if there is none.
    """
    if "://" in path:
        return [Source(path)]
    place = Path(path)
    if place.is_dir():
        parts = [part for part in sorted(place.rglob("*")) if part.is_file() and not _hidden(part.relative_to(place))]
        parts = [part for part in parts if part.stat().st_size]
        if not parts:
            raise UserError(f"{path}: the folder holds no file with content; {EXPECTED_FILE}, or a folder of its parts")
        return [Source(str(part)) for part in parts]
    if not place.exists():
        raise UserError(f"{path}: no such file; {EXPECTED_FILE}")
    if not place.stat().st_size:
        raise UserError(f"{path}: the file is empty; {EXPECTED_FILE}")
    return [Source(path)]


def common_kind(parts: list[Source]) -> Kind:
    """The kind of log that all parts hold. Raises UserError, which names two of them, if they differ."""
    kinds = {part.kind(): part for part in parts}
    if len(kinds) > 1:
        different = ", ".join(f"{part.path} ({kind})" for kind, part in kinds.items())
        raise UserError(f"the folder's files are of different kinds: {different}; expected parts of one log only")
    return next(iter(kinds))


def _hidden(part: Path) -> bool:
    """Whether a file in a folder of parts is not a part: `_SUCCESS`, checksums and hidden files."""
    return any(name.startswith(("_", ".")) for name in part.parts)


def _remote(address: str) -> IO[bytes]:
    name, scheme = Source(address).name, address.partition("://")[0]
    try:
        import fsspec  # an address is rare, and the package optional

        file: Any = fsspec.open(address, "rb").open()
    except ImportError as error:
        raise UserError(
            f"{name}: reading {scheme}:// needs a package that is not installed ({error}); install it, for instance "
            "`pip install fsspec s3fs gcsfs aiohttp`, or copy the file to this machine"
        ) from error
    except Exception as error:  # each of fsspec's packages raises errors of its own
        raise UserError(f"{name}: cannot be opened: {(str(error) or repr(error)).splitlines()[0]}") from error
    return file


def _only_member(file: IO[bytes]) -> IO[bytes]:
    """The one file in a zip archive."""
    archive = zipfile.ZipFile(file)
    members = [member for member in archive.infolist() if not member.is_dir()]
    if len(members) != 1:
        names = listed([member.filename for member in members])
        raise zipfile.BadZipFile(f"the archive holds {len(members)} files, expected one; unpack it first: {names}")
    return archive.open(members[0])


_UNPACK: dict[str, Callable[[IO[bytes]], Any]] = {
    "gzip": lambda file: gzip.GzipFile(fileobj=file),
    "bzip2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
    "zstd": lambda file: pa.CompressedInputStream(file, "zstd"),
    "zip": _only_member,
}
