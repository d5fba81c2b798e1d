"""Exports a run to a folder of files that work without jft, with a model card.

  model.stablehlo                    uint8 images to probabilities, preprocessing included; needs only JAX
  weights.safetensors                weights under jft's names
  weights_torchvision.safetensors    under torchvision's names, if torchvision has the architecture
  model.onnx                         as model.stablehlo, for ONNX Runtime and others; needs pip install 'jft[onnx]'
  model_int8.onnx                    with --int8: model.onnx quantized on training images, if it is not clearly worse
  README.md                          the model card: data, license of the weights, metrics, use, limits

Each file is loaded in a fresh process and compared with the checkpoint on test images before it is kept.

--to PAGE.html writes one HTML file instead, with the network inside, that classifies images in a browser without a
network connection; needs pip install 'jft[onnx]'.

--to MODEL.keras writes one Keras file, --to MODEL.tflite one of LiteRT for phones, weights in float16 or with --int8
quantized; both take uint8 images, carry the card and labels.txt (unzip them), and need TensorFlow.
"""

import argparse
from pathlib import Path

from jft.cli import main
from jft.utils import waiting
from jft.utils.text import RUN


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("run", metavar="RUN", help=RUN)
    parser.add_argument("--out", metavar="DIR", help="folder to create; must not exist")
    parser.add_argument(
        "--to", metavar="FILE", help="file to write: .html (replaced if jft wrote it), .keras or .tflite"
    )
    parser.add_argument(
        "--training-images",
        type=int,
        default=0,
        metavar="N",
        help="embed up to N training images in the page, which shows the nearest; default: 0, none",
    )
    parser.add_argument("--data", metavar="DIR", help="folder of the images; default: where they were in training")
    parser.add_argument(
        "--no-preprocessing",
        dest="preprocessing",
        action="store_false",
        help="model.onnx reads normalized images, float32 [batch, channels, size, size], as other tools expect",
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="a quantized network: in the page or .tflite, or as model_int8.onnx",
    )
    main.add_code_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the folder or the page."""
    from jft.exporters.bundle import ship
    from jft.exporters.demo.page import write_demo
    from jft.exporters.keras import file as keras_file

    if bool(args.out) == bool(args.to):
        raise ValueError("give one of --out DIR, the folder to write, and --to FILE (.html, .keras, .tflite).")
    known = (".html", *keras_file.SUFFIXES)
    if args.to and Path(args.to).suffix not in ("", *known):
        raise ValueError(
            f"--to {args.to}: its name must end in {', '.join(known)}; for files in a folder, give --out DIR."
        )
    if args.to and not args.to.endswith(known):
        main.hint("--to DIR", "--out DIR")
        args.out, args.to = args.to, None
    if args.training_images and not (args.to and args.to.endswith(".html")):
        raise ValueError("--training-images belongs to the page: give --to PAGE.html.")
    if args.to and not args.preprocessing:
        raise ValueError("--no-preprocessing belongs to the folder: a single file preprocesses what it is given.")
    waiting.doing("restoring the run")
    if args.to and not args.to.endswith(".html"):
        print(f"wrote {keras_file.write(args.run, args.to, data_dir=args.data, int8=args.int8)}")
        return 0
    if args.to:
        own = {"training_images": args.training_images, "int8": args.int8}
        print(f"wrote {write_demo(args.run, args.to, data_dir=args.data, **own)}")
        return 0
    for file in ship(args.run, args.out, data_dir=args.data, preprocessing=args.preprocessing, int8=args.int8):
        print(file)
    print(f"wrote {args.out}, with a model card in README.md")
    return 0
