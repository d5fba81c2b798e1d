"""The formats that an export consists of. To add one, write a module that ends in its `Format`, and add it here."""

from jft.exporters import onnx_file, own_weights, stablehlo, torchvision_weights
from jft.exporters.format import Format

# In the order of the model card. A format may read files of those before it.
FORMATS: tuple[Format, ...] = (
    stablehlo.FORMAT,
    onnx_file.FORMAT,
    own_weights.FORMAT,
    torchvision_weights.FORMAT,
)
