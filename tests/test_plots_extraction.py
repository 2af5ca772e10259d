"""Figures of a model's page: patches lie as its array does, figures draw what was computed, texts stay apart."""

import xml.etree.ElementTree as ElementTree
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.contour import QuadContourSet
from matplotlib.text import Text
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from test_plots_curation import drawn, overlap, words

from tumorbench_utils import diagnostics, plots
from tumorbench_utils.patches import Geometry, oriented

RNG = np.random.default_rng(0)
ISO = Geometry("iso_1mm", (1.0, 1.0, 1.0), (64, 64, 64))
OBLONG = Geometry("ct_clip", (1.5, 0.75, 0.75), (60, 60, 60))
EXACT = Geometry("thick", (1.0, 1.0, 3.0), (20, 20, 20), "exact")
RAS = RNG.normal(-600, 300, (20, 24, 16))
MASK = np.zeros(RAS.shape, bool)
MASK[8:13, 10:15, 6:11] = True


def embedding(n, d, rank=5):
    return (RNG.normal(size=(n, rank)) @ RNG.normal(size=(rank, d)) + 0.3 * RNG.normal(size=(n, d)) + 1).astype("f4")


def diagnosed(vectors):
    return diagnostics.diagnose(vectors, [f"S{n}" for n in range(len(vectors))])


def annotated(n, **columns):
    table = pd.DataFrame({"label": RNG.integers(0, 2, n).astype(float), "volume_ml": RNG.lognormal(2, 1.2, n)})
    return table.assign(**columns)


def seen(axes="SPL", geometry=ISO, **options):
    hu = oriented(RAS, axes)
    return plots.seen(hu, axes, geometry, np.clip((hu + 1024) / 3072, 0, 1), mask=oriented(MASK, axes), **options)


SMALL, LARGE, TWO = embedding(24, 512), embedding(300, 64), embedding(2, 512)
ANNOTATED, WIDE = annotated(24), annotated(300, volume_ml=np.geomspace(1e-3, 4e3, 300))
BOTH = {"suprem.untrained": SMALL, "suprem.authors.untrained": LARGE}
TIMINGS = pd.DataFrame(
    {"name": ["suprem.untrained", "suprem.authors.untrained", "volume"], "cohort": ["phantom", "lung_ct", "phantom"],
     "images": [24, 2, 24], "seconds": [6.0, 3.4, 0.01], "peak_bytes": [7e8, 2.1e9, np.nan]}
)  # fmt: skip
FIGURES = {
    "seen": lambda: seen(mark="phantom"),
    "seen, oblong": lambda: seen("SLP", OBLONG, limits=(-1, 1), window=(40, 400)),
    "seen, whole scan": lambda: seen("RAS", Geometry("m", (1.5, 1.5, 3), (20, 24, 16), "exact")),
    "seen, of a control": lambda: plots.seen(RAS, "RAS", ISO),
    "throughput": lambda: plots.throughput(TIMINGS),
    "throughput, one": lambda: plots.throughput(TIMINGS[2:].drop(columns=["cohort", "peak_bytes"])),
    "throughput, none": lambda: plots.throughput(TIMINGS.assign(images=0)),
    "spectrum": lambda: plots.spectrum({name: diagnosed(each) for name, each in BOTH.items()}),
    "spectrum, four": lambda: plots.spectrum({name: diagnosed(SMALL) for name in "abcd"}),
    "spectrum, two samples": lambda: plots.spectrum({"suprem": diagnosed(TWO)}),
    "spectrum, one sample": lambda: plots.spectrum({"suprem": diagnosed(TWO[:1])}),
    "spectrum, collapsed": lambda: plots.spectrum({"suprem": diagnosed(np.ones((9, 4)))}),
    "projection": lambda: plots.projection(diagnosed(SMALL), ANNOTATED),
    "projection, labels": lambda: plots.projection(diagnosed(SMALL), ANNOTATED[["label"]]),
    "projection, volumes": lambda: plots.projection(diagnosed(SMALL), ANNOTATED.assign(label=np.nan)),
    "projection, equal volumes": lambda: plots.projection(diagnosed(SMALL), ANNOTATED.assign(volume_ml=3.0)),
    "projection, wide volumes": lambda: plots.projection(diagnosed(LARGE), WIDE),
    "projection, nothing known": lambda: plots.projection(diagnosed(SMALL), ANNOTATED[[]]),
    "projection, two samples": lambda: plots.projection(diagnosed(TWO), ANNOTATED[:2]),
    "recipes": lambda: plots.recipes(diagnostics.compare(SMALL, SMALL + embedding(24, 512))),
    "recipes, many": lambda: plots.recipes(diagnostics.compare(LARGE, LARGE + embedding(300, 64))),
    "recipes, three samples": lambda: plots.recipes(diagnostics.compare(SMALL[:3], SMALL[3:6])),
    "recipes, two samples": lambda: plots.recipes(diagnostics.compare(TWO, TWO)),
}  # fmt: skip


