"""Writes the output of a stage for many images to one .npz or .safetensors file.

jft extract-features --model alexnet --weights torchvision --stage fc6 --dataset folder --data DIR --out fc6.npz
jft extract-features runs/vgg19_cifar10 --stage fc7 --split test --out fc7.safetensors
"""

import argparse
from pathlib import Path

from jft.cli import main
from jft.utils import cluster, waiting
from jft.utils.text import RUN


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("run", nargs="?", default=argparse.SUPPRESS, metavar="RUN", help=RUN)
    parser.add_argument("--checkpoint", dest="run", action=main.Renamed, now="RUN without --checkpoint")
    parser.add_argument("--model", metavar="NAME", help="a model in place of RUN, such as vgg19; needs --weights")
    parser.add_argument(
        "--weights", metavar="TAG", help="weight set, such as torchvision; for some with --accept-license"
    )
    parser.add_argument(
        "--weights-path", metavar="PATH", help="weight file, or folder of them; tried before cache and network"
    )
    parser.add_argument(
        "--stage", required=True, metavar="NAME", help="stage whose output is written; it is also cached"
    )
    parser.add_argument(
        "--dataset", metavar="NAME", help="folder, csv, cifar10, digits or a TFDS name; default: the run's, or cifar10"
    )
    parser.add_argument("--data", metavar="DIR", help="folder of the images; default: the run's")
    parser.add_argument("--data-dir", dest="data", action=main.Renamed, now="--data")
    main.add_column_arguments(parser)
    splits = ("train", "validation", "test", "all")
    parser.add_argument(
        "--split", default="all", choices=splits, metavar="SPLIT", help=f"one of {', '.join(splits)}; default: all"
    )
    parser.add_argument(
        "--pool",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="pool feature maps to their averages, and a transformer's tokens as its head does; default: --pool",
    )
    parser.add_argument(
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="side of the square input; default: as the weights were trained",
    )
    parser.add_argument(
        "--fit",
        choices=("whole", "crop"),
        help="whole: squash the image to a square; crop: center crop; default: the run's, or whole",
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="batch size, over all devices")
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="FILE",
        help="the file: features float32 [n, ...], labels, indices, names",
    )
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")
    parser.add_argument("--accept-license", action="store_true", help=argparse.SUPPRESS)  # a screen is short
    main.add_code_argument(parser)
    cluster.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the file."""
    from jft.evaluation import feature_file
    from jft.utils import distributed
    from jft.utils.mesh import make_parallel

    checkpoint = getattr(args, "run", None)
    if bool(checkpoint) == bool(args.model):
        raise ValueError("give either a run or --model NAME, whose features are to be written.")
    if bool(args.model) != bool(args.weights):
        raise ValueError("--model and --weights go together: --model vgg19 --weights torchvision")
    cluster.join_as(args)
    feature_file.check_out(args.out, args.force)
    waiting.doing("loading the model")
    parallel = make_parallel("jit")
    if checkpoint:
        backbone = feature_file.of_run(checkpoint, parallel)
    else:
        backbone = feature_file.of_weights(
            args.model, args.weights, args.stage, parallel, weights_path=args.weights_path
        )
    source = feature_file.load_images(
        backbone.config,
        args.split,
        dataset=args.dataset,
        data_dir=args.data,
        image_column=args.image_column,
        label_column=args.label_column,
    )
    shape = feature_file.make_file(
        backbone,
        source,
        args.out,
        stage=args.stage,
        pooled=args.pool,
        fit=args.fit,
        image_size=args.image_size,
        batch_size=args.batch_size,
    )
    distributed.say(f"{args.out}: features {list(shape)} of {source.name}, {args.split}, at {args.stage}")
    return 0
