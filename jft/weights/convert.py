"""Converts `{name: array}` in any dialect to jft's leaves: pure, strict both ways, one error for all problems."""

import dataclasses
import functools
from collections.abc import Collection, Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jft.models import Chain, create_model
from jft.utils.option_names import option
from jft.weights.catalog import CATALOG, TOP, WeightSet
from jft.weights.rules import Rule, canonical, is_ignored, rules_for, same, source_shapes
from jft.weights.target import leaf_shapes

_SHOWN = 20  # lines of each list in an error


@dataclasses.dataclass(frozen=True)
class Conversion:
    """The result of a conversion. It may be incomplete: call `check`.

    Attributes:
      leaves: {'params/…' or 'batch_stats/…': float32 array}, C-contiguous, in the target's shape, finite or not.
      missing: {leaf: names of the tensors that the file lacks}.
      unexpected: names of tensors that no rule reads.
      misshaped: {leaf: description of the found and the expected shape}.
      nonfinite: {leaf: names of its tensors that hold NaN or infinity}.
      row: name of the weight set as which the file was read.
      hint: which weight set the file seems to be, if its names fit another set better; otherwise empty.
    """

    leaves: dict[str, np.ndarray]
    missing: dict[str, tuple[str, ...]]
    unexpected: tuple[str, ...]
    misshaped: dict[str, str]
    nonfinite: dict[str, tuple[str, ...]]
    row: str
    hint: str = ""

    def check(self, source: object, fresh: Collection[str] = (), *, allow_nonfinite: bool = False) -> None:
        """Raises an error if the conversion is incomplete.

        Args:
          source: the file, for the error.
          fresh: names of leaves that start from initialization and need not be in the file.
          allow_nonfinite: accept NaN and infinity; `nonfinite` still lists them.

        Raises:
          ValueError: lists all missing, unexpected, misshaped and non-finite tensors, except those of `fresh`.
        """
        fresh = set(fresh)
        lists = {
            "missing": _by_leaf(self.missing, fresh),
            "unexpected": self.unexpected,
            "of another shape or type": [text for leaf, text in self.misshaped.items() if leaf not in fresh],
            "holding NaN or infinity": [] if allow_nonfinite else _by_leaf(self.nonfinite, fresh),
        }
        if any(lists.values()):
            # If the file is another weight set, nothing fits: show only a few lines.
            shown = _SHOWN // 4 if self.hint else _SHOWN
            lines = [line for what, entries in lists.items() for line in _listed(what, entries, shown)]
            stages = dict.fromkeys(_stage(leaf) for leaf in self.missing if leaf not in fresh)
            fresh_ones = option("fresh", " ".join(stages))
            anew = f", or train with {fresh_ones}, which initializes these anew" if stages else ""
            remedy = self.hint or f"Give a whole file of this model{anew}."
            raise ValueError("\n".join([f"{source} does not hold the weights {self.row}:", *lines, remedy]))


def convert(
    tensors: Mapping[str, np.ndarray], row: WeightSet, target: Mapping[str, jax.ShapeDtypeStruct]
) -> Conversion:
    """Renames and transforms tensors to the leaves of the row's model.

    Args:
      tensors: {name: array}, for example from `readers.read_tensors`. A tensor is read again for every leaf that uses
        it. Names that start with 'params/' are jft's own, regardless of the row.
      row: its model and dialect are used.
      target: {'params/block1/conv1_1/kernel': shape}, the leaves to fill, from `jax.eval_shape` of the model's init.
        A head of another size than the file's is misshaped; `Conversion.check` ignores it if it is in `fresh`.
        Auxiliary heads that are not in the target are neither read nor unexpected.

    Returns:
      The leaves and everything that did not fit. Does not raise; call `Conversion.check`.
    """
    names = _canonical(tensors, row)
    rules = {rule.target: rule for rule in _rules(names, row, target)}
    leaves, missing, misshaped, nonfinite = {}, {}, {}, {}
    for leaf, wanted in target.items():
        rule = rules.get(leaf, Rule(leaf, ("no tensor of this dialect",), same))
        if absent := tuple(name for name in rule.sources if name not in names):
            missing[leaf] = absent
            continue
        arrays = [np.asarray(tensors[names[name]]) for name in rule.sources]
        value = _transformed(rule, arrays, wanted.shape)
        if value is None:
            found = " and ".join(f"{name} {_shape(array)}" for name, array in zip(rule.sources, arrays, strict=True))
            misshaped[leaf] = f"{found} does not give {list(wanted.shape)} [{leaf}]"
            continue
        leaves[leaf] = value
        if bad := tuple(name for name, a in zip(rule.sources, arrays, strict=True) if not _finite(a)):
            nonfinite[leaf] = bad
    used = {name for rule in rules.values() for name in rule.sources}
    unexpected = tuple(original for name, original in names.items() if name not in used and not is_ignored(name))
    strange = missing or unexpected or any(_stage(leaf) != "head" for leaf in misshaped)
    hint = _hint(tensors, row, len(leaves) / len(target)) if strange else ""
    return Conversion(leaves, missing, unexpected, misshaped, nonfinite, row.name, hint)


