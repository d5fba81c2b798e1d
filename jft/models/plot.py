"""Draws a model as SVG or PNG: a box for each stage, auxiliary heads next to the stage that they read.

The layout is a list of boxes, lines and texts, in pixels from the upper left corner; both formats draw that list.
"""

import dataclasses
import functools
import os
from collections import Counter
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

from PIL import Image, ImageDraw, ImageFont

from jft.models.flops import LayerCosts, StageCosts
from jft.models.summary import FROZEN, PARTLY, TRAINABLE, Summary, human_flops
from jft.utils.files import check_new, written_whole

INK, GRAY, RULE = "#1b2733", "#5d6b79", "#aab4be"
# Fill, outline and accent of a box by what training does to its parameters; told apart without color vision too.
COLOURS = {
    TRAINABLE: ("#e9f2fb", "#b4d0ea", "#2b7bbf"),
    PARTLY: ("#fdf4e0", "#ecd7a2", "#d2951e"),
    FROZEN: ("#eeeff1", "#d3d7db", "#8f98a2"),
}
MARGIN, STAGE_WIDTH, HEAD_WIDTH, ACROSS, DOWN = 32, 680, 340, 44, 28
SCALE = 2  # pixels of a PNG per pixel of the layout
FONTS = "Aileron, Helvetica, Arial, sans-serif"


@dataclasses.dataclass(frozen=True)
class Box:
    """A rectangle with round corners."""

    x: float
    y: float
    width: float
    height: float
    fill: str
    outline: str
    radius: float = 9


@dataclasses.dataclass(frozen=True)
class Line:
    """A straight line."""

    x1: float
    y1: float
    x2: float
    y2: float
    color: str = RULE
    width: float = 1.5


@dataclasses.dataclass(frozen=True)
class Text:
    """A line of text on its baseline: `x` is where it begins, or where it ends if `right`."""

    x: float
    y: float
    text: str
    size: int = 13
    color: str = GRAY
    bold: bool = False
    right: bool = False


Item = Box | Line | Text


@dataclasses.dataclass(frozen=True)
class Drawing:
    """What to draw, the later over the earlier; `width` and `height` in pixels."""

    title: str
    width: int
    height: int
    items: list[Item]


def check_path(path: Path) -> None:
    """ValueError unless the path ends in .svg or .png and can be written."""
    if path.suffix.lower() not in WRITERS:
        raise ValueError(f"a graph is written as .svg or as .png, and {path.name!r} ends in neither.")
    check_new(path, force=True)


def write_graph(summary: Summary, path: str | os.PathLike) -> None:
    """Draws the model to a file, atomically; replaces an existing file.

    Args:
      summary: the model.
      path: a .svg, or a .png of two pixels for each of the layout.

    Raises:
      ValueError: see `check_path`.
    """
    path = Path(path)
    check_path(path)
    drawing = lay_out(summary)
    with written_whole(path) as aside:
        WRITERS[path.suffix.lower()](drawing, aside)


def lay_out(summary: Summary) -> Drawing:
    """Lays out the title, the legend, and the stages from top to bottom."""
    items: list[Item] = []
    y = _heading(items, summary)
    left, right = MARGIN + STAGE_WIDTH + ACROSS, MARGIN + STAGE_WIDTH
    middle, heads_end = 0.0, 0.0
    for stage in summary.stages.values():
        if stage.after is None:
            top = _arrow_down(items, y)
            y = top + _card(items, summary, stage, MARGIN, top, STAGE_WIDTH)
            middle = (top + y) / 2
        else:
            head = max(top, heads_end + 14)
            heads_end = head + _card(items, summary, stage, left, head, HEAD_WIDTH)
            _arrow_across(items, middle, min(max(middle, head + 20), heads_end - 20))
            right = left + HEAD_WIDTH
    return Drawing(summary.title, right + MARGIN, round(max(y, heads_end) + MARGIN), items)


