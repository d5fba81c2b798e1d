"""Probes of frozen features by `jft probe`'s methods, over seeds: cross-validated and test figures in one CSV file.

    python benchmarks/probes.py --data DATA --weights WEIGHTS [--networks NAME,...] [--sets NAME,...] [--per-class N]
        [--seeds 5] [--out results/probes.csv]
    python benchmarks/probes.py --table results/probes.csv [--into docs/results.md]

DATA and WEIGHTS are those of accuracy.py, and so are the seeds: of flowers, and of cats and dogs, they draw the fifth
of each class that tests, and with --per-class the training images of all sets. What cross-validation chooses, it
chooses on training images; test images give the columns accuracy and log_loss, and choose nothing. 'chosen' says which
row would be tested by `jft probe`.
"""

import argparse
import csv
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import accuracy
import numpy as np

from jft.utils import runtime

runtime.configure()

_TRIED = tuple((method, stages) for stages in ("last", "all") for method in ("lbfgs", "lda"))
COLUMNS = (
    *("network", "data", "per_class", "seed", "method", "stages", "variants", "chosen"),
    *("cv_accuracy", "cv_log_loss", "accuracy", "log_loss", "seconds"),
)


def measure(network: str, data: str, seed: int, args: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Rows of the CSV file, one a probe."""
    from jft.config import default_config
    from jft.data import datasets
    from jft.data.folds import folds
    from jft.features import candidates
    from jft.features.examples import Examples
    from jft.features.lbfgs import nats
    from jft.training.probe_features import extract_stages, probe_run
    from jft.utils.interrupt import Interrupt

    chosen, fields = accuracy.NETWORKS[network], accuracy.SETS[data]
    config = default_config()
    config.update({"model": network, "weights": chosen.tag, "weights_path": str(Path(args.weights) / chosen.file)})
    config.update({"head": "linear", "seed": seed, "examples_per_class": args.per_class, **chosen.fields, **fields})
    config.data_dir = str(Path(args.data) / fields["data_dir"])
    with tempfile.TemporaryDirectory(prefix="jft-probes-") as folder, Interrupt() as interrupt:
        if config.dataset == "folder":
            path = accuracy.split(Path(config.data_dir), Path(folder) / "split.csv", seed)
            config.dataset, config.data_dir = "csv", path
        run, state, _ = probe_run(config)
        sources = run.train_source, datasets.of_config(run.config, "test")
        train, test = (extract_stages(run, state, one, run.augmentation, interrupt) for one in sources)
    labels, groups = run.train_source.labels, run.train_source.groups
    views = {"last": train.last(), "all": train.normalized()}
    images = candidates.Images(views, labels, run.objective.num_outputs, folds(labels, 5, seed, groups), groups)
    seen = {"last": test.last(), "all": test.normalized()}
    found = candidates.compare(images, _TRIED, {})
    for one in found:
        head = candidates.fit(one, images)
        used = seen[one.features] if one.variants == candidates.VARIANTS[2] else seen[one.features][:, :1]
        logits = np.mean([head.logits(x) for x in used.swapaxes(0, 1)], 0)
        targets = Examples(used[:, 0], sources[1].labels).targets(images.outputs)
        yield {
            **{"network": network, "data": data, "per_class": args.per_class, "seed": seed, "method": one.method},
            **{"stages": one.features, "variants": one.variants, "chosen": int(one is candidates.best(found))},
            **{"cv_accuracy": f"{one.score:.4f}", "cv_log_loss": f"{one.loss:.4f}"},
            "accuracy": f"{np.mean(candidates.guesses_of(logits, False) == sources[1].labels):.4f}",
            "log_loss": f"{float(np.mean(nats(logits, targets))):.4f}",
            "seconds": f"{one.seconds:.1f}",
        }


def measure_all(args: argparse.Namespace) -> None:
    """Adds to the file what it lacks."""
    path = Path(args.out)
    names = ("network", "data", "per_class", "seed")
    known = {tuple(row[name] for name in names) for row in accuracy.rows_of(path)}
    for data in args.sets.split(","):
        for network in args.networks.split(","):
            for seed in range(args.seeds):
                if (network, data, str(args.per_class), str(seed)) in known:
                    continue
                rows = list(measure(network, data, seed, args))
                fresh = not path.exists()
                with path.open("a", newline="") as file:
                    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
                    if fresh:
                        writer.writeheader()
                    writer.writerows(rows)
                for row in rows:
                    print(*row.values(), flush=True)


def table(rows: list[dict[str, str]]) -> str:
    """Markdown: a line for each network and data set; test accuracy and log loss, mean and deviation over seeds."""
    kinds = [f"{method}, {stages}" for method, stages in _TRIED] + ["chosen"]
    lines = [f"| network | images | {' | '.join(kinds)} |", f"|---|---|{'---|' * len(kinds)}"]
    for case in dict.fromkeys((row["network"], row["data"], row["per_class"]) for row in rows):
        own = [row for row in rows if (row["network"], row["data"], row["per_class"]) == case]
        plain = [row for row in own if row["variants"] == "no"]
        cells = [_cell([row for row in plain if f"{row['method']}, {row['stages']}" == kind]) for kind in kinds[:-1]]
        cells.append(_cell([row for row in own if row["chosen"] == "1"]))
        few = f", {case[2]} a class" if case[2] != "0" else ""
        lines.append(f"| {case[0]} | {case[1]}{few} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(rows: list[dict[str, str]]) -> str:
    """'85.3 ± 1.0 % (5), 0.40': the number of seeds in parentheses, then the log loss."""
    accuracies, losses = ([float(row[name]) for row in rows] for name in ("accuracy", "log_loss"))
    spread = f" ± {100 * statistics.stdev(accuracies):.1f}" if len(rows) > 1 else ""
    return f"{100 * statistics.mean(accuracies):.1f}{spread} % ({len(rows)}), {statistics.mean(losses):.3f}"


def main() -> None:
    """Measures, or prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", metavar="DIR", help="folder of the data sets")
    parser.add_argument("--weights", metavar="DIR", help="folder of the weight files")
    parser.add_argument("--networks", default="squeezenet1_1,efficientnet_lite0", metavar="NAME,...")
    parser.add_argument("--sets", default=",".join(accuracy.SETS), metavar="NAME,...")
    parser.add_argument("--per-class", type=int, default=0, metavar="N", help="training images of a class; 0: all")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", default="results/probes.csv", metavar="FILE")
    parser.add_argument("--table", metavar="FILE", help="print the table of this file, and measure nothing")
    parser.add_argument("--into", metavar="FILE", help="write the table between this page's marks for the file")
    args = parser.parse_args()
    if not args.table:
        measure_all(args)
        return
    accuracy.show(table(accuracy.rows_of(Path(args.table))), args)


if __name__ == "__main__":
    main()
