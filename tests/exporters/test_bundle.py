"""`jft export`: what leaves says of images what the run says, as another process finds, and is whole or not there."""

import dataclasses
import importlib.util
import json
import logging
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import onnx_case
import pytest
import safetensors.numpy
import small_digits
import small_files
import small_run
from on_demand import on_demand

import jft
from jft.cli import export as cli_export
from jft.evaluation import evaluate, open_model
from jft.evaluation.evaluate import Images, predict_run
from jft.exporters import bundle, check, formats, stablehlo
from jft.exporters.format import Format
from jft.exporters.onnx import file as onnx_file
from jft.exporters.onnx import int8
from jft.training.loop import train

# One worker trains for all of them.
pytestmark = [pytest.mark.xdist_group("run"), pytest.mark.usefixtures("quick")]

FILES = {"README.md", "model.stablehlo", "weights.safetensors"}
if importlib.util.find_spec("onnx") and importlib.util.find_spec("onnxruntime"):
    FILES.add("model.onnx")


@pytest.fixture
def in_this_process(monkeypatch):
    """Opens the files without a process of their own, which takes seconds; one test has it."""
    asked = []

    def run(command, **options):
        assert command[1:3] == ["-m", "jft.exporters.check"]
        asked.append(command)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", command[2:])
            check.main()
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(bundle.subprocess, "run", run)
    return asked


def read(image, card):
    """An image as the code in the card reads it."""
    code = card.partition("```python\n")[2].partition("```")[0]
    names = {}
    exec(code.rpartition("\nimages")[0], names)
    return names["read"](image)


def test_an_export(tmp_path_factory, tmp_path):
    """By the command's own way, a process of their own opening the files."""
    run, out = small_run.run(tmp_path_factory, "steps"), tmp_path / "out"
    bundle.ship(run, out)
    assert {path.name for path in out.iterdir()} == FILES
    predicted = predict_run(run, Images())
    held = jft.load(run)
    assert held.temperature != 1
    card = (out / "README.md").read_text()
    paths = list(predicted.source.images[:11])
    # Without jft: images read as the card says, through what JAX alone opens; temperature and all.
    images = np.stack([read(path, card) for path in paths])
    called = jax.export.deserialize(bytearray((out / "model.stablehlo").read_bytes()))
    np.testing.assert_allclose(jax.jit(called.call)(images), held.predict(paths), atol=1e-5)
    assert np.abs(held.predict(paths) - held.predict(paths, calibrated=False)).max() > 0.01
    # Bare weights, from whose file alone a predictor is made.
    again = jft.load(out / "weights.safetensors")
    assert again.class_names == held.class_names and (again.spec, again.fit) == (held.spec, held.fit)
    assert again.info is None and again.temperature == 1
    np.testing.assert_allclose(again.predict(paths), held.predict(paths, calibrated=False), atol=1e-5)
    for name in FILES - {"README.md"}:
        assert f"### {name}" in card
    assert ("### model.onnx" in card) == ("model.onnx" in FILES) and "### weights_torchvision" not in card
    result = json.loads((run / "eval.json").read_text())
    assert f"Accuracy | {result['accuracy']:.2%}" in card and r"6 \| \`six" in card
    assert str(run.parent) not in card and f"temperature {held.temperature:.4g}, fitted on 30 images" in card