def boxes_are_apart(figure, monkeypatch):
    texts = drawn(figure, monkeypatch)
    assert texts and min(text.get_fontsize() for text, _ in texts) >= 8
    for text, ((left, low), (right, high)) in texts:
        assert left > -0.5 and low > -0.5, text
        assert right < plots.WIDTH * 72 + 0.5 and high < figure.get_figheight() * 72 + 0.5, text
    for (one, a), (two, b) in combinations(texts, 2):
        assert overlap(a, b) < 0.5, (one, two)


@pytest.mark.parametrize("name", FIGURES)
def test_texts_are_legible_apart_and_within_the_figure_with_its_mark_too(name, monkeypatch):
    figure = FIGURES[name]()
    boxes_are_apart(figure, monkeypatch)
    page = plots.Shown(figure, "A caption", "What <it> shows", "phantom, untrained")._repr_html_()
    assert words(figure).count("phantom, untrained") == 1
    boxes_are_apart(figure, monkeypatch)
    svg, caption = list(ElementTree.fromstring(page.replace("xlink:href", "href")))
    assert svg.get("aria-label") == "PHANTOM, UNTRAINED: What <it> shows"
    assert caption.text == "PHANTOM, UNTRAINED: A caption"
    assert svg.get("viewBox").split()[2] == f"{plots.WIDTH * 72:g}" and plots.INK not in page
    assert len(page) < 250_000


@pytest.mark.parametrize("name", ["recipes", "seen", "seen, of a control"])
def test_a_mark_lies_below_all_axes(name):
    figure = FIGURES[name]()
    before = figure.get_figheight()
    plots.Shown(figure, "c", "a", "phantom, untrained")
    foot = 13 / 72 / figure.get_figheight()
    assert figure.get_figheight() == pytest.approx(before + 13 / 72)
    assert min(axis.get_position().y0 for axis in figure.axes) >= foot - 1e-6


# The patch as the model sees it


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SPL", "SLP", "SAL", "IPL"])
@pytest.mark.parametrize("wanted", ["RAS", "IPL", "SPL"])
def test_arrays_are_turned_from_any_axes_to_any(axes, wanted):
    assert_array_equal(plots.turned(oriented(RAS, axes), axes, wanted), oriented(RAS, wanted))


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SPL", "SAL"])
def test_the_seed_is_where_the_bank_puts_it(axes):
    marked = np.zeros((20, 24, 16))
    marked[10, 12, 8] = 1  # size // 2 along R, A and S
    turned = oriented(marked, axes)
    assert turned[tuple(plots.seed_voxel(axes, turned.shape))] == 1
    assert plots.seed_voxel(axes, (20, 24, 16), "exact").tolist() == [9.5, 11.5, 7.5]


def tiles(figure):
    return figure.axes[1:]  # the first is the page


def texts_of(axis):
    return {text.get_text() for text in axis.findobj(Text) if text.get_text()}


