"""The tables of the documentation, from what `side_by_side.py` wrote.

    python benchmarks/tables.py results/cpu.json [--into docs/results.md]

With --into, they replace what lies between the lines `<!-- begin results/cpu.json -->` and `<!-- end -->` of that file.
"""

import argparse
import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from turns import Found, Ratio, best_rival, line, rates, ratio

NAMES = {
    "resnet18": "ResNet-18",
    "resnet50": "ResNet-50",
    "inception_v3": "Inception-V3",
    "squeezenet1_1": "SqueezeNet 1.1",
    "vgg16": "VGG16",
    "vgg19": "VGG19",
    "efficientnet_lite0": "EfficientNet-Lite0",
    "efficientnet_lite1": "EfficientNet-Lite1",
    "mobilenet_v1_025": "MobileNetV1 x0.25",
}
WHATS = {
    "train": "training",
    "infer": "inference",
    "frozen": "head alone trainable",
    "resident": "training from images on the device",
    "extract": "extraction of features",
}


@dataclasses.dataclass(frozen=True)
class Goal:
    """A bound on jft's rate over that of the best rival ('rate'), a frozen step over a forward pass ('forward'), or
    peak memory over that of Keras on JAX ('memory').
    """

    model: str
    what: str
    bound: float
    kind: str = "rate"

    @property
    def name(self) -> str:
        """For people."""
        what = {"forward": "frozen step ÷ forward pass", "memory": "memory of a training step ÷ Keras on JAX"}
        return f"{NAMES[self.model]} {what.get(self.kind, WHATS[self.what])}"


GOALS = (
    Goal("resnet50", "train", 1.1),
    Goal("resnet18", "train", 1.0),
    Goal("inception_v3", "train", 1.0),
    Goal("resnet50", "infer", 1.1),
    *(Goal(model, what, 1.05) for model in ("vgg16", "vgg19") for what in ("infer", "train")),
    *(Goal("squeezenet1_1", what, 1.1) for what in ("infer", "train")),
    *(Goal(model, "frozen", 1.03, "forward") for model in ("resnet50", "vgg16")),
    Goal("resnet50", "train", 0.8, "memory"),
)


def markdown(result: Mapping[str, Any]) -> str:
    """All tables, with what they were measured on."""
    machine = result["machine"]
    cores = f"{machine['cores']} core{'s' * (machine['cores'] > 1)}"
    parts = [
        f"{machine['cpu']}, {cores}; {machine['date']}; {result['rounds']} rounds, in turns. "
        "Rates are medians; ratios are medians of the rounds' ratios, with their range. Above 1, jft is faster.",
    ]
    if result["quick"]:
        parts.append("**Small shapes (`--quick`): these figures say only that everything runs.**")
    parts.append(_versions(result))
    if result["device"] == "cpu" and not result["quick"] and result["machine"]["cores"] > 1:  # goals are of a whole CPU
        parts.append(_goals(result))
    parts += [_rates(result), _ratios(result), _ratios(result, "processor_rates"), _flops(result), _memory(result)]
    parts += [_kernels(result), _rest(result)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) if rows else ""


