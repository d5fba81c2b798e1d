"""Fine-tuning as others recommend it, with the weights, images and splits of `accuracy.py`; needs torch, timm, fastai.

    python benchmarks/fine_tune_rivals.py --data DATA --weights WEIGHTS [--networks NAME,...] [--sets NAME,...]
        [--rivals fastai,keras,timm] [--seeds 3] [--out results/rivals.csv]

- fastai: `fine_tune(8)`: one epoch of its head, then all, by its own transforms, rates and 1cycle schedule.
- keras: its guide to transfer learning: the head with Adam at 1e-3, then all at 1e-5, BatchNorm in inference mode.
- timm: its `train.py`: AdamW, cosine with warmup, random resized crops, RandAugment, label smoothing, random erasing.

The recipes of Keras and timm are carried out in torch, on timm's network, by timm's own transforms, optimizers and
schedules. Rows are written and kept as by `accuracy.py`. Test images are read once, at the end.
"""

import argparse
import csv
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from accuracy import NETWORKS, SETS, rows_of, split
from PIL import Image
from timm.data import create_transform
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader

EPOCHS, HEAD_EPOCHS, BATCH = 8, 4, 32
TIMM_NAMES = {"efficientnet_lite0": "tf_efficientnet_lite0", "efficientnet_lite1": "tf_efficientnet_lite1"}
COLUMNS = ("network", "rival", "data", "seed", "test", "accuracy", "log_loss", "seconds", "version", "date")

Listing = list[tuple[str, int]]


def pretrained(network: str, weights: Path, **options: Any) -> torch.nn.Module:
    """timm's network with the weights of the file, tensor by tensor in order, as its names are others."""
    model = timm.create_model(TIMM_NAMES[network], **options)
    values = [v for k, v in torch.load(weights, weights_only=True).items() if "num_batches" not in k]
    names = [name for name in model.state_dict() if "num_batches" not in name]
    state = dict(zip(names, values, strict=len(names) == len(values)))
    kept = {name: value for name, value in state.items() if value.shape == model.state_dict()[name].shape}
    missing = set(names) - set(kept)
    assert all(name.startswith("classifier") for name in missing), missing
    model.load_state_dict(kept, strict=False)
    return model


def listings(data: str, folder: Path, seed: int, aside: Path) -> tuple[Listing, Listing, list[str]]:
    """The training and the test images of a data set with their labels, and its class names."""
    path = split(folder / SETS[data]["data_dir"], aside / "split.csv", seed)
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    names = sorted({row["label"] for row in rows})
    parts = [
        [(row["image"], names.index(row["label"])) for row in rows if row["split"] == part]
        for part in ("train", "test")
    ]
    return parts[0], parts[1], names


class Images(torch.utils.data.Dataset):
    """Decoded images of a listing, transformed as they are drawn."""

    def __init__(self, listing: Listing, transform: Callable[[Image.Image], torch.Tensor]) -> None:
        self._images = [Image.open(path).convert("RGB") for path, _ in listing]
        self._labels, self._transform = [label for _, label in listing], transform

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self._transform(self._images[index]), self._labels[index]


def tested(model: torch.nn.Module, images: Images) -> tuple[float, float]:
    """Accuracy and log loss."""
    model.eval()
    with torch.inference_mode():
        batches = [(model(x), y) for x, y in DataLoader(images, BATCH)]
    logits, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    return float((logits.argmax(1) == labels).float().mean()), float(cross_entropy(logits, labels))


def train_keras(network: str, weights: Path, train: Listing, test: Listing, names: list[str]) -> tuple[float, float]:
    """https://keras.io/guides/transfer_learning: mirrored images, head at 1e-3, then all at 1e-5."""
    model = pretrained(network, weights, num_classes=len(names))
    config = timm.data.resolve_data_config({}, model=model)
    usual = {"input_size": config["input_size"], "mean": config["mean"], "std": config["std"]}
    images = Images(train, create_transform(**usual, is_training=True, scale=(1, 1), ratio=(1, 1), color_jitter=None))
    model.requires_grad_(False)
    model.get_classifier().requires_grad_(True)
    for rate, epochs in ((1e-3, HEAD_EPOCHS), (1e-5, EPOCHS)):
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], rate)
        for _ in range(epochs):
            model.eval()  # BatchNorm in inference mode throughout
            for x, y in DataLoader(images, BATCH, shuffle=True):
                optimizer.zero_grad()
                cross_entropy(model(x), y).backward()
                optimizer.step()
        model.requires_grad_(True)
    return tested(model, Images(test, create_transform(**usual, crop_pct=1.0)))


