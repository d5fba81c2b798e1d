"""What the reference frameworks call the stages of jft's models, a file for each family.

A file may have, for each framework:

- `TORCHVISION`, `TIMM` or `KERAS`: {jft's name of a model: `Reference`}, the framework's own name, and sizes in pixels;
  'model.variant' for a variant, see `jft.weights.rows.row.WeightSet`;
- `torchvision_stages`, `timm_stages` or `keras_stages`: a function of the framework's model that gives
  {jft's name of a stage: the framework's module or layer whose output it is, or 'module:input' for what one reads};
- `DINOV2` and `dinov2_stages`: the same for the code of DINOv2's authors;
- `ROBUSTNESS`: the models of the robustness library, whose stages are torchvision's;
- `torchvision_at`: a function that makes torchvision's model take images of a size in pixels, where it takes only one.
"""

import dataclasses
import importlib
import pathlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any


@dataclasses.dataclass(frozen=True)
class Reference:
    """A model of a framework.

    Attributes:
      name: the framework's, such as timm's 'tf_efficientnet_lite0'.
      sizes: of the images of the proof, in pixels: that of the published weights and a smaller one.
      options: further arguments of the framework's constructor.
      scale: of the images, where the framework's model divides them by it first.
      device: where torchvision makes it: 'meta' takes no memory, 'cpu' is for models whose constructors compute.
    """

    name: str
    sizes: tuple[int, ...]
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    scale: float = 1.0
    device: str = "meta"


def find(framework: str) -> dict[str, tuple[Reference, ModuleType]]:
    """{jft's name of a model: its reference in a framework ('TORCHVISION', …), and its family's file}."""
    files = sorted(path.stem for path in pathlib.Path(__file__).parent.glob("[a-z]*.py"))
    modules = [importlib.import_module(f"families.{name}") for name in files]
    return {
        model: (reference, module) for module in modules for model, reference in getattr(module, framework, {}).items()
    }
