"""jft: transfer learning with ImageNet-pretrained CNNs in JAX.

    data = jft.data.from_folder("flower_photos")
    run = jft.train(model="resnet50", data=data, preset="lp_ft", epochs=5, workdir="runs/flowers")
    run.predict(images)  # uint8 [n, height, width, 3] of any size -> float32 [n, classes]

docs/api.md describes every name. Importing the package is cheap: names load what they need when they are used first,
and nothing here loads JAX, TensorFlow or torch. It sets XLA flags that pay on CPU, unless JAX's backend has started or
JFT_PLAIN_XLA=1 (`jft.utils.xla_flags`).
"""

import importlib
from typing import TYPE_CHECKING, Any

from jft.utils import xla_flags
from jft.utils.version import __version__

if TYPE_CHECKING:
    from jft import data, models
    from jft.evaluation.create import create_model
    from jft.evaluation.gallery import grad_cam
    from jft.evaluation.predictor import Predictor
    from jft.features.head import fit_head
    from jft.training.callbacks import EpochEnd, EvaluationEnd, StepEnd
    from jft.training.freeze import make_plan
    from jft.training.step import make_train_step
    from jft.training.summary import summary
    from jft.training.train import fit, train
    from jft.training.trained_run import TrainedRun, evaluate, load
    from jft.weights.listing import list_models, list_weights

xla_flags.apply()

__all__ = [
    "EpochEnd",
    "EvaluationEnd",
    "Predictor",
    "StepEnd",
    "TrainedRun",
    "__version__",
    "create_model",
    "data",
    "evaluate",
    "fit",
    "fit_head",
    "grad_cam",
    "list_models",
    "list_weights",
    "load",
    "make_plan",
    "make_train_step",
    "models",
    "summary",
    "train",
]

# Name -> the module that has it.
_HOMES = {
    "EpochEnd": "jft.training.callbacks",
    "EvaluationEnd": "jft.training.callbacks",
    "StepEnd": "jft.training.callbacks",
    "Predictor": "jft.evaluation.predictor",
    "TrainedRun": "jft.training.trained_run",
    "create_model": "jft.evaluation.create",
    "evaluate": "jft.training.trained_run",
    "fit": "jft.training.train",
    "fit_head": "jft.features.head",
    "grad_cam": "jft.evaluation.gallery",
    "list_models": "jft.weights.listing",
    "list_weights": "jft.weights.listing",
    "load": "jft.training.trained_run",
    "make_plan": "jft.training.freeze",
    "make_train_step": "jft.training.step",
    "summary": "jft.training.summary",
    "train": "jft.training.train",
}


def __getattr__(name: str) -> Any:
    if name in ("data", "models"):
        return importlib.import_module(f"jft.{name}")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
