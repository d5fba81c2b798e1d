"""Reads untrusted tar archives from front to back, without unpacking to disk.

A malicious archive can declare headers of any length, hold links, devices and files with gigabytes of holes, and
expand a thousandfold from gzip. `tarfile` allocates as much memory as a pax header declares. Here every header is
checked before what it declares is read.
"""

import gzip
import pathlib
import tarfile
from collections.abc import Callable, Iterator
from typing import BinaryIO, cast

_MAX_TOTAL = 2**28  # bytes of an unpacked archive; CIFAR-10 has 186 million
_MAX_EXTENDED = 2**16  # bytes of an extended header; times and long names need some dozens
_CHUNK = 2**20
_FILES = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_REFUSED = {
    tarfile.LNKTYPE: "a hard link",
    tarfile.SYMTYPE: "a symbolic link",
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a FIFO",
    tarfile.GNUTYPE_SPARSE: "a file with holes",
}


def files(path: pathlib.Path, largest: int) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Iterates over the files of an archive, plain or gzipped, in order.

    Args:
      path: the archive.
      largest: limit on the size of a file in it, in bytes.

    Yields:
      (name, function). The function returns the file's content; call it before the next iteration.

    Raises:
      ValueError: the archive is damaged or too large, or holds a link, a device, a file with holes, a name that leads
        outside of it, or a file larger than `largest`.
      OSError, EOFError, tarfile.TarError, zlib.error: the archive is damaged.
    """
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream = _Stream(cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if packed else raw)
        while any(block := stream.read(tarfile.BLOCKSIZE)):
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            _check(header, largest)
            end = stream.at + -(-header.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            if header.type in _FILES:
                yield header.name, lambda size=header.size: stream.exactly(size)
            stream.skip_to(end)


def _check(header: tarfile.TarInfo, largest: int) -> None:
    name = header.name[:80]
    if header.type in _EXTENDED:  # its content, such as a time to the millisecond, is not needed
        if not 0 <= header.size <= _MAX_EXTENDED:
            raise ValueError(f"a header that claims {header.size} bytes, where some dozens are usual")
    elif header.type not in (*_FILES, tarfile.DIRTYPE):
        raise ValueError(f"{name!r} in it is {_REFUSED.get(header.type, f'of the unknown type {header.type!r}')}")
    elif header.name.startswith("/") or "\\" in header.name or ".." in header.name.split("/"):
        raise ValueError(f"{name!r} in it names a place outside of the archive")
    elif not 0 <= header.size <= largest:
        raise ValueError(f"{name!r} in it claims {header.size} bytes; there should be no more than {largest}")


class _Stream:
    """Reads forward, up to `_MAX_TOTAL` bytes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.at = file, 0

    def read(self, size: int) -> bytes:
        content = self._file.read(size)
        self.at += len(content)
        if self.at > _MAX_TOTAL:
            raise ValueError(f"it unpacks to more than {_MAX_TOTAL} bytes")
        return content

    def exactly(self, size: int) -> bytes:
        content = self.read(size)
        if len(content) < size:
            raise EOFError("it ends in the middle of a file")
        return content

    def skip_to(self, end: int) -> None:
        while self.at < end and self.read(min(_CHUNK, end - self.at)):
            pass
