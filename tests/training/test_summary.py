"""The summary of a model and its drawing: exact totals, every model, layouts without collisions, whole files."""

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from jft.models import MODELS, plot
from jft.models.summary import format_summary, human_flops
from jft.training.summary import choose_model, summarize

ROOT = Path(__file__).parents[2]


def make_summary(name, freeze="", **options):
    return summarize(name, *choose_model(name, **options), freeze)


def table(text):
    """name -> columns, of the lines with figures; layers are indented."""
    body = text.split("\n---")[2].splitlines()[1:]
    return {line[: line.index("  ", 2)] if line[0] == " " else line.split()[0]: line.split() for line in body}


def test_the_totals_people_know():
    text = format_summary(make_summary("vgg16"))
    assert text.startswith("vgg16: 224 x 224 pixels, 1,000 classes\n")
    assert "Total params: 138,357,544 (527.79 MiB)" in text
    assert "Trainable params: 138,357,544 (527.79 MiB)" in text
    assert "Non-trainable params: 0 (0.00 KiB)" in text
    assert "Forward pass: 30.94 GFLOPs" in text
    assert "BatchNorm" not in text and "Auxiliary" not in text


def test_frozen_up_to_a_stage():
    text = format_summary(make_summary("vgg16", "fc7", num_classes=10))
    assert "vgg16: 224 x 224 pixels, 10 classes, frozen: fc7" in text
    assert "Total params: 134,301,514 (512.32 MiB)" in text
    assert "Trainable params: 40,970 (160.04 KiB)" in text
    assert "Non-trainable params: 134,260,544 (512.16 MiB)" in text
    lines = table(text)
    assert lines["block1"] == ["block1", "112", "x", "112", "x", "64", "38,720", "3,872.8", "frozen"]
    assert lines["  conv1_1"][1:] == ["conv", "3x3", "224", "x", "224", "x", "64", "1,792", "173.4", "frozen"]
    assert lines["head"] == ["head", "10", "40,970", "0.1", "trainable"]


def test_part_of_a_layer():
    summary = make_summary("vgg_tiny", ".*/bias")
    states = {summary.state(part) for stage in summary.stages.values() for part in (stage, *stage.layers)}
    assert states == {"partly frozen"}
    assert summary.num_params - summary.num_trainable == 16 + 32 + 64 + 64 + 64 + 1000


def test_batch_norm_statistics_have_their_own_line():
    text = format_summary(make_summary("resnet50"))
    assert "Total params: 25,557,032" in text  # torchvision's count; Keras, with the statistics and biases, 25,636,712
    assert re.search(r"^BatchNorm statistics: 53,120 \(.*not params, though Keras counts them\)$", text, re.M)


def test_auxiliary_heads_are_marked_and_counted_apart():
    text = format_summary(make_summary("googlenet", "4a", aux_heads=True))
    assert "Total params: 13,004,888" in text
    assert "Auxiliary heads: 6,379,984 of the params; in training 16.75 MFLOPs more" in text
    assert "Forward pass: 3.003 GFLOPs" in text
    names = re.findall(r"^(\w+)  ", text, re.M)
    assert names[names.index("aux1") - 1] == "4a" and names[names.index("aux2") - 1] == "4d"
    assert re.search(r"^aux1 +auxiliary head on 4a, in training only +1000 .* frozen$", text, re.M)
    assert re.search(r"^aux2 +auxiliary head on 4d, in training only +1000 .* trainable$", text, re.M)


def test_weights_give_their_form():
    as_keras, as_torch = (make_summary("resnet50", weights=tag) for tag in ("keras", "torchvision"))
    kinds = [{x.name: x.kind for x in s.stages["layer2"].layers} for s in (as_keras, as_torch)]
    assert [(k["layer2/block0/conv1"], k["layer2/block0/conv2"]) for k in kinds] == [
        ("conv 1x1 /2", "conv 3x3"),
        ("conv 1x1", "conv 3x3 /2"),
    ]
    digits = make_summary("vgg_tiny", weights="digits04")
    assert (digits.num_classes, digits.size, digits.num_params) == (5, 32, 93_669)
    assert make_summary("vgg_tiny", weights="digits04", num_classes=3, image_size=40).stages["head"].output == (3,)


