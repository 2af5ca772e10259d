"""Exercises 4 and 5: each figure of theirs against one computed another way, bad input, and how figures look."""

import json
import re
import warnings
import xml.etree.ElementTree as ElementTree
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import cohen_kappa_score, roc_auc_score
from test_plots_curation import assert_legible, drawn, words

from tumorbench_utils import alignment as room
from tumorbench_utils import plots as book
from tumorbench_utils.plots import workshop_later as figures
from tumorbench_utils.workshop import WorkshopError, alignment, stability
from tumorbench_utils.workshop.stability import Pair

RNG = np.random.default_rng(0)
N, D = 110, 24
FIRST = RNG.gamma(2.0, size=(N, D))
PAIR = Pair(FIRST, np.abs(FIRST + RNG.normal(scale=1.6, size=(N, D))))
PATIENTS = np.array([f"P{at:03}" for at in range(N)])
LABELS = np.where(np.arange(N) == 7, np.nan, FIRST[:, 0] + RNG.normal(scale=0.5, size=N) > 2).astype(float)
LABELS[7] = np.nan


def cosine(one, two):
    return one @ two.T / np.outer(np.linalg.norm(one, axis=1), np.linalg.norm(two, axis=1))


@pytest.fixture(scope="module")
def splits():
    return stability.splits_of(LABELS, PATIENTS)


# The order of the exercises


def test_each_exercise_leads_on_to_the_next_and_the_last_to_the_chapter_on_teaching():
    notebooks = sorted((Path(__file__).parents[1] / "notebooks").glob("workshop_*.ipynb"))
    ends = ["".join(json.loads(path.read_text(encoding="utf-8"))["cells"][-3]["source"]) for path in notebooks]
    links = [re.search(r"\*\*Next:\*\* \[[^]]+\]\(([^)]+)\)", end)[1] for end in ends]
    assert links == [*(after.name for _, after in pairwise(notebooks)), "../book/teach.md"]


# Stability


def test_the_endpoints_are_stage_and_survival():
    table = pd.DataFrame({"clinical_t_stage": [1, 2, 3, 5, np.nan], "label": [1, 0, 1, 0, 1]})
    assert_array_equal(stability.endpoint(table, "stage"), [0, 0, 1, 1, np.nan])
    assert_array_equal(stability.endpoint(table, "survival"), [1, 0, 1, 0, 1])
    with pytest.raises(WorkshopError, match="unknown endpoint 'grade'"):
        stability.endpoint(table, "grade")


@pytest.mark.parametrize("size", [0.0, 0.7, 3.0])
def test_a_constant_lifts_every_cosine_by_the_formula_and_changes_no_order(size):
    made = PAIR.each(lambda vectors: stability.with_constant(vectors, size))
    before, after = cosine(PAIR.first, PAIR.second), cosine(made.first, made.second)
    assert made.first.shape == (N, D + 1)
    assert_allclose(after, stability.lifted(before, size), atol=1e-12)
    assert_array_equal(np.argsort(after, axis=1), np.argsort(before, axis=1))
    assert size == 0 or (after > before).all()


def test_the_constant_for_a_wanted_cosine_gives_it():
    size = stability.size_for(0.97, 0.999)
    assert size == pytest.approx(5.3852, abs=1e-4) and stability.lifted(0.97, size) == pytest.approx(0.999)
    assert stability.size_for(0.97, 0.97) == 0


@pytest.mark.parametrize("wanted", [0.9, 1.0])
def test_a_cosine_that_no_constant_gives_is_refused(wanted):
    with pytest.raises(WorkshopError, match="to values below 1, not to"):
        stability.size_for(0.97, wanted)


def test_shrinking_goes_from_the_embedding_to_its_centre():
    unit = FIRST / np.linalg.norm(FIRST, axis=1, keepdims=True)
    assert_allclose(stability.shrunk(FIRST, unit.mean(axis=0), 0), unit)
    assert_allclose(stability.shrunk(FIRST, unit.mean(axis=0), 1), np.tile(unit.mean(axis=0), (N, 1)))
    with pytest.raises(WorkshopError, match="share must be from 0 to 1"):
        stability.shrunk(FIRST, unit.mean(axis=0), 1.1)


