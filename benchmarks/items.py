"""What is measured, the most telling first."""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from typing import Any

import rivals

KERAS, COMPILED = ("keras-tf", "keras-jax"), ("torch-cl-compile", "torch-compile")
EAGER = ("torch-cl", "torch")
ALL = ("jft", *KERAS, *EAGER, *COMPILED)

# Models of the goals, with what is measured of each by default on a CPU.
CPU = {
    "resnet50": ("train", "infer", "frozen"),
    "resnet18": ("train", "infer"),
    "inception_v3": ("train",),
    "squeezenet1_1": ("train", "infer"),
    "vgg16": ("infer", "train", "frozen"),
    "vgg19": ("infer", "train"),
}
QUICK = {"squeezenet1_1": ("infer",), "resnet18": ("train", "frozen"), "resnet50": ("infer",)}
IN_KERAS = ("resnet50", "resnet101", "resnet152", "vgg16", "vgg19", "inception_v3")


@dataclasses.dataclass(frozen=True)
class Side:
    """One process in an item.

    Attributes:
      rival: a name of `rivals.RIVALS`.
      build: what it builds, see `rivals`.
    """

    rival: str
    build: dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Item:
    """What is built and takes turns.

    Attributes:
      about: what describes it in the results: 'what', 'model', 'batch', 'dtype' and others.
      sides: by the label of a process; a rival under several labels has several processes.
      per_step: images, or fits or products, of one step.
      rounds: the most rounds that it takes.
    """

    about: dict[str, Any]
    sides: dict[str, Side]
    per_step: int
    rounds: int = 1000

    def __str__(self) -> str:
        return " ".join(str(value) for key, value in self.about.items() if key != "dtype")


def items(device: str = "cpu", *, quick: bool = False, models: Sequence[str] = (), batch: int = 0) -> tuple[Item, ...]:
    """All items of a device.

    Args:
      device: 'cpu' or 'gpu'.
      quick: small shapes, to see that everything works; no result.
      models: only these; one that is not measured by default is trained and evaluated. () for the default.
      batch: images a step; 0 for 8 on a CPU, 256 on a GPU.
    """
    make = _Maker(device, quick, batch or (2 if quick else 256 if device == "gpu" else 8))
    return tuple((_on_gpu if device == "gpu" else _on_cpu)(make, models))


class _Maker:
    """Makes items of one device, dtype and size."""

    def __init__(self, device: str, quick: bool, batch: int) -> None:
        self.device, self.quick, self.batch = device, quick, batch
        self.dtype = "bfloat16" if device == "gpu" else "float32"
        self._size = {"size": 96} if quick else {}

    def matmul(self, sides: Sequence[str]) -> Item:
        build = {"what": "matmul", "side": 256 if self.quick else 8192 if self.device == "gpu" else 2048}
        return _item(build | {"dtype": self.dtype}, sides, 1)

    def model(self, what: str, model: str, sides: Sequence[str], batch: int = 0, **more: Any) -> Item:
        batch = batch or self.batch
        build = {"what": what, "model": model, "batch": batch, "dtype": self.dtype, **self._size, **more}
        item = _item(build, sides, batch)
        if what == "frozen" and self.device == "cpu":  # beside its own forward pass
            item.sides["jft-forward"] = Side("jft", {**build, "what": "infer"})
        return item

    def kernels(self) -> list[Item]:
        batch = 1 if self.quick else self.batch // 4 or 1
        forms = {f"max_pool_{size}": ("xla", "jft", "split") for size in ("3x3_2", "2x2_2", "3x3_1")}
        forms |= {"batch_norm": ("xla", "jft"), "conv_1x1": ("xla", "jft")}
        return [
            _item(
                {"what": "kernel", "name": name, "variant": form, "batch": batch, "dtype": self.dtype}, ["jft"], batch
            )
            for name, variants in forms.items()
            for form in variants
        ]

    def probe(self) -> Item:
        rows, columns = (1000, 64) if self.quick else (50_000, 2048)
        return dataclasses.replace(
            _item({"what": "probe", "rows": rows, "columns": columns}, ["jft", "scikit-learn"], 1), rounds=2
        )

    def extraction(self, model: str, sides: Sequence[str]) -> Item:
        """Of as many images as CIFAR-10 has, of their size."""
        count = 8 if self.quick else 60_000
        build = {"what": "extract", "model": model, "batch": self.batch, "dtype": self.dtype, "examples": count}
        return dataclasses.replace(_item(build | {"source": 32} | self._size, sides, count), rounds=2)

    def resident(self, model: str) -> Item:
        """Training from images on the device, beside training on one batch over and over."""
        about = {"model": model, "batch": self.batch, "dtype": self.dtype, "source": 32, **self._size}
        build = about | {"what": "resident", "examples": 40 if self.quick else 50_000}
        sides = {"jft": Side("jft", build), "jft-one-batch": Side("jft", about | {"what": "train"})}
        return Item({"what": "resident"} | build, sides, self.batch)


def _item(build: dict[str, Any], sides: Sequence[str], per_step: int) -> Item:
    return Item(dict(build), {name: Side(name, dict(build)) for name in sides}, per_step)


def _on_cpu(make: _Maker, models: Sequence[str]) -> list[Item]:
    found, default = [make.matmul(["jft", "torch"])], QUICK if make.quick else CPU
    for model in models or default:
        slow = () if model in IN_KERAS else KERAS
        slow += COMPILED if make.quick and model != "squeezenet1_1" else ()  # they take a minute to build
        sides = [name for name in ALL if name not in slow]
        eager = [name for name in sides if name not in COMPILED]  # a frozen step is a forward pass
        kinds = default.get(model, ("train", "infer"))
        found += [make.model(what, model, eager if what == "frozen" else sides) for what in kinds]
    if small := next((model for model in models or default if model.startswith("resnet")), ""):
        eager = ["jft", "torch-cl"]
        found.append(make.resident(small))
        found += [make.extraction(small, eager), make.model("infer", small, eager, source=32)] if make.quick else []
    return [*found, *make.kernels(), make.probe()]


def _on_gpu(make: _Maker, models: Sequence[str]) -> list[Item]:
    eager, compiled = ["jft", "torch-cl"], ["jft", "torch-cl", "torch-cl-compile"]
    found = [make.matmul(eager)]
    for model in models or ("resnet50", "vgg16"):
        sides = compiled if model == "resnet50" else eager
        found += [
            make.model("train", model, sides),
            make.model("infer", model, sides),
            make.model("frozen", model, eager),
        ]
    first = (models or ("resnet50",))[0]
    if first.startswith("resnet"):
        found += [make.model("infer", first, eager, source=32), make.extraction(first, eager), make.resident(first)]
    found += make.kernels()
    batches = () if make.quick else (64, 512)
    found += [make.model(what, first, eager, batch) for batch in batches for what in ("train", "infer")]
    tuned = [make.model(what, first, ["jft", "torch-cl-autotune"]) for what in ("infer", "train")]  # longest to build
    return [*found, make.probe(), *tuned]


def keep(item: Item, only: str, names: Collection[str], missing: Callable[[str], str] = rivals.missing) -> Item | None:
    """The item without the rivals that were not asked for or are not installed; None if nothing is left of it.

    Args:
      item: one of `items`.
      only: text that its name must hold.
      names: rivals that were asked for; empty for all.
      missing: why a rival cannot run here; '' if it can.
    """
    sides = {
        label: side
        for label, side in item.sides.items()
        if (not names or side.rival in names) and not missing(side.rival)
    }
    return dataclasses.replace(item, sides=sides) if sides and only in str(item) else None
