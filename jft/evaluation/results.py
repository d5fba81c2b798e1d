"""Metrics of an evaluation beside its mean: confidence intervals, per-class metrics and calibration."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jft.data.source import Source
from jft.evaluation import copies
from jft.metrics import calibration, classification, masked_sums, paired
from jft.utils.option_names import option
from jft.utils.text import named_step, padded, terminal, width

_LISTED = 10  # top losses kept
_PAIRS = 20  # confused pairs kept
_LONGEST = 60  # characters of a name in a terminal
_SHOWN = 5  # and of them, shown in a terminal


def assess(
    probabilities: np.ndarray, source: Source, class_names: Sequence[str], calibrated: np.ndarray | None = None
) -> dict[str, Any]:
    """Metrics from the predicted probabilities of a source's images.

    Args:
      probabilities: float [n, classes].
      source: the images, n of them.
      class_names: in the order of the columns.
      calibrated: the probabilities after temperature scaling, float [n, classes], if there is a temperature.

    Returns:
      A dict of JSON types. `accuracy_interval` and `loss_interval`: 95 % intervals, see `classification.interval`, None
      if unknown. `macro_f1`. `calibration_error`: the expected calibration error. `calibrated`: {'loss',
      'calibration_error'} after temperature scaling, if given. `per_class`: {name: {'precision', 'recall', 'f1',
      'count'}}, with 'average_precision' if images have several labels. `top_losses`: [{'image', 'row', 'label',
      'predicted', 'probability', 'loss'}], the largest loss first; the probability is the largest one. If images have
      one label, also `confusion_matrix` (rows are true classes) and `confused`: [{'label', 'predicted', 'count',
      'share'}].
    """
    labels = source.labels
    classes = classification.class_figures(probabilities, labels, class_names)
    losses = classification.log_losses(probabilities, labels)
    result = {
        "accuracy_interval": _interval(_right(probabilities, labels)),
        "loss_interval": _interval(losses),
        "macro_f1": classification.macro_f1(classes),
        "calibration_error": calibration.reliability(probabilities, labels).expected_error,
        "per_class": {
            c.name: {"precision": c.precision, "recall": c.recall, "f1": c.f1, "count": c.count} for c in classes
        },
        "top_losses": _top_losses(probabilities, losses, source, class_names),
    }
    if calibrated is not None:
        result["calibrated"] = {
            "loss": float(classification.log_losses(calibrated, labels).mean()),
            "calibration_error": calibration.reliability(calibrated, labels).expected_error,
        }
    if labels.ndim == 2:
        for name, value in zip(class_names, masked_sums.average_precision(probabilities, labels).tolist(), strict=True):
            result["per_class"][name]["average_precision"] = None if np.isnan(value) else value
        return result
    matrix = classification.confusion_matrix(probabilities, labels)
    pairs = classification.confused_pairs(matrix, class_names, _PAIRS)
    return {
        **result,
        "confusion_matrix": matrix.tolist(),
        "confused": [dict(zip(("label", "predicted", "count", "share"), pair, strict=True)) for pair in pairs],
    }


def contrast(first: np.ndarray, second: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """Compares two models on the same images by their probabilities [n, classes].

    Returns:
      `only_first` and `only_second`: numbers of images that only one model classifies correctly. `p_value` of McNemar's
      exact test. `difference`: accuracy of the second minus accuracy of the first. `difference_interval`: its 95 %
      interval, bootstrapped over images; if the models agree on every image, plus and minus the upper end of Wilson's
      interval of the share of images on which they differ.

    Raises:
      ValueError: images have several labels, so an image can be partly right.
    """
    if labels.ndim == 2:
        raise ValueError(
            "McNemar's test needs images that are either right or wrong, and these have several labels each: compare "
            "their mean average precision."
        )
    right, other = _right(first, labels), _right(second, labels)
    found = classification.mcnemar(right, other)
    gained = other.astype(float) - right
    return {
        "only_first": found.only_first,
        "only_second": found.only_second,
        "p_value": found.p_value,
        "difference": float(gained.mean()),
        "difference_interval": _finite(paired.difference_interval(gained)),
    }


def _interval(values: np.ndarray) -> list[float] | None:
    """The 95 % interval as a list for JSON; None if unknown, because JSON has no NaN."""
    return _finite(classification.interval(values))


def _finite(interval: tuple[float, float]) -> list[float] | None:
    return list(interval) if np.isfinite(interval).all() else None


def _right(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether each image is correct, bool [n]; for several labels the share of correct labels, float [n]."""
    if labels.ndim == 2:
        return ((probabilities >= 0.5) == (labels > 0)).mean(axis=1)
    return probabilities.argmax(axis=1) == labels


def _top_losses(
    probabilities: np.ndarray, losses: np.ndarray, source: Source, class_names: Sequence[str]
) -> list[dict[str, Any]]:
    return [
        {
            "image": source.image_name(row),
            "row": row,
            "label": source.label(row),
            "predicted": predicted_name(probabilities[row], class_names, several=source.multi_label),
            "probability": float(probabilities[row].max()),
            "loss": float(losses[row]),
        }
        for row in np.argsort(-losses, kind="stable")[:_LISTED].tolist()
    ]


def predicted_name(probabilities: np.ndarray, class_names: Sequence[str], *, several: bool) -> str:
    """Name of the predicted class of probabilities [classes].

    With `several` labels, the names of all classes of probability 1/2 and above, joined by ' | '; '' if there are none.
    """
    best = np.flatnonzero(probabilities >= 0.5).tolist() if several else [int(probabilities.argmax())]
    return " | ".join(class_names[c] for c in best)


