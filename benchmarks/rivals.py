"""One framework in a process of its own, driven by lines of JSON: what `side_by_side.py` starts.

    python benchmarks/rivals.py jft|torch|torch-compile|torch-autotune|scikit-learn cpu|gpu

Each line on standard input is a request, answered by one line on standard output:

    {"build": {"what": "train", "model": "resnet50", "batch": 256, "dtype": "bfloat16"}}  ->  {"seconds": ...}
    {"steps": 10}  ->  {"seconds": ...}, of 10 steps of what was built last, waited for at the end
    {"about": null}  ->  versions and device

Everything works on images of 224 x 224 x 3 with 10 classes and random weights, which lie on the device.
"""

import contextlib
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

SIZE, CLASSES = 224, 10
FROZEN = {"resnet": "layer4", "vgg": "fc7", "incept": "mixed_7c", "squeez": "fire9"}  # the last stage before the head

Steps = Callable[[int], None]


def images(batch: int, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [batch, size, size, 3] and int32 [batch], the same for every rival."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (batch, size, size, 3), np.uint8), rng.integers(0, CLASSES, batch).astype(np.int32)


def _program_bytes(compiled: Any) -> int:
    """What a compiled program holds at once, arguments and outputs in it, as XLA counts it."""
    from jft.utils import memory

    return memory.program_bytes(compiled)


class Jft:
    """jft's own run, step and evaluation transform."""

    memory: int | None = None  # bytes on the device that the last thing built takes

    def __init__(self, device: str) -> None:
        """Nothing is built yet."""
        del device
        # Another framework works on the same GPU: memory is taken as it is needed.
        os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        from jft.utils import runtime

        runtime.configure()

    def about(self) -> dict[str, Any]:
        """Versions and device."""
        import flax
        import jax

        import jft.utils.version

        device = jax.devices()[0]
        return {
            "jft": jft.utils.version.__version__,
            "jax": jax.__version__,
            "flax": flax.__version__,
            "device": device.device_kind,
            "xla_flags": os.environ.get("XLA_FLAGS", ""),
        }

    def build(self, what: str, **options: Any) -> Steps:
        """A function of a number of steps."""
        self.memory = None
        return getattr(self, "_" + what)(**options)

    def _run(self, model: str, batch: int, dtype: str, freeze: str) -> Any:
        from jft.config import default_config
        from jft.data import datasets
        from jft.training.run import create_run

        config = default_config()
        config.update({"model": model, "weights": "", "freeze": freeze, "optimizer": "sgd", "learning_rate": 1e-3})
        config.update({"batch_size": batch, "eval_batch_size": batch, "steps": 10**6, "validation": 0.0})
        config.update({"flip": False, "cache_features": False, "dtype": dtype})
        pixels = np.zeros((40, 8, 8, 3), np.uint8)
        data = datasets.from_arrays(pixels, np.arange(40) % CLASSES, [str(i) for i in range(CLASSES)])
        return create_run(config, tempfile.mkdtemp() + "/run", data)

    def _train(self, model: str, batch: int, dtype: str, freeze: str = "") -> Steps:
        import jax

        from jft.training.programs import compile_train_step
        from jft.training.state import initial_state

        run = self._run(model, batch, dtype, freeze)
        state, _ = initial_state(run)
        pixels, labels = images(batch)
        numpy_batch = {"image": pixels, "label": labels, "mask": np.ones(batch, bool)}
        step = compile_train_step(run, run.phases[0], numpy_batch)
        self.memory = _program_bytes(step)
        placed = run.parallel.place_batch(numpy_batch)

        def steps(count: int) -> None:
            nonlocal state
            for _ in range(count):
                state, sums = step(state, placed)
            jax.block_until_ready((state, sums))

        return steps

    def _frozen(self, model: str, batch: int, dtype: str) -> Steps:
        return self._train(model, batch, dtype, freeze=FROZEN[model[:6].rstrip("0123456789")])

    def _infer(self, model: str, batch: int, dtype: str, size: int = SIZE) -> Steps:
        import jax

        from jft.data.augment import make_eval_transform
        from jft.models import initialize

        run = self._run(model, batch, dtype, "")
        transform = make_eval_transform(run.spec, fit=run.config.fit)
        variables = run.parallel.place_state(initialize(run.model, run.spec.size, 0))
        placed = run.parallel.place_batch({"image": images(batch, size)[0]})
        forward = run.parallel.compile(
            lambda v, b: run.model.apply(v, transform(b["image"]), train=False), variables, placed, donate=False
        )
        self.memory = _program_bytes(forward)

        def steps(count: int) -> None:
            for _ in range(count):
                logits = forward(variables, placed)
            jax.block_until_ready(logits)

        return steps

    def _matmul(self, side: int, dtype: str) -> Steps:
        import jax

        a, b = (jax.random.normal(jax.random.key(i), (side, side), dtype) for i in (0, 1))
        product = jax.jit(lambda a, b: a @ b).lower(a, b).compile()

        def steps(count: int) -> None:
            for _ in range(count):
                c = product(a, b)
            jax.block_until_ready(c)

        return steps

    def _kernel(self, name: str, variant: str, batch: int, dtype: str) -> Steps:
        import jax
        import kernels

        function, arguments = kernels.make(name, variant, batch, dtype)
        compiled = jax.jit(function).lower(*arguments).compile()

        def steps(count: int) -> None:
            for _ in range(count):
                out = compiled(*arguments)
            jax.block_until_ready(out)

        return steps

    def _probe(self, rows: int, columns: int) -> Steps:
        from jft.features import linear
        from jft.features.examples import Examples

        features, labels = separable(rows, columns)
        examples = Examples(features, labels)

        def steps(count: int) -> None:
            for _ in range(count):
                linear.fit("lbfgs", examples, None, outputs=CLASSES, regularization=(0.01,))

        return steps


_operators = []


def import_torchvision() -> Any:
    """torchvision, also where its compiled operators, which no network here uses, are of another torch."""
    import torch

    if not _operators and torch.version.cuda is None:
        _operators.append(torch.library.Library("torchvision", "FRAGMENT"))
        for name in ("nms", "qnms"):
            with contextlib.suppress(RuntimeError):
                _operators[0].define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision

    return torchvision


class Torch:
    """torchvision's networks in channels_last, with automatic mixed precision where bfloat16 is asked for."""

    @property
    def memory(self) -> int | None:
        """Bytes on a GPU that the last thing built took at most."""
        import torch

        return torch.cuda.max_memory_allocated() if self._device.type == "cuda" else None

    def __init__(self, device: str, mode: str = "") -> None:
        """Nothing is built yet."""
        import torch

        self._device, self._mode = torch.device("cuda" if device == "gpu" else "cpu"), mode
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        if device == "cpu":
            torch.set_num_threads(len(os.sched_getaffinity(0)))

    def about(self) -> dict[str, Any]:
        """Versions and device."""
        import torch

        torchvision = import_torchvision()
        name = torch.cuda.get_device_name() if self._device.type == "cuda" else "cpu"
        return {"torch": torch.__version__, "torchvision": torchvision.__version__, "device": name}

    def build(self, what: str, **options: Any) -> Steps:
        """A function of a number of steps."""
        if self._device.type == "cuda":
            import torch

            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        steps = getattr(self, "_" + what)(**options)

        def waited(count: int) -> None:
            import torch

            steps(count)
            if self._device.type == "cuda":
                torch.cuda.synchronize()

        return waited

    def _model(self, model: str) -> Any:
        import torch

        torchvision = import_torchvision()
        network = getattr(torchvision.models, model)(num_classes=CLASSES)
        return network.to(self._device, memory_format=torch.channels_last)

    def _compile(self, network: Any) -> Any:
        import torch

        return torch.compile(network, mode=self._mode) if self._mode else network

    def _autocast(self, dtype: str) -> Any:
        import torch

        return torch.autocast(self._device.type, torch.bfloat16, enabled=dtype == "bfloat16")

    def _pixels(self, batch: int, size: int) -> Any:
        import torch

        pixels = torch.tensor(images(batch, size)[0], device=self._device)
        pixels = pixels.permute(0, 3, 1, 2)
        return pixels.to(memory_format=torch.channels_last)

    def _normalized(self, pixels: Any) -> Any:
        import torch

        x = pixels.float()
        if pixels.shape[-1] != SIZE:
            x = torch.nn.functional.interpolate(x, (SIZE, SIZE), mode="bilinear", antialias=True)
        return ((x - 118.0) / 58.0).to(memory_format=torch.channels_last)

    def _train(self, model: str, batch: int, dtype: str, frozen: bool = False) -> Steps:
        import torch

        network = self._model(model).train()
        pixels, labels = self._pixels(batch, SIZE), torch.tensor(images(batch)[1], device=self._device).long()
        if frozen:
            network.eval().requires_grad_(False)
            head = network.classifier[-1] if model.startswith("vgg") else network.fc
            head.requires_grad_(True)
        learning = [p for p in network.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(learning, 1e-3, momentum=0.9, nesterov=True, fused=self._device.type == "cuda")
        forward = self._compile(network)

        def steps(count: int) -> None:
            for _ in range(count):
                optimizer.zero_grad(set_to_none=True)
                with self._autocast(dtype):
                    logits = forward(self._normalized(pixels))
                torch.nn.functional.cross_entropy(logits.float(), labels).backward()
                optimizer.step()

        return steps

    def _frozen(self, model: str, batch: int, dtype: str) -> Steps:
        return self._train(model, batch, dtype, frozen=True)

    def _infer(self, model: str, batch: int, dtype: str, size: int = SIZE) -> Steps:
        import torch

        # Weights are cast once; automatic mixed precision would cast them at every pass.
        network, pixels = self._model(model).eval().to(getattr(torch, dtype)), self._pixels(batch, size)
        forward = self._compile(network)

        def steps(count: int) -> None:
            for _ in range(count):
                with torch.inference_mode():
                    forward(self._normalized(pixels).to(getattr(torch, dtype)))

        return steps

    def _matmul(self, side: int, dtype: str) -> Steps:
        import torch

        a, b = (torch.randn(side, side, device=self._device, dtype=getattr(torch, dtype)) for _ in range(2))

        def steps(count: int) -> None:
            for _ in range(count):
                a @ b

        return steps


class ScikitLearn:
    """The probe alone, on the CPU."""

    memory = None

    def __init__(self, device: str) -> None:
        """Nothing is built yet."""
        del device

    def about(self) -> dict[str, Any]:
        """Version and threads."""
        import sklearn

        return {"scikit-learn": sklearn.__version__, "cpus": os.cpu_count()}

    def build(self, what: str, rows: int, columns: int) -> Steps:
        """A function of a number of fits."""
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

        assert what == "probe", what
        features, labels = separable(rows, columns)

        def steps(count: int) -> None:
            for _ in range(count):
                LogisticRegression(C=0.01, max_iter=1000).fit(StandardScaler().fit_transform(features), labels)

        return steps


def separable(rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 [rows, columns], rectified and correlated as pooled features are, and their classes int32 [rows]."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, rows).astype(np.int32)
    centers = rng.normal(size=(CLASSES, columns)).astype(np.float32)
    hidden = rng.normal(size=(rows, 64)).astype(np.float32) @ rng.normal(size=(64, columns)).astype(np.float32)
    noise = rng.normal(size=(rows, columns)).astype(np.float32)
    return np.maximum(0, 0.5 * centers[labels] + 0.2 * hidden + noise), labels


RIVALS = {
    "jft": Jft,
    "torch": Torch,
    "torch-compile": lambda device: Torch(device, "default"),
    "torch-autotune": lambda device: Torch(device, "max-autotune"),
    "scikit-learn": ScikitLearn,
}


def main(name: str, device: str) -> None:
    """Answers requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    rival, steps = RIVALS[name](device), None
    for line in sys.stdin:
        (kind, value), *_ = json.loads(line).items()
        start = time.perf_counter()
        try:
            if kind == "about":
                answer = rival.about()
            elif kind == "build":
                steps = None
                gc.collect()
                steps = rival.build(**value)
                steps(3)  # compilers and autotuners work at the first steps
                answer = {"seconds": time.perf_counter() - start, "bytes": rival.memory}
            else:
                steps(value)
                answer = {"seconds": time.perf_counter() - start}
        except Exception as error:  # the other rivals go on
            steps, answer = None, {"error": f"{type(error).__name__}: {str(error)[:300]}"}
        print(json.dumps(answer), file=answers)


if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    main(*sys.argv[1:])
