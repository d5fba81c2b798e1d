"""Rules for names of folders, files, splits and classes, wherever they come from: disks, CSV files, configs."""

import fractions
import re
import unicodedata
from collections.abc import Iterable

# Compared without case and without blanks at both ends.
SPELLINGS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_SPLITS = {spelling: split for split, spellings in SPELLINGS.items() for spelling in spellings}

# Files and folders that systems and tools leave among images, in lower case (names that begin with a dot are hidden
# anyway): thumbnails and indices of Synology, QNAP, Windows and macOS, resource forks, lost+found, Python's caches.
_OF_THE_SYSTEM = {
    *("@eadir", "@recycle", "#recycle", "#snapshot", "@recently-snapshot"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
    *("__macosx", "icon\r", "network trash folder", "temporary items"),
    *("lost+found", "__pycache__"),
}
_NUMBER = re.compile("[+-]?[0-9]{1,40}([.][0-9]{0,40})?")


def normal(name: str) -> str:
    """A name in Unicode form NFC. macOS writes accents as separate characters (NFD), Linux leaves names as they are."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def natural(name: str) -> tuple[list[str | tuple[int, str]], str]:
    """A sort key for natural order, in which 'img2' comes before 'img10'."""
    parts = re.split("([0-9]+)", normal(name))  # every second one is a number
    return [_number(part) if i % 2 else part for i, part in enumerate(parts)], name


def _number(digits: str) -> tuple[int, str]:
    """A sort key equivalent to the number, for any length: `int` refuses more than 4,300 digits."""
    significant = digits.lstrip("0")
    return len(significant), significant


def ignored(name: str) -> bool:
    """Whether a file or folder is hidden, or left behind by a system or a tool."""
    return name.startswith(".") or name.lower() in _OF_THE_SYSTEM


def split_of(name: str) -> str | None:
    """The split that a name spells, 'train', 'validation' or 'test'; None if it spells none."""
    return _SPLITS.get(name.strip().lower())


def splits_of(names: Iterable[str], where: str) -> dict[str, str]:
    """{split: the name that spells it}, for the names that spell a split.

    Args:
      names: of folders or splits; names that spell no split are ignored.
      where: location of the names, for the error.

    Raises:
      ValueError: two names spell the same split; the message has both, and `where`.
    """
    found: dict[str, str] = {}
    for name in names:
        split = split_of(name)
        if split and found.setdefault(split, name) != name:
            raise ValueError(
                f"{where} has {found[split]!r} and {name!r}, two spellings of the split {split}: keep one of them."
            )
    return found


def alike(names: Iterable[str]) -> list[list[str]]:
    """Groups of names that differ only in case, blanks at the ends, Unicode form, or zeros (1, 1.0 and 01)."""
    groups: dict[str | fractions.Fraction, list[str]] = {}
    for name in names:
        text = normal(name).strip().casefold()
        form = fractions.Fraction(text.rstrip(".")) if _NUMBER.fullmatch(text) else text
        groups.setdefault(form, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def alike_warning(names: Iterable[str]) -> str:
    """A warning about class names that are `alike`; '' where there are none."""
    groups = alike(names)
    if not groups:
        return ""
    shown = "; ".join(" and ".join(map(repr, group)) for group in groups[:5])
    more = f"; and {len(groups) - 5} more" if len(groups) > 5 else ""
    return (
        f"class names differ only in case, blanks or zeros: {shown}{more}. Each counts as a separate class: spell them "
        "the same way if they mean the same."
    )
