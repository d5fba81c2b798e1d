"""The event files that TensorBoard draws curves of, written with the standard library alone.

Other writers import TensorFlow, or torch where it is installed: seconds of every start, for a format of this size. A
file is a sequence of TFRecords (https://www.tensorflow.org/tutorials/load_data/tfrecord), each a message `Event` of
tensorflow/core/util/event.proto in the wire format of protocol buffers.
"""

import socket
import struct
import time
from collections.abc import Mapping
from pathlib import Path


class EventFile:
    """An event file; what is added is with the operating system at once.

    Its methods are those of `trackers.tracker.Tracker`, but that an image is given as the bytes of its PNG.
    """

    def __init__(self, folder: Path, *, purge_step: int = 0) -> None:
        """Makes the folder, and a new file in it.

        Args:
          folder: of the curves of one run, to which each start of the run adds a file.
          purge_step: TensorBoard hides what older files have of this step and later ones; 0: nothing.
        """
        folder.mkdir(parents=True, exist_ok=True)
        # A counter tells the files of one second apart.
        stem = f"events.out.tfevents.{int(time.time()):010}.{socket.gethostname()}"
        number = next(n for n in range(10**6) if not (folder / f"{stem}.{n}").exists())
        self._file = (folder / f"{stem}.{number}").open("xb")
        self._add(_bytes(3, b"brain.Event:2"))
        if purge_step:
            self._add(_whole(2, purge_step) + _bytes(7, _whole(1, 1)))  # a session starts

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Adds numbers of a step, by their tags such as 'train/loss'."""
        self._add_values(step, {tag: struct.pack("<Bf", 0x15, value) for tag, value in values.items()})

    def text(self, step: int, name: str, text: str) -> None:
        """Adds a text, which TensorBoard reads as Markdown: a tensor of one string, for its plugin 'text'."""
        plugin = _bytes(9, _bytes(1, _bytes(1, b"text")))
        tensor = _bytes(8, _whole(1, 7) + _bytes(2, _bytes(2, _whole(1, 1))) + _bytes(8, text.encode()))
        self._add_values(step, {name: plugin + tensor})

    def image(self, step: int, name: str, png: bytes) -> None:
        """Adds an image, the bytes of a PNG."""
        width, height = struct.unpack(">II", png[16:24])  # of its first chunk, IHDR
        self._add_values(step, {name: _bytes(4, _whole(1, height) + _whole(2, width) + _whole(3, 3) + _bytes(4, png))})

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _add_values(self, step: int, values: Mapping[str, bytes]) -> None:
        """Adds a summary: by tag, the fields of its values."""
        summary = (_bytes(1, _bytes(1, tag.encode()) + fields) for tag, fields in values.items())
        self._add(_whole(2, step) + _bytes(5, b"".join(summary)))

    def _add(self, fields: bytes) -> None:
        event = struct.pack("<Bd", 0x09, time.time()) + fields
        length = struct.pack("<Q", len(event))
        self._file.write(length + _checksum(length) + event + _checksum(event))
        self._file.flush()


def _varint(number: int) -> bytes:
    """7 bits a byte, the lowest first; all but the last byte have the 8th."""
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def _whole(field: int, number: int) -> bytes:
    return _varint(field << 3) + _varint(number)


def _bytes(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _table() -> list[int]:
    """Of CRC-32C (Castagnoli), reflected."""
    table = list(range(256))
    for _ in range(8):
        table = [crc >> 1 ^ 0x82F63B78 * (crc & 1) for crc in table]
    return table


_TABLE = _table()


def _checksum(content: bytes) -> bytes:
    """CRC-32C, masked as TFRecords have it, so that checksums of checksums are not weak."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", (crc >> 15 | crc << 17) + 0xA282EAD8 & 0xFFFFFFFF)
