"""ConvNeXt and ConvNeXt V2."""

from typing import Any

from families import Reference

# At 224 pixels the stages see 56, 28, 14 and 7 places a side; at 72, where an odd map is halved, 18, 9, 4 and 2.
_SIZES = (224, 72)
_SMALLER = ("atto", "femto", "pico", "nano")
_LARGER = ("tiny", "small", "base", "large")

TORCHVISION = {f"convnext_{size}": Reference(f"convnext_{size}", _SIZES) for size in _LARGER}
TIMM = {
    **{f"convnext_{size}": Reference(f"convnext_{size}", _SIZES) for size in (*_SMALLER, *_LARGER)},
    **{f"convnextv2_{size}": Reference(f"convnextv2_{size}", _SIZES) for size in (*_SMALLER, "tiny", "base", "large")},
}
# Images come normalized, as jft's preprocessing gives them.
KERAS = {
    f"convnext_{size}": Reference(f"ConvNeXt{size.title()}", _SIZES, {"include_preprocessing": False})
    for size in _LARGER
}


def torchvision_stages(model: Any) -> dict[str, str]:
    """features: the stem, then stages and what downsamples between them in turn."""
    del model
    stages = {f"stage{i}": f"features.{2 * i - 1}" for i in (1, 2, 3, 4)}
    return {"stem": "features.0", **stages, "norm": "classifier.0", "head": "classifier.2"}


def timm_stages(model: Any) -> dict[str, str]:
    """A stage downsamples first."""
    del model
    return {
        "stem": "stem",
        **{f"stage{i + 1}": f"stages.{i}" for i in range(4)},
        "norm": "head.norm",
        "head": "head.fc",
    }


def keras_stages(model: Any) -> dict[str, str]:
    """A sum is no layer of Keras: a stage's output is what the next layer reads."""
    name = model.name
    stages = {f"stage{i + 1}": f"{name}_downsampling_block_{i}:input" for i in range(3)}
    ends = {"stage4": f"{name}_head_gap:input", "norm": f"{name}_head_layernorm", "head": f"{name}_head_dense"}
    return {"stem": f"{name}_stem", **stages, **ends}