def _networks(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [item for item in result["items"] if "model" in item]


def _name(item: Mapping[str, Any]) -> str:
    more = f", from {item['source']} pixels" if "source" in item else ""
    return f"{NAMES.get(item['model'], item['model'])}, {WHATS[item['what']]}, batch {item['batch']}{more}"


def _labels(items: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(label for item in items for label in item["found"]))


def _versions(result: Mapping[str, Any]) -> str:
    versions: dict[str, str] = {}
    for about in result["rivals"].values():
        versions |= {key: str(value) for key, value in about.items() if key not in ("xla_flags", "cpus", "error")}
    device = versions.pop("device", "cpu")
    named = ", ".join(f"{key} {value}" for key, value in versions.items())
    return f"{device}: {named}, Python {result['machine']['python']}."


def goal_result(goal: Goal, items: Sequence[Mapping[str, Any]]) -> tuple[Ratio, str] | None:
    """What was measured, and against whom; None if it was not."""
    found = next((item["found"] for item in items if (item["model"], item["what"]) == (goal.model, goal.what)), {})
    if goal.kind == "memory":
        ours, theirs = (found.get(label, {}).get("memory", {}).get("program") for label in ("jft", "keras-jax"))
        return (Ratio(*[ours / theirs] * 3), "keras-jax, bytes of the programs") if ours and theirs else None
    against = "jft-forward" if goal.kind == "forward" else best_rival(found)
    if against is None or not rates(found, "jft"):
        return None
    pair = rates(found, "jft"), rates(found, against)
    measured = ratio(*(reversed(pair) if goal.kind == "forward" else pair))  # a ratio of times is that of rates, turned
    return (measured, against) if measured else None


def _goals(result: Mapping[str, Any]) -> str:
    rows = []
    for goal in GOALS:
        sign = "≥" if goal.kind == "rate" else "≤"
        cells = [goal.name, f"{sign} {goal.bound}"]
        if measured := goal_result(goal, _networks(result)):
            value, against = measured
            reached = value.median >= goal.bound if goal.kind == "rate" else value.median <= goal.bound
            shown = f"{value.median:.2f}" if goal.kind == "memory" else str(value)
            cells += [shown, against, "yes" if reached else "no"]
        else:
            cells += ["not measured", "", ""]
        rows.append(cells)
    return "Goals, each against the best rival:\n\n" + _table(["", "goal", "measured", "against", "reached"], rows)


def _rates(result: Mapping[str, Any]) -> str:
    items = _networks(result)
    labels = _labels(items)

    def cell(found: Found, label: str) -> str:
        turns = rates(found, label)
        return f"{statistics.median(turns):.4g} ({min(turns):.4g} to {max(turns):.4g})" if turns else ""

    rows = [[_name(item), *(cell(item["found"], label) for label in labels)] for item in items]
    return _table(["images/s", *labels], rows)


def _ratios(result: Mapping[str, Any], kind: str = "rates") -> str:
    items = [item for item in _networks(result) if rates(item["found"], "jft", kind)]
    others = [label for label in _labels(items) if label != "jft"]
    rows = []
    for item in items:
        found = item["found"]
        against = [ratio(rates(found, "jft", kind), rates(found, label, kind)) for label in others]
        best = best_rival(found)
        final = ratio(rates(found, "jft", kind), rates(found, best, kind)) if best else None
        cells = [str(value or "") for value in against]
        rows.append([_name(item), *cells, f"**{final}**, {best}" if final else ""])
    of = "" if kind == "rates" else ", images per second of processor time,"
    return _table([f"jft{of} ÷", *others, "the best rival"], rows)


def _flops(result: Mapping[str, Any]) -> str:
    products = [item for item in result["items"] if item["what"] == "matmul"]
    peak = max(
        (2 * item["side"] ** 3 * statistics.median(turns) for item in products for label in item["found"]
         if (turns := rates(item["found"], label))),
        default=0,
    )  # fmt: skip
    rows = []
    for item in _networks(result):
        found = item["found"]
        flops = found.get("jft", {}).get("flops")
        if not flops or not peak:
            continue
        best = best_rival(found)
        shares = [
            f"{flops * statistics.median(turns) / peak:.0%}" if label and (turns := rates(found, label)) else ""
            for label in ("jft", best)
        ]
        rows.append([_name(item), f"{flops / 1e9:,.2f}", *shares])
    if not rows:
        return ""
    side = products[0]["side"]
    return (
        "FLOPs of convolutions and dense layers; a multiplication and an addition count two, and a backward pass "
        "twice the forward one. "
        f"The share is of the fastest {side} x {side} matrix product, {peak / 1e9:,.0f} GFLOP/s.\n\n"
        + _table(["", "GFLOPs an image", "jft, share", "best rival, share"], rows)
    )


def _memory(result: Mapping[str, Any]) -> str:
    items = _networks(result)
    labels = _labels(items)
    rows = []
    for item in items:
        for counted in ("program", "device", "rss"):
            sizes = [item["found"].get(label, {}).get("memory", {}).get(counted) for label in labels]
            if any(sizes):
                cells = [f"{size / 2**20:,.0f}" if size else "" for size in sizes]
                rows.append([f"{_name(item)}: {counted}", *cells])
    text = (
        "Peak memory of a step in MiB. program: arguments, outputs and temporaries of the compiled program; device: "
        "the most that torch had allocated on the GPU; rss: the process' peak during a step, less what it held before "
        "it built the network, the first that it built.\n\n"
    )
    return text + _table(["MiB", *labels], rows) if rows else ""


def _kernels(result: Mapping[str, Any]) -> str:
    found: dict[str, dict[str, str]] = {}
    for item in result["items"]:
        if item["what"] == "kernel" and (turns := rates(item["found"], "jft")):
            found.setdefault(item["name"], {})[item["variant"]] = f"{statistics.median(turns):.4g}"
    forms = list(dict.fromkeys(form for variants in found.values() for form in variants))
    rows = [[name, *(variants.get(form, "") for form in forms)] for name, variants in found.items()]
    return "Layers, forward and backward, images/s by form:\n\n" + _table(["", *forms], rows) if rows else ""


def _rest(result: Mapping[str, Any]) -> str:
    lines = [
        f"- {item['what']} {item.get('side') or item.get('rows')}: {line(item['found'])}"
        for item in result["items"]
        if item["what"] in ("matmul", "probe")
    ]
    for item in result["items"]:
        name = " ".join(str(value) for key, value in item.items() if key not in ("found", "dtype"))
        lines += [f"- {name}, {label}: {side['error']}" for label, side in item["found"].items() if "error" in side]
    lines += [f"- not measured: {name}, {why}" for name, why in result["not_installed"].items()]
    lines += [f"- left out, as no time was left: {' '.join(map(str, item.values()))}" for item in result["left_out"]]
    return "\n".join(lines)


def replace(page: str, name: str, text: str) -> str:
    """The page with `text` between the lines of comment that name the file.

    Raises:
      ValueError: it has no such lines.
    """
    begin, end = f"<!-- begin {name} -->", "<!-- end -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the page has no lines {begin!r} and {end!r} to write the tables between")
    return f"{before}{begin}\n\n{text}\n{end}{after}"


def main() -> None:
    """Prints the tables, or writes them into a page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path, help="what side_by_side.py wrote")
    parser.add_argument("--into", type=Path, help="a Markdown page with the lines of comment")
    flags = parser.parse_args()
    text = markdown(json.loads(flags.result.read_text()))
    if flags.into:
        flags.into.write_text(replace(flags.into.read_text(), flags.result.as_posix(), text))
    else:
        print(text, end="")


if __name__ == "__main__":
    main()
