"""`Rule`: how one leaf is made of tensors; and groups of rules that several families share."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jft.models.chain import Chain
from jft.weights.rules import transforms
from jft.weights.rules.transforms import Transform, dense, hwio, same


@dataclasses.dataclass(frozen=True)
class Rule:
    """How one leaf is made of the tensors of a file.

    Attributes:
      target: 'params/…' or 'batch_stats/…', the name of the leaf.
      sources: names of the tensors that `transform.forward` takes, in order.
      transform: of the sources to the leaf, and back.
      beside: other leaves that `transform.backward` takes after this one.
    """

    target: str
    sources: tuple[str, ...]
    transform: Transform
    beside: tuple[str, ...] = ()


Rules = Iterator[Rule]


@dataclasses.dataclass(frozen=True)
class Family:
    """The rules of one class of models.

    Attributes:
      model: the class.
      rules: dialect -> function of a model that gives its rules: one for each leaf, and for those of its auxiliary
        heads.
      names: dialect -> function of a model and the names of a file's tensors, in the file's order, that gives
        {name in the rules: name in the file} for all of them; for dialects whose files do not agree on names.
    """

    model: type[Chain]
    rules: Mapping[str, Callable[[Any], Rules]]
    names: Mapping[str, Callable[[Any, tuple[str, ...]], Mapping[str, str]]] = dataclasses.field(default_factory=dict)


def synonyms(names: tuple[str, ...], others: Mapping[str, str]) -> dict[str, str]:
    """What `Family.names` gives where tensors have other names: {name in the rules: name in the file}.

    Args:
      names: of the file's tensors.
      others: {another name: name in the rules}. A tensor that would take the name of another keeps its own.
    """
    held = set(names)
    return {new if (new := others.get(name, name)) not in held else name: name for name in names}


def caffe_names(rules: Rules, names: tuple[str, ...]) -> dict[str, str]:
    """`synonyms` of Caffe's names: caffe-tensorflow writes 'inception_3a_1x1' for 'inception_3a/1x1'."""
    sources = [source for rule in rules for source in rule.sources]
    return synonyms(names, {source.replace("/", "_", source.count("/") - 1): source for source in sources})


def prefixed(prefix: str, rules: Rules) -> Rules:
    """The rules of files that wrap a model: all its tensors' names begin with `prefix`."""
    for rule in rules:
        yield dataclasses.replace(rule, sources=tuple(prefix + source for source in rule.sources))


# torchvision, and timm: 'layer.weight', kernels [out, in, height, width].


def torch_layer(target: str, source: str, kernel: Transform = hwio, *, bias: bool = True) -> Rules:
    """A convolution or, with another `kernel`, a fully connected layer."""
    yield Rule(f"params/{target}/kernel", (f"{source}.weight",), kernel)
    if bias:
        yield Rule(f"params/{target}/bias", (f"{source}.bias",), same)


def torch_norm(target: str, source: str) -> Rules:
    """A BatchNorm."""
    yield Rule(f"params/{target}/scale", (f"{source}.weight",), same)
    yield Rule(f"params/{target}/bias", (f"{source}.bias",), same)
    yield Rule(f"batch_stats/{target}/mean", (f"{source}.running_mean",), same)
    yield Rule(f"batch_stats/{target}/var", (f"{source}.running_var",), same)


def torch_layer_norm(target: str, source: str) -> Rules:
    """A LayerNorm, or V2's global response normalization: two vectors."""
    yield Rule(f"params/{target}/scale", (f"{source}.weight",), same)
    yield Rule(f"params/{target}/bias", (f"{source}.bias",), same)


def torch_unit(target: str, source: str) -> Rules:
    """torchvision's BasicConv2d: a convolution without bias, and its BatchNorm."""
    yield from torch_layer(f"{target}/conv", f"{source}.conv", bias=False)
    yield from torch_norm(f"{target}/bn", f"{source}.bn")


def torch_dense(target: str, source: str) -> Rules:
    """A fully connected layer that reads a vector."""
    yield from torch_layer(target, source, dense)


# Keras and Caffe: 'layer/position', kernels in jft's own layout.


def layer(target: str, source: str, first: int = 0, kernel: Transform = same) -> Rules:
    """A convolution or a fully connected layer with its bias, which are the tensors from `first` on of `source`."""
    yield Rule(f"params/{target}/kernel", (f"{source}/{first}",), kernel)
    yield Rule(f"params/{target}/bias", (f"{source}/{first + 1}",), same)


def keras_layer_norm(target: str, source: str, first: int = 0) -> Rules:
    """A LayerNorm, whose tensors are those from `first` on of `source`."""
    yield Rule(f"params/{target}/scale", (f"{source}/{first}",), same)
    yield Rule(f"params/{target}/bias", (f"{source}/{first + 1}",), same)


def keras_norm(target: str, source: str) -> Rules:
    """A BatchNorm with the model's own epsilon."""
    yield Rule(f"params/{target}/scale", (f"{source}/0",), same)
    yield Rule(f"params/{target}/bias", (f"{source}/1",), same)
    yield Rule(f"batch_stats/{target}/mean", (f"{source}/2",), same)
    yield Rule(f"batch_stats/{target}/var", (f"{source}/3",), same)


def keras_conv_norm(conv: str, norm: str, source: str) -> Rules:
    """Keras' '{source}_conv', which has a bias, and '{source}_bn'."""
    yield Rule(f"params/{conv}/kernel", (f"{source}_conv/0",), same)
    yield Rule(f"params/{norm}/scale", (f"{source}_bn/0",), same)
    yield Rule(f"params/{norm}/bias", (f"{source}_bn/1",), same)
    yield Rule(f"batch_stats/{norm}/mean", (f"{source}_conv/1", f"{source}_bn/2"), transforms.center)
    yield Rule(f"batch_stats/{norm}/var", (f"{source}_bn/3",), transforms.keras_variance)


def keras_unit(target: str, conv: str, norm: str) -> Rules:
    """A convolution without bias and a BatchNorm without scale, whose leaf becomes ones."""
    scale = (f"params/{target}/bn/scale",)
    yield Rule(f"params/{target}/conv/kernel", (f"{conv}/0",), transforms.scaled, scale)
    yield Rule(*scale, (f"{norm}/0",), transforms.no_scale)
    yield Rule(f"params/{target}/bn/bias", (f"{norm}/0",), same)
    yield Rule(f"batch_stats/{target}/bn/mean", (f"{norm}/1",), transforms.scaled, scale)
    yield Rule(f"batch_stats/{target}/bn/var", (f"{norm}/2",), same)
