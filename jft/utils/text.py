"""Formats text for people, and escapes untrusted names (of classes, of files) for terminals, tables and pages.

Such a name may hold anything. `terminal`, `csv_cell`, `markdown`, `latex`, `html` and `figure` show it to one reader
each, so that it is read as a name and as nothing else; `file_name` makes a file of it. JSON, which the standard library
escapes, needs none.
"""

import re
import time
import unicodedata
from collections.abc import Collection
from typing import Any, TextIO, cast

# Without a glyph of their own: control characters, what hides or turns text round, ends of lines, undecodable bytes.
_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JOINER = "\u200d"  # also what holds an emoji of several together
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?%?")
_FORMULA = tuple("=+-@\t\r\n＝＋－＠")  # what a cell begins with that spreadsheets compute
_MARKDOWN = re.compile(r"[\\`*\[\]|~$#!]|(?<![^\W_])_|_(?![^\W_])")

_LATEX = {
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"},
    **{"[": "{[}", "*": "{*}"},  # the end of a row before it would take these for its own
}


def terminal(value: Any, most: int = 0) -> str:
    """On one line of a terminal or a log: what has no glyph is written as Python does, such as \\x1b, \\n, \\u202e.

    Args:
      value: any text, such as the name of a class, or what has one, such as a path.
      most: characters, above which it is cut; 0: none.
    """
    text = str(value)
    shown = text if text.isprintable() else "".join(_visible(text, i) for i in range(len(text)))
    return f"{shown[: most - 1]}…" if 0 < most < len(shown) else shown


def terminal_lines(value: Any) -> str:
    """As `terminal`, for what has lines and columns of its own: a table, an error of several lines."""
    text = str(value)
    if text.replace("\n", "").isprintable():
        return text
    # A progress bar begins, or ends, by going back to the start of its line.
    own = {0, len(text) - 1}
    kept = (c if c in "\n\t" or (c == "\r" and i in own) else _visible(text, i) for i, c in enumerate(text))
    return "".join(kept)


def _visible(text: str, i: int) -> str:
    """Character i of a text, or what stands for it."""
    char = text[i]
    if unicodedata.category(char) not in _UNSEEN:
        return char
    around = text[max(i - 1, 0) : i], text[i + 1 : i + 2]
    if char == _JOINER and all(part and unicodedata.category(part) in ("So", "Sk", "Mn") for part in around):
        return char
    if "\udc80" <= char <= "\udcff":  # a byte of a file's name that is no UTF-8
        return f"\\x{ord(char) - 0xDC00:02x}"
    return repr(char)[1:-1]


class TerminalStream:
    """A text stream whose reader is a terminal or a log: `terminal_lines` of all that is written; else as it was.

    Attributes:
      stream: what it writes to, for what no terminal reads.
      written: when something was written last, as `time.monotonic` tells it; 0: nothing yet.
    """

    def __init__(self, stream: TextIO) -> None:
        """Writes to `stream`."""
        self.stream, self.written = stream, 0.0

    def write(self, text: str) -> int:
        """Writes; the length of the text."""
        self.stream.write(terminal_lines(text))
        self.written = time.monotonic()
        return len(text)

    def writelines(self, lines: Collection[str]) -> None:
        """Writes each."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def terminal_stream(stream: TextIO) -> TextIO:
    """A `TerminalStream` of a stream, or itself if it is one."""
    if isinstance(stream, TerminalStream):
        return cast(TextIO, stream)
    return cast(TextIO, TerminalStream(stream))  # what it does not define itself, it takes from the stream


def one_record(text: str) -> str:
    """An error or a warning whose further lines, if any, are indented, so that no name in it begins another."""
    return terminal_lines(text).replace("\n", "\n  ")


def csv_cell(value: Any) -> Any:
    """A cell of a CSV file: a text that a spreadsheet would compute has an apostrophe before it, as OWASP advises.

    Numbers stay, as numbers or written out. Quotes, commas and ends of lines are left to the `csv` module.
    """
    if isinstance(value, str) and value.startswith(_FORMULA) and not _NUMBER.fullmatch(value):
        return f"'{value}"
    return value


def markdown(value: Any) -> str:
    """Within a line of Markdown, such as a cell of a table: no tag, link, image, code, formula or emphasis."""
    text = terminal(value).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = _MARKDOWN.sub(lambda found: f"\\{found.group()}", text)
    # Addresses are linked by many readers without any sign.
    return text.replace("://", ":&#47;/").replace("www.", "www&#46;").replace("@", "&#64;")


def latex(value: Any) -> str:
    """Within a line of LaTeX, such as a cell of a table: no command, formula or comment."""
    return "".join(_LATEX.get(sign, sign) for sign in terminal(value))


def html(value: Any) -> Any:
    """What a page shows, before its template escapes it: lines stay, and so does markup that is safe (`Markup`)."""
    return terminal_lines(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def figure(value: Any, most: int = 0) -> str:
    """A label of matplotlib's, which reads formulas between dollars; on one line, see `terminal`."""
    return terminal(value, most).replace("$", r"\$")


def file_name(value: Any) -> str:
    """A part of a file's name, of signs that every file system takes, and short; names that differ may become alike."""
    return re.sub(r"[^\w. -]", "_", terminal(value))[:40]


def width(text: str) -> int:
    """Columns of a terminal: Chinese, Japanese and Korean signs and emoji take two, combining marks none."""
    return sum(0 if unicodedata.combining(c) else 1 + (unicodedata.east_asian_width(c) in "WF") for c in text)


def padded(text: str, columns: int) -> str:
    """With blanks behind it up to a width."""
    return text + " " * (columns - width(text))


# What a verb says of its argument RUN.
RUN = "folder of a run; its best checkpoint on validation is used, else the newest"


def aligned(rows: list[tuple[str, ...]], right: Collection[int]) -> list[str]:
    """Lines in which the cells of a column stand below each other.

    Args:
      rows: of one length each.
      right: columns, from 0, whose cells end level, as numbers should; the others begin so.

    Returns:
      A line for each row.
    """
    rows = [tuple(map(terminal, row)) for row in rows]
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            " " * (columns - width(cell)) + cell if i in right else padded(cell, columns)
            for i, (cell, columns) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def one_line(error: Exception) -> str:
    """The message of an error in one line; the first line of JAX's errors, which may go on for pages."""
    told = str(error) or type(error).__name__
    if isinstance(error, RuntimeError):  # JAX's are of this kind
        return told.splitlines()[0]
    return " ".join(told.split())


def human_bytes(count: float) -> str:
    """Bytes in decimal units: '0.4 MB', '1,234.5 GB'."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


def human_seconds(seconds: float) -> str:
    """A length of time to two digits or so: '59 s', '12 min', '2.5 h'."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def named_step(step: int, phase: str) -> str:
    """'step 75', or 'step 75, in phase probe (1 of 2)'; `phase` as of `CheckpointInfo.phase_of`."""
    return f"step {step:,}{f', in phase {phase}' if phase else ''}"


def share_of(some: Collection[str], every: Collection[str], what: str, *, nothing: str, everything: str = "") -> str:
    """How many of all there are, in words.

    >>> share_of("ab", "abcd", "pretrained", nothing="initialized")
    '2 of 4 pretrained'
    >>> share_of("abcd", "abcd", "pretrained", nothing="initialized")
    'pretrained'
    """
    if not some:
        return nothing
    return (everything or what) if len(some) == len(every) else f"{len(some)} of {len(every)} {what}"
