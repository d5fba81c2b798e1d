"""torch: NCHW or channels_last, eager or compiled; bfloat16 is automatic mixed precision in training."""

import contextlib
import importlib.metadata
import importlib.util
import os
from typing import Any

from shared import CLASSES, SIZE, Steps, images, normalized

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


# Networks that torchvision lacks.
TIMM = ("efficientnet_lite0", "efficientnet_lite1", "mobilenet_v1_025")


def _timm(model: str) -> Any:
    """timm's network. Its MobileNetV1 pads otherwise than Keras', which takes no time."""
    import_torchvision()
    import timm
    from timm.models import efficientnet

    if model == "mobilenet_v1_025":
        return efficientnet._gen_mobilenet_v1("mobilenetv1_100", 0.25, num_classes=CLASSES)
    return timm.create_model(f"tf_{model}", num_classes=CLASSES)


def network(model: str) -> Any:
    """torchvision's or timm's network with `CLASSES` outputs and random weights, or one of `torch_networks`."""
    if model in TIMM:
        return _timm(model)
    try:
        models = import_torchvision().models
    except ImportError:
        import torch_networks

        return torch_networks.make(model, CLASSES)
    # No auxiliary heads, as jft and Keras train, and torch's own initialization, which takes seconds less.
    options = {"aux_logits": False, "init_weights": False} if model in ("inception_v3", "googlenet") else {}
    return getattr(models, model)(num_classes=CLASSES, **options)


class Torch:
    """torch on one device."""

    def __init__(self, device: str, channels_last: bool, mode: str = "") -> None:
        """Nothing is built yet. `mode` is that of `torch.compile`; '' for eager."""
        import torch

        self._device, self._mode = torch.device("cuda" if device == "gpu" else "cpu"), mode
        self._format = torch.channels_last if channels_last else torch.contiguous_format
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        if device == "cpu":
            torch.set_num_threads(len(os.sched_getaffinity(0)))

    @property
    def _on_gpu(self) -> bool:
        return self._device.type == "cuda"

    def about(self) -> dict[str, Any]:
        """See `Rival.about`."""
        import torch

        try:
            networks = {"torchvision": import_torchvision().__version__}
            if importlib.util.find_spec("timm"):
                networks["timm"] = importlib.metadata.version("timm")
        except ImportError:
            networks = {"networks": "benchmarks/torch_networks.py"}
        name = torch.cuda.get_device_name() if self._on_gpu else "cpu"
        return {"torch": torch.__version__, **networks, "device": name}

    def drop(self) -> None:
        """See `Rival.drop`."""
        import torch

        torch.compiler.reset()  # else it keeps the networks that it compiled

    def build(self, what: str, **options: Any) -> Steps:
        """See `Rival.build`."""
        import torch

        if self._on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        steps = getattr(self, "_" + what)(**options)

        def waited(count: int) -> None:
            steps(count)
            if self._on_gpu:
                torch.cuda.synchronize()

        return waited

    def memory(self) -> dict[str, int]:
        """See `Rival.memory`; the most that torch had allocated on a GPU."""
        import torch

        return {"device": torch.cuda.max_memory_allocated()} if self._on_gpu else {}

    def flops(self) -> None:
        """See `Rival.flops`."""

    def _model(self, model: str) -> Any:
        return network(model).to(self._device, memory_format=self._format)

    def _compile(self, network: Any) -> Any:
        import torch

        return torch.compile(network, mode=self._mode) if self._mode else network

    def _autocast(self, dtype: str) -> Any:
        import torch

        return torch.autocast(self._device.type, torch.bfloat16, enabled=dtype == "bfloat16")

    def _pixels(self, batch: int, size: int) -> Any:
        """[batch, 3, size, size]: uint8 on a GPU, as jft has them there; float32 on a CPU, already normalized."""
        import torch

        pixels = images(batch, size)[0]
        placed = torch.tensor(pixels if self._on_gpu else normalized(pixels), device=self._device)
        return placed.permute(0, 3, 1, 2).contiguous(memory_format=self._format)

    def _input(self, pixels: Any, size: int) -> Any:
        """Resizes and normalizes where that is still to be done."""
        import torch

        x = pixels.float()
        if pixels.shape[-1] != size:
            x = torch.nn.functional.interpolate(x, (size, size), mode="bilinear", antialias=True)
        return (((x - 118.0) / 58.0) if self._on_gpu else x).contiguous(memory_format=self._format)

    def _train(self, model: str, batch: int, dtype: str, size: int = SIZE, frozen: bool = False) -> Steps:
        import torch

        network = self._model(model).train()
        pixels, labels = self._pixels(batch, size), torch.tensor(images(batch)[1], device=self._device).long()
        if frozen:
            network.eval().requires_grad_(False)
            head = network.classifier[-1] if model.startswith("vgg") else network.fc
            head.requires_grad_(True)
        learning = [p for p in network.parameters() if p.requires_grad]
        fused = {"fused": True} if self._on_gpu else {}
        optimizer = torch.optim.SGD(learning, 1e-3, momentum=0.9, nesterov=True, **fused)
        forward = self._compile(network)

        def steps(count: int) -> None:
            for _ in range(count):
                optimizer.zero_grad(set_to_none=True)
                with self._autocast(dtype):
                    logits = forward(self._input(pixels, size))
                torch.nn.functional.cross_entropy(logits.float(), labels).backward()
                optimizer.step()

        return steps

    def _frozen(self, model: str, batch: int, dtype: str, size: int = SIZE) -> Steps:
        return self._train(model, batch, dtype, size, frozen=True)

    def _infer(self, model: str, batch: int, dtype: str, size: int = SIZE, source: int = 0) -> Steps:
        import torch

        # Weights are cast once; automatic mixed precision would cast them at every pass.
        network, pixels = self._model(model).eval().to(getattr(torch, dtype)), self._pixels(batch, source or size)
        forward = self._compile(network)

        def steps(count: int) -> None:
            for _ in range(count):
                with torch.inference_mode():
                    forward(self._input(pixels, size).to(getattr(torch, dtype)))

        return steps

    def _extract(self, model: str, batch: int, dtype: str, examples: int, source: int = 32, size: int = SIZE) -> Steps:
        """A step: features before the head of all `examples` images, which come from the host and go back there."""
        import torch

        network = self._model(model).eval().to(getattr(torch, dtype))
        network.fc = torch.nn.Identity()
        forward = self._compile(network)
        pixels = torch.tensor(images(examples, source)[0]).permute(0, 3, 1, 2)

        def steps(count: int) -> None:
            for _ in range(count):
                found = []
                for first in range(0, examples, batch):
                    part = pixels[first : first + batch].to(self._device)
                    part = part if self._on_gpu else (part.float() - 118) / 58
                    with torch.inference_mode():
                        x = self._input(part, size).to(getattr(torch, dtype))
                        found.append(forward(x).float())
                torch.cat(found).cpu()

        return steps

    def _matmul(self, side: int, dtype: str) -> Steps:
        import torch

        a, b = (torch.randn(side, side, device=self._device, dtype=getattr(torch, dtype)) for _ in range(2))

        def steps(count: int) -> None:
            for _ in range(count):
                a @ b

        return steps
