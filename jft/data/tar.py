"""Tar archives of strangers, read from front to back: nothing is unpacked to the disk, and little is believed.

A tar says itself how long its headers are, may hold links, devices and files with gigabytes of holes, and packed with
gzip it grows a thousandfold. `tarfile` takes the memory that a pax header claims. Here each header is looked at before
what it announces is read.
"""

import gzip
import pathlib
import tarfile
from collections.abc import Callable, Iterator
from typing import BinaryIO

_MAX_TOTAL = 2**28  # bytes of an archive, unpacked; CIFAR-10 has 186 million
_MAX_EXTENDED = 2**16  # bytes of a header that says more of the next member; times and long names, in some dozens
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
    """The files of an archive, plain or packed with gzip, in their order.

    Args:
      path: the archive.
      largest: bytes of any file in it.

    Yields:
      A file's name, and a function that gives its content, to be called before the next is asked for.

    Raises:
      ValueError: it is damaged or too large, or holds a link, a device, a file with holes, a name that leads out of it,
        or a file larger than `largest`. Also OSError, EOFError, tarfile.TarError and zlib.error: it is damaged.
    """
    with path.open("rb") as raw:
        packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        stream = _Stream(gzip.GzipFile(fileobj=raw) if packed else raw)
        while any(block := stream.read(tarfile.BLOCKSIZE)):
            header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            _check(header, largest)
            end = stream.at + -(-header.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            if header.type in _FILES:
                yield header.name, lambda size=header.size: stream.exactly(size)
            stream.skip_to(end)


def _check(header: tarfile.TarInfo, largest: int) -> None:
    name = header.name[:80]
    if header.type in _EXTENDED:  # what it says, such as a time to the millisecond, is not needed
        if not 0 <= header.size <= _MAX_EXTENDED:
            raise ValueError(f"a header that claims {header.size} bytes, where some dozens are usual")
    elif header.type not in (*_FILES, tarfile.DIRTYPE):
        raise ValueError(f"{name!r} in it is {_REFUSED.get(header.type, f'of the unknown type {header.type!r}')}")
    elif header.name.startswith("/") or "\\" in header.name or ".." in header.name.split("/"):
        raise ValueError(f"{name!r} in it names a place outside of the archive")
    elif not 0 <= header.size <= largest:
        raise ValueError(f"{name!r} in it claims {header.size} bytes; there should be no more than {largest}")


class _Stream:
    """Reads forward, up to a limit."""

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
