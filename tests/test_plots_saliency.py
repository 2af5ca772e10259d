"""Figures of saliency maps: voxels lie where the patient has them, numbers are those given, and the viewer views."""

import base64
import io
import os
import re
import shutil
import sys
import threading

import numpy as np
import pandas as pd
import pytest
from matplotlib.contour import QuadContourSet
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image
from scipy import ndimage
from test_plots_curation import words
from test_plots_extraction import boxes_are_apart

from tests.book.conftest import ARGUMENTS, BROWSERS, watched
from tumorbench_utils import plots
from tumorbench_utils.plots import focusing, saliency, viewer

viewing = sys.modules["tumorbench_utils.plots.viewer"]  # the module: its function has the same name
RNG = np.random.default_rng(0)
SHAPE = (12, 16, 10)
HU = RNG.normal(40, 60, SHAPE)
MAP = RNG.random(SHAPE) ** 2 * 0.01
MASK = np.zeros(SHAPE, bool)
MASK[2:6, 9:13, 3:8] = True
OBLONG = (1.5, 0.75, 2.0)
AT = (3, 10, 5)  # the voxel nearest to the centre of the mask: of several the first


def row(title="astra", spacing=(1, 1, 1), **options):
    return {"title": title, "hu": HU, "saliency": MAP, "mask": MASK, "spacing": spacing} | options


def blinded(table):
    """With the measures of two blind maps of every model."""
    rows = table[table["measure"].isin(("mass_inside", "mass_near", "pointing", "auc"))]
    named = [(name, value) for name, value in (("centre", 0.6), ("brightness", 0.2))]
    extra = [rows.assign(measure=rows["measure"] + f"_{name}", value=value) for name, value in named]
    return pd.concat([table, *extra], ignore_index=True)


def summary(models=3, cases=24, measures=("mass_inside", "mass_near", "pointing", "auc"), interval=0.1):
    rows = []
    for model in [f"a model of a rather long name {n}" for n in range(models)]:
        for measure, value in {"mass_expected": 0.02, "near_expected": 0.11, **dict.fromkeys(measures, 0.4)}.items():
            rows.append((model, measure, value, value - interval, value + interval, cases))
    return pd.DataFrame(rows, columns=["model", "measure", "value", "low", "high", "cases"])


def curves(count):
    share = np.linspace(0, 1, 11)
    displaced = np.array([share, share**1.5, share**2])
    return {f"model {n}": (share, (n + 1) * share**0.3, (n + 1) * displaced) for n in range(count)}


def strips(samples=20, methods=("occlusion", "gradients")):
    rows = [(f"S{n}", each, RNG.uniform(-0.2, 1), RNG.uniform(0, 1)) for n in range(samples) for each in methods]
    return pd.DataFrame(rows, columns=["sample_id", "method", "spearman", "top_overlap"])


def single(models=1):
    names = [f"a model of a rather long name {n}" for n in range(models)]
    rows = [(name, value, 0.5, 1.0, 0.9) for name in names for value in (0.3, 0.5)]
    return pd.DataFrame(rows, columns=["model", "mass_inside", "mass_near", "pointing", "auc"])


