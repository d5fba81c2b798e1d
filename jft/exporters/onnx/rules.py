"""The translations: the name of a JAX primitive -> a function of the walk, the equation and its arrays."""

from collections.abc import Callable
from typing import Any

from jft.exporters.onnx import elementwise, indexing, products, reductions, shapes, windows

RULES: dict[str, Callable[..., Any]] = {
    **elementwise.RULES,
    **shapes.RULES,
    **indexing.RULES,
    **reductions.RULES,
    **windows.RULES,
    **products.RULES,
}
