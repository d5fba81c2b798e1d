"""The text of a CSV file: its encoding, its delimiter, its columns and rows."""

import codecs
import csv
import dataclasses
import io
import pathlib
import re
from collections.abc import Iterable

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars (|)"}  # the first one wins where several fit
# Encodings by the byte order mark at the start of a file, longer marks first: UTF-32's starts like UTF-16's.
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_SEP_LINE = re.compile('"?sep=([,;|\t])"?\r?\n')  # Excel's first line that names the delimiter
_SAMPLE = 50  # rows from which the delimiter is recognized
_SHOWN = 5  # wrong rows that an error lists

Row = tuple[int, dict[str, str]]  # line number in the file, from 1; {column: cell}


@dataclasses.dataclass(frozen=True)
class Table:
    """The content of a CSV file.

    Attributes:
      columns: column names, stripped and in lower case.
      rows: line numbers and stripped cells, without empty lines.
      delimiter: a key of `DELIMITERS`.
      encoding: Python's name of the encoding.
    """

    columns: list[str]
    rows: list[Row]
    delimiter: str
    encoding: str

    @property
    def separator(self) -> str:
        """The delimiter in words, such as 'semicolons'."""
        return DELIMITERS.get(self.delimiter, repr(self.delimiter))


def read(path: pathlib.Path, delimiter: str = "") -> Table:
    """Reads a CSV file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark.

    The first row that is not empty holds the column names.

    Args:
      path: the file.
      delimiter: between cells; empty: recognized from the first rows.

    Raises:
      ValueError: the text has another encoding or no rows, or a row has too few or too many cells; names the row.
    """
    text, encoding = _decoded(path)
    rows, wrong = [], []
    hint = _SEP_LINE.match(text)
    delimiter = delimiter or (hint[1] if hint else _recognized(text))
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        if hint:
            next(lines)
        columns = [cell.strip().lower() for cell in next(filter(None, lines), [])]
        for cells in lines:
            if cells and len(cells) != len(columns):
                wrong.append((lines.line_num, f"has {len(cells)} cells, but there are {len(columns)} columns"))
            elif cells:
                rows.append((lines.line_num, dict(zip(columns, map(str.strip, cells), strict=True))))
    except csv.Error as error:
        raise ValueError(f"cannot read {path} as a CSV file (row {lines.line_num}: {error}).") from error
    refuse(path, wrong)
    if not rows:
        raise ValueError(f"{path} lists no images: it has {len(columns)} columns and no rows below them.")
    return Table(columns, rows, delimiter, encoding)


def refuse(path: pathlib.Path, wrong: Iterable[tuple[int, str]], hint: str = "") -> None:
    """Raises one ValueError that lists the wrong rows of a file, if any.

    Args:
      path: the file.
      wrong: (row number, message) of each wrong row.
      hint: the last sentence of the error.
    """
    if wrong := sorted(wrong):
        lines = "; ".join(f"row {row} {what}" for row, what in wrong[:_SHOWN])
        more = f"; and {len(wrong) - _SHOWN} more rows" if len(wrong) > _SHOWN else ""
        raise ValueError(f"{path}: {lines}{more} (the header is row 1).{f' {hint}' if hint else ''}")


def _decoded(path: pathlib.Path) -> tuple[str, str]:
    """The text and its encoding."""
    data = path.read_bytes()
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding), encoding
    except UnicodeDecodeError as error:
        raise ValueError(f"cannot read {path} as a CSV file in {encoding.upper()} ({_why(data, error)}") from error


def _why(data: bytes, error: UnicodeDecodeError) -> str:
    """Why the bytes cannot be decoded as text, and the remedy."""
    if data.startswith(b"PK\x03\x04"):
        return "it is an Excel workbook): save it as 'CSV UTF-8'."
    if error.encoding != "utf-8" or b"\0" in data[:1000]:
        return f"{error}): save it as 'CSV UTF-8', or convert it: iconv -f ENCODING -t UTF-8 OLD.csv > NEW.csv."
    start = data.rfind(b"\n", 0, error.start) + 1
    line = data[start : error.start + 20].partition(b"\n")[0].decode("cp1252", "replace").strip()
    row = data.count(b"\n", 0, error.start) + 1
    return (
        f"row {row} holds the byte 0x{data[error.start]:02x}, which reads {line[-60:]!r} in Windows-1252 or Latin-1): "
        "save it as 'CSV UTF-8', or convert it: iconv -f WINDOWS-1252 -t UTF-8 OLD.csv > NEW.csv."
    )


def _recognized(text: str) -> str:
    """The delimiter with which most rows have as many cells as the first one, preferring more cells."""
    beginning = text[:1_000_000]

    def fit(delimiter: str) -> tuple[bool, float, int]:
        counts = []
        try:
            for cells in csv.reader(io.StringIO(beginning, newline=""), delimiter=delimiter):
                counts += [len(cells)] if cells else []
                if len(counts) > _SAMPLE:
                    break
        except csv.Error:  # `read` reports it
            pass
        columns = counts[0] if counts else 0
        return columns > 1, counts.count(columns) / max(len(counts), 1), columns

    return max(DELIMITERS, key=fit)