FIGURES = {
    "planes": lambda: saliency.planes(HU, MAP, MASK, (1, 1, 1)),
    "planes, oblong": lambda: saliency.planes(HU, MAP, MASK, OBLONG, window=(-600, 1500), mark="phantom, untrained"),
    "planes, no mask": lambda: saliency.planes(HU, MAP, None, (2, 2, 2), label="integrated gradients, absolute"),
    "planes, tiny values": lambda: saliency.planes(HU, MAP * 1e-7, MASK, (1, 1, 1)),
    "planes, empty map and mask": lambda: saliency.planes(HU, 0 * MAP, 0 * MASK, (1, 1, 1)),
    "grid": lambda: saliency.grid([row(), row("CT-CLIP (authors' recipe, untrained)", OBLONG), row(saliency=None)]),
    "grid, twelve": lambda: saliency.grid([row(f"model {n}", mark="untrained") for n in range(12)]),
    "grid, one, no mask": lambda: saliency.grid([row(mask=None)]),
    "grid, none": lambda: saliency.grid([]),
    "focus": lambda: focusing.focus(summary()),
    "focus, twelve": lambda: focusing.focus(summary(12)),
    "focus, one patient": lambda: focusing.focus(summary(1, 1, interval=np.nan)),
    "focus, all": lambda: focusing.focus(summary(2, measures=focusing.MEASURES), list(focusing.MEASURES)),
    "focus, blind": lambda: focusing.focus(blinded(summary(4, 2, interval=np.nan)), cases=single(4)),
    "focus, none": lambda: focusing.focus(pd.DataFrame()),
    "deletion": lambda: saliency.deletion(curves(3)),
    "deletion, seven": lambda: saliency.deletion(curves(7)),
    "deletion, one": lambda: saliency.deletion(curves(1)),
    "deletion, none": lambda: saliency.deletion({}),
    "sanity": lambda: saliency.sanity(strips()),
    "sanity, two samples": lambda: saliency.sanity(strips(2, ["occlusion"])),
    "sanity, none": lambda: saliency.sanity(pd.DataFrame()),
    "sanity, none known": lambda: saliency.sanity(strips().assign(spearman=np.nan)),
    "hu": lambda: saliency.hu([MAP, MAP], [HU, RNG.uniform(-1024, 1500, SHAPE)]),
    "hu, none": lambda: saliency.hu([], []),
}


@pytest.mark.parametrize("name", FIGURES)
def test_texts_are_legible_apart_and_within_the_figure_with_its_mark_too(name, monkeypatch):
    figure = FIGURES[name]()
    boxes_are_apart(figure, monkeypatch)
    page = plots.Shown(figure, "A caption", "What <it> shows", "phantom, untrained")._repr_html_()
    assert "phantom, untrained" in words(figure)
    boxes_are_apart(figure, monkeypatch)
    assert plots.INK not in page and "PHANTOM, UNTRAINED: A caption" in page and len(page) < 250_000


def tiles(figure):
    """Axes that hold images, in their order."""
    return [axis for axis in figure.axes if axis.get_images() and not axis.get_title()]


# Planes


def looked_at(volume, plane):
    """A plane of a volume (R, A, S) as radiologists see it, voxel by voxel: from the feet, or the head up."""
    sizes = {"axial": (SHAPE[1], SHAPE[0]), "coronal": (SHAPE[2], SHAPE[0]), "sagittal": (SHAPE[2], SHAPE[1])}
    found = np.empty(sizes[plane])
    for down, right in np.ndindex(found.shape):
        from_top, leftwards = found.shape[0] - 1 - down, found.shape[1] - 1 - right
        voxel = {
            "axial": (leftwards, from_top, AT[2]),
            "coronal": (leftwards, AT[1], from_top),
            "sagittal": (AT[0], leftwards, from_top),
        }[plane]
        found[down, right] = volume[voxel]
    return found


def test_three_planes_show_the_ct_and_below_it_the_map_over_it_as_radiologists_see_them():
    figure = saliency.planes(HU, MAP, MASK, OBLONG, window=(50, 350))
    found = tiles(figure)
    assert len(found) == 6
    for number, plane in enumerate(("axial", "coronal", "sagittal")):
        (ct,), (below, over) = found[number].get_images(), found[number + 3].get_images()
        assert_array_equal(ct.get_array(), looked_at(HU, plane))
        assert_array_equal(below.get_array(), ct.get_array())
        assert_array_equal(over.get_array(), looked_at(MAP, plane))
        assert ct.get_clim() == (-125, 225)
        assert over.get_clim() == (0, pytest.approx(np.percentile(MAP, 99)))


def test_tiles_are_of_one_scale_in_mm_around_the_centre_of_the_mask():
    figure = saliency.planes(HU, MAP, MASK, OBLONG)
    wide, high = plots.WIDTH * 72, figure.get_figheight() * 72
    scales = []
    for tile in tiles(figure):
        left, right, bottom, top = tile.get_images()[0].get_extent()
        box = tile.get_position()
        scales += [box.width * wide / (right - left), box.height * high / (bottom - top)]
        assert len([each for each in tile.collections if isinstance(each, QuadContourSet)]) == 1
    assert np.ptp(scales) < 1e-6 * scales[0]
    left, right, bottom, top = tiles(figure)[0].get_images()[0].get_extent()
    assert left == pytest.approx(-(SHAPE[0] - 0.5 - AT[0]) * 1.5) and right == pytest.approx((AT[0] + 0.5) * 1.5)
    assert top == pytest.approx(-(SHAPE[1] - 0.5 - AT[1]) * 0.75) and bottom == pytest.approx((AT[1] + 0.5) * 0.75)


