"""ONNX Runtime on jft's model.onnx and on torch's own export of the same networks, in turns in one process.

    python benchmarks/onnx_files.py [--rounds 30] [--batch 1 8] [--only vgg16]

Needs onnx, onnxruntime, onnxscript, torch, torchvision and timm. Random weights, normalized images channels first,
probabilities out of both. On one thread, whose processor time counts beside wall time, so that other work on the
machine matters little. A line has the median milliseconds of each, and the median of the rounds' ratios with their
quartiles: below 1 jft's file is faster.
"""

import argparse
import contextlib
import io
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

# jft's network -> timm's; the others are torchvision's, by the same name.
NETWORKS = {"resnet50": "", "vgg16": "", "efficientnet_lite0": "tf_efficientnet_lite0", "squeezenet1_1": ""}
SIZE = 224


def write_jft(name: str, path: Path) -> None:
    """jft's file, by the function that `jft export --no-preprocessing` calls."""
    from jft.data.transforms import Preprocess
    from jft.exporters import stablehlo
    from jft.exporters.onnx import file
    from jft.metrics.losses import Objective
    from jft.models import create_model, initialize

    model = create_model(name)
    of = model, initialize(model, SIZE, 0), Preprocess(), Objective("softmax", 1000), "crop"
    function = stablehlo.make_predict(*of, normalized=True)
    file.write(function, path, (3, SIZE, SIZE), np.float32, root=type(model).__name__)


def write_torch(name: str, path: Path) -> None:
    """torch's file, by its default exporter, for batches of any size."""
    import torch
    from torch_rival import import_torchvision

    if timm_name := NETWORKS[name]:
        import_torchvision()  # before timm imports it
        import timm

        network = timm.create_model(timm_name)
    else:
        network = getattr(import_torchvision().models, name)()
    network = torch.nn.Sequential(network, torch.nn.Softmax(1)).eval()
    images = torch.zeros(2, 3, SIZE, SIZE)
    with contextlib.redirect_stdout(io.StringIO()):  # says each of its steps
        program: Any = torch.onnx.export(network, (images,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    program.save(str(path))


def opened(path: Path) -> Any:
    """A session on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def seconds(session: Any, images: np.ndarray) -> tuple[float, float]:
    """Processor time and wall time of one run."""
    given = {session.get_inputs()[0].name: images}
    wall, processor = time.perf_counter(), time.thread_time()
    session.run(None, given)
    return time.thread_time() - processor, time.perf_counter() - wall


def compare(name: str, folder: Path, batches: list[int], rounds: int) -> None:
    """Prints a line for each batch size."""
    files = {"jft": folder / f"{name}.onnx", "torch": folder / f"{name}_torch.onnx"}
    write_jft(name, files["jft"])
    write_torch(name, files["torch"])
    sessions = {label: opened(path) for label, path in files.items()}
    for batch in batches:
        images = np.random.default_rng(0).normal(size=(batch, 3, SIZE, SIZE)).astype(np.float32)
        for session in sessions.values():
            session.run(None, {session.get_inputs()[0].name: images})
        turns = []
        for turn in range(rounds):
            order = ["jft", "torch"] if turn % 2 else ["torch", "jft"]
            found = {label: seconds(sessions[label], images) for label in order}
            turns.append([found["jft"], found["torch"]])
        times = np.array(turns)  # [rounds, file, clock]
        for clock, what in enumerate(("processor", "wall")):
            ours, theirs = np.median(times[:, :, clock], axis=0) * 1e3
            low, ratio, high = np.percentile(times[:, 0, clock] / times[:, 1, clock], [25, 50, 75])
            told = f"{ours:.1f} and {theirs:.1f} ms, jft / torch {ratio:.3f} ({low:.3f} to {high:.3f})"
            print(f"{name}, batch {batch}, {what} time: {told}", flush=True)


def main() -> None:
    """Compares all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, help="turns of each file")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8], help="batch sizes")
    parser.add_argument("--only", default="", help="networks whose names hold this")
    args = parser.parse_args()
    for name in NETWORKS:
        if args.only in name:
            with tempfile.TemporaryDirectory() as folder:
                compare(name, Path(folder), args.batch, args.rounds)


if __name__ == "__main__":
    main()
