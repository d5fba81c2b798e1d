"""The page about a run: it says what is so, needs nothing else, and replaces nothing of anybody else's."""

import dataclasses
import html
import json
import re
import shutil
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import small_chain
import small_digits
import small_run
from data import test_near
from small_digits import write_config
from small_info import info_of

from jft.cli.arms import train_arms
from jft.data import datasets
from jft.evaluation.report import charts, repeated, write_report
from jft.evaluation.report.parts import Parts
from jft.evaluation.restore import Trained
from jft.models import initialize
from jft.utils import distributed
from jft.utils.logger import read_metrics
from jft.utils.templates import environment
from jft.utils.text import terminal

# One worker trains for all of them.
pytestmark = [pytest.mark.xdist_group("run"), pytest.mark.usefixtures("quick")]

NAMES = ("steps", "binary", "several")  # with and without validation and steps; one label and several


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
    images = page.all("img")
    assert len(images) >= 20 and all(image["alt"].strip() for image in images)
    assert not any(re.search(r"(of|saw) *$|None", image["alt"]) for image in images)
    drawn = page.all("svg")
    assert drawn and all(one["role"] == "img" and one["aria-label"] for one in drawn)
    assert page.all("html") == [{"lang": "en"}] and len(page.all("h1")) == 1
    assert all(head.get("scope") in ("col", "row") for head in page.all("th"))


def test_its_numbers_are_those_of_the_evaluation(written):
    _, text, result = written
    page = Page(text)
    words = page.words
    assert f"{100 * result['accuracy']:.1f} %" in words and f"{result['loss']:.3f} log loss" in words
    assert f"{100 * result['calibration_error']:.1f} % expected calibration error" in words
    assert f"{result['macro_f1']:.3f} macro F1" in words
    if result["temperature"] is not None:
        assert f"divides the logits by {result['temperature']:.3f}" in words
        assert f"the log loss from {result['loss']:.3f} to {result['calibrated']['loss']:.3f}" in words
    else:
        assert "temperature" not in words
    names = list(map(terminal, result["per_class"]))
    for name, one in zip(names, result["per_class"].values(), strict=True):
        figures = ["-" if one[k] is None else f"{100 * one[k]:.1f} %" for k in ("precision", "recall", "f1")]
        assert [name, *figures] == [cells for cells in page.cells if cells[:1] == [name]][-1][:4]
    if "confusion_matrix" in result:
        for name, row in zip(names, result["confusion_matrix"], strict=True):
            assert [name, *(str(n or "") for n in row)] in page.cells
        pair = result["confused"][0]
        share = f"{100 * pair['share']:.1f} %"
        assert [terminal(pair["label"]), terminal(pair["predicted"]), str(pair["count"]), share] in page.cells
    else:
        assert "Confusions" not in words
    assert f"loss {result['top_losses'][0]['loss']:.2f}" in words
    assert f"{result['parameters']:,} parameters" in words


def test_images_that_occur_twice_stand_side_by_side():
    """A test image that is a darker training image before one that occurs twice in test; each with split and label."""
    images = np.stack([np.asarray(test_near.picture(seed)) for seed in range(3)])
    train = datasets.from_arrays(images, np.array([0, 1, 1]), ("<cat>", "dog"))
    dark = (images[:1] * 0.8).astype(np.uint8)
    test = datasets.from_arrays(np.concatenate([dark, 255 - images[1:2], 255 - images[1:2]]), np.array([0, 1, 1]))
    run = SimpleNamespace(trained=SimpleNamespace(images=lambda split, dataset: train), split="test", source=test)

    def card(source, row):
        return {"image": f"#{row}", "name": "n", "label": source.label(row)}

    found = repeated.of_run(run, None, card)
    assert [(pair["one"]["split"], pair["other"]["split"], pair["what"]) for pair in found["pairs"]] == [
        ("test", "train", "almost alike"),
        ("test", "test", "the same pixels"),
    ]
    assert (found["pairs"][0]["one"]["image"], found["pairs"][0]["other"]["image"]) == ("#0", "#0")
    template = environment("jft.evaluation", "report", percent="%").get_template("repeated.html")
    html = template.render(repeated=found, without_copies="w", image=lambda uri, alt: alt)
    words = " ".join(Page(html).text)
    assert "1 test image looks almost like train images" in words and "almost alike" in words
    assert "a train image labeled <cat>" in words and "<cat>" not in html
    run.trained.images = lambda split, dataset: train.take([1])
    run.source = test.take([0])
    assert repeated.of_run(run, None, card) == {}
    run.source = test
    features = np.eye(3)
    features[1] = 1.0, 0.05, 0.0
    near = repeated.similar(features, np.eye(3)[:1] * 3)
    assert [(row, other) for row, other, _ in near] == [(0, 0), (1, 0)] and near[1][2] == pytest.approx(
        0.99875, abs=1e-5
    )
    assert repeated.similar(np.ones((11, 3)), np.ones((1, 3))) == []  # all are alike
    pairs = repeated.of_run(run, None, card, near[1:], train.take([2]))["pairs"]
    assert [(pair["other"]["split"], pair["what"][:16]) for pair in pairs] == [
        ("test", "the same pixels"),
        ("train", "similar features"),
    ]


