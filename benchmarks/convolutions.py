"""Depthwise and grouped convolutions on one core: jft's kernels and XLA's own against torch with channels_last.

    python benchmarks/convolutions.py [--rounds 5] [--dtype float32] [--xla] [--only 7x7]

All forms take turns in one process, and processor time counts, so that other work on the machine matters little.
A line has the median milliseconds of each form, and the median of its turns' ratios to torch's time: below 1 is faster.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

BATCH = 8


class Shape(NamedTuple):
    """A convolution of `size` x `size` pixels with padding on all sides, as torch pads."""

    size: int
    inputs: int
    outputs: int
    groups: int
    window: int
    stride: int

    def __str__(self) -> str:
        kind = "depthwise" if self.groups == self.inputs else f"{self.groups} groups"
        return f"{kind} {self.window}x{self.window} /{self.stride}, {self.size}x{self.size}x{self.inputs}"


def _depthwise(size: int, channels: int, window: int, stride: int = 1) -> Shape:
    return Shape(size, channels, channels, channels, window, stride)


SHAPES = (
    *(_depthwise(*sizes) for sizes in ((112, 32, 3), (56, 144, 3), (14, 480, 3), (7, 1152, 3), (112, 96, 3, 2))),
    *(_depthwise(*sizes) for sizes in ((28, 240, 5), (14, 672, 5), (7, 1152, 5), (56, 144, 5, 2), (14, 672, 5, 2))),
    *(_depthwise(*sizes) for sizes in ((56, 96, 7), (28, 192, 7), (14, 384, 7), (7, 768, 7))),
    *(Shape(*sizes, 3, 1) for sizes in ((56, 128, 128, 32), (14, 512, 512, 32), (7, 1024, 1024, 32))),
    *(Shape(*sizes, 3, 1) for sizes in ((56, 48, 48, 6), (28, 120, 120, 5), (14, 336, 336, 14))),
    Shape(56, 256, 256, 32, 3, 2),
)

Forms = dict[str, Callable[[], Any]]


def forms(shape: Shape, dtype: str, *, xla: bool = False) -> tuple[Forms, Forms]:
    """The forward pass, and both passes, by the form's name; each waits for its results.

    Raises:
      AssertionError: a form's output is not torch's.
    """
    import jax
    import numpy as np
    import torch
    from jax import lax

    from jft.models import kernels

    edge, strides = (shape.window - 1) // 2, (shape.stride,) * 2
    pads, rng = ((edge, edge),) * 2, np.random.default_rng(0)
    x = rng.normal(size=(BATCH, shape.size, shape.size, shape.inputs)).astype(np.float32)
    kernel = rng.normal(size=(shape.window, shape.window, shape.inputs // shape.groups, shape.outputs)).astype(
        np.float32
    )

    def jft(x: jax.Array, kernel: jax.Array) -> jax.Array:
        if shape.groups == shape.inputs == shape.outputs:
            return kernels.depthwise(x, kernel, strides, pads)
        return kernels.grouped(x, kernel, strides, pads, shape.groups)

    def own(x: jax.Array, kernel: jax.Array) -> jax.Array:
        numbers = ("NHWC", "HWIO", "NHWC")
        groups = shape.groups
        return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=numbers, feature_group_count=groups)

    def leaf(array: np.ndarray, order: tuple[int, ...]) -> torch.Tensor:
        tensor = torch.tensor(array).permute(order).contiguous(memory_format=torch.channels_last)
        return tensor.to(getattr(torch, dtype)).requires_grad_()

    images, weights = leaf(x, (0, 3, 1, 2)), leaf(kernel, (3, 2, 0, 1))

    def convolve() -> torch.Tensor:
        return torch.nn.functional.conv2d(images, weights, None, shape.stride, edge, 1, shape.groups)

    def inferred() -> torch.Tensor:
        with torch.inference_mode():
            return convolve()

    ones = torch.ones_like(convolve())
    forward: Forms = {"torch": inferred}
    both: Forms = {"torch": lambda: torch.autograd.grad(convolve(), (images, weights), ones)}
    arguments = [jax.numpy.asarray(array, dtype) for array in (x, kernel)]
    for name, function in {"jft": jft, **({"xla": own} if xla else {})}.items():

        def gradients(x: jax.Array, kernel: jax.Array, function: Callable = function) -> tuple:
            y, back = jax.vjp(function, x, kernel)
            return y, back(jax.numpy.ones_like(y))

        for found, passes in ((forward, function), (both, gradients)):
            program = jax.jit(passes).lower(*arguments).compile()
            found[name] = lambda program=program: jax.block_until_ready(program(*arguments))
        wanted = convolve().detach().float().permute(0, 2, 3, 1).numpy()
        limit = (1e-4 if dtype == "float32" else 3e-2) * np.abs(wanted).max()
        np.testing.assert_allclose(np.asarray(forward[name](), np.float32), wanted, rtol=0, atol=limit)
    return forward, both


def in_turns(
    found: Mapping[str, Callable[[], Any]], rounds: int, seconds: float = 0.02
) -> dict[str, tuple[float, float]]:
    """{form: (median milliseconds of processor time, median ratio to torch's)}; a turn takes about `seconds`."""

    def measured(function: Callable[[], Any], count: int) -> float:
        start = time.process_time()
        for _ in range(count):
            function()
        return 1e3 * (time.process_time() - start) / count

    counts = {name: max(1, int(1e3 * seconds / max(measured(function, 1), 1e-3))) for name, function in found.items()}
    turns = [{name: measured(function, counts[name]) for name, function in found.items()} for _ in range(rounds)]
    return {
        name: (statistics.median(t[name] for t in turns), statistics.median(t[name] / t["torch"] for t in turns))
        for name in found
    }


def main() -> None:
    """Prints a line for each shape and each of the passes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--xla", action="store_true", help="XLA's own too; the gradient of groups takes seconds")
    parser.add_argument("--only", default="", help="shapes whose name contains this")
    args = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # before JAX and torch make their threads
    import torch

    import jft  # noqa: F401  sets XLA's flags

    torch.set_num_threads(1)
    for shape in SHAPES:
        if args.only in str(shape):
            for passes, found in zip(("forward", "both"), forms(shape, args.dtype, xla=args.xla), strict=True):
                measured = in_turns(found, args.rounds)
                cells = (f"{name} {ms:.2f} ms, {ratio:.2f}" for name, (ms, ratio) in measured.items())
                print(f"{shape}, {passes}: {'; '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
