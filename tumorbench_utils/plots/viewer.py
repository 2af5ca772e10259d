"""A viewer of the axial slices of a patch, for a static page: an image of all slices, a slider and a short script.

Nothing is requested from anywhere, it works from a file, and without JavaScript the slice through the tumour is shown.
"""

from __future__ import annotations

import base64
import hashlib
import html
import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from .extraction import turned
from .saliency import DISTANCE, PERCENTILE, TISSUE, WINDOW, centre_of, check_volumes, heat, top_of
from .slices import OUTLINE

LEVELS = ((64, 16), (32, 16), (32, 8), (16, 8), (8, 4))  # of the CT and of the map: the first whose images have room
ROOM = (1.2, 10_000)  # bytes of the images, a voxel and besides
COLOURS = 16  # in the scale below
PLATE = "position:absolute;left:0;top:0;padding:0.1em 0.4em;background:rgba(0,0,0,0.6);color:#fff;font:600 0.85rem sans"
ROW = "display:flex;gap:0.6em;align-items:center;margin-top:0.4em;font-size:0.9em"
MOST = 64**3  # voxels in one viewer; of a larger patch every second, third, ... slice is shown

SCRIPT = """(() => {
const v = document.getElementById("ID"), n = COUNT, h = HEIGHT, start = START, names = NAMES;
const [slice, opacity] = v.querySelectorAll("input"), marks = v.querySelectorAll("path");
const show = () => {
  const i = +slice.value;
  v.querySelectorAll("[data-slices]").forEach(e => {
    e.style.backgroundPosition = "0 " + 100 * (i * (h + 2) + 1) / (n * (h + 2) - h) + "%";
  });
  marks.forEach((e, k) => { e.style.display = k === i ? "" : "none"; });
  v.querySelector("output").textContent = names[i];
  slice.setAttribute("aria-valuetext", names[i]);
  v.dataset.slice = i;
};
slice.addEventListener("input", show);
if (opacity) opacity.addEventListener("input", () => {
  v.querySelector("[data-map]").style.opacity = opacity.value / 100;
});
slice.value = start;
v.querySelector("[data-controls]").hidden = false;
show();
})();"""


class Viewer:
    """An interactive viewer as a page shows it; ``html`` is all of it, and ``start`` the slice that is shown first."""

    def __init__(self, page: str, caption: str, start: int):
        self.html, self.caption, self.start = page, caption, start

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return f"Viewer: {self.caption}"


def viewer(
    hu: np.ndarray,
    saliency: np.ndarray | None,
    mask: np.ndarray | None,
    window: tuple[float, float] = WINDOW,
    title: str = "",
    alt: str = "",
    mark: str = "",
    *,
    spacing: Sequence[float] = (1.0, 1.0, 1.0),
    label: str = DISTANCE,
) -> Viewer:
    """Axial slices of a patch with the outline of its mask and a saliency map over it, one at a time.

    ``hu``, ``saliency`` and ``mask`` are upright (R, A, S), as in :func:`plots.planes`; ``spacing`` (3,) mm along these
    axes. The slider runs from the feet to the head and starts in the centre of the mask, else of the patch. ``title``
    is the caption, ``alt`` says what is seen, ``mark`` ("phantom", "untrained") is written into the image and opens
    both. CT and map have as many levels as fit into 1.2 bytes a voxel and 10 KB, at most 64 and 16.
    """
    check_volumes("viewer", hu, saliency=saliency, mask=mask)
    step = math.ceil(np.size(hu) / MOST)
    centre = centre_of(mask, np.shape(hu))[2]
    chosen = np.arange(centre % step, np.shape(hu)[2], step)
    start, count = int(np.flatnonzero(chosen == centre)[0]), len(chosen)
    # slices (count, rows, columns) as radiologists see them: the front up, the patient's right on the left
    array, over, outline = (
        None if each is None else turned(np.asarray(each), "RAS", "SPL")[chosen] for each in (hu, saliency, mask)
    )
    high, wide = array.shape[1:]
    names = [_name(number, count, (at - centre) * spacing[2]) for number, at in enumerate(chosen)]
    if mark:
        title, alt = (f"{mark.upper()}: {text}" for text in (title, alt))
    place = f"background-position:0 {100 * (start * (high + 2) + 1) / (count * (high + 2) - high):.6g}%"
    layer = f"position:absolute;inset:0;background-size:100% {count * (high + 2) / high * 100:.6g}%;{place}"
    images = _images(array, over, window)
    parts = [f'<div data-slices style="{layer};background-image:url({images[0]})"></div>']
    if over is not None:
        parts.append(f'<div data-slices data-map style="{layer};background-image:url({images[1]})"></div>')
    if outline is not None:
        parts.append(_outlines(outline, start))
    if mark:
        parts.append(f'<span style="{PLATE}">{html.escape(mark)}</span>')
    ratio = f"{wide * spacing[0]:g}/{high * spacing[1]:g}"
    picture = (
        f'<div role="img" aria-label="{html.escape(alt, quote=True)}" style="position:relative;overflow:hidden;'
        f'width:100%;aspect-ratio:{ratio};background:#000">{"".join(parts)}</div>'
    )
    scale = _scale(top_of(saliency), label) if saliency is not None else ""
    body = picture + scale + _controls(count, start, names[start], saliency is not None)
    name = "v" + hashlib.sha256((title + alt + body).encode()).hexdigest()[:10]
    script = SCRIPT.replace("ID", name).replace("COUNT", str(count)).replace("HEIGHT", str(high))
    script = script.replace("START", str(start)).replace("NAMES", str(names))
    caption = f"<figcaption>{html.escape(title)}</figcaption>"
    page = (
        f'<figure class="tb-figure tb-viewer" id="{name}" style="max-width:min(100%,26rem);margin:1rem 0">{body}'
        f"{caption}<script>{script}</script></figure>"
    )
    return Viewer(page, title, start)