def format_evaluation(result: Mapping[str, Any]) -> str:
    """Formats the result of `evaluate`, `evaluate_ensemble` or `evaluate_against` for a terminal."""
    if "against" in result:
        first, second = (member["checkpoint"] for member in result["members"])
        comparison = _contrast_line(result["against"], first, second)
        return "\n".join([*map(_headline, result["members"]), comparison])
    lines = [_headline(result), *_calibration_lines(result)]
    for member in result.get("members", []):
        lines.append(f"  {member['checkpoint']} alone: {member['accuracy']:.2%}, log loss {member['loss']:.4f}")
    if "augmented" in result:
        augmented = result["augmented"]
        lines.append(f"  averaged over {augmented['views']} views ({augmented['name']}): {_rates(augmented)}")
    lines += _class_lines(result["per_class"])
    if result.get("confused"):
        lines.append("most confused:")
        lines += [
            f"  {_name(pair['label'])} predicted as {_name(pair['predicted'])}: {pair['count']:,} ({pair['share']:.1%})"
            for pair in result["confused"][:_SHOWN]
        ]
    lines.append("largest losses:")
    lines += [
        f"  {one['loss']:.3f}  {terminal(one['image'])}: true {_name(one['label'] or 'none')}, "
        f"predicted {_name(one['predicted'] or 'none')} ({one['probability']:.1%})"
        for one in result["top_losses"][:_SHOWN]
    ]
    return "\n".join(lines)


def _headline(result: Mapping[str, Any]) -> str:
    step = f" ({named_step(result['step'], result['phase'])})" if "step" in result else ""
    lines = [
        f"{result['checkpoint']}{step} on {_name(result['dataset'])} {result['split']}, {result['count']:,} images:",
        f"  {_rates(result)}",
    ]
    if result.get("accuracy_interval"):
        low, high = result["accuracy_interval"]
        lines.append(f"  95 % interval of the accuracy {low:.2%} to {high:.2%}, macro F1 {result['macro_f1']:.4f}")
    if warning := seen_warning(result):
        lines.append(f"  {warning}")
    if without := copies.told(result):
        lines.append(f"  {without}")
    return "\n".join(lines)


def seen_before(result: Mapping[str, Any]) -> str:
    """A sentence on how many images of an evaluation the run knows, or knows nearly; '' for none."""
    if result["learnt"] is None:
        return "it is unknown whether any of these images were trained on (the run's images.npz is missing)"
    parts = []
    if result["learnt"]:
        parts.append(f"{result['learnt']:,} of these images were trained on, so the metrics overstate the accuracy")
    if result.get("alike"):
        looks = "looks" if result["alike"] == 1 else "look"
        parts.append(f"{result['alike']:,} of these images {looks} almost like images that were trained on")
    if result["validated"]:
        parts.append(f"{result['validated']:,} of these images were validated on, which chose the checkpoint")
    return "; ".join(parts)


def seen_warning(result: Mapping[str, Any]) -> str:
    """`seen_before` as a warning for a terminal, with the remedy; '' for none."""
    sentence = seen_before(result)
    remedy = f"; use {option('split', 'test')}" if result.get("split") in ("train", "validation") else ""
    return f"WARNING: {sentence}{remedy}" if sentence else ""


def _rates(result: Mapping[str, Any]) -> str:
    if "mean_average_precision" in result:
        precision = result["mean_average_precision"]
        rates = f"mean average precision {precision:.2%}, label accuracy {result['accuracy']:.2%}"
    else:
        rates = f"top-1 {result['accuracy']:.2%}" + (f", top-5 {result['top5']:.2%}" if "top5" in result else "")
    further = "".join(f", {name} {result[name]:.4f}" for name in result.get("metrics", ()))
    return f"{rates}, log loss {result['loss']:.4f}{further}"


def _calibration_lines(result: Mapping[str, Any]) -> list[str]:
    line = f"  expected calibration error {result['calibration_error']:.2%}"
    if "calibrated" not in result:
        return [line]
    after = result["calibrated"]
    return [
        f"{line}; with temperature {result['temperature']:.3f} (fitted on validation) "
        f"{after['calibration_error']:.2%}, log loss {after['loss']:.4f}"
    ]


def _class_lines(per_class: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """One line per class, with aligned columns."""
    columns = [c for c in ("precision", "recall", "f1", "average_precision") if c in next(iter(per_class.values()))]
    names = list(map(_name, per_class))
    widest = max(map(width, names))
    lines = [
        f"  {'':<{widest}}" + "".join(f"{c.replace('_', ' '):>{max(9, len(c) + 2)}}" for c in columns) + "  images"
    ]
    for name, values in zip(names, per_class.values(), strict=True):
        cells = [f"{'-' if values[c] is None else format(values[c], '.2%'):>{max(9, len(c) + 2)}}" for c in columns]
        lines.append(f"  {padded(name, widest)}{''.join(cells)}{values['count']:>10,}")
    return lines


def _name(label: str) -> str:
    """A name, escaped and shortened for a line of the terminal."""
    return terminal(label, _LONGEST)


def _contrast_line(found: Mapping[str, Any], first: str, second: str) -> str:
    low, high = found["difference_interval"] or (-1, 1)
    verdict = "significant" if found["p_value"] < 0.05 else "not significant"
    return (
        f"accuracy of {second} minus {first}: {100 * found['difference']:+.2f} points (95 % interval "
        f"{100 * low:+.2f} to {100 * high:+.2f}); only {second} is right on {found['only_second']:,} images, only "
        f"{first} on {found['only_first']:,}: McNemar's exact p = {found['p_value']:.3g}, {verdict} at 5 %"
    )
