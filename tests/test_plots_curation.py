"""Figures of data curation: they draw what the tables say, and no text lies on another or leaves the figure."""

import base64
import io
import re
import xml.etree.ElementTree as ElementTree
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
import real
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.contour import QuadContourSet
from matplotlib.text import Text
from PIL import Image

from tumorbench_utils import annotations, plots
from tumorbench_utils.cohorts import COHORTS, lidc
from tumorbench_utils.plots import base as style

RNG = np.random.default_rng(0)
LONG = "slices missing, or of uneven distance, or of the series 1.3.6.1.4.1.14519.5.2.1.6279.6001.298806137288633453"


def flow(steps, text="no mask"):
    rows = [("patient", "patients of the collection", 400, 0, "")]
    rows += [("patient", f"rule {n}: {text}", 400 - 10 * n, 10, text) for n in range(1, steps)]
    return pd.DataFrame(rows, columns=["unit", "step", "kept", "left_out", "why"])


LIDC_FLOW = pd.DataFrame(
    [("scan", "CT series of LIDC-IDRI", 1018, 0, ""), ("scan", "slice thickness at most 2.5 mm", 897, 121, "thicker"),
     ("nodule", "nodules of the scans", 2283, 0, ""), ("nodule", "at least 3 readers", 1186, 1097, "fewer")],
    columns=["unit", "step", "kept", "left_out", "why"],
)  # fmt: skip
READINGS, MEANS = pd.Series([1, 2, 2, 3, 3, 3, 5]), pd.Series([1, 2.5, 2.5, 2.6, 3.4, 3.5, 5, 5])
VOLUMES = pd.DataFrame({"label": [1.0, 1, 1, 0, 0, 0], "volume_ml": [1.0, 2, 4, 30, 0, np.nan]})
MANIFEST = pd.DataFrame(
    {"patient_id": ["a", "a", "b", "b"], "role": ["ct", "mask", "ct", "mask"], "series_uid": list("1234"),
     "instances": [120, 1, 300, 1], "bytes": [63e6, 2e6, 157e6, np.nan]}
)  # fmt: skip
PATCHES = list(RNG.normal(-600, 300, (5, 20, 24, 16)))
OUTLINES = [np.zeros((20, 24, 16), bool) for _ in PATCHES]
OUTLINES[0][8:12, 10:14, 6:10] = True
SPACINGS = [(1.0, 1.0, 2.0)] * 5


def followed(time, event):
    return pd.DataFrame({"time_days": np.array(time, float), "event": np.array(event, float)})


def montage(count=5, **options):
    return plots.montage(PATCHES[:count], SPACINGS[:count], OUTLINES[:count], **options)


FIGURES = {
    "consort LIDC": lambda: plots.consort(LIDC_FLOW),
    "consort, nothing left out": lambda: plots.consort(flow(2).assign(kept=400, left_out=0)),
    "consort, no steps": lambda: plots.consort(flow(1)[:0]),
    "km": lambda: plots.kaplan_meier(followed(RNG.exponential(900, 300), RNG.integers(0, 2, 300))),
    "km, six months": lambda: plots.kaplan_meier(followed([90, 120, 180], [1, 0, 0])),
    "km, thirty years": lambda: plots.kaplan_meier(followed(RNG.uniform(0, 11000, 9000), RNG.integers(0, 2, 9000))),
    "km, all dead": lambda: plots.kaplan_meier(followed([400, 800], [1, 1])),
    "km, none dead": lambda: plots.kaplan_meier(followed([400, 800], [0, 0])),
    "km, one": lambda: plots.kaplan_meier(followed([400], [1])),
    "km, none": lambda: plots.kaplan_meier(followed([np.nan], [1])),
    "labels": lambda: plots.label_counts(VOLUMES, pd.DataFrame({"reason": ["no mask", LONG, None]})),
    "labels, none": lambda: plots.label_counts(VOLUMES[["volume_ml"]]),
    "labels, no samples": lambda: plots.label_counts(VOLUMES[:0]),
    "raters": lambda: plots.raters(READINGS, MEANS),
    "raters, many": lambda: plots.raters(pd.Series([3] * 20000), pd.Series([3.0] * 20000)),
    "raters, one": lambda: plots.raters(READINGS[:1], MEANS[:1]),
    "raters, none": lambda: plots.raters(READINGS[:0], MEANS[:0]),
    "volumes": lambda: plots.volumes(VOLUMES),
    "volumes, wide": lambda: plots.volumes(pd.DataFrame({"volume_ml": [0.002, 1, 4000]})),
    "volumes, one": lambda: plots.volumes(VOLUMES[:1]),
    "volumes, none": lambda: plots.volumes(VOLUMES[["label"]]),
    "manifest": lambda: plots.manifest_bars(MANIFEST),
    "manifest, masks": lambda: plots.manifest_bars(MANIFEST[MANIFEST["role"] == "mask"]),
    "manifest, one": lambda: plots.manifest_bars(MANIFEST[:1]),
    "manifest, none": lambda: plots.manifest_bars(MANIFEST[:0]),
    "montage": lambda: montage(titles=["a title of many words that needs two lines"] * 5, mark="phantom"),
    "montage, one": lambda: montage(1, columns=1),
    "montage, narrow": lambda: montage(columns=4, titles=["LUNG1-001"] * 5, mark="phantom"),
    "montage, none": lambda: montage(0),
} | {f"consort {steps}": lambda steps=steps: plots.consort(flow(steps, LONG)) for steps in range(1, 10)}  # fmt: skip