# Of stages alike, in branches with auxiliary heads, in dense blocks, of blocks with gates, and of patches.
DRAWN = ("vgg_tiny", "resnet18", "googlenet", "densenet121", "mobilenet_v3_small", "vit_tiny_patch16")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in DRAWN else pytest.mark.slow) for name in MODELS]
)
def test_every_model_has_a_table_and_a_drawing(name):
    summary = make_summary(name, aux_heads=name in ("googlenet", "googlenet_caffe", "inception_v3"))
    lines = table(format_summary(summary))
    assert [line for line in lines if line[0] != " "] == list(summary.stages)
    check_layout(plot.lay_out(summary), summary)


def check_layout(drawing, summary):
    """Every stage is named; texts keep to the page and, of a pair on one line of a box, apart."""
    texts = [item for item in drawing.items if isinstance(item, plot.Text)]
    assert set(summary.stages) <= {text.text for text in texts}
    spans = [(t, t.x - plot.text_width(t.text, t.size) * t.right) for t in texts]
    spans = [(t, start, start + plot.text_width(t.text, t.size)) for t, start in spans]
    for text, start, end in spans:
        assert start >= plot.MARGIN and end <= drawing.width - plot.MARGIN, text
        assert 0 < text.y < drawing.height
        for other, begin, _ in spans:
            assert other is text or other.y != text.y or begin < start or begin >= end + 8, (text, other)
    boxes = [item for item in drawing.items if isinstance(item, plot.Box)]
    assert all(b.x >= 0 and b.x + b.width < drawing.width and b.y + b.height < drawing.height for b in boxes)


@pytest.mark.parametrize("freeze", ["", "4a", "stem/.*/bias"])
def test_both_formats_hold_the_same(tmp_path, freeze):
    summary = make_summary("googlenet", freeze, aux_heads=True)
    drawing = plot.lay_out(summary)
    check_layout(drawing, summary)
    plot.write_graph(summary, tmp_path / "graph.svg")
    plot.write_graph(summary, tmp_path / "graph.PNG")
    root = ElementTree.parse(tmp_path / "graph.svg").getroot()
    tag = "{http://www.w3.org/2000/svg}"
    texts = [element.text for element in root.iter(f"{tag}text")]
    assert texts == [item.text for item in drawing.items if isinstance(item, plot.Text)]
    assert {"4a", "aux1", "aux2", "head", "28 x 28 x 192"} <= set(texts)
    states = {state for state in ("trainable", "partly frozen", "frozen") if state in texts}
    assert states == {"": set(), "4a": {"trainable", "frozen"}, "stem/.*/bias": {"trainable", "partly frozen"}}[freeze]
    boxes = [item for item in drawing.items if isinstance(item, plot.Box)]
    assert [element.get("fill") for element in root.iter(f"{tag}rect")][1:] == [box.fill for box in boxes]
    image = Image.open(tmp_path / "graph.PNG")
    assert (image.format, image.size) == ("PNG", (plot.SCALE * drawing.width, plot.SCALE * drawing.height))
    for box in boxes:  # just inside of the outline, where no text is
        place = tuple(round(plot.SCALE * v) for v in (box.x + box.width / 2, box.y + 4))
        assert "#{:02x}{:02x}{:02x}".format(*image.getpixel(place)) == box.fill


def test_names_are_escaped(tmp_path):
    summary = summarize("<a> & 'b'", *choose_model("vgg_tiny"))
    plot.write_graph(summary, tmp_path / "graph.svg")
    root = ElementTree.parse(tmp_path / "graph.svg").getroot()
    assert [element.text for element in root if element.tag.endswith("title")] == ["<a> & 'b'"]


