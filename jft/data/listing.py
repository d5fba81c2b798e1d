"""Finds the image files below a folder, by extension, or by content where a file has no extension."""

import dataclasses
import os
import pathlib
import re
import stat

from jft.data.names import ignored, natural

EXTENSIONS = {
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp"),  # browsers save JPEGs under the last ones
    *(".png", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff"),
}
# 'photo.jpg_large', 'scan.001' and 'im.jpg?size=9' count as files without an extension.
_EXTENSION = re.compile("[.][a-z][a-z0-9]{0,4}")
# The first bytes of files of the formats above.
_BEGINNING = re.compile(
    rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|GIF8[79]a|BM.{4}\0{4}|RIFF.{4}WEBP|II\*\0|MM\0\*|P[1-6]\s+[#0-9]", re.DOTALL
)

# Reasons for leaving out a file or folder; for a file with another extension, the extension is the reason.
SYSTEM = "hidden or of the system"
NO_IMAGE = "no extension, not an image by content"
SPECIAL = "pipes, sockets or devices"
LINK = "links to folders, not followed"
OUTSIDE = "images outside of the class folders"
NO_IMAGES_IN = "folders without images"


@dataclasses.dataclass
class LeftOut:
    """The files and folders that a listing leaves out: their number for each reason, with an example."""

    counts: dict[str, int] = dataclasses.field(default_factory=dict)
    examples: dict[str, str] = dataclasses.field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        """Counts one more file or folder."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        self.examples[reason] = min(name, self.examples.get(reason, name), key=natural)

    def join(self, other: "LeftOut") -> None:
        """Adds the counts of another listing."""
        for reason, count in other.counts.items():
            self.add(reason, other.examples[reason])
            self.counts[reason] += count - 1

    def __str__(self) -> str:
        """'.txt: 3 (notes.txt); hidden or of the system: 1 (@eaDir)', largest count first; '' if empty."""
        reasons = sorted(self.counts, key=lambda reason: (-self.counts[reason], reason))
        return "; ".join(f"{reason}: {self.counts[reason]:,} ({self.examples[reason]})" for reason in reasons)


def images_in(folder: pathlib.Path, left_out: LeftOut) -> list[pathlib.Path]:
    """The images under a folder, at any depth, in natural order. Everything else is added to `left_out`.

    Only files without an extension are opened. Links to folders are not followed. A broken link with the extension of
    an image counts as an image, so that it is reported as unreadable later.
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
    """Whether the entry is a folder or a link to one; a link to itself is not."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def not_an_image(entry: os.DirEntry) -> str:
    """Why an entry that is not a folder does not count as an image; '' if it does."""
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
