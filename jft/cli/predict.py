"""Predicts the classes of images: files, folders, 'patterns/*.jpg', or - for a list on standard input.

    jft predict runs/flowers photos/ --top 3 --grid photos.png
    jft predict --model squeezenet1_1 cat.jpg dog.jpg
    find . -name '*.jpg' | jft predict runs/flowers - --format jsonl > flowers.jsonl

An image that cannot be read is reported on stderr and skipped. Exit status: 0 all images were read, 1
some could not be read, or wrong input.
"""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from jft.cli import main
from jft.utils import waiting
from jft.utils.text import RUN

if TYPE_CHECKING:
    from jft.evaluation.predict import Prediction
    from jft.evaluation.predictor import Predictor

_DRAWN = 25  # images of a grid, at most


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("paths", nargs="*", metavar="RUN IMAGES", help=f"{RUN}; then images, folders, patterns, or -")
    parser.add_argument("--checkpoint", action=main.Renamed, now="RUN before the images", default=None)
    parser.add_argument(
        "--model", metavar="NAME", help="a model in place of RUN, such as squeezenet1_1 or hf:owner/name"
    )
    parser.add_argument("--weights", metavar="TAG", help="weight set of the model; default: one on this machine")
    parser.add_argument(
        "--weights-path", metavar="PATH", help="weight file, or folder of them; tried before cache and network"
    )
    parser.add_argument(
        "--top",
        type=int,
        metavar="K",
        help="classes per image; default: 1; of a multi-label model all of probability 0.5 or more",
    )
    parser.add_argument(
        "--format", choices=("table", "csv", "jsonl"), help="default: the extension of --out, else table"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write to FILE instead of standard output")
    parser.add_argument(
        "--grid",
        type=Path,
        metavar="FILE",
        help=f"also draw {_DRAWN} of the images with their predictions; class folders show which are wrong",
    )
    parser.add_argument("--force", action="store_true", help="replace the files if they exist")
    parser.add_argument("--uncalibrated", action="store_true", help="do not apply the fitted temperature")
    parser.add_argument("--batch-size", type=int, default=32, metavar="N", help="images at a time; default: 32")
    main.add_license_argument(parser)
    main.add_code_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Prints the predictions."""
    from jft.evaluation import predict
    from jft.evaluation.load import load
    from jft.utils.files import written_whole

    if args.top is not None and args.top < 1:
        raise ValueError(f"--top {args.top}: give 1 or more classes an image.")
    checkpoint, images = _run_and_images(args)
    waiting.doing("loading the model")
    paths = predict.find(images, sys.stdin)
    _check_files(args, paths)
    model = load(
        args.model or Path(checkpoint).absolute(),  # a folder may be called as a model is
        weights=args.weights,
        weights_path=args.weights_path,
        batch_size=min(args.batch_size, len(paths)),
    )
    told = _Told(len(paths))
    predictions = predict.predict_paths(model, paths, args.top, calibrated=not args.uncalibrated)
    ending = args.out.suffix[1:] if args.out else ""
    form = args.format or (ending if ending in predict.FORMATS else "table")
    lines = predict.FORMATS[form](told.follow(predictions), predict.columns(model, args.top))
    if args.out:
        text = "".join(f"{line}\n" for line in lines)
        with written_whole(args.out) as aside:
            aside.write_text(text, "utf-8", "surrogateescape")
    else:
        _print(lines, data=form != "table")
    if args.grid and told.first:
        _draw(args.grid, model, list(told.first.values()), len(paths) - told.unreadable)
    if told.unreadable:
        print(f"{told.unreadable:,} of {len(paths):,} images could not be read", file=sys.stderr)
    return 1 if told.unreadable else 0


def _run_and_images(args: argparse.Namespace) -> tuple[str, list[str]]:
    """The folder of the run, '' where a model is named, and the images."""
    if args.model and args.checkpoint:
        raise ValueError("a run and --model are given: leave one of them out.")
    run, *images = (args.paths or [""]) if not (args.model or args.checkpoint) else [args.checkpoint or "", *args.paths]
    if not images:
        raise ValueError("give a run and images: jft predict RUN IMAGES; or jft predict --model NAME IMAGES.")
    return run, images


class _Told:
    """What is told of predictions beside them, while they pass.

    Attributes:
      first: by folder, those that a grid may show.
      unreadable: how many images could not be read.
    """

    def __init__(self, total: int) -> None:
        self.first: dict[Path, list[Prediction]] = {}
        self.unreadable = 0
        self._total = total

    def follow(self, predictions: Iterator["Prediction"]) -> Iterator["Prediction"]:
        """The predictions; errors and a progress bar go to standard error."""
        from jft.utils.logger import progress_bar
        from jft.utils.text import one_record

        bar = progress_bar(total=self._total, initial=0, unit=" images", description="predicting")
        with contextlib.closing(bar):
            for prediction in predictions:
                if prediction.error:
                    self.unreadable += 1
                    bar.write(one_record(f"error: {prediction.error}"), file=sys.stderr)
                elif len(own := self.first.setdefault(prediction.path.parent, [])) < _DRAWN:
                    own.append(prediction)
                bar.update()
                yield prediction


def _check_files(args: argparse.Namespace, paths: Sequence[Path]) -> None:
    from jft.data import grid
    from jft.utils import files

    if args.grid:
        grid.check_path(args.grid)
    for path in filter(None, (args.out, args.grid)):
        files.check_new(path, args.force)
        if path.exists() and any(path.samefile(image) for image in paths):
            raise ValueError(f"{path} is one of the images: choose another name.")


def _print(lines: Iterable[str], *, data: bool) -> None:
    """Line by line, so that whatever reads them need not wait for the last one.

    What is no terminal's reader of `data` gets names as they are.
    """
    from tqdm import tqdm

    from jft.utils.text import TerminalStream

    out: TextIO = sys.stdout
    if data and isinstance(out, TerminalStream) and not out.isatty():
        out = out.stream
    try:
        for line in lines:
            if out.isatty():
                tqdm.write(line)  # above the bar
            else:
                print(line, file=out, flush=True)
    except BrokenPipeError:  # whoever reads has enough, as `head` has
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)


def _draw(path: Path, model: "Predictor", folders: Sequence[Sequence["Prediction"]], read: int) -> None:
    from jft.data import grid
    from jft.evaluation import predict

    numbers = grid.spread([len(own) for own in folders], _DRAWN)
    predictions = [one for own, number in zip(folders, numbers, strict=True) for one in own[:number]]
    shown = f"{len(predictions)} of {read:,} images read"
    shown += f", spread over {len(folders)} folders" if len(folders) > 1 else ""
    several = model.objective.multi_label
    if several:
        pairs = [zip(told.classes, told.probabilities, strict=True) for told in predictions]
        names = [", ".join(f"{name} {probability:.0%}" for name, probability in each) or "none" for each in pairs]
    else:
        names = [told.classes[0] for told in predictions]
    grid.draw(
        path,
        [model.read(told.path) for told in predictions],
        names,
        [None if several else told.probabilities[0] for told in predictions],
        [None if several else predict.label_of(told.path, model.class_names) for told in predictions],
        title=shown,
    )
    print(f"{path}: {shown}", file=sys.stderr)
