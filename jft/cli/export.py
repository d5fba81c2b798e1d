"""Exports a run to a folder of files that work without jft, with a model card.

  model.stablehlo                    uint8 images to probabilities, preprocessing included; needs only JAX
  weights.safetensors                weights under jft's names
  weights_torchvision.safetensors    under torchvision's names, if torchvision has the architecture
  model.onnx                         as model.stablehlo, for ONNX Runtime and others; needs pip install 'jft[onnx]'
  README.md                          the model card: data, license of the weights, metrics, use, limits

Each file is loaded in a fresh process and compared with the checkpoint on test images before it is kept.
"""

import argparse

from jft.cli import main
from jft.utils import waiting
from jft.utils.text import RUN


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("run", metavar="RUN", help=RUN)
    parser.add_argument("--out", metavar="DIR", help="folder to create; required, must not exist")
    parser.add_argument("--to", dest="out", action=main.Renamed, now="--out")
    parser.add_argument("--data", metavar="DIR", help="folder of the images; default: where they were in training")
    parser.add_argument(
        "--no-preprocessing",
        dest="preprocessing",
        action="store_false",
        help="model.onnx reads normalized images, float32 [batch, channels, size, size], as other tools expect",
    )
    main.add_code_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the folder."""
    from jft.exporters.bundle import ship

    if not args.out:
        raise ValueError("--out DIR is missing: the folder to write.")
    waiting.doing("restoring the run")
    for file in ship(args.run, args.out, data_dir=args.data, preprocessing=args.preprocessing):
        print(file)
    print(f"wrote {args.out}, with a model card in README.md")
    return 0
