"""Images with predictions: what stands above them, and a file that is whole or not there."""

import numpy as np
import pytest
from PIL import Image

from jft.data import grid


def test_a_wrong_prediction_is_marked_in_the_text():
    assert grid.caption("rose", 0.934, "daisy") == "✗ rose 93%\ntrue: daisy"
    assert grid.caption("rose", 0.934, "rose") == "rose 93%\ntrue: rose"
    assert grid.caption("rose", 0.934, None) == "rose 93%"
    assert grid.caption("rose", None, None) == "rose"
    long = grid.caption("a name of a class " * 9, 0.5, "b" * 99).splitlines()
    assert max(map(len, long)) <= 26 and long[-2].endswith("… 50%") and long[-1].endswith("b…")


@pytest.mark.parametrize(("count", "across", "down"), [(1, 2, 1), (5, 5, 1), (7, 5, 2)])
def test_a_png_of_all_images(tmp_path, count, across, down):
    """Each of a color of its own, by which it is found; names are no mathematics."""
    colors = [(250, 40 * i, 100) for i in range(count)]
    images = [np.full((20 + i, 30, 3), color, np.uint8) for i, color in enumerate(colors)]
    names = ["$\\frac$"] * count
    grid.draw(tmp_path / "grid.png", images, names, [0.5] * count, [None] * count, title="$5 and $6")
    with Image.open(tmp_path / "grid.png") as drawn:
        assert drawn.format == "PNG" and drawn.size == (220 * across, 275 * down + 40)
        found = set(drawn.convert("RGB").get_flattened_data())
    assert found.issuperset(colors)
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]


@pytest.mark.parametrize(
    ("sizes", "taken"),
    [((9, 9, 9), (3, 2, 2)), ((1, 9, 2), (1, 4, 2)), ((2, 1), (2, 1)), ((1,) * 9, (1,) * 7 + (0, 0))],
)
def test_a_grid_is_spread_over_folders(sizes, taken):
    assert tuple(grid.spread(sizes, 7)) == taken


def test_wrong_ones_have_a_frame(tmp_path):
    frames = []
    for label in ("a", "b", None):
        grid.draw(tmp_path / "grid.png", [np.zeros((9, 9, 3), np.uint8)], ["a"], [1.0], [label])
        pixels = np.asarray(Image.open(tmp_path / "grid.png").convert("RGB")).reshape(-1, 3)
        frames.append((pixels == (0xC6, 0x28, 0x28)).all(-1).sum())
    assert frames[0] == frames[2] == 0 and frames[1] > 1000


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("grid.txt", {}, r"grid.txt has the suffix '.txt': a grid is drawn as .png, .svg, .pdf"),
        ("grid.png", {"labels": []}, "1 images with 1 predictions, 1 probabilities and 0 labels"),
        ("grid.png", dict.fromkeys(("images", "predicted", "probabilities", "labels"), ()), "0 images"),
        ("grid.png", {"images": [np.zeros((2, 2, 2, 2), np.uint8)]}, "Invalid shape"),
    ],
)
def test_nothing_is_left_of_a_failure(tmp_path, name, changes, message):
    cell = {"images": [np.zeros((9, 9, 3), np.uint8)], "predicted": ["a"], "probabilities": [1.0], "labels": [None]}
    with pytest.raises((ValueError, TypeError), match=message):
        grid.draw(tmp_path / name, **{**cell, **changes})
    assert list(tmp_path.iterdir()) == []