def test_a_mark_is_in_every_tile_and_the_label_at_the_bar():
    found = words(saliency.planes(HU, MAP, MASK, (1, 1, 1), mark="phantom", label="gradients"))
    assert found.count("phantom") == 6 and "gradients, to the 99th percentile" in found
    assert {"axial", "coronal", "sagittal"} < set(found)


def test_small_values_are_written_in_a_power_of_ten():
    figure = saliency.planes(HU, MAP * 3e-6 / saliency.top_of(MAP), MASK, (1, 1, 1))
    figure.draw_without_rendering()
    found = words(figure)
    assert "cosine distance of the embedding (10⁻⁶), to the 99th percentile" in found and {"0", "1", "2"} < set(found)
    assert not [text for text in found if "e-" in text]
    tiny = MAP * 2.9e-7 / saliency.top_of(MAP)
    found = words(
        saliency.grid([row(), row("tiny", saliency=tiny), row("a thousandth", saliency=tiny * 1e-3 / 2.9e-7)])
    )
    assert {"0 to 2.9 × 10⁻⁷", "0 to 0.001"} < set(found)


def test_the_centre_is_a_voxel_of_the_mask_even_of_a_hollow_one():
    ring = np.zeros((9, 9, 9), bool)
    ring[1:8, 1:8, 4], ring[2:7, 2:7, 4] = True, False
    centre = saliency.centre_of(ring, ring.shape)
    assert ring[tuple(centre)] and np.linalg.norm(centre - 4) == 3
    assert tuple(saliency.centre_of(MASK, SHAPE)) == AT
    for none in (None, 0 * MASK):
        assert_array_equal(saliency.centre_of(none, SHAPE), [6, 8, 5])


def test_colours_become_brighter_and_less_transparent_with_the_map():
    colours = saliency.heat(16).colors
    luminance = colours[:, :3] @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(luminance) > 0).all() and (np.diff(colours[:, 3]) > 0).all()
    assert colours[0, 3] == 0 and colours[-1, 3] < 0.8  # the CT shows


@pytest.mark.parametrize("values", [MAP, -MAP, 0 * MAP, np.where(MAP.max() > MAP, 0, MAP)])
def test_colours_end_above_zero(values):
    top = saliency.top_of(values)
    assert top == (np.percentile(MAP, 99) if values is MAP else max(values.max(), 0) or 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: saliency.planes(HU, MAP[:3], MASK, (1, 1, 1)), r"planes: .*saliency \(3, 16, 10\)"),
        (lambda: saliency.planes(HU[0], MAP[0], None, (1, 1, 1)), "must be 3-D"),
        (lambda: saliency.planes(HU, np.full(SHAPE, np.nan), None, (1, 1, 1)), "NaN or infinity"),
        (lambda: saliency.grid([row(), row("CT-FM", mask=MASK[1:])]), r"grid, CT-FM: .*mask \(11, 16, 10\)"),
        (lambda: saliency.hu([MAP], [HU, HU]), "1 maps for 2 CTs"),
        (lambda: saliency.hu([MAP], [HU], (0, 1, 2)), "7 names for 2 ranges"),
        (lambda: viewer(HU, MAP, MASK.T), r"viewer: .*mask \(10, 16, 12\)"),
        (lambda: viewer(HU, MAP * np.inf, None), "NaN or infinity"),
    ],
)
def test_volumes_that_do_not_fit_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# All models of a case


def test_the_grid_shows_one_field_of_view_around_the_tumour_in_every_tile():
    shifted = {name: np.roll(each, (1, -2), (0, 1)) for name, each in (("hu", HU), ("saliency", MAP), ("mask", MASK))}
    figure = saliency.grid([row(), row("moved", **shifted), row("coarse", (2.0, 2.0, 2.0))])
    found = tiles(figure)
    assert len(found) == 4 and len(found[0].get_images()) == 1  # the CT alone first
    assert {(*tile.get_xlim(), *tile.get_ylim()) for tile in found} == {(-6, 6, 6, -6)}  # 12 mm, the least there is
    assert found[1].get_images()[0].get_extent() != found[2].get_images()[0].get_extent()
    sizes = [tile.get_position().bounds[2:] for tile in found]
    assert np.ptp(sizes, axis=0).max() < 1e-9
    assert_array_equal(found[1].get_images()[1].get_array(), looked_at(MAP, "axial"))


