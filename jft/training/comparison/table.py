"""The tables of a comparison: its arms and their pairs, as Markdown, LaTeX and CSV."""

import csv
import dataclasses
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jft.training.comparison.pairs import Pair
from jft.training.comparison.trial import Outcome
from jft.utils import text
from jft.utils.files import written_whole
from jft.utils.ranking import score

COLUMNS = (
    "run",
    "seeds",
    "test accuracy",
    "log loss",
    "training time",
    "features",
    "parameters",
    "trainable",
    "images/s",
)
PAIR_COLUMNS = ("pair", "difference", "95 % interval", "p (images)", "p (seeds)")
_MEANING = (
    "Differences of accuracy, second minus first, in points. p of no difference on other images (signs flipped) and "
    "with other seeds (paired t-test), adjusted for the number of pairs (Holm)."
)


@dataclasses.dataclass(frozen=True)
class Row:
    """The results of one config over its seeds.

    Attributes:
      name: the config's name and its arm.
      accuracies: test accuracy of each seed, 0 to 1; mean average precision if images have several labels.
      losses: test cross entropy of each seed, in nats.
      seconds: training time of each seed, without compilation and evaluation.
      extraction: seconds spent computing features, of all seeds together, because seeds share the cache.
      parameters: number of parameters of the network.
      trainable: number of trainable parameters, in the phase with the most.
      images_per_second: throughput of each seed, the median over its log lines; () if a solver fits the head.
    """

    name: str
    accuracies: tuple[float, ...]
    losses: tuple[float, ...]
    seconds: tuple[float, ...]
    extraction: float
    parameters: int
    trainable: int
    images_per_second: tuple[float, ...]

    @classmethod
    def of(cls, name: str, tests: Sequence[Outcome], logs: Sequence[Sequence[dict[str, Any]]]) -> "Row":
        """The row of an arm: the tests and the lines of `metrics.jsonl` of each seed."""
        speeds = [[line["images_per_second"] for line in log if "images_per_second" in line] for log in logs]
        return cls(
            name,
            tuple(score(test.values) for test in tests),
            tuple(test.values["loss"] for test in tests),
            tuple(sum(line["seconds"] for line in log if line["kind"] == "train") for log in logs),
            sum(line["seconds"] for log in logs for line in log if line["kind"] == "features"),
            tests[0].values["parameters"],
            max(line.get("learning", 0) for line in logs[0]),
            tuple(statistics.median(speed) for speed in speeds if speed),
        )

    def cells(self) -> tuple[str, ...]:
        """The cells of `COLUMNS`, as mean ± standard deviation over the seeds."""
        return (
            self.name,
            str(len(self.accuracies)),
            _spread([100 * a for a in self.accuracies], ".2f", " %"),
            _spread(self.losses, ".3f"),
            _spread(self.seconds, ".1f", " s"),
            f"{self.extraction:.1f} s" if self.extraction else "-",
            f"{self.parameters:,}",
            f"{self.trainable:,}",
            _spread(self.images_per_second, ",.0f") if self.images_per_second else "-",
        )


def _pair_cells(pair: Pair) -> tuple[str, ...]:
    """The cells of `PAIR_COLUMNS`."""
    known = math.isfinite(pair.low)
    return (
        f"{pair.second} minus {pair.first}",
        f"{100 * pair.difference:+.2f}",
        f"{100 * pair.low:+.2f} to {100 * pair.high:+.2f}" if known else "-",
        f"{pair.p_images:.3g}",
        "-" if pair.p_seeds is None else f"{pair.p_seeds:.3g}",
    )


def write(rows: Sequence[Row], pairs: Sequence[Pair], out: Path) -> None:
    """Writes `compare.md`, `compare.tex`, `compare.csv`, and `pairs.csv` if there are pairs."""
    for name, formatted in (("compare.md", markdown), ("compare.tex", latex)):
        with written_whole(out / name) as aside:
            aside.write_text(formatted(rows, pairs) + "\n")
    _write_csv(rows, Row, out / "compare.csv")
    if pairs:
        _write_csv(pairs, Pair, out / "pairs.csv")


def _write_csv(rows: Sequence[Any], kind: type, path: Path) -> None:
    with written_whole(path) as aside, aside.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([field.name for field in dataclasses.fields(kind)])
        for row in rows:
            values = dataclasses.astuple(row)
            cells = [" ".join(map(repr, value)) if isinstance(value, tuple) else value for value in values]
            writer.writerow(map(text.csv_cell, cells))


def markdown(rows: Sequence[Row], pairs: Sequence[Pair] = ()) -> str:
    """Formats the table, and that of the pairs if there are any, with aligned columns for reading in a terminal."""
    table = _markdown_table(COLUMNS, [row.cells() for row in rows])
    if not pairs:
        return table
    return f"{table}\n\n{_MEANING}\n\n{_markdown_table(PAIR_COLUMNS, list(map(_pair_cells, pairs)))}"


def _markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    table = [columns, *([text.markdown(cells[0]), *cells[1:]] for cells in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = []
    for cells in table:
        name, *others = (cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
        lines.append(f"| {name.strip():<{widths[0]}} | {' | '.join(others)} |")
    rule = "|".join(["-" * (widths[0] + 2), *("-" * (width + 1) + ":" for width in widths[1:])])
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])


def latex(rows: Sequence[Row], pairs: Sequence[Pair] = ()) -> str:
    r"""Formats the tables for LaTeX, with rules of the package booktabs, to \input into a table."""
    tables = [r"% \usepackage{booktabs}", _latex_table(COLUMNS, [row.cells() for row in rows])]
    if pairs:
        tables += [f"% {_MEANING}", _latex_table(PAIR_COLUMNS, list(map(_pair_cells, pairs)))]
    return "\n".join(tables)


def _latex_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def line(cells: Sequence[str]) -> str:
        return rf"{' & '.join(map(text.latex, cells))} \\"

    layout = "l" + "r" * (len(columns) - 1)
    body = [line(columns), r"\midrule", *map(line, rows)]
    return "\n".join([rf"\begin{{tabular}}{{{layout}}}", r"\toprule", *body, r"\bottomrule", r"\end{tabular}"])


def _spread(values: Sequence[float], form: str, unit: str = "") -> str:
    mean = format(statistics.mean(values), form)
    return f"{mean} ± {statistics.stdev(values):{form}}{unit}" if len(values) > 1 else f"{mean}{unit}"