def shown(text):
    return text.get_visible() and text.get_text().strip()


def drawn(figure, monkeypatch):
    """(text, box in points) of every text that is really drawn."""
    found, draw = [], Text.draw

    def note(text, renderer):
        found.append(text)
        draw(text, renderer)

    with monkeypatch.context() as patch:
        patch.setattr(Text, "draw", note)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    boxes = [(text, text.get_window_extent(canvas.get_renderer())) for text in found if shown(text)]
    return [(text, box.transformed(figure.dpi_scale_trans.inverted()).get_points() * 72) for text, box in boxes]


def overlap(a, b):
    """How far, in points, one of two boxes must move for them to part; negative if they are apart."""
    return (np.minimum(a[1], b[1]) - np.maximum(a[0], b[0])).min()


def assert_legible(figure, texts):
    """Texts as ``drawn`` gives them are large enough, within the figure, and apart."""
    assert min(text.get_fontsize() for text, _ in texts) >= 8
    for text, ((left, low), (right, high)) in texts:
        assert left > -0.5 and low > -0.5, text
        assert right < style.WIDTH * 72 + 0.5 and high < figure.get_figheight() * 72 + 0.5, text
    for (one, a), (two, b) in combinations(texts, 2):
        assert overlap(a, b) < 0.5, (one, two)


def words(figure):
    return [text.get_text() for text in figure.findobj(Text) if shown(text)]


@pytest.mark.parametrize("name", FIGURES)
def test_texts_are_legible_apart_and_within_the_figure(name, monkeypatch):
    figure = FIGURES[name]()
    texts = drawn(figure, monkeypatch)
    assert texts
    assert min(text.get_fontsize() for text, _ in texts) >= 8
    for text, ((left, low), (right, high)) in texts:
        inside = (
            left > -0.5 and low > -0.5 and right < plots.WIDTH * 72 + 0.5 and high < figure.get_figheight() * 72 + 0.5
        )
        assert inside, text
    for (one, a), (two, b) in combinations(texts, 2):
        assert overlap(a, b) < 0.5, (one, two)


@pytest.mark.parametrize("name", FIGURES)
def test_figures_are_accessible_inline_svg(name):
    page = plots.Shown(FIGURES[name](), "A caption", "What <it> shows")._repr_html_()
    svg, caption = list(ElementTree.fromstring(page.replace("xlink:href", "href")))
    assert svg.get("role") == "img" and svg.get("aria-label") == "What <it> shows" and caption.text == "A caption"
    assert svg.get("viewBox").split()[2] == f"{plots.WIDTH * 72:g}"
    assert plots.INK not in page


def test_the_real_flow_of_lidc_is_drawn_with_its_counts():
    scans = lidc.selected_scans(lidc.annotations(), lidc.idc_instances())
    shown = words(plots.consort(scans.flow))
    assert [word for word in shown if word.endswith(" scans")] == ["1,018 scans", "897 scans", "893 scans", "888 scans"]
    assert [word for word in shown if word.endswith(" left out")] == ["121 left out", "4 left out", "5 left out"]
    assert plots.consort_text(scans.flow).endswith(
        "888 scans (as many IDC instances as slices; 5 left out: instances are not the slices)"
    )