def test_each_map_of_the_grid_has_its_own_scale_and_says_it():
    found = saliency.grid([row(), row("strong", saliency=MAP * 50), row("lost", saliency=None)])
    tops = [tile.get_images()[1].get_clim()[1] for tile in tiles(found)[1:3]]
    assert_allclose(tops, [np.percentile(MAP, 99), 50 * np.percentile(MAP, 99)])
    assert {f"0 to {top:.2g}" for top in tops} | {"no map", "99th percentile"} < set(words(found))


# Figures of numbers


def test_focus_draws_values_intervals_and_the_chance_of_the_same_cases():
    figure = focusing.focus(summary(2))
    expected = {"mass inside the\ntumour": 0.02, "mass within 5 mm": 0.11, "pointing game": 0.02}
    expected["AUC for voxels of\nthe tumour"] = 0.5
    seen = {}
    for axis in figure.axes:
        (bars,) = axis.containers
        assert_allclose(bars.lines[0].get_xdata().astype(float), 0.4)
        ends = np.array([line.get_xdata() for line in bars.lines[1]])
        assert_allclose(np.sort(ends.astype(float), axis=0), [[0.3, 0.3], [0.5, 0.5]])
        chance = next(line for line in axis.lines if line.get_markersize() == 13)
        seen[axis.get_title(loc="left")] = set(chance.get_xdata())
    assert {title.replace("\n", " "): value for title, value in seen.items()} == {
        title.replace("\n", " "): {value} for title, value in expected.items()
    }
    assert any("24 cases" in text for text in words(figure))


def test_focus_without_an_interval_or_a_chance_draws_the_value_alone():
    table = summary(1, 1, interval=np.nan)
    figure = focusing.focus(table[~table["measure"].str.endswith("expected")], ["mass_inside"])
    (bars,) = figure.axes[0].containers
    assert_allclose(bars.lines[0].get_xdata().astype(float), 0.4)
    assert any("1 case" in text for text in words(figure))


def test_focus_draws_blind_maps_beside_the_bar_each_with_a_mark_of_its_own_and_a_legend():
    figure = focusing.focus(blinded(summary(2)))
    for axis in figure.axes:
        for marker, value in (("x", 0.6), ("s", 0.2)):
            (line,) = [each for each in axis.lines if each.get_marker() == marker and len(each.get_xdata())]
            assert_allclose(line.get_xdata(), [value, value])
            assert axis.get_xlim()[0] <= value <= axis.get_xlim()[1]
    assert {"map of the middle", "brightness", "by volume, or chance", "mean, 95 % interval"} <= set(words(figure))
    assert not {"map of the middle", "brightness", "one case"} & set(words(focusing.focus(summary(2))))


def test_focus_draws_the_single_cases_only_where_there_is_no_interval():
    table = summary(2, 2, interval=np.nan)
    table.loc[table["model"].str.endswith("1"), ["low", "high"]] = [0.1, 0.6]
    figure = focusing.focus(table, cases=single(2))
    for axis, expected in zip(figure.axes, ([0.3, 0.5], [0.5] * 2, [1.0] * 2, [0.9] * 2), strict=True):
        small = [line for line in axis.lines if line.get_markersize() == 3 and len(line.get_xdata())]
        assert len(small) == 1
        assert_allclose(small[0].get_xdata(), expected)
    assert "one case" in words(figure)


@pytest.mark.parametrize("margin", [5.0, 7.5])
def test_the_margin_in_the_titles_is_the_one_that_was_measured(margin):
    chosen = ("mass_near", "pointing_near")
    found = words(focusing.focus(summary(measures=chosen), chosen, margin_mm=margin))
    titles = {text.replace("\n", " ") for text in found}
    assert {f"mass within {margin:g} mm", f"pointing game within {margin:g} mm"} <= titles


