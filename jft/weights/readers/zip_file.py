"""Reads untrusted zip archives with uncompressed members, like those of torch and Keras, without unpacking them.

A malicious zip can declare a thousand members on the same bytes, or terabytes of content. Here members must not
overlap and must lie within the file, so together they are never larger than the file.
"""

import struct
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

_HEADER = struct.Struct("<4s22xHH")  # a member's own: signature, lengths of its name and of what else is there
_CHUNK = 2**20


class Member(NamedTuple):
    """Position of a member's bytes in the file, and their expected CRC-32."""

    name: str
    start: int
    size: int
    crc: int


def members(path: Path) -> dict[str, Member]:
    """The members of an archive by name, without folders.

    Args:
      path: a zip file.

    Raises:
      Exception: various types: not a zip file, or a member has a duplicate name, a path outside of the archive, is
        compressed or encrypted, extends beyond the file, or overlaps another.
    """
    found: dict[str, Member] = {}
    with path.open("rb") as file, zipfile.ZipFile(file) as archive:
        entries = sorted(archive.infolist(), key=lambda entry: entry.header_offset)
        end = 0
        for entry in entries:
            _check(entry, found)
            if entry.header_offset < end:
                raise ValueError(f"its member {entry.filename!r} overlaps another")
            start = _start(file, entry)
            end = start + entry.file_size
            if end > archive.start_dir:
                raise ValueError(f"its member {entry.filename!r} claims {entry.file_size} bytes, which are not there")
            if not entry.is_dir():
                found[entry.filename] = Member(entry.filename, start, entry.file_size, entry.CRC)
    return found


def _check(entry: zipfile.ZipInfo, found: dict[str, Member]) -> None:
    """ValueError for an unsafe member. Nothing is unpacked, but a path outside of the folder marks a malicious file."""
    name = entry.filename
    if name.startswith("/") or "\\" in name or ":" in name or ".." in name.split("/"):
        raise ValueError(f"its member {name[:80]!r} names a place outside of the archive")
    if name in found:
        raise ValueError(f"it has two members {name[:80]!r}")
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        raise ValueError(f"its member {name[:80]!r} is compressed, as neither torch nor Keras saves")
    if entry.flag_bits & 1:
        raise ValueError(f"its member {name[:80]!r} is encrypted")


def _start(file: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """The byte of the file at which a member's content starts: behind its own header."""
    file.seek(entry.header_offset)
    signature, name, extra = _HEADER.unpack(file.read(_HEADER.size))
    if signature != b"PK\x03\x04":
        raise ValueError(f"its member {entry.filename!r} is not where the directory says")
    return entry.header_offset + _HEADER.size + name + extra


def read(path: Path, member: Member, start: int = 0, stop: int | None = None) -> bytes:
    """A member's bytes, or a part of them."""
    with path.open("rb") as file:
        file.seek(member.start + start)
        return file.read((member.size if stop is None else min(stop, member.size)) - start)


def check(path: Path, member: Member) -> None:
    """ValueError if a member's bytes do not match its CRC-32."""
    crc, left = 0, member.size
    with path.open("rb") as file:
        file.seek(member.start)
        while left and (chunk := file.read(min(left, _CHUNK))):
            crc, left = zlib.crc32(chunk, crc), left - len(chunk)
    if left or crc != member.crc:
        raise ValueError(f"its member {member.name!r} is damaged: its CRC is {crc:08x}, not {member.crc:08x}")
