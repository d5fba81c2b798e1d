"""Converts published weights: python scripts/convert_weights.py SOURCE --model NAME --out FILE [--weights TAG]"""

import argparse
import dataclasses
import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

from jft import runtime

runtime.configure()

from jft import evaluate, parallel, tree  # noqa: E402
from jft.files import written_whole  # noqa: E402
from jft.models import MODELS, abstract_variables, create_model  # noqa: E402
from jft.weights import catalog, convert, readers  # noqa: E402


def choose_row(names: list[str], model: str, tag: str | None) -> catalog.WeightSet:
    """The catalog row of `tag`, or the one that the tensors' names look like."""
    if tag:
        return catalog.find_row(model, tag)
    if convert.is_jft(names):  # of any model, published or not
        row = next(iter(catalog.CATALOG.values()))
        return dataclasses.replace(row, model=model, tag="jft", dialect="jft", options={}, top=True)
    rows = [row for row in catalog.CATALOG.values() if row.model == model]
    row = convert.guess_row(names, rows)
    if row is None:
        other = convert.guess_row(names, catalog.CATALOG.values())
        raise ValueError(
            f"this does not look like weights of {model} but like {other.name if other else 'nothing known'}; its "
            f"tensors are {', '.join(names[:3])}, … Sets of {model}: {', '.join(row.tag for row in rows) or 'none'}."
        )
    return row


def read_source(source: Path) -> tuple[Mapping[str, np.ndarray], dict[str, Any], dict[str, str]]:
    """(tensors, options of the model they are for, facts) of a weight file or of a run that jft trained."""
    if source.is_dir():
        trained = evaluate.restore(source, parallel.make_parallel("jit"))
        options = {**trained.meta["model"]["options"], "num_classes": len(trained.class_names)}
        facts = {"source": f"{source.name}, step {trained.meta['step']}"}
        return {name: np.asarray(leaf) for name, leaf in tree.flatten(trained.variables).items()}, options, facts
    with source.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return readers.read_tensors(source), {}, {"source": source.name, "source_sha256": sha256}


def run(source: Path, model: str, out: Path, tag: str | None) -> str:
    """Converts strictly; returns what was done."""
    tree.choose(MODELS, model, what="model")
    tensors, options, facts = read_source(source)
    row = choose_row(list(tensors), model, tag)
    chain = create_model(model, **{**row.options, **options})
    target = tree.flatten(abstract_variables(chain, row.preprocess.size))
    conversion = convert.convert(tensors, row, target)
    conversion.check(source, fresh=[] if row.top else [leaf for leaf in target if leaf.split("/")[1] in catalog.TOP])
    facts |= {"weights": row.name, "dialect": row.dialect}
    with written_whole(out) as aside:
        metadata = {**facts, "converter_version": str(convert.CONVERTER_VERSION)}
        safetensors.numpy.save_file(conversion.leaves, aside, metadata)
    parameters = sum(leaf.size for name, leaf in conversion.leaves.items() if name.startswith("params/"))
    lines = [f"{key}: {value}" for key, value in facts.items()]
    lines += [f"parameters: {parameters:,} in {len(conversion.leaves)} tensors", f"wrote {out}"]
    if row.name in catalog.CATALOG:  # its preprocessing and options do not travel in the file
        lines.append(f"use --config.model={model} --config.weights={row.tag} --config.weights_path={out}")
    return "\n".join(lines)


def main() -> int:
    """Prints what was done; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "source", type=Path, help=".pth, .safetensors, Keras .h5, Caffe .npy, a file of jft's own, or a run"
    )
    parser.add_argument("--model", required=True, help="such as vgg19")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .safetensors file to write")
    parser.add_argument(
        "--weights", metavar="TAG", help="such as torchvision; default: guessed from the tensors' names"
    )
    parser.add_argument("--force", action="store_true", help="replace FILE if it exists")
    args = parser.parse_args()
    try:
        if args.out.exists() and not args.force:
            raise ValueError(f"{args.out} exists already; --force replaces it.")
        if not args.out.parent.is_dir():
            raise ValueError(f"there is no folder {args.out.parent} to write {args.out.name} to.")
        print(run(args.source, args.model, args.out, args.weights))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