def test_deletion_draws_the_map_solid_and_the_displaced_ones_dotted():
    figure = saliency.deletion(curves(3))
    for number, axis in enumerate(figure.axes[:3]):
        solid, *dotted = [line for line in axis.lines if len(line.get_xdata())]
        assert [line.get_linestyle() for line in (solid, *dotted)] == ["-", ":", ":", ":"]
        assert_allclose(solid.get_xdata(), np.linspace(0, 100, 11))
        assert {line.get_ydata()[-1] for line in (solid, *dotted)} == {number + 1}
        assert_allclose(dotted[2].get_ydata(), (number + 1) * np.linspace(0, 1, 11) ** 2)
        assert axis.get_title(loc="left") == f"model {number}"
    assert "the same map displaced" in words(figure)


def test_sanity_draws_every_sample_its_median_and_both_lines():
    table = strips(15)
    left, right = saliency.sanity(table).axes
    for axis, column, unrelated in ((left, "spearman", 0.0), (right, "top_overlap", 0.1)):
        dots = [line for line in axis.lines if line.get_marker() == "o"]
        assert_array_equal(dots[1].get_xdata(), table.loc[table["method"] == "gradients", column])
        lines = {line.get_linestyle(): line.get_xdata()[0] for line in axis.lines if len(set(line.get_xdata())) == 1}
        assert (lines["--"], lines[":"]) == (1, unrelated)
        medians = [line.get_xdata()[0] for line in axis.lines if line.get_linewidth() == 2.2 and len(line.get_xdata())]
        assert_allclose(medians, table.groupby("method", sort=False)[column].median())


def test_saliency_by_hu_is_that_of_a_loop():
    cts = [RNG.uniform(-1100, 1600, SHAPE), RNG.uniform(-200, 700, SHAPE), RNG.uniform(-90, 90, SHAPE)]
    maps = [np.where(ct > 300, 3.0, 1.0) * RNG.random(SHAPE) for ct in cts]
    axis = saliency.hu(maps, cts).axes[0]
    (bars,) = axis.containers
    expected = []
    for low, high in zip(saliency.HU_BINS, saliency.HU_BINS[1:], strict=False):
        first = low == saliency.HU_BINS[0]  # what is darker than air counts as air
        means = []
        for values, ct in zip(maps, cts, strict=True):
            chosen = [v for v, h in zip(values.ravel(), ct.ravel(), strict=True) if (h >= low or first) and h < high]
            if len(chosen) >= 20:
                means.append(np.mean(chosen) / values.mean())
        expected.append(np.median(means))
    assert_allclose(bars.lines[0].get_xdata(), expected)
    assert expected[-1] > 1.5
    rows = [text.get_text() for text in axis.get_yticklabels()]
    assert rows[-1] == "bone\n300 to 3072 HU, 2 cases" and rows[0].startswith("air\n−1024 to −900 HU, 1 case")


# The viewer


def volumes(n, noise=20):
    """A lung with a mass of soft tissue and a chest wall, its map, and the mask of the mass."""
    rng = np.random.default_rng(n)
    place = np.indices((n, n, n)) - n / 2
    radius = np.sqrt((place**2).sum(axis=0))
    hu = np.where(radius < n / 4, 40.0, np.where(place[0] > n * 0.3, 60.0, -850.0))
    smooth = ndimage.gaussian_filter(rng.random((n, n, n)), 4)
    return hu + rng.normal(0, noise, hu.shape), np.exp(-((radius / n * 4) ** 2)) + smooth, radius < n / 4


def images(page):
    found = re.findall(r"url\((data:image/png;base64,([^)]*))\)", page)
    return [Image.open(io.BytesIO(base64.b64decode(each))) for _, each in found]


def unstacked(image, count, high):
    return np.asarray(image).reshape(count, high + 2, -1)[:, 1:-1]


@pytest.mark.parametrize(("n", "limit"), [(48, 200_000), (64, 350_000)])
@pytest.mark.parametrize("kind", ["lung", "gradients", "noise"])
def test_a_viewer_stays_small(n, limit, kind):
    hu, found, mask = volumes(n)
    rng = np.random.default_rng(1)
    if kind != "lung":  # maps of gradients are noise
        found = np.abs(rng.normal(size=hu.shape))
    if kind == "noise":
        hu = rng.uniform(-160, 240, hu.shape)
    assert len(viewer(hu, found, mask, title="A title", alt="Slices", mark="phantom")._repr_html_()) < limit


