"""What is said of an evaluation beside its mean: how sure the figure is, of which classes, and how honest the model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jft.data.datasets import Source
from jft.metrics import calibration, classification, masked_sums
from jft.utils.text import named_step, padded, terminal, width

_LISTED = 10  # top losses kept
_PAIRS = 20  # confused pairs kept
_LONGEST = 60  # characters of a name in a terminal
_SHOWN = 5  # and of them, shown in a terminal


def assess(
    probabilities: np.ndarray, source: Source, class_names: Sequence[str], calibrated: np.ndarray | None = None
) -> dict[str, Any]:
    """Figures from the probabilities of a source's images.

    Args:
      probabilities: float [n, classes].
      source: the images, n of them.
      class_names: in the order of the columns.
      calibrated: the same with a temperature applied, where there is one.

    Returns:
      `accuracy_interval` and `loss_interval`, 95 %, see `classification.interval`, None where unknown; `macro_f1`;
      `calibration_error`, the expected one; `calibrated`: {'loss', 'calibration_error'}, where it is given;
      `per_class`: {name: {'precision', 'recall', 'f1', 'count'}} and, where images have several labels,
      `average_precision`; `top_losses`: [{'image', 'row', 'label', 'predicted', 'probability', 'loss'}], the worst
      first, with their largest probability. Where images have one label, also `confusion_matrix`, rows are true, and
      `confused`: [{'label', 'predicted', 'count', 'share'}]. All in types that JSON has.
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
    """Two models on the same images, by their probabilities [n, classes].

    Returns:
      `only_first` and `only_second`, images that one alone has right; `p_value` of McNemar's exact test; `difference`
      of accuracies, second less first, with its 95 % `difference_interval`, bootstrapped over images; where the two
      never differ, plus and minus the upper end of Wilson's interval of the share that does.

    Raises:
      ValueError: images have several labels, of which some can be right.
    """
    if labels.ndim == 2:
        raise ValueError("McNemar's test counts images that are right or wrong, and these have several labels each.")
    right, other = _right(first, labels), _right(second, labels)
    found = classification.mcnemar(right, other)
    gained = other.astype(float) - right
    interval = _interval(gained)
    if not gained.any():  # either could be the better one by the share of images that might still differ
        interval = [-interval[1], interval[1]]
    if (gained == -1).all():  # as where all are gained, turned round
        interval = [-bound for bound in reversed(_interval(-gained))]
    return {
        "only_first": found.only_first,
        "only_second": found.only_second,
        "p_value": found.p_value,
        "difference": float(gained.mean()),
        "difference_interval": interval,
    }


def _interval(values: np.ndarray) -> list[float] | None:
    """As JSON has it: nothing where nothing is known."""
    low, high = classification.interval(values)
    return [low, high] if np.isfinite([low, high]).all() else None


def _right(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Bool [n]; where images have several labels, float [n], the share of the classes decided rightly."""
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
            "predicted": said(probabilities[row], class_names, several=source.multi_label),
            "probability": float(probabilities[row].max()),
            "loss": float(losses[row]),
        }
        for row in np.argsort(-losses, kind="stable")[:_LISTED].tolist()
    ]


def said(probabilities: np.ndarray, class_names: Sequence[str], *, several: bool) -> str:
    """What probabilities [classes] come to: the likeliest class, or ' | ' between those of at least 1/2, if any."""
    best = np.flatnonzero(probabilities >= 0.5) if several else [probabilities.argmax()]
    return " | ".join(class_names[c] for c in best)


def format_evaluation(result: Mapping[str, Any]) -> str:
    """The result of `evaluate`, `evaluate_ensemble` or `evaluate_against` as lines for a terminal."""
    if "against" in result:
        first, second = (member["checkpoint"] for member in result["members"])
        told = _contrast_line(result["against"], first, second)
        return "\n".join([*map(_headline, result["members"]), told])
    lines = [_headline(result), *_calibration_lines(result)]
    for member in result.get("members", []):
        lines.append(f"  {member['checkpoint']} alone: {member['accuracy']:.2%}, cross entropy {member['loss']:.4f}")
    if "augmented" in result:
        told = result["augmented"]
        lines.append(f"  averaged over {told['views']} views ({told['name']}): {_rates(told)}")
    lines += _class_lines(result["per_class"])
    if result.get("confused"):
        lines.append("most confused:")
        lines += [
            f"  {_name(pair['label'])} taken for {_name(pair['predicted'])}: {pair['count']:,} ({pair['share']:.1%})"
            for pair in result["confused"][:_SHOWN]
        ]
    lines.append("largest losses:")
    lines += [
        f"  {one['loss']:.3f}  {terminal(one['image'])}: {_name(one['label'] or 'nothing')}, "
        f"said {_name(one['predicted'] or 'nothing')} {one['probability']:.1%}"
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
    if told := seen_before(result):
        lines.append(f"  {told}")
    return "\n".join(lines)


def seen_before(result: Mapping[str, Any]) -> str:
    """How many of the images of an evaluation were trained or validated on, as a sentence; empty where none were."""
    if result["learnt"] is None:
        return "not known: whether it was trained on any of these images (the run's images.npz is missing)"
    told = []
    if result["learnt"]:
        told.append(f"{result['learnt']:,} of these images were trained on, and do not tell how it does on others")
    if result["validated"]:
        told.append(f"{result['validated']:,} of these images were validated on, which chose its checkpoint")
    return "; ".join(told)


def _rates(result: Mapping[str, Any]) -> str:
    if "mean_average_precision" in result:
        rates = f"mean average precision {result['mean_average_precision']:.2%}, labels right {result['accuracy']:.2%}"
    else:
        rates = f"top-1 {result['accuracy']:.2%}" + (f", top-5 {result['top5']:.2%}" if "top5" in result else "")
    return f"{rates}, cross entropy {result['loss']:.4f}"


def _calibration_lines(result: Mapping[str, Any]) -> list[str]:
    told = f"  expected calibration error {result['calibration_error']:.2%}"
    if "calibrated" not in result:
        return [told]
    after = result["calibrated"]
    return [
        f"{told}; at the temperature {result['temperature']:.3f} that validation chose, "
        f"{after['calibration_error']:.2%}, cross entropy {after['loss']:.4f}"
    ]


def _class_lines(per_class: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line a class; the columns are level."""
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
    """Of a class, or of several, as it stands in a line."""
    return terminal(label, _LONGEST)


def _contrast_line(found: Mapping[str, Any], first: str, second: str) -> str:
    low, high = found["difference_interval"] or (-1, 1)
    verdict = "significant" if found["p_value"] < 0.05 else "not significant"
    return (
        f"{second} less {first}: {100 * found['difference']:+.2f} points (95 % interval {100 * low:+.2f} to "
        f"{100 * high:+.2f}); {found['only_second']:,} images only {second} has right, "
        f"{found['only_first']:,} only {first}: "
        f"McNemar's exact p = {found['p_value']:.3g}, {verdict} at 5 %"
    )
