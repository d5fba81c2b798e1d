"""Fields about the network: model, weights, head, loss, and what of it is trained."""

from typing import Any

from jft.utils.fields.field import Field, Needs, positive, share, switch_or_auto

_STEPS, _SOLVED = Needs("solver", ("steps",)), Needs("solver", ("lbfgs", "ridge"))
_LINEAR = Needs("head", ("linear",))
_PRESETS = ("", "linear_probe", "lp_ft", "gradual_unfreezing", "full", "from_scratch")
_PRETRAINED = Needs("preset", tuple(preset for preset in _PRESETS if preset != "from_scratch"))

MODEL = (
    Field("model", "vgg19", "the architecture, such as resnet50; `jft weights list` names those with weights"),
    Field("weights", "torchvision", "weight set of the model, such as torchvision or timm; empty: train from scratch"),
    Field("weights_path", "", "file or folder looked at before the cache and the network", place=True),
    Field(
        "aux_heads",
        False,
        "train the auxiliary heads of GoogLeNet or Inception-V3 too, at their published weights",
        needs=(_STEPS,),
    ),
    Field(
        "fresh",
        "",
        "stages or patterns that start from initialization, beside the head: 'layer4 head'",
        needs=(_PRETRAINED, Needs("weights")),
    ),
)

HEAD = (
    Field("cut", "", "the stage after which the head comes; later stages are left out; empty: none is"),
    Field(
        "head",
        "published",
        "published: the network's own; linear: average of the map, hidden layers, logits",
        choices=("published", "linear"),
    ),
    Field(
        "head_hidden",
        (),
        "linear head: units of its hidden layers, each with ReLU",
        element=int,
        needs=(_STEPS, _LINEAR),
    ),
    Field(
        "head_dropout",
        0.0,
        "linear head: dropout rate before each of its layers",
        check=share,
        needs=(_STEPS, _LINEAR),
    ),
    Field(
        "head_init", 1.0, "factor on the initial kernel of the classifying layer; 0: starts from zeros", needs=(_STEPS,)
    ),
    Field(
        "loss",
        "softmax",
        "softmax; sigmoid: one unit for two classes, or one a class where images have several labels; module:function",
    ),
    Field(
        "balance",
        "",
        "weights: class weights by inverse frequency; sampling: classes are drawn equally often",
        choices=("", "weights", "sampling"),
        needs=(_STEPS,),
    ),
    # The loss is divided by the sum of the weights of the batch's labels, as in torch; where images have several
    # labels, by their number.
    Field("class_weights", (), "factors on the loss, one a class; empty: 1", element=float, needs=(_STEPS,)),
)

TRANSFER = (
    Field(
        "freeze",
        "",
        "a stage (it and all before it), or patterns over parameter names; empty: all is trainable",
        phase=True,
    ),
    Field(
        "batch_norm",
        "trained",
        "BatchNorm of trainable stages: trained; statistics: scale and bias fixed; frozen: statistics fixed too",
        choices=("trained", "statistics", "frozen"),
        needs=(_STEPS,),
        phase=True,
    ),
    Field(
        "layer_decay",
        1.0,
        "factor on the learning rate for each stage further from the head",
        check=positive,
        needs=(_STEPS,),
        phase=True,
    ),
    Field(
        "preset", "", "phases by name, such as lp_ft: linear probe, then fine-tune", choices=_PRESETS, needs=(_STEPS,)
    ),
    Field(
        "phases",
        (),
        'own phases: ({"epochs": 2, "freeze": "fc7"}, {"epochs": 5, "freeze": ""})',
        element=dict[str, Any],
        needs=(_STEPS,),
    ),
    Field(
        "cache_features",
        "auto",
        "keep what frozen stages compute on disk: True, False, or auto: where it can be kept and saves time",
        check=switch_or_auto,
        auto=bool,
    ),
    Field("features_dir", "", "folder of the cached features; empty: $JFT_CACHE/features", place=True),
    Field(
        "features_dtype",
        "float32",
        "type in which features are kept",
        choices=("float32", "bfloat16"),
        needs=(Needs("cache_features"),),
    ),
    Field(
        "solver",
        "steps",
        "steps: gradient descent; lbfgs or ridge: solve for a linear head at once, on cached features",
        choices=("steps", "lbfgs", "ridge"),
    ),
    Field(
        "regularization",
        (),
        "lbfgs, ridge: inverse strengths (C) to choose from on validation; empty: a usual range",
        element=float,
        needs=(_SOLVED,),
    ),
)
