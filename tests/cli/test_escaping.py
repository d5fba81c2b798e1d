"""Names of strangers' making, of classes and of files: each output shows them as names, and nothing else."""

import csv
import io
import json
import logging
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from absl import logging as absl_logging
from exporters.test_model_card import card_info, evaluation_of
from PIL import Image

from jft.data import datasets, grid, notes
from jft.evaluation import gallery, predict, results
from jft.evaluation.label_issues import Suspect
from jft.exporters.model_card import model_card
from jft.training import suggest_report
from jft.training.comparison import plots, table
from jft.utils import distributed, runtime, text
from jft.utils.findings import Finding
from jft.utils.templates import environment
from jft.weights.catalog import CATALOG

LINES = "two\nlines"
RED = "\x1b[31mred\x07"
TURNED = "gpj.\u202eexe"
HIDDEN = "ro\u200bse\ufeff"
FORMULA = "=cmd()|'/c calc'!A1"
TAGS = "<script>alert(1)</script>"
PIPE = "a|b"
MARKS = "`code` *bold* _italic_ [link](https://example.org) ![image](x.png) # $x^$ @all"
LONG = "long " * 80
EMOJI = "👩‍👩‍👧 ❤️ 日本語 é"
NAMES = [
    LINES,
    RED,
    TURNED,
    HIDDEN,
    FORMULA,
    TAGS,
    PIPE,
    MARKS,
    LONG,
    EMOJI,
    "col\tumn",
    "back\rtrack",
    "-1+2",
    "plain",
]
UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def told_of(names):
    """A prediction for each name, which is that of the file and of the class."""
    return [predict.Prediction(Path("photos") / name.replace("/", "∕"), (name,), (0.25,)) for name in names]


def unseen(shown):
    return {c for c in shown if unicodedata.category(c) in UNSEEN} - {"\n", "\u200d"}


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (LINES, r"two\nlines"),
        (RED, r"\x1b[31mred\x07"),
        (TURNED, r"gpj.\u202eexe"),
        (HIDDEN, r"ro\u200bse\ufeff"),
        ("a\u200db", r"a\u200db"),  # which joins emoji, and hides elsewhere
        ("\udcff.png", r"\xff.png"),  # a byte of a name that is no UTF-8
        (EMOJI, EMOJI),
    ],
)
def test_what_has_no_glyph_is_written_out(name, shown):
    assert text.terminal(name) == shown


def test_a_terminal_gets_a_row_an_image():
    rows = list(predict.table_lines(told_of(NAMES), 1))
    assert len(rows) == 1 + len(NAMES) and not unseen("".join(rows))
    assert all(row.endswith("25.0%") for row in rows[1:])
    assert len({text.width(row) for row in rows[1:]}) == 1  # wide signs too stand in columns
    assert EMOJI in rows[1 + NAMES.index(EMOJI)] and LONG not in rows[1 + NAMES.index(LONG)].partition("  ")[2]


def test_csv_has_a_row_an_image_and_no_formula():
    printed = "".join(f"{line}\n" for line in predict.csv_lines(told_of([*NAMES, "+1", "@SUM(A1)", "\t=1", "-0.5"]), 1))
    _, *rows = csv.reader(io.StringIO(printed, newline=""))
    assert len(rows) == len(NAMES) + 4 and {len(row) for row in rows} == {3}
    classes = [row[1] for row in rows]
    assert classes[NAMES.index(LINES)] == LINES and classes[NAMES.index(EMOJI)] == EMOJI
    assert classes[NAMES.index(FORMULA)] == f"'{FORMULA}" and classes[NAMES.index("-1+2")] == "'-1+2"
    assert classes[-4:] == ["+1", "'@SUM(A1)", "'\t=1", "-0.5"]  # a number is a number
    assert {row[2] for row in rows} == {"0.25"}
    flat = predict.csv_lines([predict.Prediction(Path("=1+1.png"), ("rose",), (0.5,))], 1)
    assert list(flat)[1] == "'=1+1.png,rose,0.5"


