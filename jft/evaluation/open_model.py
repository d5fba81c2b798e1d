"""Opens weights from any source: a run of jft, a weight set of the catalog, or a weight file in any dialect."""

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from jft.data.transforms import Preprocess
from jft.evaluation.restore import Trained, restore
from jft.models import Chain, architecture, create_model
from jft.utils import tree
from jft.utils.files import written_whole
from jft.utils.mesh import make_parallel
from jft.weights import catalog, convert, hub, metadata, provenance, readers, rules
from jft.weights.catalog import CATALOG, WeightSet
from jft.weights.hashes import Hashes
from jft.weights.target import absent, leaf_shapes

Leaves = Mapping[str, np.ndarray]

HEAD = "params/head/head/bias"  # its length is the number of classes

# Fields that do not change a model's outputs at inference, for images of its own size.
BENIGN = frozenset(
    {
        *("num_classes", "default_size", "aux_heads", "dtype", "axis_name", "parent", "name"),
        *("adaptive_pool", "bn_momentum", "dropout", "aux_dropout", "drop_path", "layer_scale"),
    }
)


@dataclasses.dataclass(frozen=True)
class SourceWeights:
    """Weights and what must be known to use them.

    Attributes:
      model: name of a model, see `jft.models.architecture`.
      options: fields of the model, its number of classes and auxiliary heads among them.
      spec: preprocessing.
      fit: how an image becomes a square, 'crop' or 'whole', see `preprocess.to_model_input`.
      class_names: what the outputs mean, or None where the source does not say.
      objective: how they become probabilities, the kind of an `Objective`.
      tell: gives `facts`; slow for a set, whose file is looked at.
      read: gives the leaves, all of the model's but those that a set without top does not hold; slow. ValueError where
        they are not the model's. With True for its argument NaN and infinity are let through.
      temperature: by which logits are divided for probabilities.
    """

    model: str
    options: dict[str, Any]
    spec: Preprocess
    fit: str
    class_names: tuple[str, ...] | None
    objective: str
    tell: Callable[[], dict[str, str]]
    read: Callable[[bool], Leaves]
    temperature: float = 1.0

    @property
    def facts(self) -> dict[str, str]:
        """Where the weights come from, as far as known.

        The manifest of a `Provenance`; of a run's weights source, dialect, and the license of those it began with.
        """
        return self.tell()

    def build(self) -> Chain:
        """The model, float32."""
        return create_model(self.model, **self.options)

    def to_json(self) -> dict[str, str]:
        """What a file of these weights should say of itself, as JSON texts."""
        facts = {name: getattr(self, name) for name in ("model", "options", "class_names", "objective")}
        facts |= {} if self.temperature == 1 else {"temperature": self.temperature}
        return {k: json.dumps(v) for k, v in {**facts, "preprocess": self.spec.to_dict(), "fit": self.fit}.items()}


def open_source(
    source: str,
    *,
    model: str | None = None,
    tag: str | None = None,
    image_size: int | None = None,
    weights_path: str | os.PathLike | None = None,
) -> SourceWeights:
    """Opens a source; its tensors are read later.

    Args:
      source: folder of a run, name of a weight set such as 'vgg19.torchvision', a repository such as
        'hf:timm/resnet18.a1_in1k', or path of a weight file.
      model: name of a model, see `jft.models.architecture`; needed for a file that does not say it, otherwise a check.
      tag: of the weight set that a file is like, such as 'torchvision'; None: guessed from hash and names.
      image_size: side in pixels that the model shall read; None: as the source was trained.
      weights_path: of a set, its file or a folder that holds it, looked at before the cache and the network.

    Raises:
      ValueError: no such thing, or not what `model` and `tag` say.
    """
    if model:
        architecture(model)
    path = Path(source).expanduser()
    if catalog.is_set(source):
        opened = _open_set(catalog.choose_set(source), weights_path)
    elif path.is_dir():
        opened = of_trained(restore(path, make_parallel("jit")), path.resolve().name)
    elif path.exists():
        opened = _open_file(path, model, tag, image_size)
    else:
        raise ValueError(
            f"{source} is not the folder of a run, a weight file or a weight set of the catalog"
            f"{tree.did_you_mean(source, CATALOG) or ', such as vgg19.torchvision.'}"
        )
    if model and opened.model != model:
        raise ValueError(f"{source} holds weights of {opened.model}, not of {model}: leave --model out.")
    return dataclasses.replace(opened, spec=opened.spec.at(image_size)) if image_size else opened