def test_slices_are_those_of_the_patch_from_the_feet_up():
    hu, found, mask = HU, MAP, MASK
    page = viewer(hu, found, mask, window=(40, 400)).html
    ct, over = images(page)
    slices, levels = unstacked(ct, 10, 16), unstacked(over, 10, 16)
    grey = np.clip((hu - 40) / 400 + 0.5, 0, 1) * 255
    level = np.clip(found / np.percentile(found, 99), 0, 1) * 15
    for s, row, column in np.ndindex(slices.shape):
        voxel = (SHAPE[0] - 1 - column, SHAPE[1] - 1 - row, s)
        assert abs(float(slices[s, row, column]) - grey[voxel]) <= 255 / 63 / 2 + 0.5
        assert abs(float(levels[s, row, column]) - level[voxel]) <= 0.5 + 1e-9
    assert over.mode == "P" and len(set(over.info["transparency"])) == 16


def test_borders_run_along_the_edges_of_voxels():
    plane = RNG.random((9, 11)) < 0.4
    edges = set()
    for x, y, letter, length in re.findall(r"M(\d+) (\d+)([hv])(\d+)", viewing._border(plane)):
        for n in range(int(length)):
            edge = (int(x) + n, int(y), "h") if letter == "h" else (int(x), int(y) + n, "v")
            assert edge not in edges
            edges.add(edge)
    padded, expected = np.pad(plane, 1), set()
    for row, column in np.ndindex(11, 13):
        if row + 1 < 11 and padded[row, column] != padded[row + 1, column]:
            expected.add((column - 1, row, "h"))
        if column + 1 < 13 and padded[row, column] != padded[row, column + 1]:
            expected.add((column, row - 1, "v"))
    assert edges == expected


def test_a_viewer_asks_for_nothing_and_shares_no_identifier():
    pages = [viewer(HU, over, mask, title=title, alt="Slices").html for over in (MAP, None) for mask in (MASK, None)
             for title in ("one", "two")]  # fmt: skip
    found = [re.findall(r'\bid="([^"]+)"', page) for page in pages]
    assert all(len(each) == 1 for each in found) and len({each[0] for each in found}) == len(pages)
    for page in pages:
        bare = re.sub(r"data:image/png;base64,[^)]*", "", page)
        assert "http" not in bare and "//" not in bare and "src=" not in bare and "@import" not in bare
        assert "\n<" not in page.split("<script>")[0]  # no line that Markdown would end the figure at
    assert viewer(HU, MAP, MASK).html == viewer(HU, MAP, MASK).html


def test_a_mark_is_visible_and_opens_caption_and_alternative_text():
    page = viewer(HU, MAP, MASK, title="A <b>", alt='Slices "x"', mark="phantom, untrained").html
    assert ">phantom, untrained</span>" in page
    assert "<figcaption>PHANTOM, UNTRAINED: A &lt;b&gt;</figcaption>" in page
    assert 'aria-label="PHANTOM, UNTRAINED: Slices &quot;x&quot;"' in page
    assert "≥ 0.0" in page and "cosine distance of the embedding" in page


