"""`jft weights verify`: checks file, conversion, architecture and accuracy of a weight set. Never downloads."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import safetensors

from jft.data.source import Source
from jft.evaluation.evaluator import Evaluator
from jft.metrics.losses import Objective
from jft.models import create_model
from jft.utils import mesh, tree
from jft.utils.cache_dir import cache_dir
from jft.weights import convert, hub, proofs, readers
from jft.weights.catalog import CATALOG, WeightSet, choose_set
from jft.weights.hashes import Hashes
from jft.weights.proofs import LIMIT
from jft.weights.target import absent, leaf_shapes

Leaves = dict[str, np.ndarray]

_BATCH = 32  # images on each device


@dataclasses.dataclass(frozen=True)
class Check:
    """The result of one check.

    Attributes:
      what: 'file', 'conversion', 'checksums', 'cache', 'architecture', 'activations' or 'accuracy'.
      passed: whether it passed; None if it was not checked, or if there is no reference to check against.
      text: the result, or why it was not checked, in lines.
    """

    what: str
    passed: bool | None
    text: str


def choose_rows(names: Sequence[str], weights_path: str | None) -> list[WeightSet]:
    """Chooses the weight sets to verify.

    Args:
      names: names of sets; none: all whose file is at `weights_path` or, without it, on this machine.
      weights_path: a file, or a folder of files with their published names.

    Raises:
      ValueError: an unknown name, or nothing to verify.
    """
    rows = [choose_set(name) for name in dict.fromkeys(names)]
    if not weights_path:
        return rows or [row for row in CATALOG.values() if hub.locate(row)]
    path = Path(weights_path).expanduser()
    if not path.exists():
        raise ValueError(f"weights_path {path} does not exist: give a file, or a folder with weight files.")
    if len(rows) > 1 and not path.is_dir():
        raise ValueError(f"{path} is one file, and {len(rows)} sets are to be verified: give one NAME, or a folder.")
    held = {entry.name for entry in path.iterdir()} if path.is_dir() else {path.name}
    rows = rows or [row for row in CATALOG.values() if row.filename in held]
    if not rows:
        raise ValueError(f"{path} holds no file with a published name of the catalog: give NAME.")
    return rows


def verify(row: WeightSet, *, weights_path: str | None = None, images: Source | None = None) -> Iterator[Check]:
    """Runs the checks of a weight set.

    Args:
      row: the weight set.
      weights_path: its file, or the folder of its file; None: from the cache.
      images: images of ImageNet, from `imagenet.load`, to measure the accuracy.

    Yields:
      Each check when it is done. Faulty weights raise no error but give a check that has not passed.
    """
    path, sha256, leaves, why_not = None, "", None, "there is no file"
    try:
        path = hub.locate(row, weights_path)
    except ValueError as error:
        yield Check("file", False, str(error))
    else:
        if path is None:
            yield Check("file", None, _how_to_get(row))
    if path is not None:
        sha256, check = _check_file(path, row)
        yield check
        leaves, check = _convert(path, row)
        why_not = "the file could not be converted"
        yield check
    if leaves is None:
        yield from (Check(what, None, why_not) for what in ("checksums", "cache", "activations"))
    else:
        yield _check_leaves(row, leaves)
        yield _check_cache(row, leaves, sha256)
        yield _check_errors("activations", lambda: proofs.check_activations(row, leaves), row)
    yield _check_errors("architecture", lambda: proofs.replay(row), row)
    if images is not None:
        yield _check_accuracy(row, leaves, images)


def _how_to_get(row: WeightSet) -> str:
    if row.url:
        return f"{row.filename} is not on this machine; `jft weights fetch {row.name}` gets it."
    place = cache_dir() / "downloads" / row.filename
    missing = f"{row.filename} is not on this machine and has no official download"
    return f"{missing}: put it at {place}, or give --weights-path."


def _check_file(path: Path, row: WeightSet) -> tuple[str, Check]:
    """The file's SHA-256, and whether its SHA-256 or MD5 is the published one."""
    hashes = Hashes(path)
    agree, text = hashes.judge(row)
    return hashes.sha256, Check("file", agree, f"{path}: {text}")


def _convert(path: Path, row: WeightSet) -> tuple[Leaves | None, Check]:
    target = leaf_shapes(create_model(row.model, **row.file_options), row.preprocess.size)
    try:
        conversion = convert.convert(readers.read_tensors(path), row, target)
        conversion.check(path, absent(row, target))
    except (ValueError, OSError) as error:
        return None, Check("conversion", False, str(error))
    text = f"{len(conversion.leaves)} leaves filled, all tensors used or ignored on purpose"
    return conversion.leaves, Check("conversion", True, text)