def test_the_most_stable_dimensions_are_those_that_did_not_change():
    second = PAIR.second.copy()
    second[:, [11, 4]] = FIRST[:, [11, 4]]
    second[:, 11] += 0.01 * RNG.normal(size=N)
    assert list(stability.most_stable(Pair(FIRST, second), 2)) == [4, 11]


@pytest.mark.parametrize("keep", [0, D + 1])
def test_more_dimensions_than_there_are_or_none_are_refused(keep):
    with pytest.raises(WorkshopError, match=f"keep must be from 1 to {D}"):
        stability.most_stable(PAIR, keep)


def test_a_fingerprint_depends_on_the_name_alone():
    found = stability.fingerprint(PATIENTS)
    assert_array_equal(stability.fingerprint(PATIENTS[::-1]), found[::-1])
    similar = cosine(found, found)[~np.eye(N, dtype=bool)]
    assert similar.max() < 0.7 and abs(similar.mean()) < 0.02


def by_hand(pair):
    """Cosine, that of others, separation and identification, one pair of patients at a time."""
    similar = cosine(pair.first, pair.second)
    others = [(i, j) for i in range(N) for j in range(N) if i != j]
    nearer = [similar[i, i] > similar[i, j] for i, j in others]
    found = [all(similar[i, i] > similar[i, j] for j in range(N) if j != i) for i in range(N)]
    return [np.mean(np.diag(similar)), np.mean([similar[each] for each in others]), np.mean(nearer), np.mean(found)]


def test_measures_are_those_counted_by_hand():
    table = stability.measured(PAIR, PATIENTS, draws=30)
    assert list(table["measure"]) == list(stability.QUANTITIES)
    assert_allclose(table["value"][:4], by_hand(PAIR), atol=1e-12)
    assert (table["low"] <= table["value"]).all() and (table["value"] <= table["high"]).all()
    assert table["value"][3] < 1
    own, others = stability.cosines(PAIR)
    assert_allclose([own.mean(), others.mean()], by_hand(PAIR)[:2])
    assert len(own) == N and len(others) == N * (N - 1)


@pytest.fixture(scope="module")
def compared(splits):
    games = stability.games(PAIR, PATIENTS, constant=3.0, share=0.9, keep=4)
    return games, stability.wide(stability.compared(games, LABELS, PATIENTS, splits))


def test_each_game_raises_what_it_is_for(compared):
    games, table = compared
    assert list(table.index) == list(games) and len(games) == 7
    given, lifted, shrunk, few, one, name, same = table.itertuples()
    assert lifted.cosine == pytest.approx((given.cosine + 9) / 10)
    assert (lifted.separation, lifted.identification, lifted.AUC) == (given.separation, given.identification, given.AUC)
    assert shrunk.cosine > 0.99 > given.cosine
    assert few[table.columns.get_loc("median ICC") + 1] > given[table.columns.get_loc("median ICC") + 1]
    assert one.cosine > 1 - 1e-9 and one.identification == 0
    assert (name.identification, name.separation) == (1, 1) and name.cosine == pytest.approx(1)
    assert (same.cosine, same.separation, same.identification, same.AUC) == (1, 0.5, 0, 0.5)


def test_splits_keep_the_samples_of_a_patient_on_one_side():
    twice = np.repeat(PATIENTS, 2)
    for patients, labels in ((PATIENTS, LABELS), (twice, np.repeat(LABELS, 2))):
        known = np.isfinite(labels)
        for split in stability.splits_of(labels, patients):
            parts = [set(patients[known][part]) for part in (split.train, split.validation, split.test)]
            assert not any(one & two for one, two in combinations(parts, 2))
            assert sum(map(len, (split.train, split.validation, split.test))) == known.sum()


