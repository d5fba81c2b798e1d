"""The model card of an exported run: model, data, metrics, classes, preprocessing, use of each file, and limits."""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from jft.data import image_file, transforms
from jft.evaluation.checkpoint_info import CheckpointInfo
from jft.evaluation.results import seen_before
from jft.exporters import formats
from jft.exporters.format import Described, code_block
from jft.utils.text import markdown, named_step

_SMALL = 1000  # below this number of test images, the accuracy is uncertain by 3 points and more
_FEW = 30  # below this number of images, the accuracy of a class says little

# Metrics of an evaluation that the card shows if present: key -> (name, format).
_METRICS = {
    "accuracy": ("Accuracy", "{:.2%}"),
    "top5": ("Top-5 accuracy", "{:.2%}"),
    "macro_f1": ("Macro F1", "{:.4f}"),
    "mean_average_precision": ("Mean average precision", "{:.2%}"),
    "loss": ("Log loss, nats", "{:.4f}"),
    "calibration_error": ("Calibration error", "{:.2%}"),
}


def model_card(
    info: CheckpointInfo,
    evaluation: Mapping[str, Any],
    files: Collection[str],
    forms: Sequence[Described] | None = None,
) -> str:
    """Writes the card.

    Args:
      info: what the checkpoint says of itself and its run.
      evaluation: result of `jft.evaluation.evaluate.evaluate`. The card shows the metrics of the exported model: with
        temperature scaling, if there is a temperature.
      files: names of the files beside the card, of those of `forms`.
      forms: the formats of the export; None: `formats.FORMATS`.

    Returns:
      Markdown.
    """
    forms = formats.FORMATS if forms is None else forms
    metrics = {**evaluation, **evaluation.get("calibrated", {})}
    name, classes = info.model, info.class_names
    lines = [
        f"# {_text(name)}: {len(classes)} classes of {_text(info.trained_on.name)}",
        "",
        f"An image classifier, trained with jft {_text(info.jft)}. Input: RGB images of "
        f"{transforms.stored_size(info.preprocess, info.fit)} pixels. Output: {_outcome(info)}.",
        *("", "## Model", "", *_model(info, metrics)),
        *("", "## Data", "", *_data(info, metrics)),
        *("", "## Metrics", "", *_metrics(metrics)),
        *("", "## Classes", "", "The outputs are in this order.", "", *_classes(classes, metrics)),
        *("", "## Preprocessing", "", *_images(info, forms)),
        *("", "## Use", "", *_use(info, metrics, [form for form in forms if form.name in files])),
        *("", "## Limits", "", *(f"- {line}" for line in limits(info, metrics, _text))),
    ]
    return "\n".join(lines) + "\n"


def int8_section(text: str) -> str:
    """The card's section on a quantized file."""
    return f"\n## Int8\n\n{text}\n"


class _Link(str):
    """An address without Markdown's special characters, which is shown unescaped so that viewers make it a link."""


def _link(value: str) -> str:
    return _Link(value) if re.fullmatch(r"https://[\w./%~+-]+", value, re.ASCII) else value


def _text(value: Any) -> str:
    return value if isinstance(value, _Link) else markdown(value)


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> list[str]:
    lines = [head, ("---",) * len(head), *rows]
    return [f"| {' | '.join(map(_text, line))} |" for line in lines]


def _outcome(info: CheckpointInfo) -> str:
    if info.objective == "multilabel":
        return "for each class, the probability that it is present"
    return "the probability of each class; the probabilities add up to 1"


def _model(info: CheckpointInfo, metrics: Mapping[str, Any]) -> list[str]:
    base = info.provenance
    rows = [
        ("Architecture", info.model),
        ("Checkpoint", named_step(info.step, info.phase_of())),
        ("Parameters", f"{metrics['parameters']:,}"),
    ]
    facts = base.facts("base weights") if base else {"Base weights": "none, trained from scratch"}
    return _table(("", ""), [*rows, *((name, _link(value)) for name, value in facts.items())])


def _data(info: CheckpointInfo, metrics: Mapping[str, Any]) -> list[str]:
    rows = [
        ("Dataset", info.trained_on.name),
        ("Classes", len(info.class_names)),
        ("Training images", _trained_on(info)),
        ("Test images", f"{metrics['count']:,}, {metrics['dataset']} {metrics['split']}"),
        ("Test images trained on", "unknown" if metrics["learnt"] is None else f"{metrics['learnt']:,}"),
    ]
    if digest := info.trained_on.digest:
        rows.insert(3, ("Digest of the training images", digest))
    return _table(("", ""), rows)


def _trained_on(info: CheckpointInfo) -> str:
    """Number of training images; early checkpoints may have drawn only a part of them."""
    count, drawn = info.num_trained, info.step * info.config["batch_size"]
    if info.config["solver"] != "steps" or drawn >= count:
        return f"{count:,}"
    return f"at most {drawn:,} of {count:,}, in {info.step:,} steps"