def test_consort_boxes_hold_their_text_and_do_not_touch(monkeypatch):
    figure = plots.consort(flow(9, LONG).assign(step="short"))
    height = figure.get_figheight() * 72
    boxes = [patch.get_bbox().get_points() for patch in figure.axes[0].patches if hasattr(patch, "get_boxstyle")]
    assert len(boxes) == 9 + 8
    for a, b in combinations(boxes, 2):
        assert overlap(a, b) < -2
    for text, ((left, low), (right, high)) in drawn(figure, monkeypatch):
        held = [x0 < left and right < x1 and y0 < height - high and height - low < y1 for (x0, y0), (x1, y1) in boxes]
        assert sum(held) == 1, text


def test_consort_dashes_the_arrow_where_the_unit_changes():
    arrows = [text.arrow_patch for text in plots.consort(LIDC_FLOW).axes[0].texts if hasattr(text, "arrow_patch")]
    styles = [arrow.get_linestyle() for arrow in arrows if arrow]
    assert styles == ["-", "-", "--", "-", "-"]  # down and aside, down, down and aside


def test_consort_refuses_counts_that_do_not_add_up():
    wrong = flow(3)
    wrong.loc[2, "kept"] = 379
    with pytest.raises(ValueError, match=r"rule 2.*379 kept \+ 10 left out are not 390"):
        plots.consort(wrong)
    with pytest.raises(ValueError, match=r"first step .* leaves out 10"):
        plots.consort(flow(3)[1:])


def test_wrapped_lines_fit_and_lose_nothing():
    for width in (20, 60, 200):
        lines = style.wrap(LONG, width, 9)
        assert "".join(lines).replace(" ", "") == LONG.replace(" ", "")
        font = style.FontProperties(family="DejaVu Sans", size=9)
        assert max(style._width(line, font) for line in lines) <= width
    assert style.wrap("", 50, 9) == [""]
    assert style.wrap("W", 1, 9) == ["W"]  # what cannot be cut stays


@pytest.mark.parametrize(
    ("n", "unit", "text"),
    [(1, "scan", "1 scan"), (1018, "scan", "1,018 scans"), (2, "study", "2 studies"), (0, "series", "0 series")],
)
def test_units_are_counted(n, unit, text):
    assert style.counted(n, unit) == text


def test_kaplan_meier_of_a_real_cohort_counts_who_is_at_risk():
    cohort = COHORTS.get("nsclc_radiomics")
    table = annotations.from_rows(cohort, real.cohort_rows("nsclc_radiomics"), "strict").table
    curve, below = plots.kaplan_meier(table).axes
    assert curve.get_title(loc="left") == "420 samples, 373 deaths"
    at_risk = {round(text.get_position()[0]): text.get_text() for text in below.texts}
    years = table["time_days"] / 365.25
    assert at_risk == {year: f"{(years >= year).sum()}" for year in at_risk} and at_risk[0] == "420"
    assert below.get_xlim() == curve.get_xlim()


def test_who_lacks_follow_up_is_counted_and_changes_nothing():
    table = followed([365.25, 730.5, np.nan, 900], [1, 0, 1, np.nan])
    curve = plots.kaplan_meier(table).axes[0]
    assert curve.get_title(loc="left") == "2 samples, 1 death, 2 without follow-up"
    assert curve.lines[0].get_ydata().tolist() == [1, 0.5, 0.5]


def test_glance_and_curve_draw_the_same_estimate():
    table = followed([365.25, 730.5, 900, np.nan], [1, 0, 1, 1]).assign(label=[0.0, 1, 1, 1])
    glance, curve = plots.cohort_glance(table, "endpoint").axes[1], plots.kaplan_meier(table).axes[0]
    assert glance.lines[0].get_xydata().tolist() == curve.lines[0].get_xydata().tolist()


