"""jft: transfer learning with ImageNet-pretrained CNNs in JAX.

Importing the package is cheap: it loads neither TensorFlow nor torch, and no JAX backend.
"""

from jft.version import __version__

__all__ = ["__version__"]