def write_own(opened: SourceWeights, out: Path, *, allow_nonfinite: bool = False) -> str:
    """Writes weights under jft's own names, as safetensors.

    Args:
      opened: the weights.
      out: the file; written atomically.
      allow_nonfinite: write NaN and infinity too.

    Returns:
      What was done, in lines.

    Raises:
      ValueError: see `SourceWeights.read`.
    """
    leaves = opened.read(allow_nonfinite)
    about = {**opened.facts, **opened.to_json(), "converter_version": str(provenance.CONVERTER_VERSION)}
    with written_whole(out) as aside:
        safetensors.numpy.save_file(dict(leaves), aside, about)
    parameters = sum(leaf.size for name, leaf in leaves.items() if name.startswith("params/"))
    lines = [f"{key}: {value}" for key, value in opened.facts.items() if value]
    lines.append(f"parameters: {parameters:,} in {len(leaves)} tensors")
    if bad := [name for name, leaf in leaves.items() if not np.isfinite(leaf).all()]:
        lines.append(f"holding NaN or infinity: {', '.join(bad[:5])}{', ...' if len(bad) > 5 else ''}")
    lines.append(f"wrote {out}")
    if name := opened.facts.get("weights") or opened.facts.get("like"):
        tag = CATALOG[name].tag
        lines.append(f"use it with --model {opened.model} --weights {tag} --weights-path {out}")
    return "\n".join(lines)


def _open_set(row: WeightSet, weights_path: str | os.PathLike | None) -> SourceWeights:
    @functools.cache
    def loaded() -> tuple[Leaves, dict[str, str]]:
        target = leaf_shapes(create_model(row.model, **row.file_options), row.preprocess.size)
        return hub.load(row, target, weights_path=weights_path, fresh=absent(row, target))

    def tell() -> dict[str, str]:
        return {key: value for key, value in loaded()[1].items() if key not in ("converter_version", "jft")}

    def read(allow_nonfinite: bool) -> Leaves:
        del allow_nonfinite  # what is published and has them is refused
        return loaded()[0]

    how = row.preprocess, row.fit, row.class_names, "softmax"
    return SourceWeights(row.model, row.file_options, *how, tell, read)


def of_trained(trained: Trained, name: str) -> SourceWeights:
    """The weights of a run that is restored already, called `name`."""
    info = trained.info
    options = {**info.options, "num_classes": trained.model.num_classes}
    facts = {"source": f"{name}, step {info.step}", "dialect": "jft"}
    if base := info.provenance:
        facts["license"] = base.license
    how = trained.spec, info.fit, trained.class_names, info.objective
    return of_variables(name, info.model, options, trained.variables, *how, facts)


def of_variables(
    name: str,
    model: str,
    options: Mapping[str, Any],
    variables: Mapping[str, Any],
    spec: Preprocess,
    fit: str,
    class_names: tuple[str, ...],
    objective: str,
    facts: dict[str, str],
) -> SourceWeights:
    """The weights of a model in memory, called `name`; the others are fields of `SourceWeights`."""
    leaves = {leaf: np.asarray(array) for leaf, array in tree.flatten(variables).items()}
    target = leaf_shapes(create_model(model, **options), spec.size)
    read = functools.partial(_converted, name, leaves, _own_row(model), target)
    return SourceWeights(model, dict(options), spec, fit, class_names, objective, lambda: facts, read)


