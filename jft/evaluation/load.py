"""Opening models: runs, published weights, and files of weights, each as a `Predictor`."""

from pathlib import Path

import jax

from jft.data import imagenet
from jft.evaluation.open_model import SourceWeights, open_source
from jft.evaluation.predictor import Predictor
from jft.evaluation.restore import Trained, restore
from jft.metrics.losses import Objective
from jft.models import MODELS
from jft.utils import tree
from jft.utils.mesh import Parallel, make_parallel
from jft.utils.run_folder import runs_in
from jft.weights import hub, licenses
from jft.weights.catalog import CATALOG, WeightSet, choose_set, find_row, is_set


def load(
    source: str | Path,
    *,
    weights: str | None = None,
    weights_path: str | Path | None = None,
    batch_size: int = 32,
    accept_license: bool = False,
) -> Predictor:
    """Opens a model for prediction.

    Args:
      source: folder of a run, to open its best checkpoint; a model such as 'squeezenet1_1', pretrained on ImageNet; a
        weight set such as 'vgg16.keras'; a repository of timm's on the Hugging Face hub, 'hf:timm/resnet18.a1_in1k', or
        such a folder, 'hf:/folder'; or a weight file in jft's format, as `jft export` writes it.
      weights: tag of the model's weight set, such as 'caffe'; None: one that is on this machine, else torchvision's.
      weights_path: file of the weight set, or its folder, tried before the cache and the network.
      batch_size: batch size over all devices of this process; rounded up to a multiple of their number.
      accept_license: use weights whose license forbids commercial use.

    Returns:
      The predictor.

    Raises:
      ValueError: there is no such run, model or set, or no checkpoint that can be read.
      OSError: the weights are neither on this machine nor can be downloaded.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size = {batch_size}: it must be at least 1.")
    if str(source) in MODELS or is_set(str(source)):
        with licenses.accepting(accept_license):
            opened = _pretrained(str(source), weights, weights_path)
            facts = opened.facts
            name = facts.get("weights") or facts.get("repository") or f"{facts['source']} (file not recognized)"
            return from_weights(opened, name, batch_size)
    if weights or weights_path:
        raise ValueError(
            f"weights and weights_path belong to a model such as squeezenet1_1, not to {source}: leave them out."
        )
    if Path(source).is_file():
        return from_weights(open_source(str(source)), str(source), batch_size)
    if not Path(source).is_dir():
        known = tree.did_you_mean(str(source), [*MODELS, *CATALOG, *runs_in(Path(source).parent)])
        raise ValueError(f"there is no run or weight file {source}, and no pretrained model of that name{known or '.'}")
    return from_trained(restore(source, _devices()), str(source), batch_size)


def from_trained(trained: Trained, name: str, batch_size: int = 32) -> Predictor:
    """The predictor of a restored run; arguments as in `load`."""
    return Predictor(
        parallel=trained.parallel,
        batch_size=trained.parallel.rounded(batch_size),
        name=name,
        model=trained.model,
        variables=trained.variables,
        spec=trained.spec,
        fit=trained.info.fit,
        objective=trained.objective,
        class_names=trained.class_names,
        temperature=trained.info.temperature or 1.0,
        info=trained.info,
        architecture=trained.info.model,
        options={**trained.info.options, "num_classes": trained.model.num_classes},
    )


def from_weights(opened: SourceWeights, name: str, batch_size: int = 32) -> Predictor:
    """The predictor of opened weights; arguments as in `load`."""
    parallel, model = _devices(), opened.build()
    variables = {"params": {}, "batch_stats": {}} | tree.unflatten(opened.read(False))
    names = opened.class_names or _class_names(max(model.num_classes, 2))
    return Predictor(
        parallel=parallel,
        batch_size=parallel.rounded(batch_size),
        name=name,
        model=model,
        variables=parallel.place_state(variables),
        spec=opened.spec,
        fit=opened.fit,
        objective=Objective(opened.objective, len(names)),
        class_names=names,
        temperature=opened.temperature,
        info=None,
        architecture=opened.model,
        options=opened.options,
    )


def _devices() -> Parallel:
    return make_parallel("jit", devices=jax.local_devices())


def _pretrained(source: str, weights: str | None, weights_path: str | Path | None) -> SourceWeights:
    """A weight set of the catalog with classifier layers, or a file in its layout."""
    if is_set(source):
        named = choose_set(source)
        weights = weights or named.tag
        source = named.model
    if weights is None and weights_path is not None and Path(weights_path).is_file():
        return open_source(str(weights_path), model=source)
    row = find_row(source, weights) if weights else _at_hand(source, weights_path)
    if not row.top:
        raise ValueError(f"{row.name}: these weights have no classifier. Fine-tune them first, and load the run.")
    return open_source(row.name, weights_path=weights_path)


def _at_hand(model: str, folder: str | Path | None) -> WeightSet:
    """A weight set of the model in the folder or on this machine, else the first one, which will be downloaded."""
    rows = [row for row in CATALOG.values() if row.model == model and row.top]
    if not rows:
        raise ValueError(f"{model} has no published weights: give the folder of a run that trained it.")
    given = (row for row in rows if folder and (Path(folder).expanduser() / row.filename).is_file())
    return next(given, None) or next((row for row in rows if hub.is_here(row)), rows[0])


def _class_names(count: int) -> tuple[str, ...]:
    """ImageNet's class names if there are 1000, else numbers."""
    return imagenet.class_names() if count == imagenet.CLASSES else tuple(map(str, range(count)))