def test_a_large_patch_loses_slices_and_says_so(monkeypatch):
    monkeypatch.setattr(viewing, "MOST", HU.size // 3 + 1)
    shown = viewer(HU, None, MASK)
    assert images(shown.html)[0].height == 3 * 18 and "slice 2 of 3: 0 mm from the centre" in shown.html
    grey = unstacked(images(shown.html)[0], 3, 16)[shown.start].astype(float)
    assert_allclose(grey, np.clip((looked_at(HU, "axial") - 40) / 400 + 0.5, 0, 1) * 255, atol=3)


def in_browser(task):
    """What ``task(chromium)`` gives; in a thread of its own, since playwright allows one of its loops in each."""
    program = next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        reason = f"no browser: none of {', '.join(BROWSERS)} is on the path"
        (pytest.fail if os.environ.get("TUMORBENCH_BROWSER") == "required" else pytest.skip)(reason)
    from playwright.sync_api import sync_playwright

    outcome = {}

    def work():
        try:
            with sync_playwright() as playwright:
                chromium = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
                outcome["value"] = task(chromium)
                chromium.close()
        except BaseException as error:
            outcome["error"] = error

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    if "error" in outcome:
        raise outcome["error"]
    return outcome["value"]


LEVELS = np.linspace(-160, 240, 8)  # HU of the eight slices of a patch, black to white


def stepped():
    """Two viewers of patches of eight uniform slices; the second has a map on the patient's left, the right of it."""
    hu = np.broadcast_to(LEVELS, (8, 8, 8))
    found = np.zeros((8, 8, 8))
    found[:4] = 1.0
    mask = np.zeros((8, 8, 8), bool)
    mask[2:6, 2:6, 3:6] = True
    return viewer(hu, None, None, title="first", alt="First"), viewer(hu, found, mask, title="second", alt="Second")


def grey_of(page, number, across=0.2, down=0.85):
    """The colour of a viewer's picture near its edge."""
    shot = Image.open(io.BytesIO(page.locator("[role=img]").nth(number).screenshot())).convert("RGB")
    return np.array(shot.getpixel((int(across * shot.width), int(down * shot.height))), float)


def expected(number):
    return 255 * number / 7


def test_the_slider_changes_the_slice_by_mouse_and_keyboard_in_a_page_from_a_file(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("<!doctype html><title>t</title>" + "".join(each.html for each in stepped()), encoding="utf-8")

    def task(chromium):
        page = chromium.new_context(viewport={"width": 390, "height": 1200}).new_page()
        seen = watched(page)
        page.goto(path.as_uri())
        assert_allclose(grey_of(page, 0), expected(4), atol=4)  # the middle one first
        sliders = page.get_by_label("Slice, from the feet to the head")
        for value in (0, 7, 2):
            sliders.nth(0).fill(str(value))
            assert_allclose(grey_of(page, 0), expected(value), atol=4)
            assert_allclose(grey_of(page, 0, 0.5, 0.02), expected(value), atol=4)  # up to the rim
            assert sliders.nth(0).get_attribute("aria-valuetext").startswith(f"slice {value + 1} of 8")
            assert_allclose(grey_of(page, 1), expected(4), atol=4)  # the other viewer stays
        sliders.nth(0).focus()
        page.keyboard.press("ArrowRight")
        assert_allclose(grey_of(page, 0), expected(3), atol=4)
        assert page.locator("output").nth(0).inner_text() == "slice 4 of 8: 1 mm from the centre, towards the feet"
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert [request.url for request in seen.requests if not request.url.startswith(("file:", "data:"))] == []
        assert seen.messages == [] and seen.failures == []
        return True

    assert in_browser(task)


def test_the_map_can_be_faded_and_the_outline_follows_the_slice(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("<!doctype html><title>t</title>" + stepped()[1].html, encoding="utf-8")

    def task(chromium):
        page = chromium.new_page()
        page.goto(path.as_uri())
        coloured = grey_of(page, 0, 0.8)
        assert coloured[0] - coloured[2] > 40 and np.ptp(grey_of(page, 0)) < 4  # the map is on the patient's left only
        page.get_by_label("Opacity of the map").fill("0")
        assert_allclose(grey_of(page, 0, 0.8), expected(4), atol=4)
        paths = page.locator("path")
        for value in (0, 4, 7):
            page.get_by_label("Slice, from").fill(str(value))
            shown = [number for number in range(8) if paths.nth(number).evaluate("e => e.style.display") != "none"]
            assert shown == [value] and bool(paths.nth(value).get_attribute("d")) == (3 <= value < 6)
        return True

    assert in_browser(task)


def test_without_javascript_the_slice_of_the_tumour_is_shown_and_no_slider(tmp_path):
    path = tmp_path / "page.html"
    path.write_text("<!doctype html><title>t</title>" + stepped()[1].html, encoding="utf-8")

    def task(chromium):
        page = chromium.new_context(java_script_enabled=False).new_page()
        page.goto(path.as_uri())
        assert_allclose(grey_of(page, 0), expected(4), atol=4)
        assert not page.locator("input").first.is_visible() and page.locator("figcaption").is_visible()
        assert page.locator("output").inner_text() == "slice 5 of 8: 0 mm from the centre"
        return True

    assert in_browser(task)
