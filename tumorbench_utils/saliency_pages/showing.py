"""The figures of a saliency page with captions and alternative texts."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from .. import plots, saliency
from ..plots import Shown
from ..plots.base import counted, percent
from .cases import LABELS, TITLES, Case, marked
from .measures import Curves, row_of

MOST = 6  # curves in a figure; the caption has all


def planes_shown(case: Case, method: str) -> Shown:
    """The map of one tumour in three planes."""
    figure = plots.planes(case.hu, case.maps[method], case.mask, case.spacing, mark=case.mark, label=LABELS[method])
    outline = "; line: outline of the tumour" if case.mask is not None else ""
    caption = (
        f"{case.title}, {TITLES[method]} on {case.sample_id}: CT at 40 ± 200 HU, and the map over it{outline}. Colours "
        "end at the 99th percentile of the map."
    )
    alt = f"Three planes through the tumour {case.sample_id}, above the CT, below the {TITLES[method]} map over it."
    return Shown(figure, caption, alt, case.mark)


def viewer_shown(case: Case, method: str) -> plots.Viewer:
    """Every axial slice of one tumour with its map, to go through."""
    title = (
        f"{case.title}, {TITLES[method]} on {case.sample_id}: axial slices. The sliders go through the patch and fade "
        "the map."
    )
    alt = f"Axial slices of {case.sample_id} with the outline of the tumour and the {TITLES[method]} map."
    return plots.viewer(
        case.hu, case.maps[method], case.mask, title=title, alt=alt, mark=case.mark, spacing=case.spacing,
        label=LABELS[method],
    )  # fmt: skip


def grid_shown(found: Sequence[Case], method: str) -> Shown:
    """The maps of several encoders on the same tumour, in one orientation; a tile without a map says so."""
    rows = [
        {
            "title": case.title,
            "hu": case.hu,
            "saliency": case.maps.get(method),
            "mask": case.mask,
            "spacing": case.spacing,
            "mark": case.mark,
        }
        for case in found
    ]
    names = ", ".join(case.title for case in found) or "none"
    caption = (
        f"{found[0].sample_id if found else 'No tumour'}, {TITLES[method]}: the axial plane through the tumour, the "
        f"same field of view and orientation for every model, each on its own scale: {names}."
    )
    return Shown(plots.grid(rows, label=LABELS[method]), caption, f"Tiles of one tumour: {names}.", marked(found))


def focus_shown(table: pd.DataFrame, mark: str, judged: pd.DataFrame | None = None, margin_mm: float = 5.0) -> Shown:
    """Whether the maps lie on the tumour, by cohort, weights and method.

    ``judged`` has the cases of ``table``: they are drawn singly where there are too few patients for an interval.
    """
    told = "; ".join(_inside(name, rows) for name, rows in table.groupby("model", sort=False)) if len(table) else ""
    caption = (
        "Is it the tumour? Means over cases, with 95 % patient bootstrap intervals where there are "
        f"{saliency.FEWEST} patients or more, else with every case as a small dot. Held against them on the same "
        "cases: what volume gives (bar), and what two maps that saw no model have, a map of the middle of the patch "
        f"(cross) and the brightness of the CT (square). Rows may have different cases. {told[:1].upper()}{told[1:]}."
    )
    cases = None
    if judged is not None and len(judged):
        keys = zip(judged["untrained"], judged["method"], judged["cohort"], strict=True)
        cases = judged.assign(model=[row_of(*key) for key in keys])
    return Shown(plots.focus(table, cases=cases, margin_mm=margin_mm), caption, f"Dots of four measures. {told}.", mark)


def _inside(name: str, rows: pd.DataFrame) -> str:
    """Mass inside the tumour, and of what it is held against, in words."""
    value = rows.set_index("measure")["value"].reindex(
        ["mass_inside", "mass_expected", "mass_inside_centre", "mass_inside_brightness"]
    )
    own, volume, centre, brightness = value
    return (
        f"{name}: {percent(own, 1)} of the map inside the tumour, {percent(volume, 1)} by volume, {percent(centre, 1)} "
        f"of a map of the middle, {percent(brightness, 1)} of brightness"
    )


def hu_shown(found: Sequence[Case], method: str, mark: str) -> Shown:
    """Whether the maps lie on bright voxels; of the cases that have a map by the method."""
    found = [case for case in found if method in case.maps]
    title = f"{found[0].title}, {TITLES[method]}" if found else TITLES[method]
    told = f"{title}, {counted(len(found), 'case')}"
    caption = (
        f"Mean saliency by HU, as a multiple of the mean of the patch: {told}. Above 1 the model looks at such voxels "
        "more than at others; bone and contrast agent are the bright ones. Dot: median over cases, bar: quartiles."
    )
    maps_of, ct = [case.maps[method] for case in found], [case.hu for case in found]
    return Shown(plots.hu(maps_of, ct), caption, f"Dot plot of mean saliency over HU. {told}.", mark)


def deletion_shown(curves: Curves, mark: str) -> Shown:
    """Whether the embedding moves when the most salient voxels go first."""
    drawn = {
        f"{sample}, {TITLES[method]}": (each.share, each.distance, each.displaced_distance)
        for (_, sample, method), each in list(curves.items())[:MOST]
    }
    told = "; ".join(
        f"{sample}, {TITLES[method]}: area {each.area:.2f}, displaced {each.displaced_area.min():.2f} to "
        f"{each.displaced_area.max():.2f}"
        for (_, sample, method), each in curves.items()
    )
    caption = (
        "Voxels replaced by air, the most salient first (solid), and in the order of the same map displaced by half "
        "the patch along each of the three axes (dotted). A map that names what matters moves the embedding earlier "
        f"than the same map displaced. Area: under the curve, as a share of its last value. {told}."
    )
    return Shown(plots.deletion(drawn), caption, f"Curves of the embedding's distance. {told}.", mark)


def sanity_shown(table: pd.DataFrame, mark: str) -> Shown:
    """Whether the map changes when what was learnt is taken away."""
    told = "; ".join(
        f"{TITLES[method]}: median rank correlation {rows['spearman'].median():.2f}, common top tenth "
        f"{percent(rows['top_overlap'].median())}"
        for method, rows in (table.groupby("method", sort=False) if len(table) else ())
    )
    caption = (
        "The same patch, mapped with trained and with random weights of one seed (Adebayo et al. 2018): a map that "
        f"hardly changes shows the image or the architecture, not what was learnt. {told[:1].upper()}{told[1:]}."
    )
    rows = table.assign(method=table["method"].map(TITLES)) if len(table) else table
    return Shown(plots.sanity(rows), caption, f"Dots. {told}.", mark)
