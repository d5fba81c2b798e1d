"""Proofs that jft computes the same outputs as the reference frameworks, and functions to replay them.

A proof is for one model and dialect: jft/weights/proven/<model>.<dialect>.npz, or <model>.<dialect>.<variant>.npz
where a dialect's sets of a model differ in their options. It holds digests of the outputs of the framework's own model,
for every stage and several image sizes, with weights and images that are functions of a name (`jft.weights.seeded`). So
a replay needs neither the framework nor the published file, and it tests the architecture and the dialect's rules
together. If the published file was available, the proof also holds checksums of its converted leaves, and digests of
outputs with the published weights. scripts/golden makes the proofs.
"""

import dataclasses
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jft.models import Chain, create_model
from jft.utils import tree
from jft.weights import convert, rules, seeded
from jft.weights.catalog import WeightSet
from jft.weights.target import leaf_shapes

# Limit on the error of a digest, relative to its largest value. Frameworks that sum float32 in another order differ by
# 1e-6 to 1e-5 in the deepest stages; a mistake in padding or order causes 1e-2 or more.
LIMIT = 1e-4

FOLDER = Path(__file__).parent / "proven"


@dataclasses.dataclass(frozen=True)
class Digests:
    """Digests of a network's outputs.

    Attributes:
      stages: {'{size}/{stage or auxiliary head}': float32 [up to 258]}, see `seeded.digest`.
      spread: standard deviation of the images.
    """

    stages: Mapping[str, np.ndarray]
    spread: float

    def at(self, size: int) -> list[str]:
        """The stages and auxiliary heads that have a digest at a size in pixels."""
        return [key.split("/")[1] for key in self.stages if key.startswith(f"{size}/")]

    def sizes(self) -> list[int]:
        """Sizes of the images, in pixels."""
        return sorted({int(key.split("/")[0]) for key in self.stages})


@dataclasses.dataclass(frozen=True)
class Proof:
    """Reference results for a model and a dialect.

    Attributes:
      source: the reference framework and its version.
      seeded: digests with seeded weights.
      weights: name of the weight set of which `crc32` and `real` were made, or None.
      crc32: {leaf: CRC-32 of its float32 bytes}; {} without a published file.
      real: digests with the published weights, or None.
    """

    source: str
    seeded: Digests
    weights: str | None
    crc32: Mapping[str, int]
    real: Digests | None


def load(row: WeightSet) -> Proof | None:
    """The proof of a weight set's model and dialect, or None where there is none."""
    path = FOLDER / f"{row.proof}.npz"
    if not path.exists():
        return None
    with np.load(path) as file:
        arrays = dict(file)
    published = "weights" in arrays
    return Proof(
        source=str(arrays["source"]),
        seeded=_digests(arrays, "seeded"),
        weights=str(arrays["weights"]) if published else None,
        crc32=dict(zip(arrays["leaves"].tolist(), arrays["crc32"].tolist(), strict=True)) if published else {},
        real=_digests(arrays, "real") if published else None,
    )


def _digests(arrays: Mapping[str, np.ndarray], kind: str) -> Digests:
    stages = {key.removeprefix(f"{kind}/"): x for key, x in arrays.items() if key.startswith(f"{kind}/")}
    return Digests(stages, float(arrays[f"spread/{kind}"]))


def whole_model(row: WeightSet) -> Chain:
    """The model of a weight set, with its auxiliary heads if the dialect has names for them."""
    model = create_model(row.model, **row.options)
    heads = model.auxiliary_heads()
    named = {rule.target.split("/")[1] for rule in rules.rules_for(row, model)} if heads else set()
    return model.clone(aux_heads=not named.isdisjoint(heads))


def _shapes(model: Chain) -> dict[str, jax.ShapeDtypeStruct]:
    return leaf_shapes(model, model.default_size)


def seeded_sources(row: WeightSet) -> dict[str, np.ndarray]:
    """Seeded float32 tensors for every tensor of the dialect's rules, by name.

    They may include tensors that the published file lacks, such as the top or auxiliary heads.
    """
    model = whole_model(row)
    shapes = _shapes(model)
    if row.dialect == "jft":
        return seeded.SEEDED["jft"]({name: tuple(leaf.shape) for name, leaf in shapes.items()})
    return seeded.SEEDED[row.dialect](rules.source_shapes(rules.rules_for(row, model), shapes))