def test_an_embedding_that_is_the_label_is_useful_and_one_that_is_the_same_is_not(splits):
    label = np.where(np.isfinite(LABELS), LABELS, 0)
    assert stability.useful(np.column_stack([label + 1, 2 - label]), LABELS, splits)[0] == 1
    assert stability.useful(np.ones((N, 3)), LABELS, splits)[0] == 0.5


def test_the_kappa_is_that_of_the_label_of_the_nearest_and_labels_dealt_at_random_have_one_too():
    known = np.isfinite(LABELS)
    found = stability.kappa(PAIR, LABELS, PATIENTS, draws=30, seed=0)
    nearest = cosine(PAIR.second[known], PAIR.first[known]).argmax(axis=1)
    assert found.k == 1
    assert found.kappa == pytest.approx(cohen_kappa_score(LABELS[known], LABELS[known][nearest]))
    assert found.itself == pytest.approx(np.mean(nearest == np.arange(known.sum())))
    assert found.shuffled.mean() == pytest.approx(found.itself, abs=0.06)
    assert len(set(found.shuffled)) > 1
    name = stability.fingerprint(PATIENTS)
    alike = stability.kappa(Pair(name, name), LABELS, PATIENTS, draws=2)
    assert (alike.kappa, alike.itself, alike.honest, *alike.shuffled) == (1, 1, 1, 1, 1)


def test_turning_leaves_all_angles_as_they_are():
    wide = Pair(RNG.normal(size=(5, 30)), RNG.normal(size=(5, 30)))
    small = stability.turned(wide)
    assert small.first.shape == (5, 10)
    assert_allclose(small.first @ small.second.T, wide.first @ wide.second.T, atol=1e-10)
    assert stability.turned(PAIR) is PAIR


def test_on_the_samples_that_train_one_neighbour_is_perfect(splits):
    curve, known = stability.auc_by_k(FIRST, LABELS, splits, 12), np.isfinite(LABELS)
    similar, labels = cosine(FIRST[known], FIRST[known]), LABELS[known]
    five = np.argsort(-similar, axis=1)[:, :5]
    assert curve["same"][0] == 1
    assert curve["same"][4] == pytest.approx(roc_auc_score(labels, labels[five].mean(axis=1)))
    assert curve["others"][0] < 1 and list(curve["k"]) == list(range(1, 13))


def test_constants_raise_cosines_and_nothing_else(splits):
    table = stability.constants(PAIR, [0.0, 2.0], LABELS, PATIENTS, splits)
    assert_allclose(table["own"][1], (table["own"][0] + 4) / 5)
    assert_allclose(table["others"][1], (table["others"][0] + 4) / 5)
    assert table["auc"].nunique() == 1 and table["separation"].nunique() == 1


# Alignment


def lists(seed, n=40, k=4):
    return room.nearest(np.random.default_rng(seed).normal(size=(n, 6)), k)


def shared_by_sets(one, two):
    return np.array([len(set(a) & set(b)) for a, b in zip(one, two, strict=True)])


def test_the_distribution_by_chance_is_that_of_all_draws():
    draws = [len({0, 1, 2} & set(each)) for each in combinations(range(6), 3)]  # n = 7: six others
    assert_allclose(alignment.distribution(7, 3), np.bincount(draws, minlength=4) / len(draws))
    assert alignment.distribution(421, 10) @ np.arange(11) == pytest.approx(100 / 420)
    with pytest.raises(room.AlignmentError, match="k must be from 1 to n - 1"):
        alignment.distribution(7, 7)


def test_levels_have_every_number_of_patients_and_neighbours():
    table = alignment.levels([40, 421], [2, 10])
    assert table[["n", "k"]].values.tolist() == [[40, 2], [40, 10], [421, 2], [421, 10]]
    assert_allclose(table["shared"], [4 / 39, 100 / 39, 4 / 420, 100 / 420])
    assert_allclose(table["share"] * table["k"], table["shared"])


