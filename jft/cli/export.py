"""Writes a run into a folder, in forms that work without jft, with a model card.

  model.stablehlo                    uint8 images in, probabilities out, preprocessing inside; JAX alone runs it
  weights.safetensors                weights under jft's names
  weights_torchvision.safetensors    under torchvision's, where torchvision has the architecture
  model.onnx                         as the first, where it can be converted; pip install 'jft[onnx]'
  README.md                          the model card: data, license of the weights, figures, use, limits

Each file is opened again in a process of its own and compared with the checkpoint on test images before it is kept.
"""

import argparse

from jft.cli import main
from jft.utils import waiting
from jft.utils.text import RUN


def arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the verb's arguments."""
    parser.add_argument("run", metavar="RUN", help=RUN)
    parser.add_argument("--out", metavar="DIR", help="the folder to make; must not exist; required")
    parser.add_argument("--to", dest="out", action=main.Renamed, now="--out")
    parser.add_argument("--data", metavar="DIR", help="where the data lie; default: where they lay in training")
    main.add_code_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the folder."""
    from jft.exporters.bundle import ship

    if not args.out:
        raise ValueError("--out DIR is missing: the folder to write.")
    waiting.doing("restoring the run")
    for file in ship(args.run, args.out, data_dir=args.data):
        print(file)
    print(f"wrote {args.out}, with a model card in README.md")
    return 0