def figures(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and value of each metric of an evaluation, as texts, the accuracy with its interval."""
    shown = {key: form.format(metrics[key]) for key, (_, form) in _METRICS.items() if metrics.get(key) is not None}
    if metrics["accuracy_interval"] is not None:
        shown["accuracy"] += " (95 % interval {:.2%} to {:.2%})".format(*metrics["accuracy_interval"])
    return [(_METRICS[key][0], value) for key, value in shown.items()]


def _metrics(metrics: Mapping[str, Any]) -> list[str]:
    rows = figures(metrics)
    return _table((f"{metrics['dataset']} {metrics['split']}, {metrics['count']:,} images", ""), rows)


def _classes(classes: Sequence[str], metrics: Mapping[str, Any]) -> list[str]:
    per_class = metrics["per_class"]
    rates = ("precision", "recall", "f1", *(("average_precision",) if "mean_average_precision" in metrics else ()))
    rows = [
        (number, name, f"{of['count']:,}", *("-" if of[rate] is None else f"{of[rate]:.2%}" for rate in rates))
        for number, (name, of) in enumerate((name, per_class[name]) for name in classes)
    ]
    return _table(("output", "class", "test images", *(rate.replace("_", " ") for rate in rates)), rows)


def _images(info: CheckpointInfo, forms: Sequence[Described]) -> list[str]:
    """Preprocessing on the host, as code, and what the exported model does after it."""
    spec = info.preprocess
    side, crop = transforms.stored_size(spec, info.fit), info.fit == "crop"
    method = f"Image.Resampling.{spec.interpolation.upper()}"
    if crop:
        squared = [
            f"    width, height = (int({side} * n / min(image.size)) for n in image.size)",
            f"    image = image.resize((width, height), {method})",
            f"    left, top = (round((n - {spec.size}) / 2) - {transforms.crop_offset(side, spec.size)} "
            "for n in (width, height))",
            f"    return np.asarray(image)[top : top + {side}, left : left + {side}]",
        ]
    else:
        squared = [f"    return np.asarray(image.resize(({side}, {side}), {method}))"]
    what = f"shorter side resized to {side} pixels, center crop" if crop else f"resized to {side}x{side}"
    then = f"crop the central {spec.size} pixels, then " if crop else ""
    plain = []
    if not spec.antialias:
        plain = ["", "Trained without antialiasing; PIL always antialiases, so results differ slightly."]
    complete = [form.name for form in forms if form.complete and not form.normalized]
    others = len(complete) < len(forms)
    rest = (
        f"{then}channel order {spec.channels}, (gray levels x {spec.scale:.6g} - {list(spec.mean)}) / {list(spec.std)}"
    )
    rest = f". With the other files, your code must do it: {rest}" if others else rest
    readable = ", ".join(f'"{form}"' for form in image_file.FORMATS)
    read = [f"    image = ImageOps.exif_transpose(Image.open(path, formats=({readable})))"]
    if spec.max_value:
        read += [
            '    if image.mode[0] in "IF":  # more than 8 bits',
            f"        gray = np.rint(np.asarray(image) * (255 / {spec.max_value:g}))",
            "        image = Image.fromarray(gray.astype(np.uint8))",
        ]
    if spec.background:
        read += [
            '    image = image.convert("RGBA")',
            f'    image = Image.alpha_composite(Image.new("RGBA", image.size, {spec.background!r}), image)',
        ]
    read += ['    image = image.convert("RGB")']
    return [
        f"Upright, RGB, uint8, {what} ({spec.interpolation}):",
        "",
        *code_block(
            *("import numpy as np", "from PIL import Image, ImageOps", "", ""),
            *("def read(path):", *read, *squared),
            *("", "", 'images = np.stack([read("image.jpg")])'),
        ),
        "",
        f"{' and '.join(complete)} {'does' if len(complete) == 1 else 'do'} the rest{'' if others else ': '}{rest}.",
        *plain,
    ]


def _use(info: CheckpointInfo, metrics: Mapping[str, Any], forms: Sequence[Described]) -> list[str]:
    blocks = [["", f"### {form.name}", "", *form.usage(info, metrics)] for form in forms]
    return [line for block in blocks for line in block][1:]


def limits(info: CheckpointInfo, metrics: Mapping[str, Any], escape: Callable[[Any], str] = str) -> list[str]:
    """Sentences on what the figures do not say and the model does not know; `escape` is applied to names."""
    count, per_class = metrics["count"], metrics["per_class"]
    lines = [f"The model was tested on {count:,} images of {escape(metrics['dataset'])} only."]
    if warning := seen_before(metrics):
        lines += [f"{warning[0].upper()}{warning[1:]}."]
    if count < _SMALL:
        spread = 0.98 / count**0.5  # half of the 95 % interval where it is widest, at one half
        lines += [f"The test set is small: its accuracy is uncertain by up to {100 * spread:.1f} points."]
    if few := [name for name, of in per_class.items() if of["count"] < _FEW]:
        lines += [f"{len(few)} of {len(per_class)} classes have fewer than {_FEW} test images."]
    if info.objective == "multilabel":
        lines += ["The model knows only these labels, and may assign them to images of anything else."]
    else:
        lines += [
            "The model assigns one of these classes to every image, often with a high probability, even if the "
            "image shows something else."
        ]
    if temperature := metrics["temperature"]:
        fitted = f"the temperature {temperature:.4g}, fitted on {info.num_validated:,} images"
        lines += [f"Logits are divided by {fitted}; other data may need another temperature."]
    else:
        lines += ["The probabilities are not calibrated."]
    lines += ["GPUs and TPUs may compute with lower precision than CPUs, which changes probabilities slightly."]
    return lines
