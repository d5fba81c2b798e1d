"""The page about a run: it says what is so, needs nothing else, and replaces nothing of anybody else's."""

import html
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
import small_digits
import small_run

from jft import distributed
from jft.evaluate import evaluate
from jft.logs import read_metrics
from jft.report import charts, write_report

pytestmark = pytest.mark.xdist_group("run")  # which one worker trains for all

NAMES = ("steps", "binary", "several")  # with and without validation and steps; one label and several


@pytest.fixture(scope="module", autouse=True)
def quick():
    with small_digits.quick():
        yield


class Page(HTMLParser):
    """Elements with their attributes, and the text between them; scripts and styles apart."""

    EMPTY = ("meta", "link", "img", "br")

    def __init__(self, text):
        super().__init__()
        self.elements, self.text, self.open, self.cells = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open, "elements are left open"

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in self.EMPTY:
            self.open.append(tag)
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("script", "style"):
            self.text.append(data)
            if {"td", "th"} & set(self.open):
                self.cells[-1][-1] += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module", params=NAMES)
def written(request, tmp_path_factory):
    """A run, the text of its page, and its figures."""
    path = small_run.page(tmp_path_factory, request.param)
    assert path == small_run.run(tmp_path_factory, request.param) / "report.html"
    return path.parent, path.read_text(), json.loads((path.parent / "eval.json").read_text())