def parts_of(info):
    return Parts(SimpleNamespace(info=info), None, {}, "")


def test_a_checkpoint_of_an_early_phase_is_said():
    info = info_of(step=12, phases=(("probe", 12), ("fine-tune", 30)))
    parts = parts_of(info)
    validated = [{"step": step, "kind": "validation", "accuracy": 0.5, "loss": step} for step in (12, 30)]
    assert "Metrics are of step 12, in phase probe (1 of 2): validation was best here" in parts.early(validated)
    assert parts.early([validated[0], {"step": 13, "kind": "train"}]) == parts.early([]) == ""  # none was looked at
    assert parts_of(dataclasses.replace(info, step=13)).early(validated) == ""


def test_a_checkpoint_is_the_best_only_where_no_better_one_is_lost():
    """As where the best is damaged: the log knows of it, the checkpoint that stands in for it need not."""
    history = [{"step": step, "accuracy": accuracy, "loss": 1.0} for step, accuracy in ((10, 0.5), (20, 0.6))]
    lines = [{**values, "kind": "validation"} for values in history]
    phases = (("probe", 10), ("fine-tune", 30))
    info = info_of(step=20, phases=phases, history=tuple(history), config={"solver": "steps"})
    assert parts_of(info)._checkpoint(lines) == "step 20, in phase fine-tune (2 of 2), best on validation"
    parts = parts_of(dataclasses.replace(info, step=10, history=tuple(history[:1])))
    told = parts._checkpoint(lines)
    assert told.startswith("step 10, in phase probe (1 of 2); the best on validation, step 20,")
    lines.append({**lines[1], "step": 30, "accuracy": 0.4})
    assert parts.early(lines) == ""  # a later step did better


def test_a_stage_of_which_part_was_loaded_is_not_called_pretrained():
    model = small_chain.Small(num_classes=3)
    leaves = ["a/conv/kernel", "a/conv/bias", "a/bn/scale", "a/bn/bias", "b/conv/kernel"]
    predictor = SimpleNamespace(
        model=model,
        variables=initialize(model, 8, 0),
        spec=SimpleNamespace(size=8),
        info=info_of(pretrained=tuple(f"params/{leaf}" for leaf in leaves)),
    )
    sources = {stage["name"]: stage["source"] for stage in Parts(predictor, None, {}, "").stages()}
    assert sources == {"a": "pretrained", "b": "1 of 4 pretrained", "c": "initialized", "head": "initialized"}


def test_names_are_names_and_no_elements(tmp_path_factory):
    path = small_run.page(tmp_path_factory, "steps")
    text = path.read_text()
    assert "\x1b" not in text and "\u202e" not in text
    assert "<b>&\"'" not in text and "& <images>" not in text
    words = Page(text).words
    for name in (*small_run.CLASSES, "data & <images>"):
        assert terminal(name) in words
    assert html.escape("data & <images>") in text
    assert "<i>large" not in small_run.page(tmp_path_factory, "several").read_text()


