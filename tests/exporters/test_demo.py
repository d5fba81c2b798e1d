"""The page with the network inside: one file that loads nothing from elsewhere, and whose network is the run's."""

import base64
import gzip
import hashlib
import html.parser
import json
from importlib import resources

import numpy as np
import onnx_case
import pytest
import small_run

import jft
from jft.evaluation import gallery
from jft.evaluation.evaluate import Images, predict_run
from jft.exporters.demo import neighbors, page, runtime
from jft.exporters.demo.page import check_out, packed, write_demo
from jft.exporters.onnx import file as onnx_file
from jft.utils.text import html as escaped

pytestmark = [pytest.mark.xdist_group("run"), pytest.mark.usefixtures("quick")]


class Parsed(html.parser.HTMLParser):
    """Attributes of all tags, and the texts of scripts and styles by their id or tag."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.held, self._in = [], {}, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in = dict(attrs).get("id", tag) if tag in ("script", "style") else None

    def handle_endtag(self, tag):
        self._in = None

    def handle_data(self, data):
        if self._in:
            self.held[self._in] = self.held.get(self._in, "") + data


def unpacked(text):
    return gzip.decompress(base64.b64decode(text))


def test_the_runtime_is_what_it_says():
    folder = resources.files("jft.exporters.demo") / "runtime"
    told = (folder / "README.md").read_text()
    for name, digest in runtime.FILES.items():
        assert hashlib.sha256(gzip.decompress(runtime.read(name))).hexdigest() == digest
        assert f"| `{name}` |" in told and digest in told
    assert {path.name for path in folder.iterdir()} == {"README.md", *(f"{name}.gz" for name in runtime.FILES)}
    assert sum(len(runtime.read(name)) for name in runtime.FILES) < 4.5e6
    assert f"v{runtime.VERSION}".encode() in gzip.decompress(runtime.read("ort.wasm.min.mjs"))[:100]
    licenses = gzip.decompress(runtime.read("LICENSES.txt"))
    assert licenses.startswith(b"MIT License\n\nCopyright (c) Microsoft Corporation") and b"protobuf" in licenses


@onnx_case.needs_onnx
def test_a_page(tmp_path_factory, tmp_path, command):
    run, out = small_run.run(tmp_path_factory, "steps"), tmp_path / "demo.html"
    status, printed, _ = command("export", run, "--to", out, "--training-images", 7)
    assert status == 0 and f"\nwrote {out}: " in f"\n{printed}" and " on 30 test images\n" in printed
    text, held = out.read_text(), jft.load(run)
    parsed = Parsed(text)
    # Nothing is loaded: no address in an attribute, and a policy that allows the inline script and style alone.
    for tag, attributes in parsed.tags:
        for name in ("src", "href", "srcset", "action"):
            assert attributes.get(name, "data:,") == "data:,", f"<{tag} {name}>"
    (policy,) = (of["content"] for tag, of in parsed.tags if of.get("http-equiv") == "Content-Security-Policy")
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256(parsed.held[kind].encode()).digest()).decode()
        assert allowed[f"{kind}-src"].split()[0] == f"'sha256-{digest}'"
    assert allowed["default-src"] == "'none'" and allowed["connect-src"] == "blob:" and "unsafe-inline" not in policy
    assert "http:" not in parsed.held["script"] and "https:" not in parsed.held["script"]
    # What it holds.
    for part, name in (
        ("runtime-script", "ort.wasm.min.mjs"),
        ("runtime-loader", "ort-wasm-simd-threaded.mjs"),
        ("runtime-binary", "ort-wasm-simd-threaded.wasm"),
        ("license-texts", "LICENSES.txt"),
    ):
        assert hashlib.sha256(unpacked(parsed.held[part])).hexdigest() == runtime.FILES[name]
    settings = json.loads(parsed.held["settings"])
    shown = {small_run.CLASSES[1]: "6 | `six`\\x1b[31m\\u202e$x^$"}
    assert settings["classes"] == [shown.get(name, name) for name in held.class_names]
    assert len(settings["near"]["images"]) == 7 and settings["near"]["of"] == 90
    assert "&lt;b&gt;&amp;&#34;&#39;" in text and small_run.CLASSES[0] not in text and str(run.parent) not in text
    # Its network: probabilities with temperature, and features.
    (tmp_path / "network.onnx").write_bytes(unpacked(parsed.held["network"]))
    predicted = predict_run(run, Images())
    squares = np.stack([held.read(predicted.source.pixels(row, held.spec)) for row in range(5)])
    rows = onnx_file.read_as_given(tmp_path / "network.onnx")(squares)
    assert held.temperature != 1 and rows.shape == (5, 3 + settings["row"]["features"])
    np.testing.assert_allclose(rows[:, :3], held.predict(squares), atol=1e-5)
    np.testing.assert_allclose(rows[:, 3:], held.features(squares, held.stages[-2], pooled=True), atol=1e-5)
    # fc7 has no map, which the page says.
    assert settings["row"]["map"] is None and 'id="heat"' not in text and "There is no map of what speaks" in text
    # A page of jft may be replaced; another file is not.
    check_out(out)
    out.write_text("mine")
    status, _, error = command("export", run, "--to", out)
    assert status == 1 and "was not written by jft" in error and out.read_text() == "mine"


@onnx_case.needs_onnx
def test_a_network_that_says_something_else_is_not_kept(tmp_path_factory, tmp_path, monkeypatch):
    right = onnx_file.read_as_given
    monkeypatch.setattr(onnx_file, "read_as_given", lambda path: lambda images: right(path)(images) + 1e-3)
    with pytest.raises(ValueError, match=r"differ from the checkpoint's by up to 1\.0e-03, more than 0\.0001: nothing"):
        write_demo(small_run.run(tmp_path_factory, "steps"), tmp_path / "demo.html")
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_asked_for(tmp_path, command):
    for arguments, wrong in (
        ((), "give one of --out DIR, the folder to write, and --to FILE"),
        (("--out", "x", "--to", "x.html"), "give one of --out DIR"),
        (("--out", "x", "--training-images", 3), "--training-images belongs to the page: give --to PAGE.html"),
        (("--to", "x.html", "--no-preprocessing"), "--no-preprocessing belongs to the folder"),
        (("--to", tmp_path / "no" / "x.html"), "cannot be written: give an .html file in a folder that exists"),
        (("--to", tmp_path / "x.html", "--training-images", -1), "training_images = -1: give a number of images"),
    ):
        status, _, error = command("export", "nothing", *arguments)
        assert status == 1 and wrong in error


def test_a_network_that_browsers_cannot_hold_is_refused(monkeypatch):
    assert unpacked(packed(bytes(10**6), "")) == bytes(10**6)  # what counts is its size when compressed
    monkeypatch.setattr(page, "_MOST", 9e4)
    with pytest.raises(ValueError, match=r"takes 0 MB compressed, .* at most 0 MB: give --int8, or export"):
        packed(np.random.default_rng(0).bytes(10**5), "give --int8")


def test_training_images_come_in_turn_from_each_class():
    labels = np.array([0, 0, 0, 0, 1, 2, 2])
    assert neighbors.chosen(labels, 5).tolist() == [0, 1, 4, 5, 6]
    assert neighbors.chosen(labels, 100).tolist() == [*range(7)]
    assert neighbors.chosen(np.eye(3, dtype=int)[[0, 0, 2, 2]], 2).tolist() == [0, 2]


def test_known_features_are_near_themselves(tmp_path_factory):
    """As the page reads them: bfloat16, of length 1, each image's own row the nearest."""
    run = small_run.run(tmp_path_factory, "steps")
    held = jft.load(run)
    train = predict_run(run, Images()).trained.images("train")
    known = neighbors.collect(held, train, 9)
    halves = np.frombuffer(base64.b64decode(known["features"]), "<u2").astype(np.uint32) << 16
    features = halves.view(np.float32).reshape(9, -1)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=0.01)
    rows = neighbors.chosen(train.labels, 9)
    own = gallery.features(held, train)[rows]
    np.testing.assert_allclose((own @ features.T).argmax(1), np.arange(9))
    assert known["labels"] == [escaped(train.label(row)) for row in rows]