def test_shares_of_patients_are_counted_and_permuted_ones_follow_the_formula():
    one, two = lists(0), lists(1)
    table = alignment.per_patient(one, two, draws=400)
    assert_allclose(table["observed"], np.bincount(shared_by_sets(one, two), minlength=5) / 40)
    assert_allclose(table["permuted"], table["expected"], atol=0.02)
    assert_allclose(table[["observed", "permuted", "expected"]].sum(), 1)


def test_pairs_are_counted_and_tested():
    near = {"a": lists(0), "b": lists(1), "c": np.roll(lists(0), 1, axis=1)}
    table = alignment.pairs(near, PATIENTS[:40], draws=99).set_index("title")
    assert table["shared"]["a – b"] == shared_by_sets(near["a"], near["b"]).mean()
    assert (table["shared"]["a – c"], table["p"]["a – c"]) == (4, 0.01)
    assert table["p"]["a – b"] > 0.05
    assert_allclose(table["chance"], 16 / 39)
    assert (table["chance_low"] < 16 / 39).all() and (table["chance_high"] > 16 / 39).all()


def test_curves_are_zero_by_chance_and_one_if_all_is_shared():
    near = {"a": lists(0, k=38), "b": lists(0, k=38), "c": lists(1, k=38)}
    table = alignment.curves(near).set_index(["first", "second", "k"])
    assert (table.loc[("a", "b"), "beyond"] == 1).all()
    by_sets = shared_by_sets(near["a"][:, :3], near["c"][:, :3]).mean() / 3
    assert table["share"]["a", "c", 3] == pytest.approx(by_sets)
    assert table["chance"]["a", "c", 38] == 38 / 39
    assert abs(table.loc[("a", "c"), "beyond"].loc[1:20]).mean() < 0.2


def test_the_level_of_hubs_is_that_of_lists_drawn_with_the_same_hubs():
    one, two = lists(0), lists(2)
    chance_of = [np.array([(each == j).any(axis=1).sum() for j in range(40)]) / 39 for each in (one, two)]
    level = sum(chance_of[0][j] * chance_of[1][j] for i in range(40) for j in range(40) if i != j) / 40
    assert alignment.hub_level(one, two) == pytest.approx(level)
    circle = (np.arange(40)[:, None] + [1, 2, 3, 4]) % 40  # without hubs it is chance
    assert alignment.hub_level(circle, one) == pytest.approx(16 / 39)
    assert alignment.hubs(one).sum() == 160


def test_two_strangers_who_know_a_group_share_what_the_formula_says():
    groups = alignment.equal_groups(120, 4)
    assert sorted(np.bincount(groups)) == [30] * 4 and not np.array_equal(groups, np.sort(groups))
    assert alignment.group_level(groups, 5) == pytest.approx(25 / 29)
    met = [
        shared_by_sets(alignment.knowing(groups, 5, at), alignment.knowing(groups, 5, at + 50)).mean()
        for at in range(12)
    ]
    assert np.mean(met) == pytest.approx(25 / 29, abs=0.08)
    assert (groups[alignment.knowing(groups, 5, 0)] == groups[:, None]).all()


def test_the_number_of_groups_is_the_inverse_of_the_level():
    assert alignment.groups_like(alignment.group_level(alignment.equal_groups(120, 6), 5), 120, 5) == pytest.approx(6)
    assert alignment.groups_like(100 / 420, 421, 10) == pytest.approx(1)  # chance: one group
    assert_allclose(alignment.groups_like(np.array([4.5, 2.0]), np.array([144, 1714])), [6.2, 33.6], atol=0.05)


@pytest.mark.parametrize("many", [0, 121])
def test_more_groups_than_patients_or_none_are_refused(many):
    with pytest.raises(WorkshopError, match=f"120 patients make 1 to 120 groups, not {many}"):
        alignment.equal_groups(120, many)


def test_a_group_too_small_for_its_neighbours_is_refused():
    with pytest.raises(WorkshopError, match="the smallest group has 5 patients; 5 neighbours take 6"):
        alignment.group_level(alignment.equal_groups(120, 24), 5)
    with pytest.raises(WorkshopError, match="the smallest group has 0 patients"):
        alignment.group_level(np.full(9, -1), 5)