def test_what_it_shows_of_images(tmp_path_factory):
    page = Page(small_run.page(tmp_path_factory, "steps").read_text())
    alts = [image["alt"] for image in page.all("img")]
    result = json.loads((small_run.run(tmp_path_factory, "steps") / "eval.json").read_text())
    overlays = [alt for alt in alts if alt.startswith("the same with Grad-CAM of class ")]
    # The heat maps are of what was predicted, in the order of the losses.
    assert [alt.removeprefix("the same with Grad-CAM of class ") for alt in overlays] == [
        terminal(one["predicted"]) for one in result["top_losses"]
    ]
    assert sum(", predicted " in alt for alt in alts) == 10
    assert sum(alt.startswith("a training image of ") for alt in alts) == 3 * len(overlays)
    assert "among 90 training images" in page.words  # training images that neighbors were sought among


def test_the_curves_hold_what_the_log_does(tmp_path_factory):
    lines = read_metrics(small_run.run(tmp_path_factory, "steps"))
    spent = re.search('aria-label="seconds spent on ([^"]*)"', small_run.page(tmp_path_factory, "steps").read_text())[1]
    for kind, name in {"train": "steps", "checkpoint": "saving", "compilation": "compilation"}.items():
        seconds = sum(line["seconds"] for line in lines if line["kind"] == kind)
        told = re.search(f"{name}: ([0-9.]+)", spent)
        told = float(told[1]) if told else 0.0
        waited = sum(line["waiting"] * line["seconds"] for line in lines if line["kind"] == kind == "train")
        assert told == pytest.approx(seconds - waited, abs=0.051) and seconds > 0
    drawn = charts.curves(lines, "loss", "loss in nats")
    assert 'aria-label="loss in nats by step"' in drawn and "validation" in drawn and "currentColor" in drawn
    alone = charts.curves([line for line in lines if line["kind"] == "train"], "loss", "loss in nats")
    assert "validation" not in alone and len(alone) < len(drawn)
    told = charts.times({"steps": 1.5, "<waiting>": 0.25})
    assert 'aria-label="seconds spent on steps: 1.5, &lt;waiting&gt;: 0.2"' in told and "<waiting>" not in told


def test_somebody_else_s_file_stays(tmp_path_factory, tmp_path, monkeypatch):
    run = small_run.run(tmp_path_factory, "several")
    monkeypatch.setattr("jft.evaluation.evaluate.predict_run", None)  # it is said before anything is computed
    own = tmp_path / "report.html"
    own.write_text("<html>mine")
    with pytest.raises(ValueError, match=r"report\.html exists and is not a report written by jft: give another out"):
        write_report(run, out=own)
    assert own.read_text() == "<html>mine" and list(tmp_path.iterdir()) == [own]
    for place in (tmp_path, tmp_path / "nowhere" / "report.html"):
        with pytest.raises(ValueError, match="cannot be written: give a file in a folder that exists"):
            write_report(run, out=place)


def test_several_processes_are_refused(tmp_path_factory, monkeypatch):
    monkeypatch.setattr(distributed, "several", lambda: True)
    monkeypatch.setattr("jft.evaluation.evaluate.predict_run", None)
    with pytest.raises(ValueError, match="a report is written by one process, and there are several: run"):
        write_report(small_run.run(tmp_path_factory, "several"))


def test_by_validation_and_without_training_pictures(tmp_path_factory, tmp_path, monkeypatch, caplog, command):
    """They are gone, those to be judged by are not; and a page of jft's is replaced."""
    before = small_run.page(tmp_path_factory, "steps")
    run = shutil.copytree(before.parent, tmp_path / "run")

    images = Trained.images

    def gone(trained, split, **changes):
        if split == "train":
            raise FileNotFoundError("there is no folder of training images")
        return images(trained, split, **changes)

    monkeypatch.setattr(Trained, "images", gone)
    status, printed, _ = command("report", run, "--split", "validation", "--stage", "block2")
    assert status == 0 and printed.startswith(f"wrote {run / 'report.html'}, ")
    assert "the report has no training images: there is no folder of training" in caplog.text
    text, other = (run / "report.html").read_text(), before.read_text()
    assert "training image of" in other and "training image of" not in text
    words = Page(text).words
    assert "Largest losses" in words and "nearest neighbors" not in words and "at stage block2" in words
    assert "of the validation split" in words and "validated on, which chose the checkpoint" in words
    assert "chose the checkpoint" not in Page(other).words


