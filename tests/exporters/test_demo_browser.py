"""The page with the network inside, in a browser: pixels, probabilities and maps as jft's, by hand and by keyboard."""

import base64
import csv
import io
import re
from importlib import resources

import chromium
import numpy as np
import onnx_case
import pytest
import small_run
from on_demand import on_demand
from PIL import Image

import jft
from jft.config import default_config
from jft.data import decode
from jft.data.transforms import Preprocess, stored_size
from jft.evaluation.evaluate import Images, predict_run
from jft.evaluation.gallery import grad_cam
from jft.exporters.demo.page import write_demo
from jft.training.loop import train

pytestmark = [
    pytest.mark.xdist_group("run"),
    pytest.mark.usefixtures("quick"),
    pytest.mark.slow,
    onnx_case.needs_onnx,
]

WAIT = 60_000  # milliseconds


@pytest.fixture(scope="module")
def browser():
    with chromium.launched() as opened:
        yield opened


@pytest.fixture
def open_demo(browser):
    """Opens a page from disk; what goes wrong in it, or leaves it, fails the test."""
    contexts, wrong = [], []

    def opened(path, **options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = chromium.watched(context, wrong, path.as_uri())
        page.goto(path.as_uri())
        says(page, "Ready.")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert wrong == []


def says(page, text):
    page.locator("#status", has_text=text).wait_for(timeout=WAIT)
    return page.locator("#status").inner_text()


def saved(page):
    """The rows of the table, as they are saved."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as CSV").click()
    text = download.value.path().read_bytes().decode()
    assert download.value.suggested_filename == "predictions.csv" and text.endswith("\r\n")
    return list(csv.DictReader(io.StringIO(text)))


def probabilities(row, class_names):
    pairs = {row[f"class{n}"]: float(row[f"probability{n}"]) for n in ("", *range(2, len(class_names) + 1))}
    return [pairs[name] for name in class_names]


def photograph(width, height, seed=0):
    """Shapes and noise, so that any shift or other filter changes many gray levels."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (height // 6 + 2, width // 6 + 2, 3), np.uint8))
    noise = rng.integers(-20, 21, (height, width, 3))
    return np.clip(np.asarray(small.resize((width, height))) + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("fit", ["crop", "whole"])
def test_pixels_are_jfts(browser, interpolation, antialias, fit):
    """Of a PNG to the gray level, turned by its EXIF tag; tall, wide, small and odd."""
    spec = Preprocess(size=97, resize=110, interpolation=interpolation, antialias=antialias)
    told = {
        **{"size": spec.size, "side": stored_size(spec, fit), "interpolation": interpolation, "fit": fit},
        **{"antialias": antialias, "background": [255, 255, 255], "maxPixels": 10**7},
    }
    page = browser.new_page()
    page.add_script_tag(content=(resources.files("jft.exporters.demo") / "resize.js").read_text())
    for turned, (width, height) in enumerate([(640, 361), (203, 700), (60, 41), (180, 240), (110, 110)]):
        image, file = Image.fromarray(photograph(width, height)), io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = [1, 6, 3, 1, 8][turned]
        image.save(file, "PNG", exif=exif)
        found = page.evaluate(
            """async ([encoded, spec]) => {
              const bytes = Uint8Array.from(atob(encoded), (c) => c.charCodeAt(0));
              const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
              return [...square(await createImageBitmap(new Blob([bytes]), options), spec)];
            }""",
            [base64.b64encode(file.getvalue()).decode(), told],
        )
        wanted = decode.decode(file.getvalue(), spec, fit=fit)
        assert np.abs(np.reshape(found, wanted.shape) - wanted.astype(int)).max() <= (0 if antialias else 1)
    page.close()


def small_page(factory, name):
    path = small_run.home(factory) / f"demo of {name}.html"
    if not path.exists():
        write_demo(small_run.run(factory, name), path, training_images=8 if name == "steps" else 0)
    return path


@pytest.mark.parametrize("name", ["steps", "binary", "several"])
def test_what_it_says_of_images(tmp_path_factory, tmp_path, open_demo, name):
    held, predicted = (opened(small_run.run(tmp_path_factory, name)) for opened in (jft.load, evaluated))
    paths = []
    for row in range(5):
        paths.append(tmp_path / f"=image,{row}.png")
        Image.fromarray(predicted.source.pixels(row, held.spec)).save(paths[-1])
    page = open_demo(small_page(tmp_path_factory, name))
    page.set_input_files("#files", [*paths, __file__])
    assert says(page, "classified.") == "5 images classified. 1 could not be read."
    rows = saved(page)
    assert [row["path"] for row in rows] == [*(f"'{path.name}" for path in paths), "test_demo_browser.py"]
    names, wanted = list(held.class_names), held.predict(paths)
    for row, each in zip(rows, wanted, strict=False):
        order = np.argsort(-each)[:5]
        assert [float(row[f"probability{n or ''}"]) for n in (0, *range(2, 1 + len(order)))] == pytest.approx(
            each[order], abs=1e-4
        )
        if name != "steps":  # whose names are escaped
            assert row["class"] == names[order[0]]
    assert rows[-1]["class"] == "" and page.locator("#near img").count() == (6 if name == "steps" else 0)
    shown = page.locator("#answer").inner_text()
    likely = [n for n in np.argsort(-wanted[0]) if wanted[0][n] >= 0.5]
    if name == "several":
        assert shown == (", ".join(names[n] for n in likely) or "none of the labels")
    elif name == "binary":
        assert shown == names[likely[0]]


def evaluated(run):
    return predict_run(run, Images())


def test_by_keyboard_paste_and_drop(tmp_path_factory, tmp_path, open_demo):
    page = open_demo(small_page(tmp_path_factory, "steps"))
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "choose"
    with page.expect_file_chooser() as chooser:
        page.locator("#choose").press("Enter")
    for number in range(2):
        Image.fromarray(photograph(30, 40, number)).save(tmp_path / f"{number}.jpg")
    chooser.value.set_files([tmp_path / "0.jpg", tmp_path / "1.jpg"])
    says(page, "2 images classified.")
    assert page.locator("#file").inner_text() == "0.jpg"
    second = page.get_by_role("button", name="1.jpg")
    second.press("Enter")
    page.locator("#file", has_text="1.jpg").wait_for(timeout=WAIT)
    assert second.get_attribute("aria-current") == "true"
    give = """([type, text]) => {
      const data = new DataTransfer();
      data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], `${type}.jpg`));
      const options = { bubbles: true, cancelable: true, clipboardData: data, dataTransfer: data };
      document.body.dispatchEvent(type === "paste" ? new ClipboardEvent(type, options) : new DragEvent(type, options));
    }"""
    encoded = base64.b64encode((tmp_path / "0.jpg").read_bytes()).decode()
    for kind in ("paste", "drop"):
        page.evaluate(give, [kind, encoded])
        assert re.fullmatch(rf"{kind}\.jpg: .+, \d+\.\d%\.", says(page, f"{kind}.jpg: "))
    assert page.locator("#images tbody tr").count() == 4
    page.get_by_role("button", name="Clear").press("Enter")
    assert not page.locator("#result").is_visible() and page.locator("#images tbody tr").count() == 0
    assert page.evaluate("document.activeElement.id") == "choose"
    page.locator("summary", has_text="Licenses").click()
    page.locator("#license-text", has_text="Copyright (c) Microsoft Corporation").wait_for(timeout=WAIT)


def test_cleared_while_it_runs_it_stays_ready(tmp_path_factory, tmp_path, open_demo):
    page = open_demo(small_page(tmp_path_factory, "steps"))
    Image.fromarray(photograph(30, 40)).save(tmp_path / "0.jpg")
    page.evaluate(
        """() => {
          const own = createImageBitmap;
          window.createImageBitmap = (...given) => { document.getElementById("clear").click(); return own(...given); };
        }"""
    )
    page.set_input_files("#files", [tmp_path / "0.jpg"])
    page.wait_for_function("document.getElementById('progress').hasAttribute('value')")  # it is through with the image
    page.evaluate("new Promise((resolve) => setTimeout(resolve, 50))")  # and has said so, if it does
    assert says(page, "").startswith("Ready.")


def test_without_a_network_it_takes_no_images(tmp_path_factory, tmp_path, browser):
    broken = re.sub(r'(id="network"[^>]*>)[^<]+', r"\1AAAA", small_page(tmp_path_factory, "steps").read_text())
    (tmp_path / "demo.html").write_text(broken)
    Image.fromarray(photograph(30, 40)).save(tmp_path / "0.jpg")
    page = browser.new_page()
    page.goto((tmp_path / "demo.html").as_uri())
    says(page, "could not be opened")
    page.set_input_files("#files", [tmp_path / "0.jpg"] * 2)
    assert page.locator("#images tbody tr").count() == 0 and "could not be opened" in says(page, "")
    page.close()


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_every_screen(tmp_path_factory, tmp_path, open_demo, width, scheme):
    path = small_page(tmp_path_factory, "steps")
    page = open_demo(path, viewport={"width": width, "height": 844}, color_scheme=scheme, has_touch=width < 500)
    names = [tmp_path / f"{'a long name ' * 9}{number}.jpg" for number in range(2)]
    for name in names:
        Image.fromarray(photograph(90, 60)).save(name)
    page.set_input_files("#files", names)
    says(page, "2 images classified.")
    assert chromium.overflow(page) <= 0
    assert page.get_by_role("button", name="Take a photo").is_visible() == (width < 500)
    colors = "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    ink, paper = (sum(map(int, color[4:-1].split(","))) for color in page.evaluate(colors))
    assert (ink > paper) == (scheme == "dark") and abs(ink - paper) > 400
    broken = "[...document.images].filter((i) => !i.complete || !i.naturalWidth).length"
    assert page.evaluate(broken) == 0 and page.locator("#near img").count() == 6


def flowers_run(real_data, workdir, model):
    """A head on the frozen, pretrained network, solved for."""
    own = {
        "squeezenet1_1": {"weights": "caffe", "weights_path": "squeezenet_v1.1.npy", "freeze": "fire9"},
        "efficientnet_lite0": {"weights": "efficientnet_lite", "weights_path": "", "freeze": "top"},
    }[model]
    config = default_config()
    config.update(
        {
            **{"dataset": "folder", "data_dir": str(real_data / "flowers" / "flower_photos"), "model": model},
            **{"head": "linear", "solver": "lbfgs", "flip": False, "features_dir": str(workdir.parent / "features")},
            **own,
            "weights_path": str(real_data / "weights" / own["weights_path"]),
        }
    )
    train(config, workdir)
    return workdir


@on_demand("small networks in test_what_it_says_of_images")
@pytest.mark.parametrize("model", ["squeezenet1_1", "efficientnet_lite0"])
def test_photographs(real_data, tmp_path, open_demo, model):
    """20 JPEGs that the network has not seen: probabilities, classes, Grad-CAM."""
    run = flowers_run(real_data, tmp_path / "run", model)
    write_demo(run, tmp_path / "demo.html", training_images=50)
    held, predicted = jft.load(run), evaluated(run)
    paths = [predicted.source.images[row] for row in np.linspace(0, 109, 20).round().astype(int)]
    page = open_demo(tmp_path / "demo.html")
    page.set_input_files("#files", paths)
    says(page, "20 images classified.")
    found = np.array([probabilities(row, held.class_names) for row in saved(page)])
    wanted = held.predict(paths)
    print(f"{model}: probabilities within {np.abs(found - wanted).max():.1e}")
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    np.testing.assert_array_equal(found.argmax(1), wanted.argmax(1))
    opacity = page.evaluate(
        """() => {
          const { width, height } = document.getElementById("heat");
          const { data } = document.getElementById("heat").getContext("2d").getImageData(0, 0, width, height);
          return [...data].filter((_, i) => i % 4 === 3);
        }"""
    )
    cam = Image.fromarray(grad_cam(held, paths[0])[0]).resize((224, 224), Image.Resampling.BILINEAR)
    heat = np.asarray(cam) / np.asarray(cam).max()
    np.testing.assert_allclose(np.reshape(opacity, (224, 224)) / 255, 0.65 * heat, atol=0.02)
