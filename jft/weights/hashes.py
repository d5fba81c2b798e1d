"""Compares the hash of a weight file with the published one."""

import functools
import hashlib
import os
from pathlib import Path

from jft.utils.files import open_regular
from jft.weights.catalog import WeightSet

_KINDS = {"sha256": "SHA-256", "md5": "MD5"}


class Hashes:
    """Hashes of a file, each computed on first use: a large file takes a second."""

    def __init__(self, path: str | os.PathLike) -> None:
        self._path = Path(path)

    @functools.cached_property
    def sha256(self) -> str:
        """64 hexadecimal digits."""
        return self._digest("sha256")

    @functools.cached_property
    def md5(self) -> str:
        """32 hexadecimal digits."""
        return self._digest("md5")

    def judge(self, row: WeightSet) -> tuple[bool | None, str]:
        """Compares the file with the published hash of a weight set.

        Args:
          row: the weight set; its hash may be only the first digits.

        Returns:
          Whether the hashes match, None if none is published; and a message with both hashes.
        """
        published = {kind: known for kind in _KINDS if (known := getattr(row, kind))}
        if not published:
            return None, f"its SHA-256 is {self.sha256}; nobody has published one"
        for kind, known in published.items():
            if not getattr(self, kind).startswith(known):
                return False, f"its {_KINDS[kind]} is {getattr(self, kind)}, published is {known}"
        kind, known = published.popitem()
        found = getattr(self, kind)
        return True, f"its {_KINDS[kind]} is {found}, {'as' if known == found else 'which begins as'} published"

    def _digest(self, kind: str) -> str:
        with open_regular(self._path) as file:
            return hashlib.file_digest(file, kind).hexdigest()
