"""The folder of what jft computes once and keeps: converted weights, features, compiled programs."""

import os
from pathlib import Path

from jft.utils.files import other_writers


def cache_dir() -> Path:
    """`$JFT_CACHE`, or ~/.cache/jft; ValueError if other users can write there, because jft trusts its content."""
    path = Path(os.environ.get("JFT_CACHE") or Path.home() / ".cache" / "jft")
    if problem := other_writers(path):
        raise ValueError(
            f"the cache {path} {problem}, and could change what jft computes or runs. Mend it with `chown -R $(id -u) "
            f"{path} && chmod -R go-w {path}` if you trust what is in it, or set JFT_CACHE to a folder of your own."
        )
    return path


def make_cache_dir() -> Path:
    """Returns `cache_dir`; creates it if needed, writable only by its owner regardless of the umask."""
    path = cache_dir()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o755, exist_ok=True)
    return path