def test_training_writes_it_unless_it_is_told_not_to(tmp_path_factory, tmp_path, command):
    """Of a run that is done already, which is what is left to do."""
    write_config(tmp_path / "config.py", small_run.config(tmp_path_factory, "other"))
    run = shutil.copytree(small_run.run(tmp_path_factory, "other"), tmp_path / "run")
    (run / "eval.json").unlink(missing_ok=True)
    train, path = ("train", "--config", tmp_path / "config.py", "--workdir", run), run / "report.html"
    status, printed, _ = command(*train, "--no_report")
    assert status == 0 and not path.exists() and not (run / "eval.json").exists() and "Report:" not in printed
    status, printed, _ = command(*train)
    assert status == 0 and printed.splitlines()[-1].endswith(f"Report: {path}")
    result = json.loads((run / "eval.json").read_text())
    assert f"test accuracy {result['accuracy']:.2%}" in printed
    assert f"{100 * result['accuracy']:.1f} %" in Page(path.read_text()).words
    # A page that cannot be written is no failed run.
    path.write_text("mine")
    status, printed, _ = command(*train)
    assert status == 0 and "Report:" not in printed and path.read_text() == "mine"


def test_arms_have_a_page_each(tmp_path, monkeypatch, capsys):
    """An arm whose page cannot be written is tested all the same; one that has a page is not tested twice."""
    figures = {"accuracy": 0.5, "loss": 1.25, "count": 40, "accuracy_interval": None, "step": 9, "phase": ""}
    figures |= {"learnt": 0, "validated": 0}
    paged, tested = [], []

    def page(run):
        paged.append(run.name)
        if run.name == "two":
            raise OSError("the disk is full")
        return run / "report.html", figures

    monkeypatch.setattr("jft.cli.arms.checked_run", lambda config, workdir: None)
    monkeypatch.setattr("jft.cli.arms.check_weights", lambda run: None)
    monkeypatch.setattr("jft.cli.arms.train", lambda config, workdir: {"finished": True})
    other = {**figures, "accuracy": 0.75, "phase": "probe (1 of 2)"}
    monkeypatch.setattr("jft.cli.arms.evaluate", lambda run: tested.append(run.name) or other)
    monkeypatch.setattr("jft.evaluation.report.write_report", page)
    config = small_digits.make(tmp_path, arms=(("one", {}), ("two", {"seed": 1})))
    assert train_arms(config, tmp_path, report=True) == 0
    assert (paged, tested) == (["one", "two"], ["two"])
    printed = capsys.readouterr().out
    assert re.search(r"^one +50\.0% +1\.250 +40$", printed, re.M)
    assert re.search(r"^two +75\.0% +1\.250 +40  step 9, in phase probe \(1 of 2\)$", printed, re.M)
    assert train_arms(config, tmp_path) == 0
    assert (paged, tested) == (["one", "two"], ["two", "one", "two"])
    # Each of several processes must come along to an evaluation, and one alone writes a page.
    monkeypatch.setattr(distributed, "several", lambda: True)
    assert train_arms(config, tmp_path, report=True) == 0
    assert (paged, tested[3:]) == (["one", "two"], ["one", "two"])
    assert f"No report yet, which one process writes: jft report {tmp_path / 'one'}" in capsys.readouterr().out


@pytest.mark.parametrize(("classes", "drawn"), [(20, True), (43, False)])
def test_a_matrix_that_does_not_fit_a_screen_is_left_to_the_pairs(classes, drawn):
    """At 2.4 rem a column, of a page of 72 rem."""
    names = tuple(map(str, range(classes)))
    result = {"confusion_matrix": np.eye(classes, dtype=int).tolist()}
    shown = Parts(SimpleNamespace(class_names=names), None, result, "").matrix()
    assert len(shown) == (classes if drawn else 0)
