"""What the names of folders, files, splits and classes say, wherever they come from: disks, lists, configs."""

import fractions
import re
import unicodedata
from collections.abc import Iterable

# Whatever case they are in; a name's blanks at both ends do not count.
SPELLINGS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_SPLITS = {spelling: split for split, spellings in SPELLINGS.items() for spelling in spellings}

# What systems and tools leave among images, beside names that begin with a dot, in lower case: thumbnails and indices
# of Synology, QNAP, Windows and macOS, resource forks of archives, what a check of the disk found, Python's caches.
_OF_THE_SYSTEM = {
    *("@eadir", "@recycle", "#recycle", "#snapshot", "@recently-snapshot"),
    *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information"),
    *("__macosx", "icon\r", "network trash folder", "temporary items"),
    *("lost+found", "__pycache__"),
}
_NUMBER = re.compile("[+-]?[0-9]{1,40}([.][0-9]{0,40})?")


def normal(name: str) -> str:
    """A name in NFC: macOS writes an accent as a letter of its own, Linux leaves names as they are given."""
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def natural(name: str) -> tuple[list[str | tuple[int, str]], str]:
    """A sort key under which 'img2' comes before 'img10'."""
    parts = re.split("([0-9]+)", normal(name))  # every second one is a number
    return [_number(part) if i % 2 else part for i, part in enumerate(parts)], name


def _number(digits: str) -> tuple[int, str]:
    """A sort key as of the number itself, however long: Python reads no number of more than 4,300 digits."""
    significant = digits.lstrip("0")
    return len(significant), significant


def ignored(name: str) -> bool:
    """Whether a file or folder is hidden, or one that a system or a tool leaves among others."""
    return name.startswith(".") or name.lower() in _OF_THE_SYSTEM


def split_of(name: str) -> str | None:
    """The split, 'train', 'validation' or 'test', of which a name is a spelling; None if it is of none."""
    return _SPLITS.get(name.strip().lower())


def splits_of(names: Iterable[str], where: str) -> dict[str, str]:
    """The names that are spellings of splits, by split.

    Raises:
      ValueError: two of them are of one split; names both, and `where` they are.
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
    """Groups of names that differ in nothing but form: case, blanks around them, accents' form, 1 as 1.0 or 01."""
    groups: dict[str | fractions.Fraction, list[str]] = {}
    for name in names:
        text = normal(name).strip().casefold()
        form = fractions.Fraction(text.rstrip(".")) if _NUMBER.fullmatch(text) else text
        groups.setdefault(form, []).append(name)
    return [group for group in groups.values() if len(group) > 1]


def told_alike(names: Iterable[str]) -> str:
    """A warning of class names that are alike but for form; '' where there are none."""
    groups = alike(names)
    if not groups:
        return ""
    shown = "; ".join(" and ".join(map(repr, group)) for group in groups[:5])
    more = f"; and {len(groups) - 5} more" if len(groups) > 5 else ""
    return (
        f"class names are alike but for form (case, blanks, zeros): {shown}{more}. Each is a class of its own: write "
        "them alike if they mean the same."
    )
