"""Finding the files that a list names, as another system, machine or program wrote them."""

import collections
import itertools
import os
import pathlib
import re
from collections.abc import Sequence

from jft.data.listing import EXTENSIONS
from jft.data.names import ignored, normal

_DRIVE = re.compile("[A-Za-z]:/")
_TRIED = 100  # of the names that are not there, to see whether they are elsewhere

_BACKSLASHES = "with backslashes, read as slashes"
_HOME = "beginning with ~, the home folder"
_CASE = "in another case than on disk"
_ACCENTS = "in another form of Unicode than on disk"
_EXTENSION = "without the extension that is on disk"


class Finder:
    """Finds the files of a list, and counts what had to be made of their names.

    A name is taken as it stands where that is a file. Else it may use backslashes, begin with '~', be in another case
    or lack its extension, where one file alone fits. Absolute paths of another machine lose parts that all of them
    begin with, and other names lie in a folder beside the list: the same for all, so that no two names become one.
    """

    def __init__(self, base: pathlib.Path) -> None:
        """Takes the folder from which names count that are not absolute."""
        self._base = os.fspath(base)
        self._made: collections.Counter[str] = collections.Counter()
        self._examples: dict[str, str] = {}
        self._listed: dict[str, tuple[dict[str, list[str]], dict[str, list[str]]]] = {}

    def find(self, names: Sequence[str]) -> list[pathlib.Path | None]:
        """The file of each name; None where there is none, or more than one fits."""
        found = [self._there(name) for name in names]
        for absolute in (True, False):
            lost = [i for i, path in enumerate(found) if path is None and _is_absolute(names[i]) == absolute]
            place = self._place([_parts(names[i]) for i in lost], absolute) if lost else None
            for i in lost if place else ():
                found[i] = self._moved(names[i], *place)
        return [path and pathlib.Path(path) for path in found]

    def told(self) -> list[str]:
        """What was made of how many names, with an example each."""
        return [
            f"{count:,} {'path' if count == 1 else 'paths'} {how} ({self._examples[how]})"
            for how, count in self._made.items()
        ]

    def _there(self, name: str) -> str | None:
        """The file, where the name says, or nearly."""
        path = os.path.join(self._base, name)
        if os.path.isfile(path):
            return path
        text, home = _slashed(name), os.path.expanduser(_slashed(name))
        return self._file(name, os.path.join(self._base, home), {_HOME: None} if home != text else {})

    def _moved(self, name: str, folder: str, dropped: int) -> str | None:
        """The file below another folder, without so many of the parts that the name begins with."""
        parts = _parts(name)
        beginning = f"beginning with {'/'.join(parts[:dropped])}, " if dropped else ""
        return self._file(name, os.path.join(folder, *parts[dropped:]), {f"{beginning}found in {folder}": None})

    def _file(self, name: str, path: str, how: dict[str, None]) -> str | None:
        """The file at a path or near it, once it is noted how it was found."""
        near = self._near(path, how)
        if not near or not os.path.isfile(near):
            return None
        for one in (*how, *([_BACKSLASHES] if _slashed(name) != name else [])):
            self._made[one] += 1
            self._examples.setdefault(one, f"{name} is {near}")
        return near

    def _near(self, path: str, how: dict[str, None]) -> str | None:
        """A file or folder that differs from the path in case or extension alone; adds to `how`."""
        if os.path.lexists(path):
            return path
        above, name = os.path.split(path)
        folder = self._near(above, how) if name and above != path else None
        if not folder or not os.path.isdir(folder):
            return None
        names, stems = self._list(folder)
        for which, table in ((_CASE, names), (_EXTENSION, stems)):
            there = table.get(_form(name), ())
            if len(there) == 1:
                how[_ACCENTS if normal(there[0]) == normal(name) else which] = None
                return os.path.join(folder, there[0])
            if there:
                return None
        return None

    def _list(self, folder: str) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """What is in a folder by form, and its images by the form of their names without extension."""
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
        """The folder where these names, in parts, lie, and how many parts they lose; None where it is not one alone."""
        if absolute:
            folders = zip(*(parts[:-1] for parts in names), strict=False)
            common = sum(1 for _ in itertools.takewhile(lambda parts: len({*parts}) == 1, folders))
            places = [[(self._base, dropped)] for dropped in range(1, common + 1)]
        else:
            places = [[(folder, 0) for folder in self._folders()]]
        tried = names[:: len(names) // _TRIED + 1]

        def fits(folder: str, dropped: int) -> bool:
            there = [os.path.isfile(self._near(os.path.join(folder, *own[dropped:]), {}) or "") for own in tried]
            return 2 * sum(there) > len(there)  # the others will be said to be missing

        for alternatives in places:
            if fit := [place for place in alternatives if fits(*place)]:
                return fit[0] if len(fit) == 1 else None
        return None

    def _folders(self) -> list[str]:
        """The folders beside the list."""
        with os.scandir(self._base) as entries:
            return sorted(entry.path for entry in entries if not ignored(entry.name) and os.path.isdir(entry.path))


def told_missing(names: Sequence[str]) -> str:
    """What names of files that are not there have in common, and what to do; '' if it is nothing known."""
    if not names:
        return ""
    those = f"All that are missing ({len(names):,})"
    if all("\\" in name for name in names):
        return f"{those} use backslashes, as Windows does: write paths from the list's own folder, with '/'."
    if all(map(_is_absolute, names)):
        return f"{those} are absolute paths, maybe of another machine: write them from the list's own folder."
    if all(os.path.splitext(name)[1].lower() not in EXTENSIONS for name in names):
        return f"{those} lack an extension, and no single image has their names: write the names of the files."
    return ""


def _form(name: str) -> str:
    return normal(name).casefold()


def _slashed(name: str) -> str:
    return name.replace("\\", "/")


def _is_absolute(name: str) -> bool:
    text = _slashed(name)
    return text.startswith("/") or _DRIVE.match(text) is not None


def _parts(name: str) -> list[str]:
    """The parts of a path, a drive among them, without its root."""
    return [part for part in _slashed(name).split("/") if part not in ("", ".")]
