"""The one style of the book's figures and tables, and how a page shows them.

A figure is shown as inline SVG with its caption and alternative text, so that it is sharp on a phone and its text
takes the colour of the page, light or dark.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import re
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text
from matplotlib.textpath import text_to_path
from pandas.io.formats.style import Styler
from PIL import Image

# Okabe and Ito's colours, told apart by colour-blind readers and on light and dark pages
OURS, PUBLISHED, CONTROL, SECOND, MUTED = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A8A8A"
THEMED = {"--tb-ours": OURS, "--tb-published": PUBLISHED, "--tb-control-2": CONTROL, "--tb-control": MUTED}
INK = "#010203"  # stands for the page's own text colour
WIDTH = 4.8  # inches: about the width of a phone, so that text of 9.5 points is nowhere too small
POINTS = 72  # in an inch
SIGN = 13  # points: the line of a mark at the foot of a figure
CHANCE = 0.5
INTERVAL, NO_BREAK = re.compile(r"\([^()\s]+ to [^()\s]+\)"), "\N{NO-BREAK SPACE}"
SENTENCE, WORD = 40, 20  # characters: a longer cell of a table, or a longer word in it, has a width of its own

STYLE = {
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "font.size": 9.5,
    "font.sans-serif": ["DejaVu Sans", "Verdana", "sans-serif"],
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "tumorbench",
}


class Shown:
    """A figure as a page shows it: inline SVG, caption below, ``alt`` for those who do not see it.

    ``mark`` ("phantom", "untrained") is written into the figure and opens its caption and its ``alt``.
    """

    def __init__(self, figure: Figure, caption: str, alt: str, mark: str = ""):
        if mark:
            opening = f"{mark.upper()}: "
            caption, alt = (opening + text.removeprefix(opening) for text in (caption, alt))  # a title may begin so
            if mark not in (text.get_text() for text in figure.findobj(Text)):  # a montage has it in every tile
                _sign(figure, mark)
        self.svg, self.caption, self.alt = inline_svg(figure, alt), caption, alt

    def _repr_html_(self) -> str:
        caption = f"<figcaption>{html.escape(self.caption)}</figcaption>"
        return f'<figure class="tb-figure">{self.svg}{caption}</figure>'

    def __repr__(self) -> str:
        return f"Figure: {self.caption}"


class Several:
    """Figures of one cell, one below the other."""

    def __init__(self, shown: Sequence[Shown]):
        self.shown = list(shown)

    def _repr_html_(self) -> str:
        return "".join(each._repr_html_() for each in self.shown)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self.shown))


def _sign(figure: Figure, mark: str) -> None:
    """Write ``mark`` at the foot of a figure, which grows by a line, so that it lies on nothing."""
    before = figure.get_figheight()
    height = before + SIGN / POINTS
    figure.set_figheight(height)
    foot = 1 - before / height
    if figure.get_layout_engine() is not None:
        figure.get_layout_engine().set(rect=(0, foot, 1, 1 - foot))
    else:
        for axis in figure.axes:
            left, bottom, wide, high = axis.get_position().bounds
            axis.set_position((left, foot + bottom * (1 - foot), wide, high * (1 - foot)))
    figure.text(0.998, 0.004, mark, ha="right", va="bottom", fontsize=8.5, weight="bold", color=INK)


def inline_svg(figure: Figure, alt: str) -> str:
    """The figure as an ``<svg>`` element that fills its column and takes the page's text colour."""
    stream = io.StringIO()
    with matplotlib.rc_context(STYLE):
        figure.savefig(stream, format="svg", metadata={"Date": None})
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL).replace(INK, "currentColor")
    svg = svg.replace("image-rendering:crisp-edges;image-rendering:pixelated", "image-rendering:auto")
    svg = re.sub(r"(?<=base64,)[\sA-Za-z0-9+/=]+", lambda found: _smaller(found[0]), svg)
    for name, colour in THEMED.items():  # a page may define lighter shades for its dark theme
        svg = svg.replace(colour.lower(), f"var({name}, {colour})")
    # identifiers must differ between the figures of one page
    prefix = "f" + hashlib.sha256((alt + svg).encode()).hexdigest()[:8] + "-"
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{prefix}", svg)
    size = f'style="width:100%;height:auto;max-width:{WIDTH * 130:.0f}px"'
    opening = f' role="img" aria-label="{html.escape(alt, quote=True)}" {size}'
    return re.sub(r' width="[^"]*pt" height="[^"]*pt"', opening, svg, count=1)


def _smaller(png: str) -> str:
    """A base64 PNG without colour and transparency where it has none: a third of the size for a CT slice."""
    image = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA")
    red, green, blue, alpha = np.moveaxis(np.asarray(image), -1, 0)
    if (alpha == 255).all() and (red == green).all() and (red == blue).all():
        image = image.convert("L")
    stream = io.BytesIO()
    image.save(stream, format="png", optimize=True)
    return base64.b64encode(stream.getvalue()).decode()