def test_label_counts_name_every_reason():
    excluded = pd.DataFrame({"reason": ["censored early"] * 3 + ["no mask"]})
    (axis,) = plots.label_counts(VOLUMES[1:], excluded, {1.0: "alive", 0.0: "dead"}).axes
    assert [bar.get_width() for bar in axis.patches] == [2, 3, 3, 1]
    names = [label.get_text().replace("\n", " ") for label in axis.get_yticklabels()]
    assert names == ["alive", "dead", "left out: censored early", "left out: no mask"]
    assert [text.get_text() for text in axis.texts] == ["2 (40 %)", "3 (60 %)", "3", "1"]
    fills = [bar.get_facecolor()[3] for bar in axis.patches]
    assert fills == [1, 1, 0, 0]  # who is left out is hollow


def test_label_counts_without_labels():
    (axis,) = plots.label_counts(VOLUMES.assign(label=np.nan)).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["no label"]
    assert axis.texts[0].get_text() == "6"


def test_raters_draw_every_rating_and_mean_on_its_side_of_the_zone():
    top, bottom = plots.raters(READINGS, MEANS).axes
    assert [bar.get_height() for bar in top.patches] == [1, 2, 3, 0, 1]
    bars = [patch for patch in bottom.patches if patch.get_height() and patch.get_width() == 0.25]
    ends = [(bar.get_x(), bar.get_x() + 0.25, bar.get_height()) for bar in bars]
    assert sum(height for _, right, height in ends if right <= 2.5) == 3  # 1, and 2.5 twice
    assert sum(height for left, right, height in ends if left >= 2.5 and right <= 3.5) == 2
    assert sum(height for left, _, height in ends if left >= 3.5) == 3
    assert [text.get_text() for text in bottom.texts] == ["3 benign", "2 left out", "3 malignant"]
    zone = [patch for patch in bottom.patches if patch.get_alpha() == 0.08]
    assert [(patch.get_x(), patch.get_width()) for patch in zone] == [(2.5, 1.0)]


def test_raters_refuse_what_is_no_rating():
    with pytest.raises(ValueError, match="not 1 to 5"):
        plots.raters(pd.Series([0, 3]), MEANS)
    with pytest.raises(ValueError, match="not 1 to 5"):
        plots.raters(READINGS, pd.Series([np.nan, 3]))


def test_volumes_are_drawn_counted_and_summed_up():
    (axis,) = plots.volumes(VOLUMES, {1.0: "malignant", 0.0: "benign"}).axes
    dots = [line for line in axis.lines if line.get_markersize() == 3.5]
    assert [sorted(line.get_xdata()) for line in dots] == [[1, 2, 4], [30]]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["malignant\nn = 3", "benign\nn = 1\n2 without"]
    quartiles = [line.get_xdata().tolist() for line in axis.lines if line.get_linewidth() == 2]
    assert quartiles == [[1.5, 3.0], [30, 30]]
    assert [text.get_text() for text in axis.texts] == ["median 2 ml", "median 30 ml"]
    assert axis.get_xscale() == "log" and axis.get_xlim() == (1, 100)


def test_volumes_of_many_samples_are_quantiles_and_say_so():
    (axis,) = plots.volumes(pd.DataFrame({"volume_ml": np.arange(1.0, 3000)})).axes
    x = axis.lines[0].get_xdata()
    assert len(x) == 500 and x[0] == 1 and x[-1] == 2999
    assert axis.get_xlabel() == "tumour volume (ml); large groups as 500 quantiles"
    assert [label.get_text() for label in axis.get_yticklabels()] == ["samples\nn = 2,999"]


def test_manifest_says_what_is_to_be_downloaded():
    sizes, slices = plots.manifest_bars(MANIFEST).axes
    assert [bar.get_width() for bar in sizes.patches] == [220, 2]
    names = [label.get_text().split("\n") for label in sizes.get_yticklabels()]
    assert names == [["CT", "2 series", "2 patients"], ["mask", "2 series", "2 patients", "1 of unknown size"]]
    assert sizes.get_title(loc="left") == "To download: 222 MB in 4 series"
    assert sum(bar.get_height() for bar in slices.patches) == 2
    assert slices.get_title(loc="left") == "Median 210 slices"
    (axis,) = plots.manifest_bars(MANIFEST.assign(role="mask", bytes=1e9)).axes
    assert axis.get_title(loc="left") == "To download: 4 GB in 4 series"


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SPL", "SAR", "PIR"])
def test_axial_slices_have_the_front_up_and_the_right_of_the_patient_left(axes):
    shape = dict(zip("SPL", (5, 6, 7), strict=True))
    seen = np.arange(5 * 6 * 7).reshape(5, 6, 7)  # axes S, P, L: rows lead to the back, columns to the left
    order = ["SPL".index({"I": "S", "A": "P", "R": "L"}.get(way, way)) for way in axes]
    array, voxel = seen.transpose(order), np.array([2, 1, 4])[order]
    for axis, way in enumerate(axes):
        if way in "IAR":
            array = np.flip(array, axis)
            voxel[axis] = array.shape[axis] - 1 - voxel[axis]
    plane, place = plots.axial(array, voxel, axes)
    assert plane.tolist() == seen[2].tolist() and place.tolist() == [1, 4]
    assert plane.shape == (shape["P"], shape["L"])