def _check_leaves(row: WeightSet, leaves: Leaves) -> Check:
    wrong = proofs.check_leaves(row, leaves)
    if wrong is None:
        return Check("checksums", None, "jft has no checksums of this set: its published file was not available")
    if wrong:
        return Check("checksums", False, f"{len(wrong)} of {len(leaves)} leaves differ: {_some(wrong)}")
    return Check("checksums", True, f"{len(leaves)} leaves, all as in jft's proof")


def _check_cache(row: WeightSet, leaves: Leaves, sha256: str) -> Check:
    """Compares the cached conversion, which runs read, with a new conversion."""
    cached = hub.conversions(row, sha256)
    if not cached:
        return Check("cache", None, "this file's conversion is not cached")
    try:
        with safetensors.safe_open(cached[0], "np") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except Exception as error:  # safetensors has its own error type
        return Check("cache", False, f"{cached[0]} cannot be read: {error}. Delete it; jft will convert again.")
    names = sorted(leaves.keys() | found.keys())
    wrong = [name for name in names if not _same(leaves.get(name), found.get(name))]
    if wrong:
        text = f"{cached[0]} differs in {len(wrong)} leaves: {_some(wrong)}. Delete it; jft will convert again."
        return Check("cache", False, text)
    return Check("cache", True, f"{cached[0]}: {len(found)} leaves, bit-identical to a new conversion")


def _same(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    return a is not None and b is not None and a.shape == b.shape and a.tobytes() == b.tobytes()


def _check_errors(what: str, replay: Callable[[], dict[str, float] | None], row: WeightSet) -> Check:
    """Runs a replay, and reports the error at each stage."""
    try:
        errors = replay()
    except ValueError as error:
        return Check(what, False, str(error))
    if errors is None:
        return Check(what, None, "jft has no reference outputs for this set")
    sizes: dict[str, list[str]] = {}
    for key, error in errors.items():
        size, stage = key.split("/", 1)
        sizes.setdefault(size, []).append(f"{stage} {error:.0e}")
    worst = max(errors, key=lambda key: errors[key])
    numbers = "seeded weights" if what == "architecture" else "the file's weights"
    proof = proofs.load(row)
    assert proof is not None  # the errors are by it
    lines = [
        f"{numbers} through {proof.source} and through jft: largest relative error {errors[worst]:.1e} "
        f"({worst}), {'at most' if errors[worst] <= LIMIT else 'above'} {LIMIT:.0e}",
        *(f"at {size} pixels: {', '.join(stages)}" for size, stages in sizes.items()),
    ]
    return Check(what, errors[worst] <= LIMIT, "\n".join(lines))


def _check_accuracy(row: WeightSet, leaves: Leaves | None, images: Source) -> Check:
    model = create_model(row.model, **row.options)
    if leaves is None:
        return Check("accuracy", None, "there are no weights to evaluate")
    if not row.top or model.num_classes != len(images.class_names):
        return Check("accuracy", None, "this set has no head for ImageNet's classes")
    devices = mesh.make_parallel("jit")
    count = devices.mesh.size
    evaluator = Evaluator(
        model,
        row.preprocess,
        devices,
        objective=Objective("softmax", model.num_classes),
        fit="crop",
        batch_size=count * min(_BATCH, -(-len(images) // count)),
        resize_on="device",
        cache_bytes=0,  # each image is read once
    )
    found = evaluator(devices.place_state(tree.unflatten(leaves)), images)
    return judge_accuracy(row, found.summary())


def judge_accuracy(row: WeightSet, found: dict[str, float | int]) -> Check:
    """Compares a measured accuracy with the published one.

    Args:
      row: the weight set, with its published accuracy.
      found: 'accuracy' and 'top5', 0 to 1, and the 'count' of images, from `masked_sums.summarize`.

    Returns:
      Not passed if a rate is below the published one by more than chance and another resize can explain; a higher rate
      passes. `passed` is None if no accuracy is published.
    """
    rates = {"top-1": (100 * found["accuracy"], row.top1), "top-5": (100 * found["top5"], row.top5)}
    on = f"on {found['count']:,} images"
    if all(published is None for _, published in rates.values()):
        measured = ", ".join(f"{name} {rate:.2f} %" for name, (rate, _) in rates.items())
        return Check("accuracy", None, f"{measured} {on}; there is no published accuracy to compare with")
    beside, low = [], []
    for name, (rate, published) in rates.items():
        beside.append(f"{name} {rate:.2f} % (published {'nowhere' if published is None else f'{published:.2f} %'})")
        if published is not None and rate < (least := _least(published, found["count"])):
            low.append(f"{name} is below {least:.2f} %, more than chance and another resize can explain")
    return Check("accuracy", not low, "; ".join([f"{', '.join(beside)} {on}", *low]))


def _least(published: float, count: float) -> float:
    """The lowest acceptable rate in percent: four standard errors and one point below the published rate.

    The point allows for other decoders and resize methods.
    """
    share = published / 100
    return published - 400 * math.sqrt(share * (1 - share) / count) - 1


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
