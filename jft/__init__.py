"""jft: transfer learning with ImageNet-pretrained CNNs in JAX.

    model = jft.load("runs/flowers")
    model.predict(images)  # uint8 [n, height, width, 3] of any size -> float32 [n, classes]

Importing the package is cheap: it loads neither JAX, TensorFlow nor torch. It sets XLA flags that pay on CPU, unless
JAX's backend has started or JFT_PLAIN_XLA=1 (`jft.utils.xla_flags`).
"""

from typing import TYPE_CHECKING, Any

from jft.utils import xla_flags
from jft.utils.version import __version__

if TYPE_CHECKING:
    from jft.evaluation.predictor import Predictor, load

xla_flags.apply()

__all__ = ["Predictor", "__version__", "load"]


def __getattr__(name: str) -> Any:
    if name in ("Predictor", "load"):
        from jft.evaluation import predictor

        return getattr(predictor, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
