"""A model card holds the figures it was given, its tables hold together, and its code does what it says."""

import dataclasses
import re

import numpy as np
import pytest
from PIL import Image
from small_info import info_of

from jft.data import decode
from jft.data.record import DataRecord
from jft.data.transforms import Preprocess
from jft.evaluation.open_model import open_source, write_own
from jft.exporters import stablehlo
from jft.exporters.model_card import model_card
from jft.metrics.losses import Objective
from jft.utils import tree
from jft.weights.catalog import find_row

DIGITS = find_row("vgg_tiny", "digits04")
SPEC = Preprocess(size=32, resize=36, channels="BGR")
CLASSES = ["0", "1", "2", "3", "4"]


def card_info(class_names=CLASSES, **changes):
    said = {
        "jft": "0.1.0",
        "step": 1234,
        "config": {"solver": "steps", "batch_size": 32},
        "model": "vgg_tiny",
        "options": {},
        "objective": "softmax",
        "class_names": tuple(class_names),
        "preprocess": SPEC,
        "fit": "whole",
        "trained_on": DataRecord("digit_photos", "folder", "", 4321, None, None),
        "history": ({"step": 1234, "count": 555},),
        "learnt_validation": None,
        "weights": {
            "source": "mine.safetensors",
            "source_sha256": DIGITS.sha256,
            "weights": DIGITS.name,
            "dialect": "jft",
        },
    }
    return info_of(**{**said, **changes})


def evaluation_of(class_names=CLASSES, **more):
    per_class = {
        name: {"precision": number / 8, "recall": 0.5, "f1": None, "count": 80}
        for number, name in enumerate(class_names)
    }
    figures = {"accuracy": 0.8765, "loss": 0.7654, "count": 400, "parameters": 67890}
    figures |= {"top5": 0.9876} if len(class_names) > 5 else {}
    figures |= {"accuracy_interval": [0.8412, 0.9051], "calibration_error": 0.0987, "macro_f1": 0.8642}
    return {
        **{
            "dataset": "digit_photos",
            "split": "test",
            "learnt": 0,
            "validated": 0,
            **figures,
            "per_class": per_class,
            "temperature": None,
        },
        **more,
    }


def test_the_card_states_what_is_known():
    evaluation = evaluation_of(temperature=1.372, calibrated={"loss": 0.4321, "calibration_error": 0.0234})
    card = model_card(card_info(), evaluation, ["model.stablehlo", "model.onnx"])
    facts = ["vgg_tiny", "step 1,234", "67,890", "vgg_tiny.digits04", "mine.safetensors", DIGITS.sha256]
    facts += [f"License of the base weights | {DIGITS.license} |"]
    facts += ["digit_photos", "4,321", "400", "87.65%", "84.12% to 90.51%", "0.4321", "2.34%", "0.8642"]
    facts += ["temperature 1.372, fitted on 555 images", "test set is small", "4.9 points", "order BGR"]
    assert [fact for fact in facts if fact not in card] == []
    assert "0.7654" not in card and "9.87%" not in card  # without the temperature
    assert "Top-5" not in card  # of five classes
    six = tuple("abcdef")
    told = model_card(card_info(class_names=six), evaluation_of(six), [])
    assert "Top-5" in told and "98.76%" in told
    assert "/home/me" not in card  # where data lay is nobody's business
    assert "### model.onnx" in card and "### weights.safetensors" not in card
    assert re.search(r"^\| 3 \| 3 \| 80 \| 37\.50% \| 50\.00% \| - \|$", card, re.MULTILINE)


@pytest.mark.parametrize(("learnt", "images"), [(True, "4,876"), (False, "4,321")])
def test_a_head_that_was_solved_for_may_have_learnt_from_validation_too(learnt, images):
    card = model_card(card_info(learnt_validation=learnt), evaluation_of(), [])
    assert f"| Training images | {images} |" in card


def test_fewer_steps_than_an_epoch_has_did_not_see_all_images():
    card = model_card(card_info(step=3), evaluation_of(), [])
    assert "| Training images | at most 96 of 4,321, in 3 steps |" in card


def test_a_set_is_claimed_only_where_the_hash_is_its_own():
    row = find_row("squeezenet1_1", "torchvision")
    claimed = {"weights": row.name, "url": row.url, "license": row.license, "dialect": "torchvision"}
    manifest = {"source": "noise.pth", "source_sha256": "ab" * 32, **claimed}  # as any file was recorded before
    card = model_card(card_info(weights=manifest), evaluation_of(), [])
    assert "| Base weights | noise.pth (file not recognized) |" in card and "ab" * 32 in card
    assert "| License of the base weights | unknown (file not recognized) |" in card
    assert f"| Assumed of the base weights | layout and preprocessing of {row.name} |" in card
    assert row.url not in card and row.license not in card
    card = model_card(card_info(weights={**manifest, "source_sha256": row.sha256 + "0" * 56}), evaluation_of(), [])
    assert f"| Base weights | {row.name} |" in card and row.url in card and row.license in card