def seeded_model(row: WeightSet) -> tuple[Chain, Mapping[str, np.ndarray]]:
    """The whole model of a weight set, and its leaves: the seeded tensors of the dialect, converted.

    Raises:
      ValueError: the rules do not fit the model.
    """
    model = whole_model(row)
    conversion = convert.convert(seeded_sources(row), row, _shapes(model))
    conversion.check(f"the seeded tensors of {row.name}")
    return model, conversion.leaves


def replay(row: WeightSet) -> dict[str, float]:
    """Runs the model of a weight set with seeded weights on the images of its proof.

    Args:
      row: the weight set; sets with the same model and dialect share a proof.

    Returns:
      {'{size}/{stage or auxiliary head}': error}, see `errors`. All are below `LIMIT` if jft agrees with the reference.

    Raises:
      ValueError: there is no proof, or the rules do not fit the model.
    """
    proof = load(row)
    if proof is None:
        raise ValueError(f"{row.name} has no proof {row.proof}.npz; scripts/golden makes them.")
    return errors(*seeded_model(row), proof.seeded)


def check_leaves(row: WeightSet, leaves: Mapping[str, np.ndarray]) -> list[str] | None:
    """Compares converted weights with the checksums of the published file.

    Args:
      row: the weight set.
      leaves: {'params/…' or 'batch_stats/…': array}.

    Returns:
      Names of leaves that differ, are missing, or are not in the file; None if there are no checksums.
    """
    proof = load(row)
    if proof is None or proof.weights != row.name:
        return None
    found = {name: zlib.crc32(np.ascontiguousarray(leaf, "<f4")) for name, leaf in leaves.items()}
    return sorted(name for name in found.keys() | proof.crc32.keys() if found.get(name) != proof.crc32.get(name))


def check_activations(row: WeightSet, leaves: Mapping[str, np.ndarray]) -> dict[str, float] | None:
    """Compares the model's outputs with converted weights to the reference outputs with the published file.

    Args:
      row: the weight set.
      leaves: {'params/…' or 'batch_stats/…': array}, all leaves of the model.

    Returns:
      {'{size}/{stage}': error}, see `errors`; None if there are no reference outputs.
    """
    proof = load(row)
    if proof is None or proof.real is None or proof.weights != row.name:
        return None
    return errors(create_model(row.model, **row.options), leaves, proof.real)


def errors(model: Chain, leaves: Mapping[str, np.ndarray], digests: Digests) -> dict[str, float]:
    """Runs a model stage by stage on the images of a proof.

    Args:
      model: the architecture.
      leaves: its weights.
      digests: the reference digests.

    Returns:
      {'{size}/{stage or auxiliary head}': largest difference, relative to the largest value of the digest}; infinity
      if the model lacks the stage, or its output has another size or non-finite values.
    """
    found = dict.fromkeys(digests.stages, float("inf"))
    variables = tree.unflatten(leaves)
    for size in digests.sizes():
        images = seeded.seeded_images(size, spread=digests.spread)
        for stage, x in activations(model, variables, images, digests.at(size)):
            key = f"{size}/{stage}"
            found[key] = difference(seeded.digest(key, np.asarray(x)), digests.stages[key])
    return found


def activations(
    model: Chain, variables: Mapping[str, Any], images: np.ndarray, wanted: Collection[str]
) -> Iterator[tuple[str, jax.Array]]:
    """Outputs of stages and auxiliary heads in inference mode. Stages after the last wanted one are not run.

    Runs without jit, so that operations shared by several models are compiled only once.

    Args:
      model: the architecture.
      variables: its weights.
      images: [batch, height, width, 3].
      wanted: names of the stages and auxiliary heads.

    Yields:
      Name and output, in the order of the chain.
    """
    heads = {name: head for name, head in model.auxiliary_heads().items() if name in wanted}
    missing, start, x = set(wanted), None, images
    for stage in model.stages():
        if not missing:
            return
        x = model.apply(variables, x, train=False, start=start, stop=stage)
        start = stage
        if stage in wanted:
            yield stage, x
        for name in [name for name, head in heads.items() if head.after == stage]:
            own = {kind: leaves[name] for kind, leaves in variables.items() if name in leaves}
            logits: Any = heads[name].build().apply(own, x, train=False)
            yield name, logits
            missing.discard(name)
        missing.discard(stage)


def difference(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference of two digests, relative to the largest value of `wanted`; infinity if not comparable."""
    if found.shape != wanted.shape or not np.isfinite(found).all():
        return float("inf")
    return float(np.max(np.abs(found - wanted)) / np.max(np.abs(wanted)))
