"""A repository's `config.json`, as timm writes it, read as a row of weights. Nothing that it names is run."""

import functools
import math
import re
from collections.abc import Mapping
from typing import Any

from jft.data.preprocess import Preprocess
from jft.models import create_model
from jft.models.vit import ViT
from jft.utils import json_file, tree
from jft.weights.catalog import CATALOG, TOP
from jft.weights.hf_files import Found
from jft.weights.rows.row import WeightSet
from jft.weights.target import leaf_shapes

_LARGEST_SIDE = 4096  # of images, in pixels
_MOST_CLASSES = 2**20
_REMEDY = "jft reads what timm's push_to_hf_hub and `jft weights push` write"

_PRETRAINED = {
    **{"num_classes": int, "label_offset": int | None, "hf_hub_filename": str | None, "license": str | None},
    **{"input_size": tuple[int, int, int], "interpolation": str, "crop_pct": float, "crop_mode": str},
    **{
        "mean": tuple[float, float, float],
        "std": tuple[float, float, float],
        "label_names": list[str] | dict[str, str],
    },
}
_SHAPE = {
    "architecture": str,
    "num_classes": int,
    "global_pool": str,
    "label_names": list[str] | dict[str, str] | None,
    "model_args": dict[str, Any] | None,
    "pretrained_cfg": _PRETRAINED,
}
# What asks for code or for another file. Nothing of it would be followed; who writes it wants something else.
_CODE = ("auto_map", "custom_pipelines", "trust_remote_code", "custom_load", "state_dict")
# Arguments of timm's constructors that change nothing at inference.
_BENIGN = ("drop_rate", "drop_path_rate", "num_classes", "img_size", "in_chans", "global_pool", "pretrained")
# Whether a transformer resamples its positions when it runs, as jft always does.
_DYNAMIC = "dynamic_img_size"


def architectures() -> dict[str, WeightSet]:
    """timm's names of architectures -> a row of the catalog that has timm's weights of it."""
    rows = [row for row in CATALOG.values() if row.dialect == "timm"]
    return {row.filename.split(".")[0]: row for row in reversed(rows)}  # 'resnet18.a1_in1k.safetensors'


def row_of(found: Found) -> WeightSet:
    """The row of a repository: architecture, preprocessing and classes of its config, and the facts of its file.

    Raises:
      ValueError: the config is not timm's, asks for code, or says what jft's model of this architecture cannot do;
        names the config.
    """
    try:
        return _row_of(found)
    except ValueError as error:
        if found.config_name in str(error):
            raise
        raise ValueError(f"{found.config_name}: {error}") from error


def _row_of(found: Found) -> WeightSet:
    config = json_file.parse(found.config, _SHAPE, found.config_name, _REMEDY)
    refuse = functools.partial(_refuse, found.config_name)
    own = config.get("pretrained_cfg", config)  # once they were one
    if problem := json_file.mismatch(own, _PRETRAINED):
        refuse(problem)
    if asks := [key for key in _CODE if config.get(key) or own.get(key)]:
        refuse(f"{asks[0]} asks for code or a format of its own, which jft does not run")
    if "architecture" not in config:
        kind = config.get("model_type")
        refuse(f"it names no architecture{f'; it is of the transformers library, a {kind!r}' if kind else ''}")
    known, named = architectures(), config["architecture"]
    other_size = re.sub(r"^((?:vit|deit3?)_.*)_\d{3}$", r"\1_224", named)  # timm calls transformers by their images
    named = other_size if named not in known and other_size in known else named
    like = tree.choose(known, named, what=f"architecture in {found.config_name}")
    classes = config.get("num_classes", own.get("num_classes", 1000))
    if not 0 <= classes <= _MOST_CLASSES:
        refuse(f"num_classes is {classes}")
    spec = _preprocess(own, refuse)
    _check_arguments(config, like, spec.size, classes, refuse)
    options = {**like.options, **({"num_classes": classes} if classes not in (0, 1000) else {})}
    options |= _grid(like, config.get("model_args") or {}, spec.size)
    return WeightSet(
        model=like.model,
        tag=found.name,
        dialect="timm",
        filename=found.filename,
        url=found.url,
        sha256=found.sha256,
        md5=None,
        size=found.size / 2**20,
        license=_license(found, own),
        num_params=_count(like.model, options, spec.size, top=classes > 0),
        top1=None,
        top5=None,
        preprocess=spec,
        options=options,
        top=classes > 0,
        fit="whole" if own.get("crop_mode") == "squash" else "crop",
        class_names=_class_names(config.get("label_names") or own.get("label_names"), classes, refuse),
        repository=found.name,
        path=found.path,
    )