def test_stages_above_four_are_one_group_and_unknown_ones_are_none():
    found = alignment.stages(pd.DataFrame({"clinical_t_stage": [4.0, 1.0, 5.0, np.nan, 2.0]}))
    assert found[0] == found[2] and found[3] == -1 and len({found[0], found[1], found[4]}) == 3


def test_patients_change_places_within_their_group_only():
    one, two = lists(0), lists(1)
    alone = alignment.given_groups(one, two, np.arange(40), draws=5)
    assert_array_equal(alone, [shared_by_sets(one, two).mean()] * 5)
    assert alignment.given_groups(one, two, np.zeros(40, int), draws=200).mean() == pytest.approx(16 / 39, abs=0.03)


def test_the_ladder_goes_from_chance_to_what_is_observed():
    one, two, groups = lists(0, n=60), lists(0, n=60), alignment.equal_groups(60, 3)
    table = alignment.ladder(one, two, groups, draws=50).set_index("level")
    assert (table.index[0], table.index[-1]) == ("chance", "observed")
    assert table["shared"]["observed"] == 4 and table["shared"]["chance"] == 16 / 59
    assert table["shared"]["the stage, if both knew it fully"] == pytest.approx(16 / 19, abs=0.25)
    assert table["low"]["chance"] < 16 / 59 < table["high"]["chance"]


def test_published_overlaps_stand_beside_chance_at_their_number_of_samples():
    table = alignment.as_published()
    assert table.groupby("cohort").size().to_dict() == dict.fromkeys(alignment.SAMPLES, 45)
    assert set(table["status"]) == {"published"}
    row = table[(table["cohort"] == "luna16") & (table["model_a"] == "fmcib") & (table["model_b"] == "ct_fm")].iloc[0]
    assert (row["shared"], row["n"]) == (2.062038, 677)
    assert row["times"] == pytest.approx(2.062038 * 676 / 100)
    smallest = table.loc[table["n"].idxmin(), "cohort"]
    means = table.groupby("cohort")[["shared", "times"]].mean()
    assert means["shared"].idxmax() == means["times"].idxmin() == smallest == "nsclc_radiogenomics"


def test_a_published_cohort_of_unknown_size_is_an_error(monkeypatch):
    monkeypatch.delitem(alignment.SAMPLES, "luna16")
    with pytest.raises(WorkshopError, match="luna16 not known"):
        alignment.as_published()


# Figures


TITLES = ["as given", "a constant of 3 added", "90 % the cohort's mean", "the 8 most stable dimensions",
          "the most stable dimension", "fingerprint of the name", "the same for everybody"]  # fmt: skip
AXES = {"cosine": "Cosine", "identification": "Identification"}
COHORTS = {"NSCLC-Radiogenomics": 144, "Colorectal-Liver-Metastases": 197, "C4KC-KiTS": 210, "DLCS": 1714}


def games():
    auc = np.array([0.724, 0.724, 0.726, 0.632, 0.5, 0.504, 0.5])
    given = {"cosine": [0.97, 0.997, 0.9996, 0.977, 1, 1, 1], "identification": [0.75, 0.75, 0.75, 0.45, 0, 1, 0]}
    return pd.DataFrame({"title": TITLES, "AUC": auc, "AUC_low": auc - 0.08, "AUC_high": auc + 0.08, **given})


def lifted():
    return pd.DataFrame({"constant": [0, 1, 3, 10], "own": [0.97, 0.985, 0.997, 0.9997], "separation": 0.98,
                         "others": [0.84, 0.92, 0.984, 0.998], "auc": 0.72})  # fmt: skip


def curve(k_max=50):
    k = np.arange(1, k_max + 1)
    return pd.DataFrame({"k": k, "same": 0.75 + 0.25 / k, "others": 0.75 - 0.15 / k})


