"""jft: transfer learning with ImageNet-pretrained CNNs in JAX.

Importing the package is cheap: it loads neither TensorFlow nor torch, and no JAX backend.
"""

__version__ = "0.1.0"