def _refuse(config: str, why: str) -> None:
    raise ValueError(f"{config}: {why}; {_REMEDY}.")


def _grid(like: WeightSet, arguments: Mapping[str, Any], size: int) -> dict[str, int]:
    """The grid of a transformer's positions, where it is not jft's own: that of the images, unless timm resamples."""
    model = create_model(like.model, **like.options)
    if not isinstance(model, ViT) or arguments.get(_DYNAMIC) or size // model.patch == model.grid:
        return {}
    return {"grid": size // model.patch}


def _preprocess(own: Mapping[str, Any], refuse: Any) -> Preprocess:
    """timm's evaluation: the shorter side is resized to size / crop_pct, rounded down, and the center cut out."""
    channels, height, width = own.get("input_size", (3, 224, 224))
    if channels != 3 or height != width or not 1 <= height <= _LARGEST_SIDE:
        refuse(f"input_size is {[channels, height, width]}, where square images of 3 channels are needed")
    share, mode = own.get("crop_pct", 0.875), own.get("crop_mode", "center")
    if not 0.1 <= share <= 1 or mode not in ("center", "squash"):
        refuse(f"crop_pct is {share} and crop_mode {mode!r}, where 0.1 to 1 and 'center' or 'squash' are known")
    mean, std = own.get("mean", Preprocess.mean), own.get("std", Preprocess.std)
    if not all(map(math.isfinite, (*mean, *std))) or min(std) <= 0:
        refuse(f"mean is {mean} and std {std}")
    return Preprocess(
        size=height,
        resize=math.floor(height / share),
        interpolation=own.get("interpolation", "bicubic"),
        mean=tuple(mean),
        std=tuple(std),
    )


def _check_arguments(config: Mapping[str, Any], like: WeightSet, size: int, classes: int, refuse: Any) -> None:
    """Refuses what would be another network than jft's."""
    arguments, own = config.get("model_args") or {}, config.get("pretrained_cfg", config)
    if strange := [name for name in arguments if name not in (*_BENIGN, _DYNAMIC)]:
        refuse(f"model_args has {strange[0]} = {str(arguments[strange[0]])[:80]}, which jft's {like.model} has not")
    known = {"num_classes": (classes,), "img_size": (size, [size, size]), "in_chans": (3,)}
    if wrong := [name for name, values in known.items() if name in arguments and arguments[name] not in values]:
        refuse(f"model_args has {wrong[0]} = {str(arguments[wrong[0]])[:80]}, against {known[wrong[0]][0]} elsewhere")
    usual = {"average": "avg"}.get(pool := getattr(create_model(like.model), "pool", "average"), pool)
    asked = arguments.get("global_pool", config.get("global_pool", usual))
    if asked not in (usual, ""):
        refuse(f"global_pool is {str(asked)[:80]!r}, where jft's {like.model} has {usual!r}")
    if own.get("label_offset"):
        refuse(f"label_offset is {own['label_offset']}: export it again by a newer timm")
    if own.get("hf_hub_filename") not in (None, "", "model.safetensors"):
        refuse(f"hf_hub_filename is {own['hf_hub_filename'][:80]!r}, where model.safetensors is read")


def _class_names(labels: Any, classes: int, refuse: Any) -> tuple[str, ...] | None:
    """The names in the order of the logits, of a list or of {'0': name}; None where there are none."""
    if not labels:
        return None
    if isinstance(labels, dict):
        labels = (
            [labels.get(str(i), str(i)) for i in range(classes)]
            if labels.keys() <= set(map(str, range(classes)))
            else []
        )
    if len(labels) != classes:
        refuse(f"label_names are {len(labels)}, and num_classes is {classes}")
    if strange := next((name for name in labels if not name.isprintable() or len(name) > 1000), None):
        refuse(f"a label is {strange[:80]!r}")
    return tuple(labels)


def _license(found: Found, own: Mapping[str, Any]) -> str:
    """What the catalog knows of this repository, else what its model card or its config says."""
    known = next((row.license for row in CATALOG.values() if found.repository and row.url == found.main_url), "")
    stated = known or found.license or own.get("license") or ""
    spellings = {row.license.lower(): row.license for row in CATALOG.values()}
    return spellings.get(stated.lower(), stated[:80]) or "unknown (the repository states none)"


def _count(model: str, options: Mapping[str, Any], size: int, top: bool) -> int:
    """Number of parameters in the file; ValueError if the model does not take images of this size."""
    leaves = leaf_shapes(create_model(model, **options), size)
    held = [leaf for leaf in leaves if leaf.startswith("params/") and (top or leaf.split("/")[1] not in TOP)]
    return sum(math.prod(leaves[leaf].shape) for leaf in held)
