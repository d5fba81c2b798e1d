"""RegNet in torchvision's and timm's names."""

from collections.abc import Iterator

from jft.models.regnet import RegNet
from jft.weights.rules.rule import Family, Rules, torch_dense, torch_layer, torch_norm


def _blocks(model: RegNet) -> Iterator[tuple[int, int]]:
    """(stage, block): stage from 1, block from 0. The first of a stage, which strides, has a projection."""
    for stage, blocks in enumerate(model.depths, 1):
        for block in range(blocks):
            yield stage, block


def _torchvision(model: RegNet) -> Rules:
    yield from _unit("stem", 1, "stem.0", "stem.1")
    for stage, block in _blocks(model):
        target, source = f"stage{stage}/block{block}", f"trunk_output.block{stage}.block{stage}-{block}"
        for i, letter in enumerate("abc", 1):
            yield from _unit(target, i, f"{source}.f.{letter}.0", f"{source}.f.{letter}.1")
        yield from _rest(model, target, block, f"{source}.f.se", f"{source}.proj.0", f"{source}.proj.1")
    yield from torch_dense("head/head", "fc")


def _timm(model: RegNet) -> Rules:
    yield from _unit("stem", 1, "stem.conv", "stem.bn")
    for stage, block in _blocks(model):
        target, source = f"stage{stage}/block{block}", f"s{stage}.b{block + 1}"
        for i in (1, 2, 3):
            yield from _unit(target, i, f"{source}.conv{i}.conv", f"{source}.conv{i}.bn")
        yield from _rest(model, target, block, f"{source}.se", f"{source}.downsample.conv", f"{source}.downsample.bn")
    yield from torch_dense("head/head", "head.fc")


def _unit(target: str, i: int, conv: str, norm: str) -> Rules:
    yield from torch_layer(f"{target}/conv{i}", conv, bias=False)
    yield from torch_norm(f"{target}/bn{i}", norm)


def _rest(model: RegNet, target: str, block: int, squeeze: str, conv: str, norm: str) -> Rules:
    """Squeeze-and-excitation and the projection, where a block has them."""
    if model.squeeze_excite:
        yield from torch_layer(f"{target}/se/reduce", f"{squeeze}.fc1")
        yield from torch_layer(f"{target}/se/expand", f"{squeeze}.fc2")
    if block == 0:
        yield from torch_layer(f"{target}/downsample_conv", conv, bias=False)
        yield from torch_norm(f"{target}/downsample_bn", norm)


FAMILY = Family(RegNet, {"torchvision": _torchvision, "timm": _timm})