def test_what_a_stage_is_made_of():
    phrases = {name: plot.in_short(stage.layers) for name, stage in make_summary("resnet50").stages.items()}
    assert phrases["layer1"] == ["conv 1x1: 3 x 64, 4 x 256", "3 x conv 3x3, 64", "BatchNorm"]
    assert phrases["head"] == ["dense, 1000"]
    assert plot.in_short(make_summary("vgg16").stages["block3"].layers) == ["3 x conv 3x3, 256"]


def test_wrapping():
    phrases = ["conv 1x1: 64, 128, 256, 512", "conv 3x3, 64", "BatchNorm"]
    for room in (120, 200, 300, 1000):
        lines = plot.wrap(phrases, room, 13)
        assert all(plot.text_width(line, 13) <= room for line in lines)
        words = " ".join(lines).replace(" · ", " ").split()
        assert words == " ".join(phrases).split()
    assert lines == ["conv 1x1: 64, 128, 256, 512  ·  conv 3x3, 64  ·  BatchNorm"]
    assert plot.wrap([], 100, 13) == [""]


def test_a_file_is_whole_or_not_there(tmp_path, monkeypatch):
    path = tmp_path / "graph.svg"
    path.write_text("before")

    def fail(drawing, aside):
        aside.write_text("half")
        raise OSError("disk full")

    monkeypatch.setitem(plot.WRITERS, ".svg", fail)
    with pytest.raises(OSError, match="disk full"):
        plot.write_graph(make_summary("vgg_tiny"), path)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("graph.pdf", r"a graph is written as \.svg or as \.png, and 'graph\.pdf' ends in neither"),
        ("graph", "'graph' ends in neither"),
        ("nowhere/graph.svg", "nowhere is no folder: make it, or choose another"),
    ],
)
def test_graphs_that_cannot_be_written(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        plot.write_graph(make_summary("vgg_tiny"), tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("rasnet50", {}, "unknown model 'rasnet50', did you mean 'resnet50'"),
        ("resnet50", {"weights": "karas"}, "unknown resnet50 weights 'karas', did you mean 'keras'"),
        ("vgg16", {"freeze": "blok5"}, "did you mean 'block5'"),
        ("vgg16", {"freeze": "head"}, "nothing is trainable"),
        ("vgg16", {"image_size": 20}, "too small"),
        ("vgg16", {"image_size": 0}, "image_size is 0: it must be at least 1"),
        ("vgg16", {"num_classes": -2}, "num_classes is -2: it must be at least 1"),
        ("vgg16", {"aux_heads": True}, "vgg16 has no auxiliary heads"),
    ],
)
def test_wrong_input_is_named(name, options, message):
    with pytest.raises(ValueError, match=message):
        make_summary(name, **options)


@pytest.mark.parametrize(
    ("flops", "text"),
    [
        (30_940_000_000, "30.94 GFLOPs"),
        (1_620_000_000, "1.620 GFLOPs"),
        (999_960_000, "1000 MFLOPs"),
        (81_920, "81.92 kFLOPs"),
        (10, "0.01000 kFLOPs"),
    ],
)
def test_flops_in_words(flops, text):
    assert human_flops(flops) == text


def test_script(tmp_path):
    command = [sys.executable, "scripts/summary.py", "vgg19", "--num_classes", "10", "--freeze", "fc7"]
    command += ["--graph", tmp_path / "graph.svg"]
    environment = {**os.environ, "JAX_PLATFORMS": "no_such_platform"}  # it asks for none
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Trainable params: 40,970 (160.04 KiB)" in done.stdout
    assert done.stdout.endswith(f"wrote {tmp_path / 'graph.svg'}\n")
    assert done.stderr in ("", "loading JAX ...\n")  # on a busy machine
    assert ElementTree.parse(tmp_path / "graph.svg").getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_an_error_is_one_line(tmp_path, command):
    asked = ("vgg19", "--freeze", "fc9", "--graph", tmp_path / "graph.svg")
    status, printed, error = command("summary", *asked)
    assert (status, printed, error.count("\n")) == (1, "", 1)
    assert error.startswith("error: freeze: pattern 'fc9' matches none of 38 names, did you mean 'fc")
    assert not list(tmp_path.iterdir())
