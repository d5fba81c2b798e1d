"""Exports weights to files that torchvision, timm or Keras load; one is kept only if reading it restores the model."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jft.data import transforms
from jft.data.transforms import Preprocess
from jft.evaluation.open_model import BENIGN, HEAD, Leaves, SourceWeights, open_source
from jft.exporters.layouts import FORMATS, KERAS_NAMES
from jft.models import Chain, create_model
from jft.utils import tree
from jft.utils.files import written_whole
from jft.utils.version import __version__
from jft.weights import convert, readers, rules, seeded
from jft.weights.catalog import CATALOG, WeightSet, choose_set, is_set
from jft.weights.target import leaf_shapes

# Largest error of the logits of the written file, relative to the largest logit. A mere change of layout has no error;
# folding a scale into a kernel rounds, in each of Inception's 94 layers.
LIMIT = 1e-5


@dataclasses.dataclass(frozen=True)
class Exported:
    """A written file and how it compares with its source.

    Attributes:
      source: the exported weights.
      model: the model as the target framework defines it.
      name: what the target framework calls it.
      format: 'torchvision', 'timm' or 'keras'.
      tensors: number of tensors in the file.
      counters: number of them that count the batches seen by a BatchNorm. jft does not track these; they are 0.
      left_out: auxiliary heads that the target framework does not have.
      leaves: number of leaves that were read back and compared.
      rounded: number of them that are not bit-identical, because a scale was folded in.
      error: largest difference of the logits, relative to the largest logit.
      path: the file.
    """

    source: SourceWeights
    model: Chain
    name: str
    format: str
    tensors: int
    counters: int
    left_out: tuple[str, ...]
    leaves: int
    rounded: int
    error: float
    path: Path


def export(
    source: str,
    out: str | Path,
    *,
    format: str = "torchvision",
    model: str | None = None,
    tag: str | None = None,
    image_size: int | None = None,
) -> Exported:
    """Opens weights and writes them in the layout of another framework, see `write`.

    Args:
      source: folder of a run, name of a weight set, or path of a weight file.
      out: the output file, see `write`.
      format: 'torchvision', 'timm' or 'keras'.
      model: name of a model, see `jft.models.architecture`, needed for a file that does not name its model.
      tag: tag of the weight set whose layout a file has; None: guessed.
      image_size: side of the input images in pixels; None: as trained.

    Raises:
      ValueError: there is no such source; or see `write`.
    """
    if is_set(source) and not choose_set(source).top:
        raise ValueError(_headless(source))
    return write(open_source(source, model=model, tag=tag, image_size=image_size), out, format)


def write(weights: SourceWeights, out: str | Path, format: str = "torchvision") -> Exported:
    """Writes weights in the layout of another framework, reads them again, and compares.

    Every leaf survives the round trip. torch's counters `num_batches_tracked`, which do not affect the outputs, are
    always written as 0.

    Args:
      weights: the weights to write.
      out: the file, '.safetensors' for torchvision and timm, and '.h5' for Keras; replaced if it exists.
      format: 'torchvision' or 'timm', a state dict in safetensors; or 'keras', the legacy h5 layout.

    Raises:
      ValueError: the framework has no such architecture (the message says why), or the file does not restore the model
        and was not kept.
    """
    layout, out = tree.choose(FORMATS, format, what="format"), Path(out)
    layout.check_name(out)
    try:
        row, published, left_out = find_published(weights, format)
    except ValueError as error:
        raise ValueError(f"{error} {_remedy(weights)}") from error
    name = timm_name(row) if format == "timm" else row.model
    layout.how_to_load(name, published, weights.spec.size, out)  # refuses a size that cannot be loaded
    target = _target(published, weights.spec.size, f"{format}'s {row.model}")
    leaves = weights.read(False)
    if HEAD not in leaves:
        raise ValueError(_headless(weights.facts["source"]))
    table = rules.rules_for(row, published)
    tensors = rules.sources_of(table, {name: leaves[name] for name in target})
    with written_whole(out) as aside:
        names = layout.write(aside, published, table, tensors, _notes(weights))
        rounded, error = _prove(aside, weights, leaves, row, published, target)
        if not error <= LIMIT or (rounded and layout.exact):
            raise ValueError(
                f"the {format} file does not restore {weights.model}: {rounded} of {len(target)} leaves differ, the "
                f"logits by {error:.1e} of the largest. Nothing was kept. This is a bug in jft: please report it."
            )
    counters = sum(map(rules.is_ignored, names))
    return Exported(weights, published, name, format, len(names), counters, left_out, len(target), rounded, error, out)


def timm_name(row: WeightSet) -> str:
    """timm's name of the architecture of a set of its own, whose files are called 'architecture.recipe.safetensors'."""
    return row.filename.split(".")[0]


def compare(model: Chain, leaves: Leaves, other: Chain, others: Leaves, spec: Preprocess) -> float:
    """Runs two seeded images through two models.

    Args:
      model: the reference.
      leaves: its weights; leaves that the model does not use are ignored.
      other: the model to compare.
      others: its weights.
      spec: preprocessing of both.

    Returns:
      The largest difference of their logits, relative to the largest logit; NaN or infinity if a logit is not finite.
    """
    images = seeded.generator("export").integers(0, 256, (2, spec.size, spec.size, 3), np.uint8)
    batch = transforms.normalize(images, spec)
    # Without jit, both models share the compiled operations.
    wanted, found = (
        np.asarray(chain.apply(tree.unflatten(own), batch, train=False))
        for chain, own in ((model, leaves), (other, others))
    )
    gap = np.max(np.abs(found - wanted))
    return float(gap / np.max(np.abs(wanted))) if gap else 0.0