def test_the_card_states_what_is_not_known():
    card = model_card(card_info(weights={}), evaluation_of(), [])
    assert "trained from scratch" in card and "0.7654" in card and "not calibrated" in card
    several = evaluation_of(count=5000, mean_average_precision=0.61, macro_f1=None, accuracy_interval=None)
    several["per_class"] = {
        name: {"precision": 0.9, "recall": None, "f1": None, "average_precision": None, "count": 0} for name in CLASSES
    }
    card = model_card(card_info(objective="multilabel"), several, [])
    assert "Mean average precision | 61.00%" in card and "| 2 | 2 | 0 | 90.00% | - | - | - |" in card
    assert "test set is small" not in card and "5 of 5 classes have fewer than 30" in card
    assert "Macro F1" not in card and "interval" not in card


def test_odd_names_do_not_break_the_tables():
    names = ["plain", "a|b", "two\nlines", "`tick`", "\\|", " | "]
    record = DataRecord("odd|na\nme", "folder", "", 4321, None, None)
    card = model_card(card_info(names, trained_on=record), evaluation_of(names), [])
    tables = re.findall(r"(?:^\|.*\n)+", card, re.MULTILINE)
    assert len(tables) == 4
    for table in tables:
        cells = {len(re.findall(r"(?<!\\)\|", line.replace("\\\\", ""))) for line in table.splitlines()}
        assert len(cells) == 1, table
    assert len(tables[-1].splitlines()) == 2 + len(names)
    assert r"| two\\nlines |" in card and r"| a\|b |" in card


def blocks_of(card):
    """{heading: the code below it}."""
    return dict(re.findall(r"^##+ (\S+)\n(?:(?!#|`)[^\n]*\n)*```python\n(.*?)```", card, re.MULTILINE | re.DOTALL))


@pytest.mark.parametrize("fit", ["whole", "crop"])
@pytest.mark.parametrize(("size", "orientation"), [((61, 47), 1), ((40, 97), 6)])
def test_its_code_prepares_images_as_jft_does(tmp_path, monkeypatch, fit, size, orientation):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (*size, 3), np.uint8)
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(pixels).save("image.jpg", exif=exif)
    Image.fromarray(rng.integers(0, 256, (*size, 4), np.uint8)).save("clear.png", exif=exif)
    Image.fromarray(rng.integers(0, 4096, size, np.uint16)).save("deep.png", exif=exif)
    spec = dataclasses.replace(SPEC, max_value=4095.0, background="#102030")
    names = {}
    exec(blocks_of(model_card(card_info(fit=fit, preprocess=spec), evaluation_of(), []))["Preprocessing"], names)
    for name in ("image.jpg", "clear.png", "deep.png"):
        np.testing.assert_array_equal(names["read"](name), decode.decode(name, spec, fit=fit))


@pytest.mark.parametrize(("resize", "cut"), [(32, ""), (33, "[:, 0:32, 0:32]"), (36, "[:, 2:34, 2:34]")])
def test_its_code_for_torchvision_cuts_what_was_read_larger(resize, cut):
    info = card_info(preprocess=Preprocess(size=32, resize=resize, scale=0.5), fit="crop")
    name = "weights_torchvision.safetensors"
    code = blocks_of(model_card(info, evaluation_of(), [name]))[name]
    assert f"images = torch.from_numpy(images){cut} * 0.5\n" in code


def binary(source):
    """The first two of its classes, told apart by one sigmoid unit."""

    def read(allow_nonfinite):
        leaves = source.read(allow_nonfinite)
        return {name: leaf[..., 1:2].copy() if "/head/" in name else leaf for name, leaf in leaves.items()}

    options = {**source.options, "num_classes": 1}
    return dataclasses.replace(source, options=options, class_names=("0", "1"), objective="binary", read=read)


@pytest.mark.parametrize("temperature", [None, 1.7])
@pytest.mark.parametrize("kind", ["softmax", "binary"])
def test_its_code_uses_the_files(tmp_path, monkeypatch, one_device, kind, temperature):
    monkeypatch.chdir(tmp_path)
    source = open_source("vgg_tiny.digits04")
    source = binary(source) if kind == "binary" else dataclasses.replace(source, class_names=tuple(CLASSES))
    objective = Objective(kind, len(source.class_names))
    write_own(source, tmp_path / "weights.safetensors")
    variables, side = tree.unflatten(source.read(False)), source.spec.resize
    predict = stablehlo.make_predict(source.build(), variables, source.spec, objective, "crop", temperature or 1.0)
    (tmp_path / "model.stablehlo").write_bytes(stablehlo.serialize(predict, side))
    info = card_info(source.class_names, objective=kind, preprocess=source.spec, fit="crop")
    evaluation = evaluation_of(source.class_names, temperature=temperature)
    blocks = blocks_of(model_card(info, evaluation, ["model.stablehlo", "weights.safetensors"]))
    found = {}
    for name in ("weights.safetensors", "model.stablehlo"):
        names = {"images": np.random.default_rng(0).integers(0, 256, (3, side, side, 3), np.uint8)}
        exec(blocks[name], names)
        found[name] = names["probabilities"]
        assert found[name].shape == (3, len(source.class_names))
    np.testing.assert_allclose(*found.values(), atol=1e-6)
    assert found["model.stablehlo"].max(axis=1).min() < 0.99  # where a temperature is seen
