"""From images on disk or in memory to batches of uint8, and the device functions that prepare them.

`from_folder`, `from_csv`, `from_tfds`, `from_arrays` and `from_iterable` make a `Dataset`, for `jft.train`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jft.data.dataset import Dataset, from_arrays, from_csv, from_folder, from_iterable, from_tfds

__all__ = ["Dataset", "from_arrays", "from_csv", "from_folder", "from_iterable", "from_tfds"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("jft.data.dataset"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
