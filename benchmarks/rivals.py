"""One framework in a process of its own, driven by lines of JSON: what `side_by_side.py` starts.

    python benchmarks/rivals.py NAME cpu|gpu

Each line on standard input is a request, answered by one line on standard output:

    {"about": null}  ->  versions and device
    {"build": {"what": "train", "model": "resnet50", "batch": 8, "dtype": "float32"}}  ->  {"seconds", "flops"}
    {"run": 10}  ->  {"seconds", "processor"}, of 10 steps of what was built last, waited for at the end; the second
        are those of all its threads together
    {"memory": null}  ->  bytes, by what counts them
    {"drop": null}  ->  {}; what was built is forgotten

Everything works on images with 10 classes and random weights.
"""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from typing import Any

from shared import Rival, Steps, answer_requests, separable


class ScikitLearn:
    """The probe alone, on the CPU."""

    def about(self) -> dict[str, Any]:
        """See `Rival.about`."""
        import sklearn.linear_model
        import sklearn.preprocessing

        return {"scikit-learn": sklearn.__version__, "cpus": len(os.sched_getaffinity(0))}

    def build(self, what: str, rows: int, columns: int) -> Steps:
        """See `Rival.build`; a step is a fit."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        if what != "probe":
            raise ValueError(f"scikit-learn has no {what!r}, only 'probe'")
        features, labels = separable(rows, columns)

        def steps(count: int) -> None:
            for _ in range(count):
                LogisticRegression(C=0.01, max_iter=1000).fit(StandardScaler().fit_transform(features), labels)

        return steps

    def memory(self) -> dict[str, int]:
        """See `Rival.memory`."""
        return {}

    def drop(self) -> None:
        """See `Rival.drop`."""

    def flops(self) -> None:
        """See `Rival.flops`."""


def _jft(device: str) -> Rival:
    from jft_rival import Jft

    return Jft(device)


def _torch(form: str, mode: str = "") -> Callable[[str], Rival]:
    def make(device: str) -> Rival:
        from torch_rival import Torch

        return Torch(device, channels_last=form == "NHWC", mode=mode)

    return make


def _keras(backend: str) -> Callable[[str], Rival]:
    def make(device: str) -> Rival:
        from keras_rival import Keras

        return Keras(backend)

    return make


# Name: (packages that it needs, how it is made for a device).
RIVALS: dict[str, tuple[tuple[str, ...], Callable[[str], Rival]]] = {
    "jft": (("jax", "flax"), _jft),
    "keras-tf": (("keras", "tensorflow"), _keras("tensorflow")),
    "torch-cl": (("torch",), _torch("NHWC")),
    "keras-jax": (("keras", "jax"), _keras("jax")),
    "torch": (("torch",), _torch("NCHW")),
    "torch-cl-compile": (("torch",), _torch("NHWC", "default")),
    "torch-compile": (("torch",), _torch("NCHW", "default")),
    "torch-cl-autotune": (("torch",), _torch("NHWC", "max-autotune")),
    "scikit-learn": (("sklearn",), lambda device: ScikitLearn()),
}


def missing(name: str) -> str:
    """Why a rival cannot run on this machine; '' if it can."""
    lacking = [package for package in RIVALS[name][0] if importlib.util.find_spec(package) is None]
    if lacking:
        return f"not installed: {', '.join(lacking)}"
    compilers = (os.environ.get("CXX", "c++"), "g++", "clang++")
    if name.endswith(("compile", "autotune")) and not any(map(shutil.which, compilers)):
        return "torch.compile needs a C++ compiler"
    return ""


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    answer_requests(lambda: RIVALS[sys.argv[1]][1](sys.argv[2]))
