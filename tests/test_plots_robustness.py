"""Figures of the robustness stage draw what their tables say, and their texts are legible and apart."""

import warnings
import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import same_color
from matplotlib.contour import QuadContourSet
from numpy.testing import assert_allclose, assert_array_equal
from test_plots_curation import assert_legible, drawn, words

from tumorbench_utils import plots as book
from tumorbench_utils.plots import robustness, stress

RNG = np.random.default_rng(0)
MODELS = ["FMCIB", "CT-FM", "CT-CLIP", "PASTA", "VISTA3D", "VoCo", "SuPreM", "Merlin", "MedImageInsight",
          "Models Genesis", "Astra (third-party copy)", "Random encoder (untrained ResNet-18)",
          "Radiomics (handcrafted)", "Tumour volume"]  # fmt: skip
LONG = "Random encoder (untrained ResNet-18), second recipe of its authors, with a name that does not end"
FAR = dict(zip(MODELS, [0.4, 0.5, 0.3, 0.1, 0.2, 5e-6, 0.004, 0.4, 0.02, 0.1, 0.2, 0.03, 0.001, 0], strict=True))
SCATTER = [0.01, 0.02, 0.07, 0.01, 0.03, 3e-6, 5e-4, 0.2, 0.002, 0.02, 0.02, 0.01, 0.001, 0]
NEAR = dict(zip(MODELS, SCATTER, strict=True))


def cosines(spread, n):
    return 1 - spread * RNG.gamma(4, 0.25, n)


def pairs(titles, n=26, m=650):
    return {title: (cosines(NEAR.get(title, 0.1), n), cosines(FAR.get(title, 0.3), m)) for title in titles}


def with_ends(table, *names, half=0.04):
    ends = {f"{name}_{end}": table[name] + sign * half for name in names for end, sign in (("low", -1), ("high", 1))}
    return table.assign(**ends)


def identified(titles, verdict=True):
    rate, apart = RNG.uniform(0.1, 0.9, len(titles)), RNG.uniform(0.5, 0.98, len(titles))
    table = pd.DataFrame({"title": titles, "identification": rate, "low": rate - 0.1, "high": rate + 0.08,
                          "separation": apart, "sep_low": apart - 0.05, "sep_high": apart + 0.02})  # fmt: skip
    sentences = ["tells patients apart", "useless: no better than chance", "stable, but hardly tells patients apart"]
    return table.assign(verdict=np.resize(sentences, len(titles))) if verdict else table


def iccs(titles, d=512):
    return {title: 1 - RNG.beta(1.2, 3, d) * (1 + 0.1 * n) for n, title in enumerate(titles)}


def trials(titles, n=49):
    return {title: RNG.normal(0.3 + 0.04 * n_, 0.03, n) for n_, title in enumerate(titles)}


def published_trials(titles, n=49):
    rows = [(title, trial, kappa) for title, each in trials(titles, n).items() for trial, kappa in enumerate(each, 1)]
    return pd.DataFrame(rows, columns=["title", "trial", "kappa"])


def by_model(ids):
    return published_trials(ids).rename(columns={"title": "model"})


def doses(titles, sizes=(0, 1, 2, 4, 8, 16)):
    rows = [
        (title, float(mm), np.exp(-mm * (n + 1) / 60), np.exp(-mm * (n + 1) / 30), 0.5 + 0.2 * np.exp(-mm / 20))
        for n, title in enumerate(titles) for mm in sizes
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["title", "size_mm", "cosine", "agreement", "auc"])
    return with_ends(table, "cosine", "agreement", "auc")


KINDS = {"noise": ("noise, standard deviation", "HU", (0, 10, 25, 50)),
         "blur": ("blur, full width at half maximum", "mm", (0, 1, 2, 4)),
         "thickness": ("slice thickness", "mm", (0, 2.5, 5, 10)),
         "shift": ("HU shift", "HU", (-50, -25, 0, 25, 50)),
         "rotation": ("rotation about the head-foot axis", "degrees", (0, 5, 10, 20))}  # fmt: skip


def answered(titles, kinds=tuple(KINDS)):
    rows = [
        (title, kind, *KINDS[kind][:2], float(size), 0.95 - 0.2 * harm, 0.95 - 0.4 * harm, -0.18 * harm)
        for n, title in enumerate(titles) for kind in kinds for size in KINDS[kind][2]
        for harm in [(n + 1) / 6 * abs(size) / max(KINDS[kind][2])]
    ]  # fmt: skip
    columns = ["title", "kind", "kind_title", "unit", "size", "cosine", "agreement", "auc_change"]
    return with_ends(pd.DataFrame(rows, columns=columns), "cosine", "agreement", "auc_change")


