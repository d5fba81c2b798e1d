"""What a file is, by its hash: the published one, another, or nobody can say."""

import functools
import hashlib
import os
from pathlib import Path

from jft.utils.files import open_regular
from jft.weights.catalog import WeightSet

_KINDS = {"sha256": "SHA-256", "md5": "MD5"}


class Hashes:
    """Hashes of a file, each made when it is first asked for: a large file takes a second."""

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
        """Compares with what the publisher of a weight set says of its file.

        Args:
          row: the weight set; of a hash it may know the first digits only.

        Returns:
          Whether they agree, None where nothing is published; and the hashes on both sides, for people.
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