def tile_parts(tile):
    cross = next(line for line in tile.lines if line.get_marker() == "+")
    return (
        tile.images[0],
        cross.get_xydata()[0],
        [part for part in tile.collections if isinstance(part, QuadContourSet)],
    )


def test_montage_shows_slice_seed_and_outline_in_mm():
    figure = montage(axes="RAS", window=(40, 400))
    image, seed, contours = tile_parts(figure.axes[1])  # the first is the page
    assert image.get_array().shape == (24, 20) and image.get_clim() == (-160, 240)
    assert np.array_equal(image.get_array(), PATCHES[0][:, :, 8].T[::-1, ::-1])
    assert seed.tolist() == [9, 11]  # voxel 10 of 20 and 12 of 24, counted from the left of the patient and the back
    corners = np.concatenate([path.vertices for path in contours[0].get_paths()])
    assert corners.min(axis=0).tolist() == [7.5, 9.5] and corners.max(axis=0).tolist() == [11.5, 13.5]
    assert tile_parts(figure.axes[2])[2] == []  # an empty mask has no outline
    assert len(figure.axes) == 1 + 5


def test_scale_bar_is_as_long_as_it_says():
    coarse = plots.montage(PATCHES[:1], [(3.0, 2.0, 1.0)], axes="RAS").axes[1]
    bar = next(line for line in coarse.lines if line.get_color() == "white")
    assert np.ptp(bar.get_xdata()) == 20  # 20 voxels of 3 mm across: 40 % are 24 mm
    assert "20 mm" in [text.get_text() for text in coarse.texts]
    assert coarse.images[0].get_extent() == [-1.5, 58.5, 47, -1]
    tiny = plots.montage(PATCHES[:1], [(0.01, 0.01, 1.0)]).axes[1]
    assert "0.05 mm" in [text.get_text() for text in tiny.texts]


def test_a_seed_outside_the_patch_does_not_move_the_slice():
    tile = montage(1, seeds=[(-9, 12, 99)]).axes[1]
    assert tile.get_xlim() == (-0.5, 19.5) and tile.get_ylim() == (23.5, -0.5)
    assert np.array_equal(tile.images[0].get_array(), PATCHES[0][:, :, 15].T[::-1, ::-1])


def test_phantoms_are_marked_in_every_tile():
    assert words(montage(mark="phantom")).count("phantom") == 5
    assert "phantom" not in words(montage())


def test_slices_are_embedded_small_and_smooth():
    noise = list(RNG.normal(-600, 300, (12, 64, 64, 64)))
    svg = plots.Shown(plots.montage(noise, [(1.0, 1.0, 1.0)] * 12), "c", "a").svg
    assert len(svg) < 300_000
    assert svg.count("data:image/png;base64,") == 12
    assert "pixelated" not in svg and svg.count("image-rendering:auto") == 12
    png = base64.b64decode(re.search(r"base64,([^\"]+)", svg)[1])
    assert Image.open(io.BytesIO(png)).mode == "L"
    assert Image.open(io.BytesIO(png)).size == (64, 64)  # as many pixels as the patch has voxels


def test_montage_refuses_lists_of_other_lengths_and_flat_patches():
    with pytest.raises(ValueError, match="4 titles for 5 patches"):
        montage(titles=["a"] * 4)
    with pytest.raises(ValueError, match="not 3-D"):
        plots.montage([np.zeros((4, 4))], [(1, 1)])
