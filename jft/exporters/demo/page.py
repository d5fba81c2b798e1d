"""Writes the page: the network, ONNX Runtime Web, and what the run says of itself, in one HTML file."""

import base64
import dataclasses
import gzip
import hashlib
import json
import tempfile
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from PIL import ImageColor

from jft.data.source import Source
from jft.evaluation import results
from jft.exporters import model_card
from jft.exporters.demo import neighbors, runtime
from jft.exporters.demo.network import Row, make_answer
from jft.exporters.onnx import file as onnx_file
from jft.exporters.onnx import int8 as int8_file
from jft.exporters.onnx.int8 import Judged
from jft.exporters.opened import LIMIT, Opened, open_run
from jft.utils.files import check_folder, written_whole
from jft.utils.option_names import option
from jft.utils.templates import environment
from jft.utils.text import html
from jft.utils.version import __version__

# In this order they are one script.
_SCRIPTS = ("resize.js", "network.js", "drawing.js", "table.js", "app.js")
_COLORS = 32  # of the heat map; the page interpolates between them
_MOST = 380e6  # bytes, in base64 just under the 2**29 characters that one text has in Chromium
_WRITTEN_BY = 'name="generator" content="jft'


@dataclasses.dataclass(frozen=True)
class Demo:
    """A page that was written.

    Attributes:
      path: the file.
      size: bytes.
      error: largest difference of a probability between its network, run by ONNX Runtime, and the checkpoint.
      images: number of test images on which they were compared.
      int8: figures of the network that the page holds instead, quantized; None: it is that in float32.
    """

    path: Path
    size: int
    error: float
    images: int
    int8: Judged | None

    def __str__(self) -> str:
        if self.int8:
            return f"{self.path}: {self.size / 1e6:.1f} MB, {self.int8}"
        return (
            f"{self.path}: {self.size / 1e6:.1f} MB, probabilities within {self.error:.1e} of the checkpoint's on "
            f"{self.images} test images"
        )


def write_demo(
    workdir: str | Path,
    out: str | Path,
    *,
    data_dir: str | None = None,
    data: Source | None = None,
    training_images: int = 0,
    int8: bool = False,
) -> Demo:
    """Writes one HTML file that classifies images in a browser, from disk and without a network connection.

    Args:
      workdir: folder of a run.
      out: the file, .html; a page that jft wrote is replaced.
      data_dir: folder or file of the run's data now; None: the place of the training data.
      data: the images that the run was trained on, where it was given them in memory.
      training_images: how many training images to embed as small copies, among which the page shows the nearest; 0:
        none. Whoever has the page can see them.
      int8: quantize the network, see `int8.quantize`.

    Returns:
      What was written.

    Raises:
      ValueError: there is no run; `out` cannot be written; `onnx` or `onnxruntime` is not installed, or the network has
        no translation; a browser cannot read images as the run does; or the page's network does not reproduce the
        checkpoint's probabilities, is significantly worse in int8, or is too large for browsers. Nothing is kept.
    """
    out = Path(out)
    check_out(out)
    if training_images < 0:
        raise ValueError(f"training_images = {training_images}: give a number of images to embed, or 0 for none.")
    if why := onnx_file.missing():
        raise ValueError(f"the page's network is written as ONNX: {why}.")
    opened = open_run(workdir, data_dir, data)
    if white := opened.predictor.spec.max_value:
        raise ValueError(
            f"the run was trained on images of more than 8 bits (max_value = {white:g}), which browsers read "
            "differently: export it as a folder."
        )
    train = opened.trained.images("train", dataset=data, data_dir=data_dir) if training_images or int8 else None
    near = neighbors.collect(opened.predictor, train, training_images) if training_images and train else None
    network, row, error, count, judged = _network(opened, train if int8 else None, features=near is not None)
    page = _page(opened, Path(workdir).resolve().name, network, row, near, judged)
    with written_whole(out) as aside:
        aside.write_text(page, encoding="utf-8", errors="replace")  # class names may not be valid UTF-8
    return Demo(out, out.stat().st_size, error, count, judged)


def check_out(out: Path) -> None:
    """Raises a ValueError if the page cannot be written, or would replace a file that jft did not write."""
    if out.suffix != ".html" or out.is_dir() or not out.parent.is_dir():
        raise ValueError(f"{out} cannot be written: give an .html file in a folder that exists.")
    if out.exists():
        with out.open("rb") as file:
            if _WRITTEN_BY.encode() not in file.read(2000):
                raise ValueError(f"{out} exists and was not written by jft: give another file.")
    check_folder(out.parent, "give a file in another folder")


