"""Writes features of images, from any stage of any model, to one file, .npz or .safetensors.

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
    parser.add_argument("--model", metavar="NAME", help="in place of RUN: such as vgg19; needs --weights")
    parser.add_argument("--weights", metavar="TAG", help="weight set of the model, such as torchvision")
    parser.add_argument("--weights-path", metavar="PATH", help="its file or folder, looked at before cache and network")
    parser.add_argument(
        "--stage", required=True, metavar="NAME", help="whose output the features are; they are cached, too"
    )
    parser.add_argument(
        "--dataset", metavar="NAME", help="folder, csv, cifar10, digits, a TFDS name; default: cifar10, or the run's"
    )
    parser.add_argument("--data", metavar="DIR", help="folder of the data; default: the run's")
    parser.add_argument("--data-dir", dest="data", action=main.Renamed, now="--data")
    main.add_column_arguments(parser)
    splits = ("train", "validation", "test", "all")
    parser.add_argument(
        "--split", default="all", choices=splits, metavar="SPLIT", help=f"{', '.join(splits)}, the default"
    )
    parser.add_argument(
        "--pool", action=argparse.BooleanOptionalAction, default=True, help="average maps over height and width"
    )
    parser.add_argument("--image-size", type=int, metavar="PIXELS", help="default: what the weights were trained on")
    parser.add_argument(
        "--fit", choices=("whole", "crop"), help="squash the image, or crop it; default: the run's; whole"
    )
    parser.add_argument("--batch-size", type=int, metavar="N", help="images at a time, over all devices")
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="FILE",
        help="will hold features float32 [n, ...], labels, indices, and names",
    )
    parser.add_argument("--force", action="store_true", help="replace the file if it exists")
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