def guess_row(tensors: Iterable[str] | Mapping[str, np.ndarray], rows: Iterable[WeightSet]) -> WeightSet | None:
    """The row whose tensor names resemble these most; None below 75 % overlap.

    Of models that share their names, as ResNet-50, ResNeXt-50 and Wide ResNet-50 do, it is the one whose tensors have
    these shapes, but for the head's; else, or where only names are given, the first.

    Args:
      tensors: of a file, in its order: their names, or {name: array}.
      rows: the rows to choose from.
    """
    names = [name for name in tensors if not is_ignored(name)]
    best: list[WeightSet] = []
    likeness = 0.75
    for row in rows:
        known = _published_names(row, create_model(row.model, **row.options))
        found = canonical(row, names).keys()
        alike = len(found & known) / max(len(found | known), 1)
        if alike > likeness:
            best, likeness = [], alike
        if alike == likeness and alike > 0.75:
            best.append(row)
    models = {create_model(row.model, **row.options): row for row in reversed(best)}  # the first set of each
    if len(models) > 1 and isinstance(tensors, Mapping):
        best = [row for row in reversed(models.values()) if _has_shapes(row, tensors)] or best
    return best[0] if best else None


def _has_shapes(row: WeightSet, tensors: Mapping[str, np.ndarray]) -> bool:
    """Whether the tensors that a file shares with the row's model have its shapes, but for the head's."""
    model = create_model(row.model, **row.options)
    rules = {rule.target: rule for rule in rules_for(row, model) if _stage(rule.target) != "head"}
    target = {leaf: shape for leaf, shape in leaf_shapes(model, row.preprocess.size).items() if leaf in rules}
    own = canonical(row, tensors)
    shapes = source_shapes(rules.values(), target)
    return all(np.shape(tensors[own[name]]) == shape for name, shape in shapes.items() if name in own)


def is_jft(names: Iterable[str]) -> bool:
    """Whether a file with these names was written by jft."""
    return any(name.startswith("params/") for name in names)


def _canonical(names: Iterable[str], row: WeightSet) -> dict[str, str]:
    """{name in the rules: name in the file}."""
    if row.dialect == "jft" or is_jft(names):
        return {name: name for name in names}
    return canonical(row, names)


def _rules(names: Iterable[str], row: WeightSet, target: Iterable[str]) -> list[Rule]:
    model = create_model(row.model, **row.options)
    if row.dialect != "jft" and not is_jft(names):
        return rules_for(row, model)
    side = [name for name in names if name.count("/") > 1 and _stage(name) in model.auxiliary_heads()]
    return [Rule(leaf, (leaf,), same) for leaf in dict.fromkeys([*target, *side])]


@functools.lru_cache(maxsize=512)  # to guess is to ask for those of the whole catalog
def _published_names(row: WeightSet, model: Chain) -> frozenset[str]:
    """Names of the tensors in the row's published file, as the rules have them."""
    if row.dialect == "jft":
        return frozenset()
    lacking = {*(() if row.top else TOP), *(() if row.aux else model.auxiliary_heads())}
    rules = [rule for rule in rules_for(row, model) if _stage(rule.target) not in lacking]
    return frozenset(name for rule in rules for name in rule.sources)


def _stage(leaf: str) -> str:
    return leaf.split("/")[1]


def _transformed(rule: Rule, arrays: list[np.ndarray], shape: tuple[int, ...]) -> np.ndarray | None:
    """The leaf, or None if the arrays have the wrong shape or are not floating point."""
    if not all(jnp.issubdtype(array.dtype, jnp.floating) for array in arrays):
        return None
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # `nonfinite` reports infinities by name
            value = rule.transform.forward(*(array.astype(np.float32, copy=False) for array in arrays))
    except ValueError:
        return None
    return np.ascontiguousarray(value) if value.shape == shape else None


def _finite(array: np.ndarray) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.isfinite(array.astype(np.float32, copy=False)).all())


def _hint(tensors: Mapping[str, np.ndarray], row: WeightSet, fitting: float) -> str:
    if is_jft(tensors):
        return "" if fitting > 0.5 else "jft wrote this file for another model."
    guess = guess_row(tensors, [row, *CATALOG.values()])
    if guess is None:
        return "" if fitting > 0.5 else "It looks like no weights of the catalog."
    return "" if guess.name == row.name else f"It looks like weights of another kind: {guess.name}."


def _shape(array: np.ndarray) -> str:
    return f"{array.dtype} {list(array.shape)}"


def _by_leaf(names: Mapping[str, tuple[str, ...]], fresh: Collection[str]) -> list[str]:
    return [f"{name} [{leaf}]" for leaf, found in names.items() if leaf not in fresh for name in found]


def _listed(what: str, entries: Collection[str], shown: int) -> list[str]:
    if not entries:
        return []
    more = [f"    and {len(entries) - shown} more"] if len(entries) > shown else []
    return [f"  {what} ({len(entries)}):", *(f"    {entry}" for entry in sorted(entries)[:shown]), *more]