def _network(opened: Opened, train: Source | None, *, features: bool) -> tuple[bytes, Row, float, int, Judged | None]:
    """The network as ONNX, what it returns, and how far its probabilities on test images are from the checkpoint's.

    With training images it is quantized on them after that.
    """
    predictor = opened.predictor
    answer, row = make_answer(predictor, features=features)
    squares = opened.squares()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        root = type(predictor.model).__name__
        onnx_file.write(answer, path, (predictor.side, predictor.side, 3), root=root, result="row")
        run = onnx_file.read_as_given(path)
        found = np.concatenate([run(squares[i : i + 1])[:, : row.classes] for i in range(len(squares))])
        wanted = predictor.probabilities(opened.logits(squares), predictor.temperature)
        error = float(np.abs(found - wanted).max())
        if not error <= LIMIT:
            raise ValueError(
                f"the page's network gives probabilities that differ from the checkpoint's by up to {error:.1e}, more "
                f"than {LIMIT}: nothing was kept."
            )
        judged = None
        if train is not None:
            path, whole = path.with_name(int8_file.NAME), path
            judged = int8_file.quantize(whole, path, opened, train, row.classes)
        return path.read_bytes(), row, error, len(squares), judged


def _page(
    opened: Opened, name: str, network: bytes, row: Row, near: Mapping[str, Any] | None, judged: Judged | None
) -> str:
    info, result = opened.trained.info, opened.evaluation
    metrics = {**result, **result.get("calibrated", {}), "dataset": info.trained_on.name}
    script = "\n".join(["'use strict';", *map(_text, _SCRIPTS)])
    style = _text("style.css")
    base = info.provenance
    return (
        environment("jft.exporters", "demo", percent="%")
        .get_template("page.html")
        .render(
            name=name,
            version=__version__,
            classes=opened.predictor.class_names,
            several=opened.predictor.objective.multi_label,
            metrics=metrics,
            figures=model_card.figures(metrics),
            seen_before=results.seen_before(metrics),
            limits=model_card.limits(info, metrics),
            facts={
                "Network": f"{info.model}, {metrics['parameters']:,} parameters",
                "Trained on": f"{info.num_trained:,} images of {info.trained_on.name}",
                **(base.facts() if base else {"Weights": "none: trained from scratch"}),
                "Written by": f"jft {__version__}",
                "Run by": f"ONNX Runtime Web {runtime.VERSION}",
            },
            row=row,
            near=near,
            int8=judged,
            style=Markup(style),
            script=Markup(script),
            hashes={"style": _hash(style), "script": _hash(script)},
            settings=Markup(_settings(opened, row, near)),
            network=packed(network, "give another network" if judged else f"give {option('int8', True)}"),
            runtime={part: runtime.base64_of(part) for part in runtime.FILES},
        )
    )


def packed(network: bytes, remedy: str) -> str:
    """A network as gzip in base64; a ValueError with the remedy if a browser cannot hold that."""
    held = gzip.compress(network, mtime=0)
    if len(held) > _MOST:
        raise ValueError(
            f"the network takes {len(held) / 1e6:.0f} MB compressed, and browsers read at most {_MOST / 1e6:.0f} MB: "
            f"{remedy}, or export the run as a folder."
        )
    return base64.b64encode(held).decode()


def _settings(opened: Opened, row: Row, near: Mapping[str, Any] | None) -> str:
    """What the script is told, as JSON that may stand between tags."""
    from matplotlib import colormaps

    predictor, spec = opened.predictor, opened.predictor.spec
    told = {
        "classes": [html(name) for name in predictor.class_names],
        "several": predictor.objective.multi_label,
        "fit": predictor.fit,
        "side": predictor.side,
        "size": spec.size,
        "interpolation": spec.interpolation,
        "antialias": spec.antialias,
        "background": list(ImageColor.getrgb(spec.background or "black")[:3]),
        "maxPixels": predictor.max_image_pixels,
        "row": dataclasses.asdict(row),
        "colors": (255 * colormaps["inferno"](np.linspace(0, 1, _COLORS))[:, :3]).round().astype(int).tolist(),
        "near": near,
    }
    return json.dumps(told).replace("<", "\\u003c")


def _text(name: str) -> str:
    return (resources.files("jft.exporters.demo") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """As a content security policy names an inline script or style."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