def train_timm(network: str, weights: Path, train: Listing, test: Listing, names: list[str]) -> tuple[float, float]:
    """timm's `train.py --pretrained --opt adamw --lr 5e-4 --weight-decay 0.05 --sched cosine --warmup-epochs 1`."""
    model = pretrained(network, weights, num_classes=len(names), drop_rate=0.2)
    config = timm.data.resolve_data_config({}, model=model)
    usual = {"input_size": config["input_size"], "mean": config["mean"], "std": config["std"]}
    images = Images(
        train,
        create_transform(**usual, is_training=True, auto_augment="rand-m9-mstd0.5", re_prob=0.25, scale=(0.35, 1)),
    )
    optimizer = create_optimizer_v2(model, "adamw", lr=5e-4, weight_decay=0.05)
    schedule, _ = create_scheduler_v2(optimizer, num_epochs=EPOCHS, warmup_epochs=1, warmup_lr=1e-6, min_lr=1e-6)
    loss = torch.nn.CrossEntropyLoss(label_smoothing=0.1)
    for epoch in range(EPOCHS + 1):
        model.train()
        for x, y in DataLoader(images, BATCH, shuffle=True, drop_last=True):
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
        schedule.step(epoch + 1)
    return tested(model, Images(test, create_transform(**usual, crop_pct=config["crop_pct"])))


def train_fastai(network: str, weights: Path, train: Listing, test: Listing, names: list[str]) -> tuple[float, float]:
    """https://docs.fast.ai/vision.learner.html: `vision_learner(dls, ...).fine_tune(8)`."""
    from fastai.vision import all as fastai

    blank = timm.create_model(TIMM_NAMES[network])
    config = timm.data.resolve_data_config({}, model=blank)
    size = config["input_size"][-1]
    loaders = fastai.ImageDataLoaders.from_lists(
        "/",
        [path for path, _ in train],
        [names[label] for _, label in train],
        valid_pct=0,
        item_tfms=fastai.Resize(256),
        batch_tfms=[
            *fastai.aug_transforms(size=size, min_scale=0.75),
            fastai.Normalize.from_stats(config["mean"], config["std"]),
        ],
        bs=BATCH,
        num_workers=0,
    )
    learner = fastai.vision_learner(loaders, TIMM_NAMES[network], pretrained=False, normalize=False)
    body = learner.model[0].model
    state = pretrained(network, weights).state_dict()
    body.load_state_dict({name: state[name] for name in body.state_dict()})
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(EPOCHS)
        predicted, _ = learner.get_preds(dl=loaders.test_dl([path for path, _ in test]))
    labels = torch.tensor([label for _, label in test])
    chosen = predicted.gather(1, labels[:, None]).clamp_min(1e-12)
    return float((predicted.argmax(1) == labels).float().mean()), float(-chosen.log().mean())


RIVALS = {"fastai": train_fastai, "keras": train_keras, "timm": train_timm}


def measure(network: str, rival: str, data: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Trains and tests one; a row of the CSV file."""
    for seeded in (random.seed, torch.manual_seed, np.random.seed):  # all that the rivals draw from
        seeded(seed)
    with tempfile.TemporaryDirectory(prefix="rivals-") as aside:
        train, test, names = listings(data, Path(args.data), seed, Path(aside))
        start = time.perf_counter()
        accuracy, loss = RIVALS[rival](network, Path(args.weights) / NETWORKS[network].file, train, test, names)
    return {
        **{"network": network, "rival": rival, "data": data, "seed": seed, "test": len(test)},
        **{"accuracy": f"{accuracy:.4f}", "log_loss": f"{loss:.4f}", "seconds": f"{time.perf_counter() - start:.0f}"},
        **{"version": timm.__version__, "date": time.strftime("%Y-%m-%d")},
    }


def main() -> None:
    """Measures what the file lacks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, metavar="DIR", help="folder of the data sets")
    parser.add_argument("--weights", required=True, metavar="DIR", help="folder of the weight files")
    parser.add_argument("--networks", default="efficientnet_lite0", metavar="NAME,...")
    parser.add_argument("--sets", default="flowers,cats_vs_dogs", metavar="NAME,...")
    parser.add_argument("--rivals", default=",".join(RIVALS), metavar="NAME,...")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", default="results/rivals.csv", metavar="FILE")
    args = parser.parse_args()
    path = Path(args.out)
    known = {(row["network"], row["rival"], row["data"], int(row["seed"])) for row in rows_of(path)}
    for seed in range(args.seeds):
        for data in args.sets.split(","):
            for network in args.networks.split(","):
                for rival in args.rivals.split(","):
                    if (network, rival, data, seed) in known:
                        continue
                    row, fresh = measure(network, rival, data, seed, args), not path.exists()
                    with path.open("a", newline="") as file:
                        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                        if fresh:
                            writer.writeheader()
                        writer.writerow(row)
                    print(network, rival, data, seed, row["accuracy"], row["log_loss"], row["seconds"], "s", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", str(os.cpu_count()))
    main()
