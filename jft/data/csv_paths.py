"""Finds the image files named in a list that another system, machine or program wrote."""

import collections
import itertools
import os
import pathlib
import re
from collections.abc import Sequence

from jft.data.listing import EXTENSIONS
from jft.data.names import ignored, normal

_DRIVE = re.compile("[A-Za-z]:/")
_TRIED = 100  # missing names that are looked up to decide whether the images are in another folder

_BACKSLASHES = "with backslashes, read as slashes"
_HOME = "starting with ~, the home folder"
_CASE = "in another case than on disk"
_ACCENTS = "in another Unicode form than on disk"
_EXTENSION = "without the extension of the file on disk"


class Finder:
    """Finds the files of a list, and counts how many names had to be corrected.

    A name that is a file is used unchanged. Otherwise it may use backslashes, start with '~', differ in case, or lack
    the extension, as long as exactly one file matches. Absolute paths of another machine lose the leading folders that
    they all share, and relative ones may be in a folder next to the list. The same correction applies to all of them,
    so two names never become one.
    """

    def __init__(self, base: pathlib.Path) -> None:
        """`base` is the folder to which relative names refer."""
        self._base = os.fspath(base)
        self._made: collections.Counter[str] = collections.Counter()
        self._examples: dict[str, str] = {}
        self._listed: dict[str, tuple[dict[str, list[str]], dict[str, list[str]]]] = {}

    def find(self, names: Sequence[str]) -> list[pathlib.Path | None]:
        """The file of each name; None where no file or more than one matches."""
        found = [self._there(name) for name in names]
        for absolute in (True, False):
            lost = [i for i, path in enumerate(found) if path is None and _is_absolute(names[i]) == absolute]
            place = self._place([_parts(names[i]) for i in lost], absolute) if lost else None
            if place:
                folder, dropped = place
                for i in lost:
                    found[i] = self._moved(names[i], folder, dropped)
        return [pathlib.Path(path) if path else None for path in found]

    def corrections(self) -> list[str]:
        """For each kind of correction, how many names needed it, with an example."""
        return [
            f"{count:,} {'path' if count == 1 else 'paths'} {how} ({self._examples[how]})"
            for how, count in self._made.items()
        ]

    def _there(self, name: str) -> str | None:
        """The file at a name, relative to `base`, or one that differs from it only in form."""
        path = os.path.join(self._base, name)
        if os.path.isfile(path):
            return path
        text, home = _slashed(name), os.path.expanduser(_slashed(name))
        return self._file(name, os.path.join(self._base, home), {_HOME: None} if home != text else {})

    def _moved(self, name: str, folder: str, dropped: int) -> str | None:
        """The file of a name below another folder, with its first `dropped` parts removed."""
        parts = _parts(name)
        beginning = f"starting with {'/'.join(parts[:dropped])}, " if dropped else ""
        return self._file(name, os.path.join(folder, *parts[dropped:]), {f"{beginning}found in {folder}": None})

    def _file(self, name: str, path: str, how: dict[str, None]) -> str | None:
        """The file at a path, or one that differs only in form; counts the corrections in `how`."""
        near = self._near(path, how)
        if not near or not os.path.isfile(near):
            return None
        for one in (*how, *([_BACKSLASHES] if _slashed(name) != name else [])):
            self._made[one] += 1
            self._examples.setdefault(one, f"{name} is {near}")
        return near

    def _near(self, path: str, how: dict[str, None]) -> str | None:
        """The path, or a file or folder that differs from it only in case, Unicode form or extension; adds to `how`."""
        if os.path.lexists(path):
            return path
        above, name = os.path.split(path)
        folder = self._near(above, how) if name and above != path else None
        if not folder or not os.path.isdir(folder):
            return None
        names, stems = self._list(folder)
        for which, table in ((_CASE, names), (_EXTENSION, stems)):
            matches = table.get(_form(name), ())
            if len(matches) == 1:
                how[_ACCENTS if normal(matches[0]) == normal(name) else which] = None
                return os.path.join(folder, matches[0])
            if matches:
                return None
        return None

    def _list(self, folder: str) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """A folder's entries by `_form` of the name, and its images by `_form` of the name without extension."""
        if folder not in self._listed:
            names, stems = collections.defaultdict(list), collections.defaultdict(list)
            for name in os.listdir(folder):
                names[_form(name)].append(name)
                stem, extension = os.path.splitext(name)
                if extension.lower() in EXTENSIONS:
                    stems[_form(stem)].append(name)
            self._listed[folder] = names, stems
        return self._listed[folder]

    def _place(self, names: list[list[str]], absolute: bool) -> tuple[str, int] | None:
        """The folder that holds these names, and how many leading parts they lose; None unless exactly one fits."""
        if absolute:
            folders = zip(*(parts[:-1] for parts in names), strict=False)
            common = sum(1 for _ in itertools.takewhile(lambda parts: len({*parts}) == 1, folders))
            places = [[(self._base, dropped)] for dropped in range(1, common + 1)]
        else:
            places = [[(folder, 0) for folder in self._folders()]]
        tried = names[:: len(names) // _TRIED + 1]

        def fits(folder: str, dropped: int) -> bool:
            exist = [os.path.isfile(self._near(os.path.join(folder, *parts[dropped:]), {}) or "") for parts in tried]
            return 2 * sum(exist) > len(exist)  # the remaining ones are reported as missing

        for alternatives in places:
            if fit := [place for place in alternatives if fits(*place)]:
                return fit[0] if len(fit) == 1 else None
        return None

    def _folders(self) -> list[str]:
        """The folders next to the list."""
        with os.scandir(self._base) as entries:
            return sorted(entry.path for entry in entries if not ignored(entry.name) and os.path.isdir(entry.path))


def missing_hint(names: Sequence[str]) -> str:
    """What missing names have in common, and the remedy; '' if nothing is recognized."""
    if not names:
        return ""
    missing = f"All missing paths ({len(names):,})"
    if all("\\" in name for name in names):
        return f"{missing} use backslashes, as on Windows: write paths relative to the list's folder, with '/'."
    if all(map(_is_absolute, names)):
        return f"{missing} are absolute, maybe of another machine: write them relative to the list's folder."
    if all(os.path.splitext(name)[1].lower() not in EXTENSIONS for name in names):
        return f"{missing} lack an extension, and no single image has their names: write full file names."
    return ""


def _form(name: str) -> str:
    """A key under which names that differ only in case or Unicode form are equal."""
    return normal(name).casefold()


def _slashed(name: str) -> str:
    return name.replace("\\", "/")


def _is_absolute(name: str) -> bool:
    text = _slashed(name)
    return text.startswith("/") or _DRIVE.match(text) is not None


def _parts(name: str) -> list[str]:
    """The parts of a path without its root; a drive is the first part."""
    return [part for part in _slashed(name).split("/") if part not in ("", ".")]
