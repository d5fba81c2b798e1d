"""Fields about the network: model, weights, head, loss, and what of it is trained."""

from typing import Any

from jft.utils.fields.field import (
    Field,
    Needs,
    not_negative,
    one_or_three,
    part,
    positive,
    share,
    share_or_auto,
    switch_or_auto,
)

_STEPS, _SOLVED = Needs("solver", ("steps",)), Needs("solver", ("lbfgs", "ridge", "lda", "class_means"))
_LINEAR, _TAUGHT = Needs("head", ("linear",)), Needs("teacher")
_PRESETS = (
    *("", "linear_probe", "lp_ft", "fine_tune", "gradual_unfreezing", "scales_and_biases", "full", "from_scratch"),
)
_PRETRAINED = Needs("preset", tuple(preset for preset in _PRESETS if preset != "from_scratch"))

MODEL = (
    Field("model", "vgg19", "the architecture, such as resnet50; `jft weights list` names those with weights"),
    Field(
        "weights",
        "torchvision",
        "weight set of the model, such as torchvision, or hf:owner/name; empty: train from scratch",
    ),
    Field(
        "weights_path",
        "",
        "weight file, folder of weight files, or of a run; tried before the cache and the network",
        place=True,
    ),
    Field("accept_license", False, "use weights whose license forbids commercial use", needs=(Needs("weights"),)),
    Field(
        "aux_heads",
        False,
        "also train the auxiliary heads of GoogLeNet or Inception-V3, with their published loss weights",
        needs=(_STEPS,),
    ),
    Field(
        "in_channels",
        3,
        "channels that the network reads; 1: gray levels, with the first kernel summed over red, green and blue",
        check=one_or_three,
    ),
    Field(
        "fresh",
        "",
        "stages or parameter patterns to initialize anew, in addition to the head, such as layer4",
        needs=(_PRETRAINED, Needs("weights")),
    ),
)

HEAD = (
    Field("cut", "", "attach the head after this stage and drop the later ones; empty: keep all stages"),
    Field(
        "head",
        "published",
        "published: as in the paper; linear: global average pooling, hidden layers, logits",
        choices=("published", "linear"),
    ),
    Field(
        "pool",
        "",
        "what a linear head reads: average; token or both (transformers); stages: all stages; empty: the usual",
        choices=("", "token", "average", "both", "stages"),
    ),
    Field(
        "head_hidden",
        (),
        "linear head: sizes of its hidden layers, each followed by ReLU",
        element=int,
        needs=(_STEPS, _LINEAR),
    ),
    Field(
        "head_dropout",
        0.0,
        "linear head: dropout rate before each layer",
        check=share,
        needs=(_STEPS, _LINEAR),
    ),
    Field(
        "fresh_head",
        True,
        "False: keep the weights' rows of the classifying layer for classes of the same names; True: all rows are new",
        needs=(_STEPS, _PRETRAINED, Needs("weights")),
    ),
    Field("head_init", 1.0, "factor on the initial kernel of the classifying layer; 0: zeros", needs=(_STEPS,)),
    Field(
        "loss",
        "softmax",
        "softmax; sigmoid: for two classes with one output, or for several labels per image; module:function",
    ),
    Field(
        "balance",
        "",
        "weights: class weights by inverse frequency; sampling: draw all classes equally often; empty: neither",
        choices=("", "weights", "sampling"),
        needs=(_STEPS,),
    ),
    # The loss is divided by the sum of the weights of the batch's labels, as in torch; where images have several
    # labels, by their number.
    Field("class_weights", (), "weight of each class in the loss; empty: 1", element=float, needs=(_STEPS,)),
    Field(
        "teacher",
        "",
        "folder of a run with the same classes, whose outputs this one learns, too (distillation); empty: none",
        needs=(_STEPS,),
        place=True,
    ),
    Field(
        "teacher_weight",
        0.9,
        "share of the teacher's part of the loss, 0 to 1; the rest is the loss of the labels",
        check=part,
        needs=(_STEPS, _TAUGHT),
    ),
    Field(
        "teacher_temperature",
        4.0,
        "temperature that both outputs are divided by in the teacher's part of the loss",
        check=positive,
        needs=(_STEPS, _TAUGHT),
    ),
)

TRANSFER = (
    Field(
        "freeze",
        "",
        "a stage (frozen with all stages before it), or patterns over parameter names; empty: train all",
        phase=True,
    ),
    Field(
        "batch_norm",
        "trained",
        "BatchNorm of trainable stages: trained; statistics: scale and bias frozen; frozen: statistics fixed too",
        choices=("trained", "statistics", "frozen"),
        needs=(_STEPS,),
        phase=True,
    ),
    Field(
        "layer_decay",
        1.0,
        "learning rate factor for each stage further from the head",
        check=positive,
        needs=(_STEPS,),
        phase=True,
    ),
    Field(
        "wise_ft",
        1.0,
        "share of the trained weights in an average with those before the phase; auto: by validation loss; 1: none",
        check=share_or_auto,
        needs=(_STEPS,),
        auto=float,
        phase=True,
    ),
    Field(
        "l2_sp",
        0.0,
        "L2-SP: decay of kernels toward where the phase began; weight_decay is that of the head and fresh stages alone",
        check=not_negative,
        needs=(_STEPS, _PRETRAINED, Needs("weights")),
        phase=True,
    ),
    Field(
        "preset",
        "",
        "named phases, such as fine_tune: head solved for, all trained, averaged",
        choices=_PRESETS,
        needs=(_STEPS,),
    ),
    Field(
        "phases",
        (),
        'your own phases: ({"epochs": 2, "freeze": "fc7"}, {"epochs": 5, "freeze": ""})',
        element=dict[str, Any],
        needs=(_STEPS,),
    ),
    Field(
        "cache_features",
        "auto",
        "cache the features of frozen stages on disk: True, False, or auto: if that saves time",
        check=switch_or_auto,
        auto=bool,
    ),
    Field("features_dir", "", "folder of the cached features; empty: $JFT_CACHE/features", place=True),
    Field(
        "features_dtype",
        "float32",
        "type of the cached features",
        choices=("float32", "bfloat16"),
        needs=(Needs("cache_features"),),
    ),
    Field(
        "solver",
        "steps",
        "steps: gradient descent; lbfgs (logistic regression), ridge, lda, class_means: fit the head directly",
        choices=("steps", "lbfgs", "ridge", "lda", "class_means"),
        phase=True,
    ),
    Field(
        "regularization",
        (),
        "lbfgs, ridge, lda: inverse regularization strengths (C) to choose from on validation; empty: a usual range",
        element=float,
        needs=(_SOLVED,),
        phase=True,
    ),
)