CONTROLS = ["shuffled inside the tumour", "shuffled outside the tumour", "shuffled everywhere",
            "random voxels inside the tumour", "random voxels outside the tumour",
            "random voxels everywhere"]  # fmt: skip


def controlled(titles, names=tuple(CONTROLS)):
    rows = [(title, name, RNG.uniform(0.85, 0.98), RNG.uniform(0.1, 0.8)) for title in titles for name in names]
    return with_ends(pd.DataFrame(rows, columns=["title", "control", "cosine", "retrieval"]), "cosine", "retrieval")


def scored(titles, names=tuple(CONTROLS)):
    table = controlled(titles, names)
    return with_ends(table.assign(auc_change=RNG.uniform(-0.2, 0.02, len(table))), "auc_change")


def changed(titles, names=("noise 25 HU", "noise 50 HU", "slice thickness 5 mm")):
    return scored(titles, names).rename(columns={"control": "condition"})


def unlabelled(table):
    """As where nothing can be predicted."""
    return table.assign(**{name: np.nan for name in table if name.startswith(("auc", "agreement"))})


SLICE = np.where(np.hypot(*np.mgrid[-24:24, -24:24]) < 11, 40, -90) + RNG.normal(0, 12, (48, 48))
INSIDE = np.hypot(*np.mgrid[-24:24, -24:24]) < 11
TILES = [("as it is", SLICE), ("noise 25 HU", SLICE + RNG.normal(0, 25, SLICE.shape)), ("HU shift 50 HU", SLICE + 50),
         ("rotation about the head-foot axis 90 degrees", np.rot90(SLICE))]  # fmt: skip
NAN = np.array([np.nan, 0.9, 0.8])
FIGURES = {
    "retest": lambda: robustness.retest(pairs(MODELS)),
    "retest, logarithmic": lambda: robustness.retest(pairs(MODELS), log=True),
    "retest, one": lambda: robustness.retest(pairs([LONG], 3, 6)),
    "retest, collapsed": lambda: robustness.retest({"constant": (np.ones(5), np.ones(20))}, log=False),
    "retest, collapsed, logarithmic": lambda: robustness.retest({"constant": (np.ones(5), np.ones(20))}),
    "retest, not numbers": lambda: robustness.retest({"a": (NAN, NAN), "b": (NAN[:1], NAN[:1])}),
    "retest, no pairs": lambda: robustness.retest({"a": ([], [])}),
    "retest, none": lambda: robustness.retest({}),
    "identification": lambda: robustness.identification(identified(MODELS), 1 / 26),
    "identification, one": lambda: robustness.identification(identified([LONG], verdict=False), 1 / 4),
    "identification, not judged": lambda: robustness.identification(
        identified(["a"]).assign(low=np.nan, high=np.nan, separation=np.nan, sep_low=np.nan, sep_high=np.nan), 1 / 2
    ),
    "identification, none": lambda: robustness.identification(pd.DataFrame(), 1 / 26),
    "icc": lambda: robustness.icc(iccs(MODELS)),
    "icc, one": lambda: robustness.icc({LONG: [0.2, 0.5, 0.95, np.nan]}),
    "icc, constant": lambda: robustness.icc({"constant": np.full(512, np.nan), "perfect": np.ones(3)}),
    "icc, negative": lambda: robustness.icc({"a": RNG.uniform(-0.9, 0.2, 40)}),
    "icc, none": lambda: robustness.icc({}),
    "kappas": lambda: robustness.kappas(trials(MODELS[-6:]), published_trials(MODELS[:10])),
    "kappas, ours": lambda: robustness.kappas(trials([LONG], 3), published_trials([])),
    "kappas, published": lambda: robustness.kappas({}, by_model(MODELS[:10])),
    "kappas, not numbers": lambda: robustness.kappas({"a": NAN, "b": NAN[:1]}, published_trials(["b"], 1)),
    "kappas, none": lambda: robustness.kappas({}, published_trials([])),
    "dose": lambda: stress.dose(doses(MODELS[6:12])),
    "dose, two": lambda: stress.dose(doses(["Astra", "Random encoder"], (0, 4))),
    "dose, one": lambda: stress.dose(doses([LONG])),
    "dose, AUC unknown": lambda: stress.dose(doses(["a"]).assign(auc=np.nan, auc_low=np.nan, auc_high=np.nan)),
    "dose, none": lambda: stress.dose(pd.DataFrame()),
    "responses": lambda: stress.responses(answered(["Astra", "Random encoder"])),
    "responses, six": lambda: stress.responses(answered(MODELS[6:12], ("noise", "shift"))),
    "responses, one": lambda: stress.responses(answered([LONG], ("rotation",))),
    "responses, unlabelled": lambda: stress.responses(unlabelled(answered(["Astra"], ("noise", "shift")))),
    "responses, none": lambda: stress.responses(pd.DataFrame()),
    "controls": lambda: stress.controls(controlled(["FMCIB"])),
    "controls, several": lambda: stress.controls(controlled(MODELS[8:12], CONTROLS[:3])),
    "controls, one": lambda: stress.controls(controlled([LONG], [LONG])),
    "controls, three": lambda: stress.controls(scored(["FMCIB"])),
    "controls, three, several": lambda: stress.controls(scored(MODELS[8:12], CONTROLS[:3])),
    "controls, three, six": lambda: stress.controls(scored(MODELS[:6])),
    "controls, three, one": lambda: stress.controls(scored([LONG], [LONG])),
    "controls, unlabelled": lambda: stress.controls(unlabelled(scored(["Astra"]))),
    "changes": lambda: stress.changes(changed(MODELS[6:12])),
    "changes, one": lambda: stress.changes(changed([LONG], [LONG])),
    "changes, unlabelled": lambda: stress.changes(unlabelled(changed(["Astra", "FMCIB"]))),
    "changes, none": lambda: stress.changes(pd.DataFrame()),
    "controls, none": lambda: stress.controls(controlled(["a"])[:0]),
    "stressed": lambda: stress.stressed(TILES, (1.0, 1.0)),
    "stressed, outlined": lambda: stress.stressed(TILES, (0.75, 0.75), outline=INSIDE, columns=4, mark="phantom"),
    "stressed, none": lambda: stress.stressed([], (1.0, 1.0)),
}  # fmt: skip


