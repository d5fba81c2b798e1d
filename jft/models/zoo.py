"""Models by name: the architectures of jft, and those of the user's own, named "module:Class"."""

import functools
from collections.abc import Callable
from typing import Any

from jft.models.alexnet import AlexNet
from jft.models.chain import Chain
from jft.models.cnn import CNN
from jft.models.convnext import CONVNEXT
from jft.models.densenet import DENSENETS
from jft.models.efficientnet import EFFICIENTNETS
from jft.models.googlenet import GoogLeNet
from jft.models.inception import InceptionV3
from jft.models.mobilenet import MOBILENETS
from jft.models.regnet import REGNETS
from jft.models.resnet import RESNETS
from jft.models.squeezenet import SqueezeNet
from jft.models.vgg import VGG, VGG_CONVS
from jft.models.vit import VIT
from jft.utils.registry import GIVEN, Registry, name_of

MODELS: Registry[Callable[..., Chain]] = Registry(
    "model",
    "subclass of jft.models.Chain",
    {
        "alexnet": AlexNet,
        "alexnet_caffe": functools.partial(AlexNet, widths=(96, 256, 384, 384, 256), original=True, default_size=227),
        **{name: functools.partial(VGG, convs=convs) for name, convs in VGG_CONVS.items()},
        **{f"{name}_bn": functools.partial(VGG, convs=convs, batch_norm=True) for name, convs in VGG_CONVS.items()},
        "googlenet": GoogLeNet,
        "googlenet_caffe": functools.partial(GoogLeNet, original=True, dropout=0.4),
        "inception_v3": InceptionV3,
        **RESNETS,
        **DENSENETS,
        **REGNETS,
        "squeezenet1_0": functools.partial(SqueezeNet, conv1=(96, 7), pools=("conv1", "fire4", "fire8")),
        "squeezenet1_1": functools.partial(SqueezeNet),
        **EFFICIENTNETS,
        **MOBILENETS,
        **CONVNEXT,
        **VIT,
        # Three convolutions for 32-pixel images: the quickstart's network, small enough to travel in the package.
        "vgg_tiny": functools.partial(VGG, convs=(1, 1, 1), widths=(16, 32, 64), hidden=64, grid=4, default_size=32),
        # No pretrained weights: what training from scratch gives.
        "cnn": CNN,
    },
)


def architecture(name: str) -> Callable[..., Chain]:
    """The constructor of a model, called with fields of the model by name.

    Args:
      name: a key of `MODELS`, such as 'vgg19', or "module:Class", a subclass of `Chain` in a module of the user's own.

    Raises:
      ValueError: there is no such model, or what the module holds is not a `Chain`.
      CodeRefusedError: "module:Class", outside of `registry.code_allowed`.
    """
    build = MODELS.resolve(name)
    if not (isinstance(build, type) and issubclass(build, Chain)) and name not in MODELS:
        raise ValueError(f"model = {name!r} is {build!r}, where a {MODELS.signature} is needed.")
    return build


def register(model: type[Chain]) -> str:
    """Makes a network of the user's own known in this process; returns the name that a config records for it.

    That is "module:Class" where a module holds the class, so that a run can be opened anywhere. Otherwise, as for a
    class of a notebook, it is the name of the class; whatever opens the run must register the class again.

    Raises:
      ValueError: it is not a subclass of `Chain`, or its name is that of a model of the zoo.
    """
    if not (isinstance(model, type) and issubclass(model, Chain)):
        raise ValueError(f"model is {model!r}: give the name of a model or a {MODELS.signature}.")
    name = name_of(model)
    if name != GIVEN:
        return name
    MODELS.register(model.__name__, model)
    return model.__name__


def create_model(name: str, **options: Any) -> Chain:
    """A model of the zoo, or the user's own.

    Args:
      name: see `architecture`.
      **options: fields of the model, such as `num_classes=10` or `dtype=jnp.bfloat16`.

    Returns:
      An unbound Linen module; `model.apply(variables, x, train=False, start=None, stop=None)`.

    Raises:
      ValueError: unknown name, `aux_heads=True` where the model has none, or no input channel.
    """
    if not (isinstance(channels := options.get("in_channels", 3), int) and channels > 0):
        raise ValueError(f"in_channels = {channels!r}: give the images' channels, 1 or more.")
    if "head_hidden" in options:  # a list where it comes from JSON
        options["head_hidden"] = tuple(options["head_hidden"])
    model = architecture(name)(**options)
    stages = model.stages()  # refuses a cut that is none
    if model.aux_heads and not model.auxiliary_heads():
        having = ", ".join(key for key, build in MODELS.items() if build().auxiliary_heads())
        raise ValueError(f"{name} has no auxiliary heads, which aux_heads=True asks for; {having} have them.")
    if model.aux_heads and (lost := [n for n, head in model.auxiliary_heads().items() if head.after not in stages]):
        raise ValueError(f"cut = {model.cut!r} leaves out what {', '.join(lost)} read: set aux_heads = False.")
    return model