def find_published(weights: SourceWeights, format: str) -> tuple[WeightSet, Chain, tuple[str, ...]]:
    """Finds the same architecture in the framework of a format.

    Returns:
      A published weight set of it; the model as the framework defines it, with the classes and auxiliary heads of the
      weights; and the auxiliary heads of the weights that the framework does not have.

    Raises:
      ValueError: the framework has no such architecture (names the fields that differ), or jft does not write it.
    """
    model = weights.build()
    near, differences = _nearest(model, weights.model, format)
    if near is None:
        raise ValueError(f"{format} has no model like {weights.model}.")
    if differences:
        texts = {name: f"{name}={there!r} instead of {here!r}" for name, (here, there) in differences.items()}
        named = ", ".join(text if len(text) < 200 else f"another {name}" for name, text in texts.items())
        raise ValueError(f"{format} has no such {weights.model}: its {near.model} has {named}.")
    if not _is_written(near, format):
        raise ValueError(f"jft does not write {near.model} in Keras' layout.")
    published = create_model(near.model, **{**near.options, "num_classes": model.num_classes})
    known = {rule.target.split("/")[1] for rule in rules.rules_for(near, published)}
    side = set(model.auxiliary_heads()) if model.aux_heads else set()
    return near, published.clone(aux_heads=bool(side & known)), tuple(sorted(side - known))


def _is_written(row: WeightSet, format: str) -> bool:
    return format != "keras" or row.model in KERAS_NAMES


def _remedy(weights: SourceWeights) -> str:
    nearest = {format: _nearest(weights.build(), weights.model, format) for format in FORMATS}
    fitting = [format for format, (row, odd) in nearest.items() if row and odd == {} and _is_written(row, format)]
    own = "Write jft's own format with `jft weights convert SOURCE --out FILE.safetensors`."
    return f"Use --format {fitting[0]}." if fitting else own


def _headless(source: str) -> str:
    return f"{source} has no classifier layers: fine-tune it first, and export the run."


def _nearest(model: Chain, name: str, dialect: str) -> tuple[WeightSet | None, dict[str, tuple[Any, Any]] | None]:
    """The published row that differs in the fewest fields, and these fields: {field: (the model's, the row's)}."""
    best, fewest = None, None
    for row in sorted(CATALOG.values(), key=lambda row: not row.top):  # one without a classifier is the last resort
        if row.dialect != dialect:
            continue
        other = create_model(row.model, **row.options)
        if type(other) is not type(model):
            continue
        fields = [field.name for field in dataclasses.fields(model) if field.name not in BENIGN]
        here = {field: (getattr(model, field), getattr(other, field)) for field in fields}
        differing = {field: values for field, values in here.items() if values[0] != values[1]}
        if best is None or fewest is None or (len(differing), row.model != name) < (len(fewest), best.model != name):
            best, fewest = row, differing
    return best, fewest


def _target(model: Chain, size: int, name: str) -> dict[str, Any]:
    try:
        return leaf_shapes(model, size)
    except ValueError as error:
        raise ValueError(f"{name} does not take images of {size} pixels: {error}") from error


def _notes(weights: SourceWeights) -> dict[str, str]:
    """The metadata of the file, as JSON texts."""
    own = weights.to_json()
    facts = {"source": weights.facts, "license": weights.facts.get("license"), "written_by": f"jft {__version__}"}
    kept = {key: own[key] for key in ("model", "class_names", "objective", "preprocess", "fit")}
    return {**kept, **{key: json.dumps(value) for key, value in facts.items()}}


def _prove(
    path: Path, weights: SourceWeights, leaves: Leaves, row: WeightSet, published: Chain, target: Mapping[str, Any]
) -> tuple[int, float]:
    """Reads the written file like any weight file; (number of leaves that differ, relative error of the logits)."""
    conversion = convert.convert(readers.read_tensors(path), row, target)
    try:
        conversion.check("the file")
    except ValueError as error:
        raise ValueError(
            f"the written file is no {row.model} and was not kept; this is a bug in jft, please report it: {error}"
        ) from error
    again = conversion.leaves
    rounded = sum(again[name].tobytes() != leaves[name].tobytes() for name in target)
    return rounded, compare(weights.build(), leaves, published, again, weights.spec)


def describe(done: Exported) -> str:
    """Describes the written file, the comparison with its source, and how to load it, in lines."""
    name, classes, spec = done.source.model, done.model.num_classes, done.source.spec
    side = f"; without {', '.join(done.left_out)}, which {done.format} does not have" if done.left_out else ""
    bits = f"{done.rounded} of them rounded by folding a scale" if done.rounded else "bit-identical"
    lost = f"; {done.counters} counters num_batches_tracked are 0: jft does not track them" if done.counters else ""
    cut = f"shorter side resized to {spec.resize} pixels, center crop of {spec.size}"
    fit = f"{cut if done.source.fit == 'crop' else f'resized to {spec.size} pixels'}, {spec.interpolation}"
    return "\n".join(
        [
            f"{name}, {classes:,} classes, in the layout of {done.format}: {done.tensors} tensors{side}",
            f"read again: {done.leaves} leaves, {bits}{lost}",
            f"logits of 2 seeded images of {spec.size} pixels: relative error {done.error:.1e}",
            f"wrote {done.path} ({done.path.stat().st_size / 2**20:.1f} MiB)",
            f"load: {FORMATS[done.format].how_to_load(done.name, done.model, spec.size, done.path)}",
            f"input: {spec.channels}, (gray levels x {spec.scale:.6g} - {list(spec.mean)}) / {list(spec.std)}, {fit}",
        ]
    )