def _name(number: int, count: int, mm: float) -> str:
    way = "" if not round(mm, 1) else ", towards the head" if mm > 0 else ", towards the feet"
    return f"slice {number + 1} of {count}: {abs(mm):.3g} mm from the centre{way}"


def _controls(count: int, start: int, name: str, over: bool) -> str:
    """Sliders with their labels; hidden until the script, without which they would do nothing, shows them."""
    slider = 'style="flex:1;min-width:0;accent-color:#0072B2"'
    rows = (
        f'<label style="{ROW}">Slice <input type="range" min="0" max="{count - 1}" step="1" value="{start}" '
        f'aria-label="Slice, from the feet to the head" aria-valuetext="{name}" {slider}></label>'
    )
    if over:
        rows += (
            f'<label style="{ROW}">Map <input type="range" min="0" max="100" step="5" value="100" '
            f'aria-label="Opacity of the map, per cent" {slider}></label>'
        )
    return f'<div data-controls hidden>{rows}</div><output style="font-size:0.9em">{name}</output>'


def _scale(top: float, label: str) -> str:
    """The colours of the map with the numbers at their ends."""
    colours = [f"rgba({r:.0f},{g:.0f},{b:.0f},{a:.2f})" for r, g, b, a in heat(COLOURS).colors * (255, 255, 255, 1)]
    ramp = f"height:0.5em;margin-top:0.4em;background:linear-gradient(to right,{','.join(colours)}),{TISSUE}"
    ends = "display:flex;justify-content:space-between;gap:0.6em;font-size:0.85em"
    words = f"<span>0</span><span>{html.escape(label)}</span><span>≥ {top:.2g}</span>"
    tip = f"the colours end at the {PERCENTILE}th percentile of the map"
    return f'<div style="{ramp}" title="{tip}"></div><div style="{ends}">{words}</div>'


def _images(array: np.ndarray, over: np.ndarray | None, window: tuple[float, float]) -> list[str]:
    """CT and map as data addresses, with as many levels as there is room for; noise does not compress."""
    for greys, colours in LEVELS:
        images = [_ct(array, window, greys)] + ([] if over is None else [_map(over, colours)])
        if sum(map(len, images)) <= ROOM[0] * array.size + ROOM[1]:
            break
    return images


def _ct(array: np.ndarray, window: tuple[float, float], greys: int) -> str:
    """All slices (n, rows, columns) as one grey PNG."""
    share = np.clip((array.astype(float) - window[0]) / window[1] + 0.5, 0, 1)
    grey = np.rint(np.rint(share * (greys - 1)) * (255 / (greys - 1))).astype(np.uint8)
    return _png(Image.fromarray(_strip(grey)))


def _map(array: np.ndarray, colours: int) -> str:
    """All slices (n, rows, columns) of a map as one PNG of few colours that are the more transparent the lower."""
    levels = np.rint(np.clip(array / top_of(array), 0, 1) * (colours - 1)).astype(np.uint8)
    image = Image.fromarray(_strip(levels), "P")
    palette = np.rint(heat(colours).colors * 255).astype(np.uint8)
    image.putpalette(palette[:, :3].tobytes())
    image.info["transparency"] = palette[:, 3].tobytes()
    return _png(image, bits=4)


def _strip(slices: np.ndarray) -> np.ndarray:
    """Slices one below the other, each with its first and last row twice: a browser smooths no slice into the next."""
    return np.pad(slices, ((0, 0), (1, 1), (0, 0)), "edge").reshape(-1, slices.shape[2])


def _png(image: Image.Image, **options) -> str:
    stream = io.BytesIO()
    image.save(stream, format="png", optimize=True, **options)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _outlines(masks: np.ndarray, start: int) -> str:
    """The borders of a mask (n, rows, columns) along the edges of its voxels, a path a slice; one is shown."""
    paths = []
    for number, plane in enumerate(masks):
        hidden = "" if number == start else ' style="display:none"'
        paths.append(f'<path vector-effect="non-scaling-stroke" d="{_border(plane)}"{hidden}/>')
    box = f'viewBox="0 0 {masks.shape[2]} {masks.shape[1]}" preserveAspectRatio="none" aria-hidden="true"'
    line = f'fill="none" stroke="{OUTLINE}" stroke-width="1.5"'
    style = "position:absolute;inset:0;width:100%;height:100%"
    return f'<svg {box} {line} style="{style}">{"".join(paths)}</svg>'


def _border(plane: np.ndarray) -> str:
    """Path of the lines between the voxels inside and outside of a mask (rows, columns)."""
    padded = np.pad(np.asarray(plane, bool), 1)
    commands = []
    for across, letter in ((True, "h"), (False, "v")):
        crossed = (padded[1:] != padded[:-1])[:, 1:-1] if across else (padded[:, 1:] != padded[:, :-1])[1:-1].T
        for line, row in enumerate(crossed):
            edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
            for first, stop in edges.reshape(-1, 2):
                x, y = (first, line) if across else (line, first)
                commands.append(f"M{x} {y}{letter}{stop - first}")
    return "".join(commands)
