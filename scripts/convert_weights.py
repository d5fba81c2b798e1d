"""Converts published weights: python scripts/convert_weights.py SOURCE --model NAME --out FILE [--weights TAG]"""

import argparse
import contextlib
import dataclasses
import hashlib
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
import safetensors.numpy

from jft import runtime

runtime.configure()

from jft import tree  # noqa: E402
from jft.models import abstract_variables, create_model  # noqa: E402
from jft.weights import catalog, convert, readers  # noqa: E402


def choose_row(names: list[str], model: str, tag: str | None) -> catalog.WeightSet:
    """The catalog row of `tag`, or the one that the tensors' names look like."""
    if tag:
        return catalog.find_row(model, tag)
    if convert.is_jft(names):  # of any model, published or not
        row = next(iter(catalog.CATALOG.values()))
        return dataclasses.replace(row, model=model, tag="jft", dialect="jft", options={})
    rows = [row for row in catalog.CATALOG.values() if row.model == model]
    row = convert.guess_row(names, rows)
    if row is None:
        raise ValueError(
            f"the names of its tensors ({', '.join(names[:3])}, …) are none that {model} has in the catalog: choose "
            f"--weights from {', '.join(row.tag for row in rows) or 'nothing: no weights of this model are published'}."
        )
    return row


def save(leaves: dict[str, np.ndarray], metadata: dict[str, str], out: Path) -> None:
    """Writes aside in the same folder and renames: there is either the whole file or none."""
    handle, aside = tempfile.mkstemp(prefix=f".{out.name}.", dir=out.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(safetensors.numpy.save(leaves, metadata))
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, out)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(aside)
        raise


def run(source: Path, model: str, out: Path, tag: str | None) -> str:
    """Converts strictly; returns what was done."""
    target = tree.flatten(abstract_variables(create_model(model), 224))
    tensors = readers.read_tensors(source)
    row = choose_row(list(tensors), model, tag)
    conversion = convert.convert(tensors, row, target)
    conversion.check(source, fresh=[] if row.top else [leaf for leaf in target if leaf.split("/")[1] in _TOP])
    with source.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    facts = {"source": source.name, "source_sha256": sha256, "weights": row.name, "dialect": row.dialect}
    save(conversion.leaves, {**facts, "converter_version": str(convert.CONVERTER_VERSION)}, out)
    parameters = sum(leaf.size for name, leaf in conversion.leaves.items() if name.startswith("params/"))
    lines = [f"{key}: {value}" for key, value in facts.items()]
    return "\n".join([*lines, f"parameters: {parameters:,} in {len(conversion.leaves)} tensors", f"wrote {out}"])


_TOP = ("fc6", "fc7", "head")


def main() -> int:
    """Prints what was done; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help=".pth, .safetensors, Keras .h5 or Caffe .npy; or a file of jft's own")
    parser.add_argument("--model", required=True, help="such as vgg19")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .safetensors file to write")
    parser.add_argument("--weights", metavar="TAG", help="such as torchvision; default: guessed from the tensors' names")
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")
    args = parser.parse_args()
    try:
        if args.out.exists() and not args.force:
            raise ValueError(f"{args.out} exists already; --force replaces it.")
        print(run(args.source, args.model, args.out, args.weights))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