def kappas():
    rows = pd.DataFrame(
        {"title": ["tumour shuffled", "fingerprint of the name"], "kappa": [0.77, 1], "honest": [0.8, 1]}
    )
    return rows, [[0.7, 0.75, 0.8], [1, 1, 1]]


def counted():
    return alignment.per_patient(lists(0, k=10), lists(1, k=10), draws=3)


def cheaper():
    return alignment.ladder(lists(0, n=60), lists(1, n=60), alignment.equal_groups(60, 3), draws=20)


def theirs():
    parts = [pd.DataFrame({"title": name, "n": n, "shared": np.linspace(0.3, 4, 45), "chance": 100 / n})
             for name, n in COHORTS.items()]  # fmt: skip
    return pd.concat(parts).assign(times=lambda table: table["shared"] / table["chance"])


def alike():
    return RNG.uniform(0.9, 1, 50), RNG.uniform(0.6, 0.95, 500)


FIGURES = {
    "alike": lambda: figures.alike({"tumour shuffled": alike(), "surroundings shuffled": alike()}),
    "alike, one": lambda: figures.alike({"tumour shuffled": alike()}),
    "alike, none": lambda: figures.alike({}),
    "lifting": lambda: figures.lifting(lifted()),
    "lifting, none": lambda: figures.lifting(lifted()[:0]),
    "k": lambda: figures.same_samples(curve(), 1),
    "k, none": lambda: figures.same_samples(curve()[:0], 1),
    "kappas": lambda: figures.kappas(*kappas()),
    "kappas, none": lambda: figures.kappas(kappas()[0][:0], []),
    "two axes": lambda: figures.two_axes(games(), AXES),
    "two axes, none": lambda: figures.two_axes(games()[:0], AXES),
    "shared": lambda: figures.shared_counts({"original – tumour shuffled": counted(), "another": counted()}),
    "shared, one": lambda: figures.shared_counts({"original – tumour shuffled": counted()}),
    "shared, none": lambda: figures.shared_counts({}),
    "cheaper": lambda: figures.cheaper_reasons(cheaper(), 4),
    "cheaper, none": lambda: figures.cheaper_reasons(cheaper()[:0], 4),
    "published": lambda: figures.cohorts_published(theirs(), 10),
    "published, none": lambda: figures.cohorts_published(theirs()[:0], 10),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_draw_without_warnings_with_legible_texts_apart_and_within(name, monkeypatch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = FIGURES[name]()
        page = book.Shown(figure, "A caption", "What it shows")._repr_html_()
        texts = drawn(figure, monkeypatch)
    svg = next(iter(ElementTree.fromstring(page.replace("xlink:href", "href"))))
    assert svg.get("aria-label") == "What it shows" and book.INK not in page
    assert len(page) < 250_000
    assert_legible(figure, texts)


@pytest.mark.parametrize("name", [name for name in FIGURES if name.endswith("none")])
def test_of_nothing_a_sentence_is_shown(name):
    (sentence,) = words(FIGURES[name]())
    assert sentence.endswith(".") and "No" in sentence


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.lifting(lifted().drop(columns="auc")),
        lambda: figures.same_samples(curve().drop(columns="same"), 1),
        lambda: figures.kappas(kappas()[0].drop(columns="honest"), []),
        lambda: figures.two_axes(games().drop(columns="cosine"), AXES),
        lambda: figures.shared_counts({"one": counted().drop(columns="permuted")}),
        lambda: figures.cheaper_reasons(cheaper().drop(columns="low"), 4),
        lambda: figures.cohorts_published(theirs().drop(columns="times"), 10),
    ],
)
def test_a_table_without_a_column_is_an_error_that_names_it(draw):
    with pytest.raises(ValueError, match="the table has no column"):
        draw()


def test_points_in_one_place_share_a_number():
    left, right = FIGURES["two axes"]().axes
    assert [text.get_text() for text in right.texts] == ["1, 2, 3", "4", "5, 7", "6"]
    assert "5, 6, 7" in [text.get_text() for text in left.texts]
