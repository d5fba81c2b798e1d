"""A folder that timm opens, and that the Hugging Face hub takes: config.json, model.safetensors, a model card."""

import importlib
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jft.data.preprocess import Preprocess
from jft.evaluation.open_model import SourceWeights
from jft.exporters import state_dict
from jft.exporters.layouts import resampled
from jft.exporters.state_dict import Exported
from jft.models.chain import abstract_variables
from jft.utils import tree
from jft.utils.files import written_whole
from jft.utils.text import markdown
from jft.utils.version import __version__
from jft.weights import rules
from jft.weights.catalog import PREFIX
from jft.weights.hf_files import CARD, CONFIG, WEIGHTS

FILES = (CONFIG, WEIGHTS, CARD)
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_SHARES = (0.875, 0.9, 0.95, 1.0)  # crop_pct of most of timm's
# Licenses that the hub knows by their SPDX names in small letters; of others it takes the name beside 'other'.
_KNOWN = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-nc-4.0", "cc-by-4.0", "cc0-1.0")


def check_name(repository: str) -> None:
    """ValueError unless it is the name of a repository, 'owner/name'."""
    if not _REPOSITORY.fullmatch(repository) or ".." in repository:
        raise ValueError(f"{repository!r} is no name of a repository: give owner/name, such as you/flowers.")


def write(weights: SourceWeights, folder: Path, repository: str) -> Exported:
    """Writes the folder; the weights are read again and compared.

    Args:
      weights: the weights, of an architecture that timm has.
      folder: made if it does not exist; its files of these names are replaced.
      repository: 'owner/name', which the model card says to open.

    Raises:
      ValueError: timm has no such architecture, or cannot say the preprocessing; or the folder is a run's.
    """
    check_name(repository)
    check_folder(folder)
    config = _config(weights)
    folder.mkdir(parents=True, exist_ok=True)
    done = state_dict.write(weights, folder / WEIGHTS, "timm")
    for name, text in ((CONFIG, json.dumps(config, indent=2) + "\n"), (CARD, _card(weights, config, repository))):
        with written_whole(folder / name) as aside:
            aside.write_text(text, "utf-8")
    return done


def check_folder(folder: Path) -> None:
    """ValueError if a run lives in the folder: it has a config.json of its own, which would be lost."""
    if (folder / "checkpoints").is_dir():
        raise ValueError(f"{folder} is the folder of a run, whose config.json would be lost: give another --out.")


def _config(weights: SourceWeights) -> dict[str, Any]:
    """What timm's `save_config_for_hf` writes of a model."""
    row, model, _ = state_dict.find_published(weights, "timm")
    leaves = tree.flatten(abstract_variables(model, weights.spec.size))
    table = {rule.target: rule.sources[0].removesuffix(".weight") for rule in rules.rules_for(row, model)}
    first = next(target for target in table if target.endswith("/kernel"))
    pool = getattr(model, "pool", "average")
    names = weights.class_names if weights.class_names and len(weights.class_names) == model.num_classes else None
    return {
        "architecture": state_dict.timm_name(row),
        "num_classes": model.num_classes,
        "num_features": leaves["params/head/head/kernel"].shape[-2],
        "global_pool": {"average": "avg"}.get(pool, pool),
        **({"label_names": list(names)} if names else {}),
        **({"model_args": {"dynamic_img_size": True}} if resampled(model, weights.spec.size) else {}),
        "pretrained_cfg": {
            "custom_load": False,
            "fixed_input_size": False,
            **_preprocessing(weights.spec, weights.fit),
            "num_classes": model.num_classes,
            "pool_size": None,
            "first_conv": table[first],
            "classifier": table["params/head/head/kernel"],
            "license": weights.facts.get("license", ""),
        },
    }