def canvas(height: float, columns: int = 1, rows: int = 1, **options) -> tuple[Figure, np.ndarray]:
    """A figure of the book's width and ``height`` inches with its axes, (rows x columns,), row by row."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = np.atleast_1d(figure.subplots(rows, columns, **options)).ravel()
        for axis in axes:
            axis.grid(True)
            axis.set_axisbelow(True)
    return figure, axes


def sheet(height: float) -> tuple[Figure, Axes]:
    """A figure of the book's width for boxes and tiles: bare axes in points, y downwards; ``height`` in points."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, height / POINTS))
        axis = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH * POINTS), ylim=(height, 0))
        axis.set_axis_off()
    return figure, axis


def nothing(sentence: str) -> Figure:
    """What is shown where a figure would be empty: the sentence that says why."""
    figure, axis = sheet(30)
    with matplotlib.rc_context(STYLE):
        axis.text(WIDTH * POINTS / 2, 15, sentence, ha="center", va="center", parse_math=False)
    return figure


def percent(share: float, digits: int = 0) -> str:
    """``17.0 %`` of 0.17."""
    return f"{100 * share:.{digits}f} %"


def counted(n: int, unit: str) -> str:
    """``1 scan``, ``1,018 scans``, ``2 studies``, ``2 series``."""
    if n == 1 or unit.endswith("s"):
        return f"{n:,} {unit}"
    return f"{n:,} {unit[:-1]}ies" if unit.endswith("y") else f"{n:,} {unit}s"


def wrap(text: str, width: float, size: float, weight: str = "normal") -> list[str]:
    """Lines of ``text`` that are at most ``width`` points wide at a font size; a longer word is cut."""
    font = FontProperties(family=STYLE["font.sans-serif"][:1], size=size, weight=weight)
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        if _width(longer, font) <= width:
            lines[-1] = longer
            continue
        lines += [word] if lines[-1] else []
        lines[-1] = word
        while _width(lines[-1], font) > width and len(lines[-1]) > 1:
            fits = next(n for n in range(len(lines[-1]) - 1, 0, -1) if n == 1 or _width(lines[-1][:n], font) <= width)
            lines[-1:] = [lines[-1][:fits], lines[-1][fits:]]
    return lines


def _width(text: str, font: FontProperties) -> float:
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0]


def table(
    frame: pd.DataFrame, caption: str = "", digits: int = 3, published: Sequence[str] = (), by: str = ""
) -> Styler:
    """A table for a page: numbers with ``digits`` decimals, no index, a caption; ``published`` columns are marked.

    Rows of one value of the column ``by`` stand together below that value, which then needs no column. Cells may wrap
    on a page: an interval stays whole, below its value, and long text keeps a width to be read in.
    """
    frame, heads = _grouped(frame, by) if by else (frame, [])
    shown, classes = frame.copy(), pd.DataFrame("", index=frame.index, columns=frame.columns)
    for name in frame.select_dtypes(["object", "string", "float"]):
        cells = [_cell(cell, digits) for cell in frame[name]]
        shown[name] = pd.Series(cells, frame.index, dtype=object)  # whole numbers stay whole beside empty cells
        classes[name] = ["tb-long" if isinstance(cell, str) and _long(cell) else "" for cell in frame[name]]
    for name in published:
        classes[name] = np.where(frame[name].isna(), "", "tb-published")
    styler = shown.style.format(precision=digits, thousands=",", na_rep="–").hide(axis="index")
    if heads:
        classes.iloc[heads, 0] = "tb-group"
        styler.format(na_rep="", subset=(heads, shown.columns[1:]))
    styler.set_td_classes(classes)
    styler.set_uuid(hashlib.sha256((caption + frame.to_csv()).encode()).hexdigest()[:8])  # else a random one
    return styler.set_caption(caption) if caption else styler


def _grouped(frame: pd.DataFrame, by: str) -> tuple[pd.DataFrame, list[int]]:
    """Rows of one value of ``by`` below a row that says so in the first column, and where these rows are."""
    parts, heads, rest = [], [], frame.drop(columns=by).astype(object)
    for name, rows in rest.groupby(frame[by], sort=False):
        heads.append(sum(map(len, parts)))
        parts += [pd.DataFrame([{rest.columns[0]: name}], columns=rest.columns, dtype=object), rows]
    return pd.concat(parts, ignore_index=True), heads


def _cell(cell: object, digits: int) -> object:
    """What a cell shows: an interval, "0.71 (0.60 to 0.81)", with spaces that do not break, and no -0.000."""
    if isinstance(cell, str):
        return INTERVAL.sub(lambda found: found[0].replace(" ", NO_BREAK), cell)
    return round(cell, digits) + 0.0 if isinstance(cell, float) else cell


def _long(cell: str) -> bool:
    """Whether a cell is a sentence, or holds a word (a path, a URL) that must break to fit a phone."""
    return len(cell) > SENTENCE or max(map(len, cell.split()), default=0) > WORD


def provenance(record: Mapping) -> Styler:
    """What a page was made of: versions, parameters and the start of each input's SHA-256."""
    rows = [("version", name, version) for name, version in record["versions"].items()]
    rows += [("parameter", name, str(value)) for name, value in record["parameters"].items()]
    rows += [("input, SHA-256", name, f"{digest[:16]}…") for name, digest in record["inputs"].items()]
    return table(pd.DataFrame(rows, columns=["what", "name", "value"]), "What this page was made of", by="what")