def test_the_upper_row_is_the_array_as_it_lies_and_the_lower_one_as_radiologists_see_it():
    figure = seen("SPL", seed=(7, 9, 11), limits=(0, 1), window=(-600, 1500))
    hu = oriented(RAS, "SPL")
    values = np.clip((hu + 1024) / 3072, 0, 1)
    upper, lower = tiles(figure)[:3], tiles(figure)[3:]
    for tile, cut in zip(upper, (values[7], values[:, 9], values[:, :, 11]), strict=True):
        assert_array_equal(tile.images[0].get_array(), cut)
        assert tile.images[0].get_clim() == (0, 1)
    for tile, ways in zip(upper, ({"P↓", "L→"}, {"S↓", "L→"}, {"S↓", "P→"}), strict=True):
        assert ways <= texts_of(tile)
    shown = hu[::-1]  # the head is up
    for tile, cut in zip(lower, (hu[7], shown[:, 9], shown[:, :, 11]), strict=True):
        assert_array_equal(tile.images[0].get_array(), cut)
        assert tile.images[0].get_clim() == (-1350, 150)
    assert {"I↓", "L→"} <= texts_of(lower[1]) and {"I↓", "P→"} <= texts_of(lower[2])
    page = words(figure)
    assert page.count("axial") == page.count("coronal") == page.count("sagittal") == 2
    assert "As the model sees it: axes SPL, black 0, white 1" in page
    assert "As radiologists see it: black −1,350 HU, white 150 HU" in page


@pytest.mark.parametrize(("axes", "geometry"), [("SPL", ISO), ("SLP", OBLONG), ("RAS", EXACT)])
def test_tiles_are_in_mm_from_the_seed_and_of_one_scale(axes, geometry):
    figure = seen(axes, geometry)
    mm = dict(zip("RAS", np.array(geometry.spacing) * RAS.shape, strict=True))
    mm |= {"L": mm["R"], "P": mm["A"], "I": mm["S"]}
    scales = []
    for tile in tiles(figure):
        across = next(text[0] for text in texts_of(tile) if text.endswith("→"))
        down = next(text[0] for text in texts_of(tile) if text.endswith("↓"))
        left, right, bottom, top = tile.images[0].get_extent()
        assert right - left == pytest.approx(mm[across]) and bottom - top == pytest.approx(mm[down])
        box = tile.get_position()
        wide, high = box.width * plots.WIDTH, box.height * figure.get_figheight()
        scales += [wide / mm[across], high / mm[down]]
        cross = next(line for line in tile.lines if line.get_marker() == "+")
        assert cross.get_xydata().tolist() == [[0, 0]]
        step = mm[across] / tile.images[0].get_array().shape[1]
        middle = (left + right) / 2
        assert middle == 0 if geometry.sampling == "exact" else abs(middle) == pytest.approx(step / 2)
    assert_allclose(scales, scales[0])


def test_the_outline_is_that_of_the_mask_in_both_rows():
    plain = plots.seen(oriented(RAS, "SPL"), "SPL", ISO)
    assert not any(isinstance(part, QuadContourSet) for tile in tiles(plain) for part in tile.collections)
    for tile in tiles(seen("SPL")):
        (outline,) = [part for part in tile.collections if isinstance(part, QuadContourSet)]
        corners = np.concatenate([path.vertices for path in outline.get_paths()])
        assert_allclose(np.ptp(corners, axis=0), [5, 5])  # five voxels of 1 mm
        assert (corners.min(axis=0) < 0).all() and (corners.max(axis=0) > 0).all()


def test_every_tile_of_a_phantom_is_marked():
    assert words(seen(mark="phantom")).count("phantom") == 6 and "phantom" not in words(seen())


def test_arrays_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        plots.seen(RAS, "RAS", ISO, RAS[1:])
    with pytest.raises(ValueError, match="3-D"):
        plots.seen(RAS[0], "RAS", ISO)


# Speed


def test_throughput_draws_rates_and_memory():
    rates, memory = plots.throughput(TIMINGS).axes
    assert_allclose([bar.get_width() for bar in rates.patches], [4, 2 / 3.4, 2400])
    assert_allclose([bar.get_width() for bar in memory.patches], [0.7, 2.1, 0])
    assert [text.get_text() for text in rates.texts] == ["4/s, 250 ms", "0.59/s, 1.7 s", "2,400/s, 0.42 ms"]
    assert [text.get_text() for text in memory.texts] == ["0.7 GB", "2.1 GB", "–"]
    assert rates.get_yticklabels()[1].get_text().split("\n")[-1] == "lung_ct"
    (axis,) = plots.throughput(TIMINGS.drop(columns="peak_bytes")[:2]).axes
    assert len(axis.patches) == 2


def test_what_was_there_already_is_not_timed():
    (rates, _) = plots.throughput(TIMINGS.assign(images=[24, 0, 24])).axes
    assert len(rates.patches) == 2


# Diagnostics