def _heading(items: list[Item], summary: Summary) -> float:
    """Title, figures, legend and the box of the images; returns where that ends."""
    frozen = summary.num_trainable < summary.num_params
    trainable = f", {summary.num_trainable:,} of them trainable" if frozen else ""
    items.append(Text(MARGIN, 54, summary.title, 26, INK, bold=True))
    y = 80.0
    for line in (
        f"{summary.num_classes:,} classes  ·  {human_flops(summary.flops)} an image",
        f"{summary.num_params:,} parameters{trainable}",
    ):
        items.append(Text(MARGIN, y, line, 14))
        y += 20
    states = {summary.state(stage) for stage in summary.stages.values()}
    if states != {TRAINABLE}:
        x = MARGIN
        for state in (state for state in COLOURS if state in states):
            fill, outline, accent = COLOURS[state]
            items += [Box(x, y, 26, 16, fill, outline, 4), Box(x + 5, y + 4, 3, 8, accent, accent, 1.5)]
            items.append(Text(x + 34, y + 12.5, state))
            x += 34 + text_width(state, 13) + 26
        y += 32
    side = f"{summary.size} x {summary.size} x 3"
    items.append(Box(MARGIN, y, STAGE_WIDTH, 34, "#ffffff", RULE, 17))
    items.append(Text(MARGIN + 24, y + 22, "images", 14, INK))
    items.append(Text(MARGIN + STAGE_WIDTH - 18, y + 22, side, 14, INK, right=True))
    return y + 34


def _card(items: list[Item], summary: Summary, stage: StageCosts, x: float, y: float, width: float) -> float:
    """The box of a stage or of an auxiliary head; returns its height."""
    state = summary.state(stage)
    fill, outline, accent = COLOURS[state]
    left, right = x + 24, x + width - 18
    figures = f"{stage.num_params:,} params  ·  {human_flops(stage.flops)}"
    lines = wrap(in_short(stage.layers), right - left, 13)
    if text_width(lines[-1], 13) + 24 + text_width(figures, 13) > right - left:
        lines.append("")  # the figures end the last line, or have one of their own
    height = 46 + 19 * len(lines)
    items += [Box(x, y, width, height, fill, outline), Box(x + 9, y + 11, 4, height - 22, accent, accent, 2)]
    items.append(Text(left, y + 28, stage.name, 17, INK, bold=True))
    note = [state] * (state != TRAINABLE) + ["in training only"] * (stage.after is not None)
    if note:
        items.append(Text(left + 1.1 * text_width(stage.name, 17) + 10, y + 28, ", ".join(note)))
    items.append(Text(right, y + 28, " x ".join(map(str, stage.output)), 15, INK, right=True))
    items += [Text(left, y + 50 + 19 * i, line) for i, line in enumerate(lines) if line]
    items.append(Text(right, y + 31 + 19 * len(lines), figures, right=True))
    return height


def _arrow_down(items: list[Item], y: float) -> float:
    """From the end of a box to the next one, whose top is returned."""
    x, end = MARGIN + STAGE_WIDTH / 2, y + DOWN - 3
    items += [Line(x, y + 3, x, end), Line(x - 5, end - 5, x, end), Line(x + 5, end - 5, x, end)]
    return y + DOWN


def _arrow_across(items: list[Item], start: float, end: float) -> None:
    """From the side of a stage to that of its auxiliary head, by a corner if they are not level."""
    x, tip = MARGIN + STAGE_WIDTH, MARGIN + STAGE_WIDTH + ACROSS - 3
    corner = x + ACROSS / 2
    items += [Line(x + 3, start, corner, start), Line(corner, start, corner, end), Line(corner, end, tip, end)]
    items += [Line(tip - 5, end - 5, tip, end), Line(tip - 5, end + 5, tip, end)]


