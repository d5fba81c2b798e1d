"""Which files below a folder are images: by their extensions, and by content where they have none."""

import dataclasses
import os
import pathlib
import re
import stat

from jft.data.names import ignored, natural

EXTENSIONS = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp"),  # the later ones are what browsers make of a JPEG
    *(".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff"),
}
# 'photo.jpg_large', 'scan.001' and 'im.jpg?size=9' have no extension that says what they are.
_EXTENSION = re.compile("[.][a-z][a-z0-9]{0,4}")
# How files of the formats above begin.
_BEGINNING = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|BM.{4}\0{4}|RIFF.{4}WEBP|II\*\0|MM\0\*|P[1-6]\s+[#0-9]", re.DOTALL
)

# Why something is left out; a file of another extension is so by that.
SYSTEM = "hidden or of the system"
NO_IMAGE = "no extension, no image by content"
SPECIAL = "pipes, sockets or devices"
LINK = "links to folders, not followed"
OUTSIDE = "images outside of the class folders"
NO_IMAGES_IN = "folders without images"


@dataclasses.dataclass
class LeftOut:
    """What a listing leaves out: how many files and folders for which reason, with an example."""

    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    examples: dict[str, str] = dataclasses.field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        """Counts one more."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self.examples[reason] = min(name, self.examples.get(reason, name), key=natural)

    def join(self, other: "LeftOut") -> None:
        """Counts what another one has."""
        for reason, count in other.counts.items():
            self.add(reason, other.examples[reason])
            self.counts[reason] += count - 1

    def __str__(self) -> str:
        """'.txt: 3 (notes.txt); hidden or of the system: 1 (@eaDir)', the most first; '' if it is nothing."""
        reasons = sorted(self.counts, key=lambda reason: (-self.counts[reason], reason))
        return "; ".join(f"{reason}: {self.counts[reason]:,} ({self.examples[reason]})" for reason in reasons)


def images_in(folder: pathlib.Path, left_out: LeftOut) -> list[pathlib.Path]:
    """The images under a folder, at any depth, in natural order; what else there is, is added to `left_out`.

    No file is opened but those without an extension, no link to a folder followed. A link that leads nowhere is taken
    at its extension: it will be named as an image that cannot be read.
    """
    found = []
    pending = [(os.fspath(folder), [])]
    while pending:
        parent, place = pending.pop()
        with os.scandir(parent) as entries:
            for entry in entries:
                if ignored(entry.name):
                    left_out.add(SYSTEM, entry.name)
                elif entry.is_dir(follow_symlinks=False):
                    pending.append((entry.path, [*place, natural(entry.name)]))
                elif reason := not_an_image(entry):
                    left_out.add(reason, entry.name)
                else:
                    found.append(([*place, natural(entry.name)], entry.path))
    return [pathlib.Path(path) for _, path in sorted(found)]


def is_folder(entry: os.DirEntry) -> bool:
    """Whether it is a folder or leads to one; a link to itself does not."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def not_an_image(entry: os.DirEntry) -> str:
    """Why a file, or whatever is no folder, is not taken for an image; '' if it is."""
    extension = os.path.splitext(entry.name)[1].lower()
    known = extension in EXTENSIONS
    if not known and _EXTENSION.fullmatch(extension):
        return extension
    if not entry.is_file(follow_symlinks=False):  # a link, or no file at all
        try:
            kind = entry.stat().st_mode
        except OSError:  # a link to nothing, or to itself
            return "" if known else NO_IMAGE
        if stat.S_ISDIR(kind):
            return LINK
        if not stat.S_ISREG(kind):
            return SPECIAL
    return "" if known or _begins_as_image(entry.path) else NO_IMAGE


def _begins_as_image(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return _BEGINNING.match(file.read(16)) is not None
    except OSError:
        return False
