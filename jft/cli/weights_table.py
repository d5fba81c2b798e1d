"""The catalog as a table, with what of it is on this machine."""

import fnmatch

from jft.utils import tree
from jft.utils.cache_dir import cache_dir
from jft.utils.text import aligned
from jft.weights import hub
from jft.weights.catalog import CATALOG, WeightSet

_HEADER = ("set", "dialect", "parameters", "top-1", "top-5", "MiB", "license", "here")


def table(pattern: str = "") -> str:
    """The sets whose name holds `pattern`, or matches it as a shell's ('vgg1?.*'), one per line.

    For the full name of a set its file, address and hash follow.

    Raises:
      ValueError: there are none.
    """
    rows = [row for name, row in CATALOG.items() if pattern in name or fnmatch.fnmatchcase(name, pattern)]
    if not rows:
        raise ValueError(f"no weight set is called {pattern!r}{tree.did_you_mean(pattern, CATALOG) or '.'}")
    lines = aligned([_HEADER, *(_line(row) for row in rows)], right=(2, 3, 4, 5))
    return "\n".join([*lines, *(_origin(CATALOG[pattern]) if pattern in CATALOG else [])])


def _origin(row: WeightSet) -> list[str]:
    hashes = [f"SHA-256 {row.sha256}{'...' if len(row.sha256) < 64 else ''}"] if row.sha256 else []
    hashes += [f"MD5 {row.md5}"] if row.md5 else []
    return [
        f"file: {row.filename}",
        f"address: {row.url or 'none is published'}",
        f"hash: {', '.join(hashes) or 'none is published'}",
        *([f"numbers: {row.dtype}"] if row.dtype != "float32" else []),
    ]


def _line(row: WeightSet) -> tuple[str, ...]:
    top1, top5 = ("-" if rate is None else f"{rate:.1f}" for rate in (row.top1, row.top5))
    return (row.name, row.dialect, f"{row.num_params:,}", top1, top5, f"{row.size:.1f}", row.license, whereabouts(row))


def whereabouts(row: WeightSet) -> str:
    """How far a set has come on this machine: 'packaged', 'converted', 'downloaded' or '-'.

    'unverified' is a file of its name where no hash is published that would show whether it is the set. A downloaded
    file is compared with its hash when it is used.
    """
    path = hub.locate(row)
    if path is not None and not path.is_relative_to(cache_dir()):
        return "packaged"
    if hub.converted(row):
        return "converted"
    if path is None:
        return "-"
    return "downloaded" if row.sha256 or row.md5 else "unverified"