def _open_file(path: Path, model: str | None, tag: str | None, image_size: int | None) -> SourceWeights:
    hashes = Hashes(path)
    tensors = readers.read_tensors(path)
    own = metadata.read(path) if convert.is_jft(tensors) else {}
    model = own.get("model", model)
    if model is None:
        raise ValueError(f"{path} does not say which model it is for: give --model.")
    row = _choose_row(tensors, model, tag or own.get("tag"), hashes)
    if row.tag == "jft" and "options" not in own:
        _check_unambiguous(path, model)
    options = {**row.options, **own.get("options", {}), **_sizes(tensors, row)}
    spec, class_names = own.get("preprocess", row.preprocess), own.get("class_names")
    if own:
        with metadata.doubted(path):
            built = create_model(model, **options)
            leaf_shapes(built, spec.size)
            metadata.check_classes(class_names, built.num_classes)
    target = leaf_shapes(create_model(model, **options), image_size or spec.size)
    facts = provenance.of_file(path.name, hashes, row).manifest()
    read = functools.partial(_converted, path, tensors, row, target)
    objective = own.get("objective", "binary" if options.get("num_classes") == 1 else "softmax")
    how = own.get("fit", "crop"), class_names, objective
    return SourceWeights(model, options, spec, *how, lambda: facts, read, own.get("temperature", 1.0))


def _converted(
    source: str | Path, tensors: Leaves, row: WeightSet, target: Mapping[str, Any], allow_nonfinite: bool
) -> Leaves:
    conversion = convert.convert(tensors, row, target)
    conversion.check(source, absent(row, target), allow_nonfinite=allow_nonfinite)
    return conversion.leaves


def _own_row(model: str) -> WeightSet:
    """A row for jft's own names, of a model that need not be published."""
    row = next(iter(CATALOG.values()))
    spec = Preprocess().at(create_model(model).default_size)
    facts = {"dialect": "jft", "options": {}, "top": True, "aux": False, "sha256": None, "md5": None}
    return dataclasses.replace(row, model=model, tag="jft", preprocess=spec, **facts)


def _choose_row(tensors: Leaves, model: str, tag: str | None, hashes: Hashes) -> WeightSet:
    """The catalog row of `tag`, or of this hash, or the one that the tensors look like."""
    if tag:
        return catalog.find_row(model, tag)
    rows = [row for row in CATALOG.values() if row.model == model]
    if published := next((row for row in rows if hashes.judge(row)[0]), None):
        return published
    if convert.is_jft(tensors):  # of any model, published or not
        return _own_row(model)
    row = convert.guess_row(tensors, rows)
    if row is None:
        names, other = list(tensors), convert.guess_row(tensors, CATALOG.values())
        raise ValueError(
            f"the file does not look like weights of {model}, but like {other.name if other else 'no known set'}; its "
            f"tensors are {', '.join(names[:3])}, … Sets of {model}: {', '.join(row.tag for row in rows) or 'none'}."
        )
    alike = [other for other in rows if other.dialect == row.dialect]
    if any(_telling(other) != _telling(row) for other in alike):
        raise ValueError(
            f"the file has {row.dialect}'s names of {model}, which does not say how the network pads and normalizes: "
            f"give --weights {' or '.join(other.tag for other in alike)}, like which it is."
        )
    return row


def _telling(row: WeightSet) -> dict[str, Any]:
    """Options without which the model would compute something else."""
    return {field: value for field, value in row.options.items() if field not in BENIGN}


def _sizes(tensors: Leaves, row: WeightSet) -> dict[str, Any]:
    """What the tensors themselves say of the model: its number of classes, and whether it has auxiliary heads."""
    model = create_model(row.model, **row.options)
    if row.dialect == "jft" or convert.is_jft(tensors):
        names = {name: name for name in tensors}
    else:
        own = rules.canonical(row, tensors)
        first = {rule.target: rule.sources[0] for rule in rules.rules_for(row, model)}
        names = {leaf: own[source] for leaf, source in first.items() if source in own}
    shape = np.shape(tensors[names[HEAD]]) if HEAD in names else ()
    sizes = {"num_classes": shape[0]} if len(shape) == 1 and shape[0] else {}
    side = tuple(f"params/{name}/" for name in model.auxiliary_heads())
    return sizes | ({"aux_heads": True} if any(name.startswith(side) for name in names) else {})


def _check_unambiguous(path: Path, model: str) -> None:
    """Raises a ValueError if names of leaves do not identify the variant, such as Keras' ResNet and torchvision's."""
    options = {row.tag: _telling(row) for row in CATALOG.values() if row.model == model}
    if any(those != next(iter(options.values())) for those in options.values()):
        raise ValueError(f"{path} does not say which {model} it is for: give --weights {' or '.join(options)}.")