def test_one_file_that_needs_nothing_else(written):
    _, text, _ = written
    assert len(text) < 5e6
    page = Page(text)
    for tag, attributes in page.elements:
        for name, value in attributes.items():
            if name in ("src", "href", "xlink:href", "action", "data"):
                assert value.startswith(("data:", "#")), (tag, name, value)
            assert "//" not in (value or "") or value.startswith("data:"), (tag, name, value)
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    assert all(element.get("src") is None for element in page.all("script"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes.get("href") or attributes.get("xlink:href") for _, attributes in page.elements]
    assert {link[1:] for link in links if link and link.startswith("#")} <= set(ids)
    assert {use for use in re.findall(r"url\(#([^)]*)\)", text)} <= set(ids)


def test_it_is_told_to_those_who_cannot_see_it(written):
    page = Page(written[1])
    pictures = page.all("img")
    assert len(pictures) >= 20 and all(picture["alt"].strip() for picture in pictures)
    assert not any(re.search(r"(of|saw) *$|None", picture["alt"]) for picture in pictures)
    drawn = page.all("svg")
    assert drawn and all(one["role"] == "img" and one["aria-label"] for one in drawn)
    assert page.all("html") == [{"lang": "en"}] and len(page.all("h1")) == 1
    assert all(head.get("scope") in ("col", "row") for head in page.all("th"))


def test_its_numbers_are_those_of_the_evaluation(written):
    run, text, result = written
    page = Page(text)
    words = page.words
    assert f"{100 * result['accuracy']:.1f} %" in words and f"{result['loss']:.3f} log loss" in words
    assert f"{100 * result['calibration_error']:.1f} % expected calibration error" in words
    assert f"{result['macro_f1']:.3f} macro F1" in words
    if result["temperature"] is not None:
        assert f"temperature {result['temperature']:.3f}" in words
        assert f"log loss {result['calibrated']['loss']:.3f} instead of {result['loss']:.3f}" in words
    else:
        assert "temperature" not in words
    for name, one in result["per_class"].items():
        figures = ["-" if one[k] is None else f"{100 * one[k]:.1f} %" for k in ("precision", "recall", "f1")]
        assert [name, *figures] == [cells for cells in page.cells if cells[:1] == [name]][-1][:4]
    if "confusion_matrix" in result:
        for name, row in zip(result["per_class"], result["confusion_matrix"], strict=True):
            assert [name, *(str(n or "") for n in row)] in page.cells
        pair = result["confused"][0]
        share = f"{100 * pair['share']:.1f} %"
        assert [pair["label"], pair["predicted"], str(pair["count"]), share] in page.cells
    else:
        assert "Confusions" not in words
    assert f"loss {result['top_losses'][0]['loss']:.2f}" in words
    assert f"{result['parameters']:,} parameters" in words


def test_names_are_names_and_no_elements(tmp_path_factory):
    path = small_run.page(tmp_path_factory, "steps")
    text = path.read_text()
    assert "<b>&\"'" not in text and "& <pictures>" not in text
    words = Page(text).words
    for name in (*small_run.CLASSES, "data & <pictures>"):
        assert name in words
    assert html.escape("data & <pictures>") in text
    assert "<i>large" not in small_run.page(tmp_path_factory, "several").read_text()


def test_what_it_shows_of_pictures(tmp_path_factory):
    page = Page(small_run.page(tmp_path_factory, "steps").read_text())
    alts = [picture["alt"] for picture in page.all("img")]
    result = json.loads((small_run.run(tmp_path_factory, "steps") / "eval.json").read_text())
    overlays = [alt for alt in alts if alt.startswith("the same, bright where the model saw ")]
    # The heat maps are of what was predicted, in the order of the losses.
    assert [alt.removeprefix("the same, bright where the model saw ") for alt in overlays] == [
        one["predicted"] for one in result["top_losses"]
    ]
    assert sum(", predicted " in alt for alt in alts) == 10
    assert sum(alt.startswith("a training picture of ") for alt in alts) == 3 * len(overlays)
    assert "of 90." in page.words  # training pictures that neighbours were sought among


def test_the_curves_hold_what_the_log_does(tmp_path_factory):
    lines = read_metrics(small_run.run(tmp_path_factory, "steps"))
    assert {line["kind"] for line in lines} >= {"train", "validation"}
    drawn = charts.curves(lines, "loss", "loss in nats")
    assert 'aria-label="loss in nats by step"' in drawn and "validation" in drawn and "currentColor" in drawn
    alone = charts.curves([line for line in lines if line["kind"] == "train"], "loss", "loss in nats")
    assert "validation" not in alone and len(alone) < len(drawn)
    share = charts.confusion_shades(np.array([[3, 1], [0, 0]]))
    np.testing.assert_array_equal(share, [[0.75, 0.25], [0, 0]])
    told = charts.times({"steps": 1.5, "<waiting>": 0.25})
    assert 'aria-label="seconds spent on steps: 1.5, &lt;waiting&gt;: 0.2"' in told and "<waiting>" not in told


def test_somebody_else_s_file_stays(tmp_path_factory, tmp_path, monkeypatch):
    run = small_run.run(tmp_path_factory, "several")
    monkeypatch.setattr("jft.evaluate.predict_run", None)  # it is said before anything is computed
    own = tmp_path / "report.html"
    own.write_text("<html>mine")
    with pytest.raises(ValueError, match=r"report\.html exists and is no report of jft's: give another --out"):
        write_report(run, out=own)
    assert own.read_text() == "<html>mine" and list(tmp_path.iterdir()) == [own]
    for place in (tmp_path, tmp_path / "nowhere" / "report.html"):
        with pytest.raises(ValueError, match="cannot be written: give a file in a folder that exists"):
            write_report(run, out=place)


def test_several_processes_are_refused(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(distributed, "several", lambda: True)
    monkeypatch.setattr("jft.evaluate.predict_run", None)
    with pytest.raises(ValueError, match="a report is written by one process: run `jft report RUN` once training is"):
        write_report(small_run.run(tmp_path_factory, "several"))


def test_without_training_pictures(tmp_path_factory, tmp_path, monkeypatch, caplog, command):
    """They are gone, those to be judged by are not; and a page of jft's is replaced."""
    run = shutil.copytree(small_run.run(tmp_path_factory, "several"), tmp_path / "run")
    small_run.page(tmp_path_factory, "several")
    before = (small_run.run(tmp_path_factory, "several") / "report.html").read_text()
    (run / "report.html").write_text(before)

    def gone(trained):
        raise FileNotFoundError("there is no folder of training pictures")

    monkeypatch.setattr("jft.look.training", gone)
    status, printed, _ = command("report", run)
    assert status == 0 and printed.startswith(f"wrote {run / 'report.html'}, ")
    assert "the report does without training pictures: there is no folder of training" in caplog.text
    text = (run / "report.html").read_text()
    assert "training picture of" in before and "training picture of" not in text
    assert "Largest losses" in Page(text).words and "most like it" not in Page(text).words


CONFIG = """from jft.config import default_config


def get_config():
    config = default_config()
    config.update({fields!r})
    return config
"""


def test_training_writes_it_unless_it_is_told_not_to(tmp_path_factory, tmp_path, command):
    fields = small_run.config(tmp_path_factory, "other").to_dict()
    (tmp_path / "config.py").write_text(CONFIG.format(fields=fields))
    train = ("train", "--config", tmp_path / "config.py", "--workdir")
    status, printed, _ = command(*train, tmp_path / "without", "--no_report")
    assert status == 0 and not list((tmp_path / "without").glob("*.html")) and "Look at it" not in printed
    assert not (tmp_path / "without" / "eval.json").exists()
    # The run is done; the page is what is left to do.
    status, printed, _ = command(*train, tmp_path / "without")
    path = tmp_path / "without" / "report.html"
    assert status == 0 and printed.splitlines()[-1].endswith(f"Look at it: {path}")
    result = evaluate(tmp_path / "without")
    assert f"test accuracy {result['accuracy']:.2%}" in printed and "without" in Page(path.read_text()).words
    # A page that cannot be written is no failed run.
    path.write_text("mine")
    status, printed, _ = command(*train, tmp_path / "without")
    assert status == 0 and "Look at it" not in printed and path.read_text() == "mine"


def test_a_page_by_validation(tmp_path_factory, tmp_path, command):
    run = small_run.run(tmp_path_factory, "steps")
    small_run.page(tmp_path_factory, "steps")
    before = (run / "eval.json").read_bytes()
    copy = shutil.copytree(run, tmp_path / "run")
    status, _, error = command("report", copy, "--split", "validation", "--stage", "fc6")
    assert status == 1 and "stage 'fc6' has no map" in error and "block3" in error
    status, _, _ = command("report", copy, "--split", "validation", "--stage", "block2", "--out", tmp_path / "v.html")
    words = Page((tmp_path / "v.html").read_text()).words
    assert status == 0 and "of the validation split" in words and "but that chose its checkpoint" in words
    assert "Grad-CAM at block2" in words
    assert (run / "eval.json").read_bytes() == before
