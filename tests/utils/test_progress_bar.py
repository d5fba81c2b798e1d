"""The progress bar keeps its bar on a narrow terminal, and says more on a wide one."""

import io

import pytest

from jft.utils.progress_bar import ProgressBar

FIGURES = "loss 0.123, accuracy 88.1%, 1234 img/s, waiting for input 12%"


def line(columns, total, description="squeezenet1_1", figures=FIGURES):
    bar = ProgressBar(
        total=total, desc=description, unit="step", ncols=columns, file=io.StringIO(), mininterval=0, ascii=".#"
    )
    bar.set_postfix_str(figures, refresh=False)
    bar.n = total // 2
    return bar.format_meter(**bar.format_dict)


@pytest.mark.parametrize("columns", [60, 80, 100, 200])
@pytest.mark.parametrize("total", [60, 15_625, 1_000_000])
@pytest.mark.parametrize("description", ["", "vgg16", "a rather long name of a data set " * 3])
def test_the_bar_keeps_20_columns(columns, total, description):
    text = line(columns, total, description)
    assert len(text) <= columns
    assert text.count(".") + text.count("#") - text.count(".", text.rindex("|")) >= 20
    assert f"{total // 2}/{total}" in text


def test_what_fits_is_said():
    assert FIGURES in line(200, 60) and "squeezenet1_1:  50%" in line(200, 60) and "step/s" in line(200, 60)
    narrow = line(80, 60)
    assert "loss 0.123, accuracy 88.1%, 1234 img/s" in narrow and "waiting" not in narrow


def test_without_a_total():
    bar = ProgressBar(total=None, file=io.StringIO())
    bar.n = 7
    assert bar.format_meter(**bar.format_dict).startswith("7it")