@pytest.mark.parametrize("name", ["binary", "several"])
def test_other_objectives(tmp_path_factory, tmp_path, in_this_process, name):
    run = small_run.run(tmp_path_factory, name)
    files = bundle.ship(run, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES and len(in_this_process) == 1
    kept = {file.name: file for file in files if not file.why}
    assert set(kept) == FILES - {"README.md"}
    for file in kept.values():
        assert file.error <= 1e-5 and file.size == (tmp_path / "out" / file.name).stat().st_size
    left_out = {file.name: str(file) for file in files if file.why}
    why = left_out["weights_torchvision.safetensors"]
    assert why.startswith("weights_torchvision.safetensors: skipped, torchvision has no such vgg_tiny: its vgg11 has ")
    assert "--format" not in why  # which this verb does not have
    predicted, held = predict_run(run, Images()), jft.load(run)
    images = np.stack([held.read(predicted.source.pixels(row, held.spec)) for row in range(11)])
    plain, exact = (held.predict(images, calibrated=calibrated) for calibrated in (False, True))
    np.testing.assert_allclose(jft.load(tmp_path / "out" / "weights.safetensors").predict(images), plain, atol=1e-5)
    np.testing.assert_allclose(stablehlo.read(tmp_path / "out" / "model.stablehlo")(images), exact, atol=1e-5)
    assert (np.abs(exact - plain).max() > 0.01) == (predicted.trained.info.temperature is not None)
    if name == "binary":
        np.testing.assert_allclose(exact.sum(1), 1, atol=1e-5)
    else:
        assert np.abs(exact.sum(1) - 1).max() > 0.1


@onnx_case.needs_onnx
def test_a_network_without_its_preprocessing(tmp_path_factory, tmp_path, monkeypatch, in_this_process, command):
    """By the command, and used as its card says."""
    run, out = small_run.run(tmp_path_factory, "steps"), tmp_path / "out"
    status, printed, _ = command("export", run, "--out", out, "--no-preprocessing")
    assert status == 0 and "model.onnx: " in printed and "model.onnx: skipped" not in printed
    card, held = (out / "README.md").read_text(), jft.load(run)
    assert "\nmodel.stablehlo does the rest. With the other files, your code must do it: " in card
    code = card.partition("### model.onnx")[2].partition("```python\n")[2].partition("```")[0]
    paths = list(predict_run(run, Images()).source.images[:3])
    names = {"images": np.stack([read(path, card) for path in paths])}
    monkeypatch.chdir(out)
    exec(code, names)
    assert names["images"].shape == (3, 3, held.spec.size, held.spec.size) and names["images"].dtype == np.float32
    np.testing.assert_allclose(names["probabilities"], held.predict(paths), atol=1e-5)


@pytest.fixture
def onnx_alone(monkeypatch):
    monkeypatch.setattr(formats, "FORMATS", (onnx_file.FORMAT,))


@onnx_case.needs_onnx
def test_a_quantized_network(tmp_path_factory, tmp_path, in_this_process, onnx_alone, command):
    run, out = small_run.run(tmp_path_factory, "steps"), tmp_path / "out"
    logging.disable(logging.INFO)
    try:
        status, printed, _ = command("export", run, "--out", out, "--int8")
        assert logging.root.manager.disable == logging.INFO  # as it was
    finally:
        logging.disable(logging.NOTSET)
    card, held = (out / "README.md").read_text(), jft.load(run)
    (told,) = (line for line in printed.splitlines() if line.startswith("model_int8.onnx: "))
    assert status == 0 and "on 30 test images (McNemar's exact p = " in told and told.partition("MB, ")[2] in card
    images = np.stack([held.read(path) for path in predict_run(run, Images()).source.images])
    found, whole = (onnx_file.read(out / name)(images) for name in ("model_int8.onnx", "model.onnx"))
    assert 1e-5 < np.abs(found - whole).max() < 0.2 and np.abs(found.sum(1) - 1).max() < 1e-5
    labels = predict_run(run, Images()).source.labels
    accuracies = [f"{(each.argmax(1) == labels).mean():.2%}" for each in (found, whole)]
    assert "accuracy {}, in float32 {}, on 30".format(*accuracies) in told
    kinds = [node.op_type for node in pytest.importorskip("onnx").load(out / "model_int8.onnx").graph.node]
    assert kinds.count("DequantizeLinear") > 8 and "QuantizeLinear" in kinds


@onnx_case.needs_onnx
def test_a_quantized_network_that_is_worse_is_not_kept(
    tmp_path_factory, tmp_path, monkeypatch, in_this_process, onnx_alone
):
    """By McNemar's test, with both figures; and what cannot be quantized is said before anything is written."""
    monkeypatch.setattr(int8, "_quantize", lambda path, out, images: shutil.copy(path, out))
    right = onnx_file.read_as_given

    def turned(path, threads=0):
        network = right(path, threads)
        return lambda images: np.roll(network(images), path.name == int8.NAME, axis=1)

    monkeypatch.setattr(onnx_file, "read_as_given", turned)
    run = small_run.run(tmp_path_factory, "steps")
    worse = r"significantly worse, so it is not kept: int8: accuracy [\d.]+%, in float32 [\d.]+%, on 30 test images"
    with pytest.raises(ValueError, match=worse):
        bundle.ship(run, tmp_path / "out", int8=True)
    with pytest.raises(ValueError, match="needs images with one label each: leave int8 out"):
        bundle.ship(small_run.run(tmp_path_factory, "several"), tmp_path / "out", int8=True)
    with pytest.raises(ValueError, match="with its preprocessing inside: leave out one of the two"):
        bundle.ship(run, tmp_path / "out", int8=True, preprocessing=False)
    assert list(tmp_path.iterdir()) == []


def check_torchvision(run, out):
    files = {file.name: file for file in bundle.ship(run, out)}
    written = files["weights_torchvision.safetensors"]
    assert not written.why and written.error <= 1e-5
    assert {path.name for path in out.iterdir()} == FILES | {"weights_torchvision.safetensors"}
    names = safetensors.numpy.load_file(out / "weights_torchvision.safetensors")
    assert any(name.startswith("features.0.") for name in names)
    assert "torchvision.models." in (out / "README.md").read_text()


def test_what_torchvision_has_too(tmp_path, monkeypatch, in_this_process):
    small_files.shrink(monkeypatch)
    own = {"model": "vgg11", "weights": "", "image_size": 0, "freeze": "fc7", "solver": "ridge", "validation": 0}
    train(
        small_digits.make(tmp_path / "features", regularization=(1e-2,), examples_per_class=4, **own), tmp_path / "run"
    )
    monkeypatch.setattr(open_model, "restore", None)  # once is enough: the run may go on meanwhile
    check_torchvision(tmp_path / "run", tmp_path / "out")


@on_demand("a network of real size")
def test_a_published_network(tmp_path):
    own = {"model": "resnet18", "weights": "", "image_size": 64, "freeze": "layer4", "steps": 1, "batch_size": 8}
    train(small_digits.make(tmp_path / "features", examples_per_class=4, **own), tmp_path / "run")
    check_torchvision(tmp_path / "run", tmp_path / "out")


def test_a_run_in_bfloat16(tmp_path_factory, tmp_path, monkeypatch, in_this_process):
    """What was computed coarsely is computed in float32 from there on, alike in every file."""
    restore = evaluate.restore

    def coarse(*given):
        trained = restore(*given)
        return dataclasses.replace(trained, model=trained.model.clone(dtype=jnp.bfloat16))

    monkeypatch.setattr(evaluate, "restore", coarse)
    files = [file for file in bundle.ship(small_run.run(tmp_path_factory, "steps"), tmp_path / "out") if not file.why]
    assert len(files) == len(FILES) - 1 and max(file.error for file in files) <= 1e-5


@pytest.mark.parametrize("name", ["model.stablehlo", "weights.safetensors"])
def test_what_says_something_else_is_not_kept(tmp_path_factory, tmp_path, monkeypatch, in_this_process, name):
    """A weight is changed, or the temperature forgotten, after the file was written."""
    right = next(row for row in formats.FORMATS if row.name == name)

    def wrong(content, path):
        right.write(content, path)
        if name == "model.stablehlo":
            predictor = content.predictor
            wrong_one = predictor.model, predictor.variables, predictor.spec, predictor.objective, predictor.fit
            path.write_bytes(stablehlo.serialize(stablehlo.make_predict(*wrong_one), predictor.side))
        else:
            with safetensors.safe_open(path, "numpy") as file:
                about, leaves = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            leaves["params/head/head/bias"] = leaves["params/head/head/bias"] + np.float32([0.01, 0, 0])
            safetensors.numpy.save_file(leaves, path, about)
        return ""

    tampered = tuple(dataclasses.replace(row, write=wrong) if row is right else row for row in formats.FORMATS)
    monkeypatch.setattr(formats, "FORMATS", tampered)
    with pytest.raises(
        ValueError, match=rf"{name} gives probabilities that differ from .* by up to \d.*: nothing was kept"
    ):
        bundle.ship(small_run.run(tmp_path_factory, "steps"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("complete", [True, False])
def test_a_format_is_one_row(tmp_path_factory, tmp_path, monkeypatch, in_this_process, command, complete):
    """It is written, read again, compared with or without temperature, and described in the card."""
    own = formats.FORMATS[0 if complete else 2]
    assert own.complete == complete
    row = Format("mine.bin", lambda info, metrics: [f"For {info.model}."], complete, own.write, own.read)
    refused = Format("never.bin", own.usage, complete, lambda content, path: "it never works", own.read)
    monkeypatch.setattr(formats, "FORMATS", (row, refused))
    run, out = small_run.run(tmp_path_factory, "steps"), tmp_path / "out"
    status, printed, _ = command("export", run, "--out", out)
    assert status == 0 and "mine.bin: " in printed and "never.bin: skipped, it never works\n" in printed
    assert {path.name for path in out.iterdir()} == {"README.md", "mine.bin"}
    card = (out / "README.md").read_text()
    assert "### mine.bin\n\nFor vgg_tiny.\n" in card and "never.bin" not in card.partition("## Use")[2]
    monkeypatch.setattr(formats, "FORMATS", (dataclasses.replace(row, complete=not complete),))
    with pytest.raises(ValueError, match=r"mine\.bin gives probabilities that differ from the checkpoint's"):
        bundle.ship(run, tmp_path / "other")


def test_the_help_names_every_format():
    assert [row.name for row in formats.FORMATS if f"\n  {row.name} " not in cli_export.__doc__] == []


def test_what_cannot_be_opened_is_not_kept(tmp_path_factory, tmp_path, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "Traceback ...\nValueError: model.stablehlo is no function\n")
    monkeypatch.setattr(bundle.subprocess, "run", lambda *command, **options: failed)
    with pytest.raises(ValueError, match=r"could not be loaded again, so nothing was kept: ValueError: "):
        bundle.ship(small_run.run(tmp_path_factory, "steps"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_stays(tmp_path_factory, tmp_path, monkeypatch, command):
    run = small_run.run(tmp_path_factory, "steps")
    monkeypatch.setattr("jft.evaluation.evaluate.predict_run", None)  # it is said before anything is computed
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    status, printed, error = command("export", run, "--out", tmp_path / "out")
    assert (status, printed) == (1, "")
    assert (
        error
        == f"error: {tmp_path / 'out'} exists already and is not overwritten: give another folder, or remove it.\n"
    )
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]
    status, _, error = command("export", run, "--out", tmp_path / "nowhere" / "out")
    assert status == 1 and f"folder {tmp_path / 'nowhere'} does not exist: create it" in error


def test_data_that_lie_elsewhere_now(tmp_path_factory, tmp_path, monkeypatch, in_this_process, command):
    """And ONNX has no word for the model: the other files are written all the same."""

    def refuse(*given, **options):
        raise ValueError("stage 'conv1' has no translation to ONNX: JAX's primitive 'fft'")

    monkeypatch.setattr(onnx_file, "write", refuse)
    monkeypatch.setattr(onnx_file, "missing", str)
    run = small_run.run(tmp_path_factory, "steps")
    moved = shutil.copytree(small_run.images(tmp_path_factory), tmp_path / "moved")
    status, printed, _ = command("export", run, "--out", tmp_path / "out", "--data", moved)
    assert status == 0 and printed.splitlines()[-1] == f"wrote {tmp_path / 'out'}, with a model card in README.md"
    lines = printed.splitlines()
    assert any(line.startswith("model.stablehlo: ") and "of the checkpoint's" in line for line in lines)
    assert any(line.startswith("weights_torchvision.safetensors: skipped, ") for line in lines)
    assert "model.onnx: skipped, stage 'conv1' has no translation to ONNX: JAX's primitive 'fft'" in lines
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES - {"model.onnx"}