@pytest.mark.parametrize("name", FIGURES)
def test_figures_draw_without_warnings_with_legible_texts_apart_and_within(name, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = FIGURES[name]()
        page = book.Shown(figure, "A caption", "What it shows", "phantom, untrained")._repr_html_()
        texts = drawn(figure, monkeypatch)
    svg = next(iter(ElementTree.fromstring(page.replace("xlink:href", "href"))))
    assert svg.get("aria-label") == "PHANTOM, UNTRAINED: What it shows" and book.INK not in page
    assert len(page) < 400_000
    assert_legible(figure, texts)


@pytest.mark.parametrize("name", [name for name in FIGURES if name.endswith((", one", ", ours"))])
def test_figures_have_titles_units_and_no_background(name):
    figure = FIGURES[name]()
    axes = figure.axes
    assert any(axis.get_title(loc="left") for axis in axes)
    assert axes[-1].get_xlabel() or axes[-2].get_xlabel()  # a row of three has one, in the middle
    assert all(part.get_facecolor()[3] == 0 for part in (figure, *(axis.patch for axis in axes)))


@pytest.mark.parametrize("name", [name for name in FIGURES if name.endswith("none")])
def test_of_nothing_a_sentence_is_shown(name):
    (sentence,) = words(FIGURES[name]())
    assert sentence.endswith(".") and "No" in sentence


def of_colour(axis, colour, marker=None):
    lines = [line for line in axis.lines if same_color(line.get_color(), colour) and len(line.get_xdata())]
    return [line for line in lines if line.get_marker() == marker] if marker else lines


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


# Test and retest


def test_retest_draws_the_pairs_and_their_mean():
    found = pairs(MODELS[:4], 26, 90)
    figure = robustness.retest(found)
    (axis,) = figure.axes
    for (within, between), dots, grey in zip(
        found.values(), of_colour(axis, book.OURS, "o"), of_colour(axis, book.MUTED, "o"), strict=True
    ):
        assert_array_equal(dots.get_xdata(), within)
        assert_array_equal(grey.get_xdata(), between)
        assert max(grey.get_ydata()) < min(dots.get_ydata())  # above, and not on one another
    means = [line.get_xdata()[0] for line in of_colour(axis, book.OURS, "|")]
    assert_allclose(means, [within.mean() for within, _ in found.values()])
    ranges = [line.get_xdata() for line in of_colour(axis, book.MUTED, "None")]
    assert_allclose(ranges, [np.quantile(between, (0.025, 0.975)) for _, between in found.values()])
    assert legend(figure) == ["different patients", "two scans of a patient", "their mean"]


def test_similarities_that_are_all_near_one_are_drawn_on_a_logarithmic_axis():
    scale = lambda *values, **options: robustness.retest({"a": values}, **options).axes[0].get_xscale()  # noqa: E731
    assert scale([0.9999], [0.9901]) == "log" and scale([0.9999], [0.99]) == "linear"
    assert scale([0.9999, np.nan], [0.995]) == "log" and scale([np.nan], []) == "linear"
    assert scale([0.9999], [0.9901], log=False) == "linear" and scale([0.9], [0.1], log=True) == "log"
    both = {"near": ([0.9999], [0.999]), "far": ([0.9], [0.5])}
    assert robustness.retest(both).axes[0].get_xscale() == "linear"


def test_many_pairs_are_drawn_as_quantiles_from_the_least_to_the_most():
    between = RNG.uniform(0, 1, 5000)
    (axis,) = robustness.retest({"a": ([0.9], between)}).axes
    (grey,) = of_colour(axis, book.MUTED, "o")
    assert_allclose(grey.get_xdata(), np.quantile(between, np.linspace(0, 1, 100)))


def test_a_collapsed_embedding_has_both_clouds_in_one_place():
    for log in (False, True):
        (axis,) = robustness.retest({"constant": (np.full(9, 0.9999), np.full(72, 0.9999))}, log=log).axes
        left, right = axis.get_xlim()
        places = np.concatenate([line.get_xdata() for line in of_colour(axis, book.OURS) + of_colour(axis, book.MUTED)])
        assert np.ptp(places) == 0 and min(left, right) < places[0] < max(left, right)


def test_on_a_logarithmic_axis_alike_is_to_the_right_and_equal_vectors_are_drawn():
    (axis,) = robustness.retest({"a": ([0.99, 1.0], [0.0, -0.5])}, log=True).axes
    assert axis.get_xscale() == "log" and axis.get_xlim()[0] > 1.5 > 1e-7 > axis.get_xlim()[1]
    (dots,) = of_colour(axis, book.OURS, "o")
    assert_allclose(dots.get_xdata(), [0.01, 1e-7])
    assert [label.get_text() for label in axis.get_xticklabels()] == ["10⁻⁷", "10⁻⁵", "0.001", "0.1"]


def test_values_that_are_not_numbers_are_counted_beside_the_title():
    figure = robustness.retest({"a": (NAN, [0.5, np.nan])})
    assert figure.axes[0].get_yticklabels()[0].get_text() == "a (2 of 5 undefined)"
    figure = robustness.icc({"a": NAN, "b": [0.5]})
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["a (1 of 3 undefined)", "b"]
    figure = robustness.kappas({"a": NAN}, published_trials(["b"]))
    assert [axis.get_yticklabels()[0].get_text() for axis in figure.axes] == ["b", "a (1 of 3 undefined)"]


def test_identification_draws_rates_intervals_chance_and_verdicts():
    table = identified(MODELS[:5])
    figure = robustness.identification(table, 1 / 26)
    (axis,) = figure.axes
    columns = {book.OURS: ("identification", "low", "high"), book.CONTROL: ("separation", "sep_low", "sep_high")}
    for (colour, names), lines, chance in zip(columns.items(), axis.collections, (1 / 26, 0.5), strict=True):
        marks, guess = of_colour(axis, colour)[0], of_colour(axis, colour)[1]
        assert_array_equal(marks.get_xdata(), table[names[0]])
        ends = np.array([[path.vertices[0, 0], path.vertices[1, 0]] for path in lines.get_paths()])
        assert_array_equal(ends, table[[names[1], names[2]]])
        assert_allclose([path.vertices[0, 1] for path in lines.get_paths()], marks.get_ydata())
        assert guess.get_xdata()[0] == chance and guess.get_linestyle() == ":"
    assert legend(figure)[2:] == ["chance, 1 in 26", "chance, 1 in 2"]
    assert [text.get_text().replace("\n", " ") for text in axis.texts] == list(table["verdict"])
    assert not robustness.identification(table.drop(columns="verdict"), 1 / 26).axes[0].texts


def test_an_interval_that_does_not_hold_its_value_is_drawn_as_it_is():
    table = identified(["a"]).assign(identification=0.5, low=0.6, high=0.7)
    (path,) = robustness.identification(table, 0.1).axes[0].collections[0].get_paths()
    assert path.vertices[:, 0].tolist() == [0.6, 0.7]


def test_icc_draws_the_histogram_in_the_bands_of_koo_and_li():
    values = {"a": RNG.uniform(-0.3, 1, 400), "b": np.array([0.1, 0.49, 0.51, 0.76, 0.92, 0.99, 1.0])}
    figure = robustness.icc(values)
    (axis,) = figure.axes
    limits = [-np.inf, 0.5, 0.75, 0.9, np.inf]
    for row, (place, each) in enumerate(zip(axis.get_yticks(), values.values(), strict=True)):
        parts = [part for part in axis.patches if abs(part.get_data().baseline - place) < 0.25]
        heights = np.array([np.sum(part.get_data().baseline - part.get_data().values) for part in parts])
        assert_allclose(heights / heights.sum(), np.histogram(each, limits)[0] / len(each))
        assert all(
            same_color(part.get_facecolor(), shade) for part, shade in zip(parts, robustness.SHADES, strict=True)
        )
        assert_allclose([part.get_data().edges[-1] for part in parts], [0.5, 0.75, 0.9, 1])
        assert_allclose([part.get_data().edges[0] for part in parts[1:]], [0.5, 0.75, 0.9])
        assert axis.texts[row].get_text() == f"{100 * np.mean(each >= 0.9):.0f} %"
        assert of_colour(axis, book.INK, "|")[row].get_xdata()[0] == np.median(each)
    assert axis.texts[-1].get_text() == "excellent"
    assert legend(figure)[:4] == ["poor: below 0.5", "moderate: from 0.5", "good: from 0.75", "excellent: from 0.9"]
    assert "Koo and Li 2016" in axis.get_xlabel()


def test_an_embedding_without_any_icc_keeps_its_row():
    (axis,) = robustness.icc({"constant": np.full(512, np.nan), "b": [0.95]}).axes
    assert axis.get_yticklabels()[0].get_text().replace("\n", " ") == "constant (512 of 512 undefined)"
    assert [text.get_text() for text in axis.texts] == ["100 %", "excellent"]


# Seed jitter


def test_kappas_as_published_are_hollow_and_above_ours_on_one_axis():
    ours, study = trials(MODELS[8:11]), published_trials(MODELS[:10])
    figure = robustness.kappas(ours, study)
    above, below = figure.axes
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["As published", "This run"]
    assert above.get_xlim() == below.get_xlim() and below.get_xlabel()
    rows = of_colour(above, book.PUBLISHED, "o")
    assert [label.get_text() for label in above.get_yticklabels()] == MODELS[:10]
    for title, row in zip(MODELS[:10], rows, strict=True):
        assert_array_equal(row.get_xdata(), study.loc[study["title"] == title, "kappa"])
        assert row.get_markerfacecolor() == "none"
    for each, row, mean in zip(
        ours.values(), of_colour(below, book.OURS, "o"), of_colour(below, book.INK, "|"), strict=True
    ):
        assert_array_equal(row.get_xdata(), each)
        assert same_color(row.get_markerfacecolor(), book.OURS)
        assert mean.get_xdata()[0] == each.mean()
    assert legend(figure) == ["a trial, as published", "a trial of this run", "their mean"]
    assert below.get_xlabel() == "weighted kappa with the first trial, itself jittered"


def test_a_block_without_kappas_is_left_out():
    (axis,) = robustness.kappas({}, published_trials(["a"])).axes
    assert axis.get_title(loc="left") == "As published"
    (axis,) = robustness.kappas({"a": [0.1]}, published_trials([])).axes
    assert axis.get_title(loc="left") == "This run"


def curves(axis, count):
    """The lines and, as (lower, upper), the bands of a panel."""
    bands = []
    for band in axis.collections:
        corners = band.get_paths()[0].vertices
        x = np.unique(corners[:, 0])
        bands.append([[corners[corners[:, 0] == at, 1].min(), corners[corners[:, 0] == at, 1].max()] for at in x])
    return axis.lines[:count], bands


def test_dose_draws_a_line_and_a_band_a_model_in_order_of_size():
    table = doses(MODELS[:6])
    figure = stress.dose(table.sample(frac=1, random_state=0).sort_values("title", kind="stable"))
    titles = sorted(MODELS[:6])
    for axis, name in zip(figure.axes, ("cosine", "agreement", "auc"), strict=True):
        lines, bands = curves(axis, 6)
        for title, line, band in zip(titles, lines, bands, strict=True):
            rows = table[table["title"] == title]
            assert_array_equal(line.get_xydata(), rows[["size_mm", name]])
            assert_allclose(band, rows[[f"{name}_low", f"{name}_high"]])
        looks = {(line.get_color(), str(line._dash_pattern), line.get_marker()) for line in lines}
        assert len(looks) == len({look[1] for look in looks}) == len({look[2] for look in looks}) == 6
    assert legend(figure) == [*titles, "chance"]
    assert "(mm)" in figure.axes[2].get_xlabel() and figure.axes[2].lines[-1].get_ydata()[0] == 0.5
    assert stress.dose(table, "SD per axis (mm)").axes[2].get_xlabel() == "SD per axis (mm)"


# Perturbations and negative controls


def test_responses_have_a_row_a_kind_and_a_column_a_measure():
    table = answered(["Astra", "Random encoder"])
    grid = np.array(stress.responses(table).axes).reshape(len(KINDS), 3)
    for row, kind in zip(grid, KINDS, strict=True):
        assert row[1].get_xlabel() == f"{KINDS[kind][0]} ({KINDS[kind][1]})"
        for axis, name in zip(row, ("cosine", "agreement", "auc_change"), strict=True):
            lines, bands = curves(axis, 2)
            for title, line, band in zip(("Astra", "Random encoder"), lines, bands, strict=True):
                rows = table[(table["title"] == title) & (table["kind"] == kind)]
                assert_array_equal(line.get_xydata(), rows[["size", name]])
                assert_allclose(band, rows[[f"{name}_low", f"{name}_high"]])
        assert row[2].lines[-1].get_ydata()[0] == 0
    for column in grid.T:
        assert len({axis.get_ylim() for axis in column}) == 1
    assert [axis.get_title(loc="left").replace("\n", " ") for axis in grid[0]] == [
        "Cosine similarity", "Decisions the same", "Change in AUC"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("draw", "make", "by", "columns"),
    [
        (stress.controls, controlled, "control", ["cosine", "retrieval"]),
        (stress.controls, scored, "control", ["cosine", "retrieval", "auc_change"]),
        (stress.changes, changed, "condition", ["auc_change"]),
    ],
    ids=["controls", "controls, scored", "changes"],
)
def test_controls_and_changes_draw_every_model_and_condition_in_its_row(draw, make, by, columns):
    table = make(["FMCIB", "Astra"]).sample(frac=1, random_state=1)
    figure = draw(table)
    names = [label.get_text().replace("\n", " ") for label in figure.axes[0].get_yticklabels()]
    assert names == list(dict.fromkeys(table[by]))
    for axis, column in zip(figure.axes, columns, strict=True):
        assert (column == "auc_change") == any(list(line.get_xdata()) == [0, 0] for line in axis.lines)
        marks = [line for line in axis.lines if line.get_linestyle() == "None"]
        for title, line, bars in zip(legend(figure), marks, axis.collections, strict=True):
            rows = table[table["title"] == title]
            assert_array_equal(line.get_xdata(), rows[column])
            ends = [path.vertices[:, 0] for path in bars.get_paths()]
            assert_array_equal(ends, rows[[f"{column}_low", f"{column}_high"]])
            ticks = figure.axes[0].get_yticks()
            row = np.abs(np.subtract.outer(line.get_ydata(), ticks)).argmin(axis=1)
            assert [names[at] for at in row] == list(rows[by])


def test_a_change_without_limits_has_a_mark_and_no_bar_and_an_unknown_one_is_counted():
    table = changed(["Astra", "FMCIB"], ["a", "b"])
    table.loc[0, ["auc_change_low", "auc_change_high"]] = np.nan  # Astra, a
    table.loc[3, ["auc_change", "auc_change_low", "auc_change_high"]] = np.nan  # FMCIB, b
    (axis,) = stress.changes(table).axes
    assert [label.get_text() for label in axis.get_yticklabels()] == ["a", "b (1 of 2 undefined)"]
    astra, fmcib = (line for line in axis.lines if line.get_linestyle() == "None")
    assert_array_equal(astra.get_xdata(), table["auc_change"][:2])
    assert_array_equal(fmcib.get_xdata(), table["auc_change"][2:])
    ((astra_bar,), (fmcib_bar,)) = (lines.get_paths() for lines in axis.collections)
    assert_array_equal(astra_bar.vertices[:, 0], table.loc[1, ["auc_change_low", "auc_change_high"]])
    assert_array_equal(fmcib_bar.vertices[:, 0], table.loc[2, ["auc_change_low", "auc_change_high"]])


def test_controls_whose_change_in_auc_is_unknown_have_two_panels():
    assert len(stress.controls(unlabelled(scored(["Astra"]))).axes) == 2
    assert len(stress.controls(scored(["Astra"])).axes) == 3


def test_tick_labels_of_three_narrow_panels_keep_apart(monkeypatch):
    table = scored(["Astra"], CONTROLS[:2])
    for name, low, high in (("cosine", 0.64, 1.0), ("retrieval", 0.0, 1.0), ("auc_change", -0.57, 0.33)):
        table[[name, f"{name}_low", f"{name}_high"]] = [[low] * 3, [high] * 3]
    figure = stress.controls(table)
    rows = [axis.get_xticklabels() for axis in figure.axes]
    assert [[label.get_text() for label in row] for row in rows] == [["0.8", "1"], ["0", "0.5", "1"], ["−0.5", "0"]]
    boxes = {id(text): box for text, box in drawn(figure, monkeypatch)}
    (_, *starts), (*ends, _) = ([boxes[id(row[at])][side][0] for row in rows] for at, side in ((0, 0), (-1, 1)))
    assert min(np.subtract(starts, ends)) > 6  # points: about two spaces
    inside = [boxes[id(label)] for label in rows[2]]
    assert inside[1][0][0] - inside[0][1][0] > 3


def test_stressed_tiles_show_the_slices_in_the_window_as_they_lie():
    figure = stress.stressed(TILES, (2.0, 1.0), outline=INSIDE, mark="phantom")
    tiles = figure.axes[1:]
    for tile, (_, hu) in zip(tiles, TILES, strict=True):
        assert_array_equal(tile.images[0].get_array(), hu)
        assert tile.images[0].get_clim() == (-160, 240)
        left, right, bottom, top = tile.images[0].get_extent()
        assert (right - left, bottom - top) == (48, 96)
        assert any(isinstance(part, QuadContourSet) for part in tile.collections)
        assert "phantom" in {text.get_text() for text in tile.texts}
        assert not [line for line in tile.lines if line.get_marker() == "+" and np.isfinite(line.get_xdata()).any()]
    assert {"as it is", "noise 25 HU"} <= set(words(figure))


def test_bad_tables_and_tiles_are_refused():
    with pytest.raises(ValueError, match="dose: the table has no column auc_low, auc_high"):
        stress.dose(doses(["a"]).drop(columns=["auc_low", "auc_high"]))
    with pytest.raises(ValueError, match="responses: the table has no column unit"):
        stress.responses(answered(["a"]).drop(columns="unit"))
    with pytest.raises(ValueError, match="controls: the table has no column retrieval"):
        stress.controls(controlled(["a"]).drop(columns="retrieval"))
    with pytest.raises(ValueError, match="identification: the table has no column separation"):
        robustness.identification(identified(["a"]).drop(columns="separation"), 0.1)
    with pytest.raises(ValueError, match="kappas: the table has no column kappa"):
        robustness.kappas({}, published_trials(["a"]).drop(columns="kappa"))
    with pytest.raises(ValueError, match="controls: the table has no column auc_change_low, auc_change_high"):
        stress.controls(controlled(["a"]).assign(auc_change=0.0))
    with pytest.raises(ValueError, match="changes: the table has no column condition"):
        stress.changes(scored(["a"]))
    for draw, table in (
        (stress.dose, doses), (stress.responses, answered), (stress.controls, controlled), (stress.changes, changed)
    ):  # fmt: skip
        with pytest.raises(ValueError, match="7 models in one figure, at most 6"):
            draw(table(MODELS[:7]))
    with pytest.raises(ValueError, match="not 2-D"):
        stress.stressed([("a", np.zeros((2, 2, 2)))], (1, 1))