def test_spectrum_draws_shares_ranks_norms_and_cosines():
    found = diagnosed(SMALL)
    top, middle, bottom = plots.spectrum({"suprem": found}).axes
    curve = top.lines[0]
    assert_allclose(curve.get_ydata(), 100 * np.cumsum(found.spectrum.shares)[:23])
    assert top.lines[1].get_xdata()[0] == found.spectrum.effective_rank and top.lines[1].get_linestyle() == "--"
    for axis, values in ((middle, found.norms), (bottom, found.cosines)):
        heights, edges, _ = axis.patches[0].get_data()
        assert heights.sum() == pytest.approx(100) and edges[0] <= values.min() and values.max() <= edges[-1]
    label = plots.spectrum({"suprem": found}).legends[0].get_texts()[0].get_text()
    assert label == f"suprem: effective rank {found.spectrum.effective_rank:.1f} of 23"


def test_a_collapsed_embedding_is_a_spike_at_one():
    bottom = plots.spectrum({"a": diagnosed(np.ones((9, 4)))}).axes[2]
    heights, edges, _ = bottom.patches[0].get_data()
    assert heights.max() == pytest.approx(100) and edges[heights.argmax()] <= 1 <= edges[heights.argmax() + 1]


def test_more_embeddings_than_can_be_told_apart_are_refused():
    with pytest.raises(ValueError, match="at most 4"):
        plots.spectrum({name: diagnosed(SMALL) for name in "abcde"})


def test_projection_draws_every_sample_in_its_colour():
    table = ANNOTATED.copy()
    table.loc[[0, 5], "label"] = np.nan
    table.loc[[1, 2, 3], "volume_ml"] = [np.nan, 0, -1]
    found = diagnosed(SMALL)
    left, right = plots.projection(found, table).axes[:2]
    positive, negative, unknown = (part.get_offsets() for part in left.collections)
    assert_allclose(positive, found.spectrum.points[table["label"] == 1])
    assert_allclose(negative, found.spectrum.points[table["label"] == 0])
    assert_allclose(unknown, found.spectrum.points[[0, 5]])
    hollow, coloured = right.collections
    assert_allclose(hollow.get_offsets(), found.spectrum.points[[1, 2, 3]])
    assert_allclose(coloured.get_array(), table["volume_ml"].drop([1, 2, 3]))
    share = 100 * found.spectrum.shares
    assert left.get_xlabel() == f"component 1 ({share[0]:.0f} %)"
    assert left.get_ylabel() == f"component 2 ({share[1]:.0f} % of variance)"


def test_projection_of_a_part_of_the_samples_takes_their_annotations():
    found = diagnostics.diagnose(LARGE, [str(n) for n in range(300)], most=20)
    volumes = np.arange(300) + 1.0
    (axis, _) = plots.projection(found, pd.DataFrame({"volume_ml": volumes})).axes
    assert_array_equal(axis.collections[0].get_array(), volumes[found.used])
    with pytest.raises(ValueError, match="20 annotations for 300 vectors"):
        plots.projection(found, annotated(20))


def test_recipes_draw_neighbours_against_chance():
    compared = diagnostics.compare(SMALL, SMALL + embedding(24, 512))
    top, bottom = plots.recipes(compared).axes
    heights = [bar.get_height() for bar in top.patches]
    assert sum(heights) == 24
    assert np.dot(heights, np.arange(11)) / 240 == pytest.approx(compared.overlap)
    chance = top.lines[0].get_ydata()
    assert sum(chance) == pytest.approx(24)
    assert np.dot(chance, np.arange(11)) / 240 == pytest.approx(compared.chance)
    assert chance[4] == pytest.approx(24 * stats.hypergeom.pmf(4, 23, 10, 10))
    assert_allclose(bottom.lines[0].get_xydata(), compared.distances.to_numpy())
    assert f"Spearman {compared.spearman:.2f}" in bottom.get_title(loc="left")


def test_recipes_of_many_samples_draw_some_pairs_and_say_so():
    compared = diagnostics.compare(LARGE, LARGE)
    bottom = plots.recipes(compared, ("one", "other")).axes[1]
    drawn_pairs = len(bottom.lines[0].get_xdata())
    assert 500 < drawn_pairs <= 700
    assert bottom.get_xlabel() == f"cosine distance, one ({drawn_pairs:,} pairs of 44,850)"
