"""What scripts/fault_injection.py kills the writers of and damages: each artifact is made of things with numbers.

What a thing holds follows from its number, so that anyone can say what must be read.
"""

import contextlib
import os
import random
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jft.features.store import FeatureStore
from jft.models import create_model
from jft.utils.checkpoint import Checkpoints
from jft.utils.logger import Logs, read_metrics
from jft.weights import catalog, hub, target

THINGS = 3  # in an artifact before anything happens to it


class Shards:
    """The feature cache: a thing is a shard."""

    def _of(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(number)
        return rng.integers(0, 256, (8, 16), dtype=np.uint8), rng.normal(size=(8, 2, 24)).astype(np.float32)

    def _store(self, folder: Path) -> FeatureStore:
        return FeatureStore(folder, {"weights": "seeded"}, (2, 24))

    def write(self, folder: Path, number: int) -> None:
        """Adds a thing."""
        self._store(folder).write(*self._of(number))

    def read(self, folder: Path) -> dict[int, Any]:
        """All things that can be read, by their numbers; ValueError where the artifact is refused."""
        found, opened = {}, self._store(folder)
        for number in range(THINGS + 1):
            digests, _ = self._of(number)
            if not len(opened.missing(digests)):
                found[number] = opened.open(digests).gather(np.arange(8)).tobytes()
        return found

    def truth(self, number: int) -> Any:
        """What `read` gives of an intact thing."""
        return self._of(number)[1].tobytes()

    def files(self, folder: Path) -> list[Path]:
        """Those that are damaged: of one thing."""
        return sorted(next(iter(sorted(folder.glob("*/shard-*")))).iterdir())


class Weights:
    """Converted weights: the one thing is the conversion of the packaged set, made again where it is damaged."""

    def write(self, folder: Path, number: int) -> None:
        """As `Shards.write`."""
        del number
        shutil.rmtree(folder / "converted", ignore_errors=True)
        self.read(folder)

    def read(self, folder: Path) -> dict[int, Any]:
        """As `Shards.read`."""
        os.environ["JFT_CACHE"] = str(folder)
        row = catalog.find_row("vgg_tiny", "digits04")
        shapes = target.leaf_shapes(create_model(row.model, **row.file_options), row.preprocess.size)
        leaves, _ = hub.load(row, shapes)
        told = b"".join(name.encode() + np.asarray(leaves[name]).tobytes() for name in sorted(leaves))
        return dict.fromkeys(range(THINGS + 1), told)

    def truth(self, number: int) -> Any:
        """As `Shards.truth`: what is read where there is no cache yet."""
        del number
        if not hasattr(self, "_truth"):
            with tempfile.TemporaryDirectory() as folder:
                self._truth = self.read(Path(folder))[0]
        return self._truth

    def files(self, folder: Path) -> list[Path]:
        """As `Shards.files`."""
        return sorted((folder / "converted").iterdir())


class RunLogs:
    """`metrics.jsonl`: a thing is a line, written by a run that is opened again for it."""

    def write(self, folder: Path, number: int) -> None:
        """As `Shards.write`."""
        with contextlib.closing(Logs(folder, number)) as logs:
            line = self.truth(number)
            logs.write(line.pop("step"), line.pop("kind"), line)

    def read(self, folder: Path) -> dict[int, Any]:
        """As `Shards.read`."""
        return {line["step"] - 1: {k: v for k, v in line.items() if k != "time"} for line in read_metrics(folder)}

    def truth(self, number: int) -> Any:
        """As `Shards.truth`."""
        rng = random.Random(number)
        return {"step": number + 1, "kind": "validation", "loss": 3 * rng.random(), "phase": "all", "learning": 85_002}

    def files(self, folder: Path) -> list[Path]:
        """As `Shards.files`."""
        return [folder / "metrics.jsonl"]


class Saves:
    """Checkpoints: a thing is one of them; the newest is read, the last two are kept."""

    def _of(self, number: int) -> tuple[Any, Any, dict[str, Any]]:
        rng = np.random.default_rng(number)
        params = {name: rng.normal(size=(32, 48)).astype(np.float32) for name in ("conv", "head")}
        history = [{"step": step, "accuracy": step / 10, "loss": 1 / step} for step in range(1, number + 2)]
        meta = {"jft": "0", "class_names": ["cat", "dog"], "history": history, "config": {"model": "none"}}
        return {"params": params, "batch_stats": {}}, {"step": np.int32(number), "momentum": params}, meta

    def write(self, folder: Path, number: int) -> None:
        """As `Shards.write`."""
        with contextlib.closing(Checkpoints(folder)) as checkpoints:
            checkpoints.save(number + 1, *self._of(number))
            checkpoints.wait()

    def read(self, folder: Path) -> dict[int, Any]:
        """As `Shards.read`."""
        sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
        wanted = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), self._of(0)[:2])
        with contextlib.closing(Checkpoints(folder)) as checkpoints:
            found = checkpoints.latest(lambda meta: wanted)
        return {} if found is None else {found[2]["step"] - 1: self._told(*found)}

    def truth(self, number: int) -> Any:
        """As `Shards.truth`."""
        return self._told(*self._of(number))

    def _told(self, variables: Any, optimizer: Any, meta: dict[str, Any]) -> Any:
        flat, _ = jax.tree_util.tree_flatten_with_path((variables, optimizer))
        arrays = {jax.tree_util.keystr(path): np.asarray(leaf).tobytes() for path, leaf in flat}
        return arrays, {name: meta.get(name) for name in self._of(0)[2]}

    def files(self, folder: Path) -> list[Path]:
        """As `Shards.files`."""
        return sorted(path for path in (folder / "checkpoints" / str(THINGS)).rglob("*") if path.is_file())


ARTIFACTS = {"checkpoints": Saves(), "shards": Shards(), "weights": Weights(), "logs": RunLogs()}
