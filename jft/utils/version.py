"""The version, where it is found even if a folder called jft hides the package's own `__init__`."""

__version__ = "0.1.0"
