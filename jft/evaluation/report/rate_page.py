"""The page of a learning-rate range test."""

from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from jft.evaluation.report import charts
from jft.utils.files import written_whole
from jft.utils.text import html
from jft.utils.version import __version__

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="generator" content="jft {{ version }}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{{ name }}: learning rates</title>
<link rel="icon" href="data:,">
<style>
body { margin: 0 auto; padding: 1.25rem 1rem; max-width: 44rem; font: 16px/1.5 system-ui, sans-serif; }
svg { width: 100%; height: auto; }
</style>
</head>
<body>
<h1>{{ name }}</h1>
<p>{{ told }}</p>
{{ chart }}
<p>{{ about }}</p>
</body>
</html>
"""


def write_rate_page(
    path: Path,
    name: str,
    told: str,
    about: str,
    curve: tuple[Sequence[float], Sequence[float], Sequence[float]],
    marked: Sequence[float],
) -> None:
    """Writes the page, atomically; the other arguments are texts, and those of `charts.rate_curve`."""
    page = jinja2.Environment(autoescape=True, finalize=html, undefined=jinja2.StrictUndefined).from_string(_PAGE)
    chart = Markup(charts.rate_curve(*curve, marked))  # nosec: drawn here, and names are escaped in it
    text = page.render(version=__version__, name=name, told=told, about=about, chart=chart)
    with written_whole(path) as aside:
        aside.write_text(text, encoding="utf-8", errors="replace")