def _preprocessing(spec: Preprocess, fit: str) -> dict[str, Any]:
    """timm's, which divides gray levels by 255 before it subtracts the mean."""
    if spec.channels != "RGB" or not spec.antialias:
        why = f"{spec.channels} images" if spec.antialias else "images that are made smaller without antialias"
        raise ValueError(f"timm has no preprocessing of {why}, as these weights need: train from a set of timm's.")
    by = 255 * spec.scale
    return {
        "input_size": [3, spec.size, spec.size],
        "interpolation": spec.interpolation,
        "crop_pct": 1.0 if fit == "whole" else _share(spec),
        "crop_mode": "squash" if fit == "whole" else "center",
        "mean": [mean / by for mean in spec.mean],
        "std": [std / by for std in spec.std],
    }


def _share(spec: Preprocess) -> float:
    """The crop_pct by which timm resizes the shorter side to `spec.resize`, as it rounds down size / crop_pct."""
    tried = (*_SHARES, round(spec.size / spec.resize, 3))
    exact = (share for share in tried if math.floor(spec.size / share) == spec.resize)
    return next(exact, spec.size / (spec.resize + 0.5))


def _card(weights: SourceWeights, config: dict[str, Any], repository: str) -> str:
    facts = weights.facts
    return "\n".join(
        [
            "---",
            *("tags:", "- image-classification", "- timm", "- jft"),
            *("pipeline_tag: image-classification", "library_name: timm", *_license(facts.get("license", ""))),
            "---",
            f"# {repository.split('/')[1]}",
            "",
            f"{config['architecture']} with {config['num_classes']} outputs, written by jft {__version__}.",
            "",
            "```python",
            "import timm",
            "",
            f'model = timm.create_model("hf-hub:{repository}", pretrained=True).eval()',
            "transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)",
            "```",
            "",
            *_origin(facts),
            f"- Probabilities: {_outputs(weights)}",
            *(f"- Output {i}: {markdown(name)}" for i, name in enumerate((weights.class_names or ())[:1000])),
            "",
        ]
    )


def _origin(facts: dict[str, str]) -> Iterator[str]:
    told = {
        **{"weights": "Pretrained weights", "repository": "Made from", "source": "Source", "url": "Address"},
        **{"source_sha256": "SHA-256 of the source", "license": "License of the pretrained weights"},
    }
    local = f"{PREFIX}/"  # a folder of this machine's tells others nothing
    known = {key: facts[key] for key in told if facts.get(key) and not facts[key].startswith(local)}
    yield from (f"- {told[key]}: {markdown(fact)}" for key, fact in known.items())


def _outputs(weights: SourceWeights) -> str:
    divided = f" of the logits divided by {weights.temperature:.6g}" if weights.temperature != 1 else " of the logits"
    if weights.objective == "softmax":
        return f"softmax{divided}."
    return f"sigmoid{divided}{', for the second class' if weights.objective == 'binary' else ', for each class'}."


def _license(license: str) -> list[str]:
    """The lines of the card's head."""
    if license.lower() in _KNOWN:
        return [f"license: {license.lower()}"]
    name = re.sub(r"[^\w.+-]+", "-", license).strip("-") or "unknown"
    return ["license: other", f"license_name: {name.lower()}"]


def upload(folder: Path, repository: str, *, private: bool = False) -> str:
    """Uploads the files of `write` to the hub, with the account that `hf auth login` has left on this machine.

    Args:
      folder: of `write`.
      repository: 'owner/name'; made if it does not exist.
      private: whether one that is made is private.

    Returns:
      The address of the commit.

    Raises:
      ValueError: huggingface_hub is not installed, or the hub refuses it.
    """
    try:
        hub = importlib.import_module("huggingface_hub")
    except ImportError as error:
        raise ValueError(
            f"an upload needs huggingface_hub ({error}): pip install 'jft[hub]', or leave it at the folder {folder} by "
            "--dry-run."
        ) from error
    api = hub.HfApi(library_name="jft", library_version=__version__)
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository, folder_path=str(folder), allow_patterns=list(FILES), commit_message="Add model"
        )
    except Exception as error:  # its errors of HTTP, login and names have no common base
        raise ValueError(f"{repository} was not uploaded: {type(error).__name__}: {error}") from error
    return str(commit)
