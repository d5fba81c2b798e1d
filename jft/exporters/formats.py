"""The formats that an export consists of. To add one, write a module that ends in its `Format`, and add it here."""

from jft.exporters import own_weights, stablehlo, torchvision_weights
from jft.exporters.format import Format
from jft.exporters.onnx import file as onnx_file

# In the order of the model card. A format may read files of those before it.
FORMATS: tuple[Format, ...] = (
    stablehlo.FORMAT,
    onnx_file.FORMAT,
    own_weights.FORMAT,
    torchvision_weights.FORMAT,
)


def chosen(*, preprocessing: bool = True) -> tuple[Format, ...]:
    """The formats of an export; without preprocessing, model.onnx reads normalized images, channels first."""
    other = onnx_file.NORMALIZED
    return tuple(other if row.name == other.name and not preprocessing else row for row in FORMATS)