def test_json_lines_hold_them_as_they_are():
    lines = list(predict.json_lines(told_of([*NAMES, "\udcff"]), 1))
    assert [json.loads(line)["predictions"][0]["class"] for line in lines] == [*NAMES, "\udcff"]
    assert "".join(lines).isascii() and "\n" not in "".join(lines)


def test_csv_of_suspects_and_of_comparisons(tmp_path, monkeypatch):
    images = np.zeros((2, 4, 4, 3), np.uint8)
    train = datasets.from_arrays(images, np.array([0, 1]), class_names=(FORMULA, LINES), name="=arrays")
    monkeypatch.setattr(gallery, "features", lambda *given: None)
    monkeypatch.setattr(gallery, "suspects", lambda *given: [Suspect(0, 0, 1, 0.1, 0.9)])
    gallery.write_suspects(None, train, tmp_path / "suspects.csv")
    with (tmp_path / "suspects.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["label"], row["suggested"], row["probability"]) == (f"'{FORMULA}", LINES, "0.1000")
    odd = table.Row("=x|$x^$", (0.5,), (0.1,), (1.0,), 0.0, 10, 10, ())
    table.write([odd], [], tmp_path)
    with (tmp_path / "compare.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["name"] == "'=x|$x^$" and r"| =x\|\$x^\$ |" in (tmp_path / "compare.md").read_text()


def test_a_card_has_no_markup_of_theirs():
    card = model_card(card_info(NAMES, jft="<b>0.1"), evaluation_of(NAMES, dataset=TAGS), [])
    table = re.search(r"## Classes\n\n.*?\n\n((?:\|.*\n)+)", card).group(1).splitlines()
    assert len(table) == 2 + len(NAMES)
    assert {len(re.findall(r"(?<!\\)\|", line.replace("\\\\", ""))) for line in table} == {7}
    prose = re.sub(r"```.*?```", "", card, flags=re.DOTALL)
    assert not re.search(r"<\w|<!|<\?", prose) and not unseen(card)
    plain = re.sub(r"\\\\|&#?\w+;", "", "".join(table))
    assert [sign for sign in "`*[]$#" if re.search(rf"(?<!\\)\{sign}", plain)] == []
    assert "https://" not in card and EMOJI in card


def test_the_address_of_a_set_is_a_link():
    """And nothing else is one."""
    row = CATALOG["squeezenet1_1.torchvision"]
    weights = {"source": "a.pth", "source_sha256": f"{row.sha256:0<64}", "weights": row.name, "dialect": row.dialect}
    assert f"| {row.url} |" in model_card(card_info(weights=weights), evaluation_of(), [])
    weights |= {"source": f"<b>{row.url}", "source_sha256": "0" * 64}
    assert "https://" not in model_card(card_info(weights=weights), evaluation_of(), [])


@pytest.mark.parametrize("name", ["a_b", "resnet18.torchvision", "10 %", "rose (red)", EMOJI])
def test_markdown_leaves_plain_names_alone(name):
    assert text.markdown(name) == name


def test_a_page_has_no_markup_of_theirs():
    page = environment("jft.evaluation", "report", percent="%").from_string('<p title="{{ name }}">{{ name }}</p>')
    for name in NAMES:
        shown = page.render(name=name)
        assert not unseen(shown.replace("\t", "")) and shown.count("<") == 2
    assert EMOJI in page.render(name=EMOJI)
    assert (
        environment("jft.evaluation", "report", percent="%").from_string("{{ svg }}").render(svg=_markup("<svg>"))
        == "<svg>"
    )


def _markup(svg):
    from markupsafe import Markup

    return Markup(svg)


def test_drawings_take_them_for_text(tmp_path):
    black = [np.zeros((9, 9, 3), np.uint8)] * len(NAMES)
    names = [name for name in NAMES if name != EMOJI] + ["é"]  # for which the font has signs
    grid.draw(tmp_path / "grid.svg", black, names, [0.5] * len(NAMES), names, title="$x^$")
    assert not unseen((tmp_path / "grid.svg").read_text())
    assert r"\x1b[31mred" in grid.caption(RED, None, None)
    # matplotlib would take the name for a formula, which has no end
    odd = table.Row("$x^$", (0.5,), (0.1,), (1.0,), 0.0, 1, 1, ())
    plots.write([odd], {"$x^$": [[{"kind": "train", "step": 1, "loss": 0.1}]]}, tmp_path)
    with Image.open(tmp_path / "compare.png") as image:
        assert image.format == "PNG"


def test_latex_has_no_command_of_theirs():
    assert text.latex(r"10 % & a_b \input{x} $x^$ [2pt]") == (
        r"10 \% \& a\_b \textbackslash{}input\{x\} \$x\textasciicircum{}\$ {[}2pt]"
    )


def test_an_evaluation_is_a_line_a_class():
    figures = {"precision": 0.5, "recall": 0.5, "f1": 0.5, "count": 3}
    one = {"image": LINES, "label": RED, "predicted": TURNED, "probability": 0.5, "loss": 0.7}
    result = {
        **{"checkpoint": "run", "dataset": RED, "split": "test", "count": 3, "accuracy": 0.5, "top5": 1, "loss": 1},
        **{"learnt": 0, "validated": 0},
        **{"calibration_error": 0.1, "per_class": dict.fromkeys(NAMES, figures), "top_losses": [one]},
        "confused": [{"label": LINES, "predicted": RED, "count": 1, "share": 0.1}],
    }
    lines = text.terminal_lines(results.format_evaluation(result)).splitlines()
    assert len(lines) == 3 + 1 + len(NAMES) + 2 + 2 and not unseen("".join(lines))
    assert max(map(len, lines)) < 140
    assert str(Finding("data", f"none of {LINES}")) == r"ok   data: none of two\nlines"


def test_printed_and_logged(command, capsys, caplog, tmp_path):
    status, printed, told = command("predict", "--model", "vgg_tiny", tmp_path / f"{RED}\nerror: {TURNED}")
    assert (status, printed) == (1, "") and not unseen(told)
    first, second = told.splitlines()
    assert first.startswith("error: no file") and second.startswith("  error: ")  # which is no error of its own
    distributed.say(f"{RED}: {EMOJI}")
    assert capsys.readouterr().out == f"{text.terminal(RED)}: {EMOJI}\n"
    notes._warn.__wrapped__(f"left out {RED}{LINES}")
    record = logging.LogRecord("absl", logging.WARNING, "file.py", 1, "%s", (f"{TURNED}\nerror",), None)
    assert runtime._escape(record) and record.getMessage() == r"gpj.\u202eexe" + "\n  error"
    capsys.readouterr()
    for logger in (absl_logging.get_absl_logger(), logging.getLogger("other")):
        logger.warning("left out %s", TURNED)
        assert capsys.readouterr().err == "WARNING: left out gpj.\\u202eexe\n"


def test_a_progress_bar_goes_back_to_the_start_of_its_line():
    written = io.StringIO()
    stream = text.terminal_stream(text.terminal_stream(written))
    print("\r50%", "a\rb", "\r", end="", file=stream)
    assert written.getvalue() == "\r50% a\\rb \r" and not stream.isatty()


def test_a_suggested_config_is_code_without_surprises():
    for name in NAMES:
        assert eval(suggest_report._literal(name)) == name
        assert '"' not in suggest_report._plain(name) and not unseen(suggest_report._plain(name))


def test_a_part_of_a_files_name():
    for name in [*NAMES, "../../etc/passwd", "con:aux?"]:
        made = text.file_name(name)
        assert re.fullmatch(r"[\w. -]{1,40}", made) and len(f"eval-{made}-validation.json".encode()) < 200
    assert text.file_name("flower_photos-2.1 é") == "flower_photos-2.1 é"