def in_short(layers: tuple[LayerCosts, ...]) -> list[str]:
    """Phrases that describe a stage: '3 x conv 3x3, 256'; 'conv 1x1: 64, 2 x 128'; 'BatchNorm'."""
    kinds: dict[str, Counter[int]] = {}
    for layer in layers:
        kinds.setdefault(layer.kind, Counter())[layer.output[-1]] += 1
    norm = kinds.pop("BatchNorm", None)
    phrases = []
    for kind, widths in kinds.items():
        counted = [(f"{n} x " if n > 1 else "", width) for width, n in widths.items()]
        if len(counted) == 1:
            phrases.append(f"{counted[0][0]}{kind}, {counted[0][1]}")
        else:
            phrases.append(f"{kind}: " + ", ".join(f"{times}{width}" for times, width in counted))
    return phrases + ["BatchNorm"] * (norm is not None)


def wrap(phrases: list[str], room: float, size: int) -> list[str]:
    """Joins phrases by dots into lines of at most `room` pixels; a phrase that is longer breaks at its commas."""
    lines = [""]
    for phrase in phrases:
        parts = [phrase] if text_width(phrase, size) <= room else phrase.replace(", ", ",\n").split("\n")
        for i, part in enumerate(parts):
            joined = f"{lines[-1]}{' ' if i else '  ·  '}{part}" if lines[-1] else part
            if text_width(joined, size) <= room or not lines[-1]:
                lines[-1] = joined
            else:
                lines.append(part)
    return lines


def text_width(text: str, size: int) -> float:
    """Width of a text in pixels."""
    return _font(SCALE * size).getlength(text) / SCALE


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _write_svg(drawing: Drawing, path: Path) -> None:
    width, height = drawing.width, drawing.height
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f"<title>{escape(drawing.title)}</title>",
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        f"<g font-family={quoteattr(FONTS)}>",
        *map(_svg, drawing.items),
        "</g>",
        "</svg>",
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _svg(item: Item) -> str:
    if isinstance(item, Box):
        place = f'x="{item.x:g}" y="{item.y:g}" width="{item.width:g}" height="{item.height:g}" rx="{item.radius:g}"'
        return f'<rect {place} fill="{item.fill}" stroke="{item.outline}"/>'
    if isinstance(item, Line):
        place = f'x1="{item.x1:g}" y1="{item.y1:g}" x2="{item.x2:g}" y2="{item.y2:g}"'
        return f'<line {place} stroke="{item.color}" stroke-width="{item.width:g}" stroke-linecap="round"/>'
    style = f'font-size="{item.size}" fill="{item.color}"'
    style += ' text-anchor="end"' if item.right else ""
    # Other fonts are wider than the one that the layout measured; bold ones have room.
    style += ' font-weight="bold"' if item.bold else f' textLength="{text_width(item.text, item.size):.1f}"'
    style += "" if item.bold else ' lengthAdjust="spacingAndGlyphs" xml:space="preserve"'
    return f'<text x="{item.x:.1f}" y="{item.y:g}" {style}>{escape(item.text)}</text>'


def _write_png(drawing: Drawing, path: Path) -> None:
    # Pillow smooths text but not shapes: those are drawn twice as large and reduced.
    fine = 2 * SCALE
    image = Image.new("RGB", (fine * drawing.width, fine * drawing.height), "#ffffff")
    draw = ImageDraw.Draw(image)
    for item in drawing.items:
        if isinstance(item, Box):
            corners = [fine * v for v in (item.x, item.y, item.x + item.width, item.y + item.height)]
            draw.rounded_rectangle(corners, fine * item.radius, item.fill, item.outline, width=fine)
        elif isinstance(item, Line):
            ends = [fine * v for v in (item.x1, item.y1, item.x2, item.y2)]
            draw.line(ends, item.color, width=round(fine * item.width))
    image = image.reduce(2)
    draw = ImageDraw.Draw(image)
    for text in (item for item in drawing.items if isinstance(item, Text)):
        place, anchor = (SCALE * text.x, SCALE * text.y), "rs" if text.right else "ls"
        for dx in range(1 + text.bold * text.size // 12):  # Pillow's font has no bold: again, a pixel further
            draw.text((place[0] + dx, place[1]), text.text, text.color, _font(SCALE * text.size), anchor)
    image.save(path, "PNG", dpi=(72 * SCALE, 72 * SCALE))


WRITERS = {".svg": _write_svg, ".png": _write_png}
