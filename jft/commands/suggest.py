"""Which pretrained model suits these pictures and this machine.

Every weight set that is here (trained on ImageNet; `jft weights fetch NAME` gets more) is probed on a sample of the
training pictures: logistic regression on its frozen features, which are cached, accuracy by 5-fold cross-validation
with its 95 % interval. The forward pass is timed and its memory counted. Prints the table, * on the Pareto front of
accuracy and speed, and writes OUT/suggest.png and OUT/suggested.py, a config of the pick: of those within one standard
error of the highest accuracy, the fastest. Sets that cannot be loaded whole are said and left out.
"""

import argparse
import sys
from pathlib import Path


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("data", nargs="?", default="", metavar="DATA", help="a folder with a folder for each class")
    parser.add_argument("--dataset", default="folder", help="other kinds, as in a config: csv, cifar10, gtsrb, digits")
    parser.add_argument("--weights_path", default="", metavar="DIR", help="folder of weight files as published")
    parser.add_argument("--models", nargs="+", default=[], metavar="PATTERN", help="such as 'vgg*' resnet50.keras")
    parser.add_argument("--pictures", type=int, default=500, metavar="N", help="of the sample; default: 500")
    parser.add_argument("--batch_size", type=int, default=32, metavar="N", help="to compute features; default: 32")
    parser.add_argument(
        "--fit", default="whole", choices=("whole", "crop"), help="squash the picture, or crop it; default: whole"
    )
    parser.add_argument("--out", default="runs/suggest", type=Path, metavar="DIR", help="default: runs/suggest")
    parser.add_argument("--force", action="store_true", help="replace the files if they exist")


def run(args: argparse.Namespace) -> int:
    """Prints the table, writes the plot and the config."""
    from jft.data import sources
    from jft.files import written_whole
    from jft.interrupt import Interrupt
    from jft.suggest import Probed, at_hand, pick, sample, suggest
    from jft.suggestion import config_text, plot, table

    config_file, plot_file = args.out / "suggested.py", args.out / "suggest.png"
    if there := [str(path) for path in (config_file, plot_file) if path.exists() and not args.force]:
        raise ValueError(f"{' and '.join(there)} exist already: give another --out, or --force.")
    for name in ("pictures", "batch_size"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name} {getattr(args, name)}: at least 1.")
    data_dir = str(Path(args.data).expanduser().absolute()) if args.data else ""
    everything = sources.load_source(args.dataset, split="train", data_dir=data_dir, validation=0, seed=0)
    rows = at_hand(args.models, args.weights_path)
    if args.weights_path:
        used = {Path(path).name for _, path in rows.values()}
        if others := sorted(
            path.name for path in Path(args.weights_path).expanduser().iterdir() if path.name not in used
        ):
            print(f"not looked at, as no set asked for is published by the name: {', '.join(others)}")
    source, broken = sample(everything, args.pictures)
    left_out = f", {broken} that cannot be read left out" if broken else ""
    print(f"{source.name}: {len(source):,} of {len(everything):,} training pictures{left_out}", flush=True)
    fields = {"dataset": args.dataset, "data_dir": data_dir, "fit": args.fit, "eval_batch_size": args.batch_size}
    found: list[Probed] = []
    with Interrupt() as interrupt:
        for name, probed in suggest(source, rows, interrupt, **fields):
            if isinstance(probed, Probed):
                found.append(probed)
                print(f"{name}: {probed.accuracy:.2%}", flush=True)
            else:
                print(f"{name} is left out: {probed}", flush=True)
    if interrupt.received is not None:
        print("Stopped; the same command goes on.", file=sys.stderr)
        return 128 + interrupt.received
    if not found:
        raise ValueError("none of the weights could be probed; the lines above say why.")
    args.out.mkdir(parents=True, exist_ok=True)
    with written_whole(plot_file) as aside:
        plot(found, aside)
    with written_whole(config_file) as aside:
        called = Path(args.data).name or args.dataset
        aside.write_text(config_text(pick(found), config_file, called, len(source.class_names), broken > 0))
    print(f"\n{table(found)}\n\nPick: {pick(found).name}\n  jft train --config {config_file}\n  plot: {plot_file}")
    return 0
