"""Figures, sentences and files of the alignment page: what is published stays apart, captions tell a run's numbers."""

import json
import re
import sys
import types

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose

from tumorbench_utils import alignment, artefacts, published
from tumorbench_utils import alignment_pages as pages
from tumorbench_utils.alignment_pages import device
from tumorbench_utils.models import TEN
from tumorbench_utils.plots import Several, Shown

COHORT = "luna16"
PAIR_COLUMNS = ["first", "second", "k", "shared", "low", "high", "chance", "chance_low", "chance_high", "p", "p_holm",
                "cka", "shared_given_volume"]  # fmt: skip


def normal(n, d, seed):
    return np.random.default_rng(seed).normal(size=(n, d))


def aligned_of(names, n=60, volumes=True, **how):
    base = normal(n, 3, 99)
    vectors = {name: base + 0.8 * normal(n, 3, at) for at, name in enumerate(names)}
    labels = (base[:, 0] > 0).astype(float)
    given = {"k_max": 20, "draws": 100, "permutations": 100} | how
    return alignment.align(vectors, range(n), labels, np.exp(base[:, 1]) if volumes else None, **given)


@pytest.fixture(scope="module")
def ten():
    """The study's ten models by name, on samples made here."""
    return aligned_of([model.id for model in TEN], permutations=20)


@pytest.fixture(scope="module")
def three():
    return aligned_of(["fmcib", "ct_fm.benchmark", "volume"])


TITLES = {"fmcib": "FMCIB", "ct_fm.benchmark": "CT-FM", "volume": "Tumour volume"}
RECORDS = {
    "fmcib": {"model": "fmcib", "recipe": "benchmark", "control": None},
    "ct_fm.benchmark": {"model": "ct_fm", "recipe": "benchmark"},
    "volume": {"model": "volume", "recipe": "benchmark"},
}
ALL = {model.id: {"model": model.id, "recipe": "benchmark", "control": None} for model in TEN}
NAMES = {model.id: model.title for model in TEN}


def numbers_of(shown):
    """Texts of a figure that are numbers with a point."""
    return [float(each) for each in re.findall(r">(-?\d+\.\d+)</text>", shown.svg)]


# Published


@pytest.mark.parametrize("cohort", ["luna16", "dlcs", "nsclc_radiomics"])
def test_all_45_published_pairs_of_a_cohort_are_there_and_called_published(cohort):
    pairs = pages.published_pairs(cohort)
    assert len(pairs) == 45 and set(pairs["status"]) == {"published"}
    assert {*pairs["first"], *pairs["second"]} == set(NAMES)
    study = published.figures("overlap").query("cohort == @cohort")
    assert_allclose(pairs["published"], study["mean_shared_neighbours_of_10"])
    assert pages.published_pairs("phantom").empty


def test_the_published_matrix_is_shown_above_this_runs_with_its_45_pairs_twice(ten):
    shown = pages.published_shown(ten, COHORT, ALL, NAMES, "")
    assert "Above, as published; below, this run (extracted here by the study's recipe: " in shown.caption
    assert "and 4 more). 45 pairs of both" in shown.caption
    assert "as published" in shown.alt
    study = pages.published_pairs(COHORT)["published"]
    numbers = numbers_of(shown)
    assert len(numbers) == 4 * 45
    theirs, ours = sorted(numbers[:90]), sorted(numbers[90:])
    assert_allclose(theirs, np.sort(np.repeat(study, 2)), atol=0.0501)
    assert_allclose(ours, np.sort(np.repeat(ten.pairs["shared"], 2)), atol=0.0501)
    both = pages.comparison(ten, COHORT, ALL)
    assert f"{both['difference'].abs().mean():.3f} on average" in shown.caption


def test_the_comparison_pairs_models_whatever_their_order_and_table_name(three):
    (row,) = pages.comparison(three, COHORT, RECORDS).to_dict("records")
    study = published.figures("overlap").query("cohort == 'luna16' and model_a == 'fmcib' and model_b == 'ct_fm'")
    assert row["published"] == study["mean_shared_neighbours_of_10"].item() == 2.062038
    assert row["shared"] == three.matrix.loc["fmcib", "ct_fm.benchmark"]
    assert row["difference"] == pytest.approx(row["shared"] - row["published"])
    turned = aligned_of(["ct_fm.benchmark", "fmcib"], permutations=20)
    assert pages.comparison(turned, COHORT, RECORDS)["published"].tolist() == [2.062038]
    assert pages.comparison(aligned_of(["fmcib", "ct_fm.benchmark"], k=5), COHORT, RECORDS).empty


@pytest.mark.parametrize(
    "other", [{"recipe": "authors"}, {"control": "shuffled_roi"}, {"untrained": True}, {"model": "volume"}]
)
def test_only_the_studys_own_features_are_held_against_its_figures(three, other):
    records = RECORDS | {"ct_fm.benchmark": RECORDS["ct_fm.benchmark"] | other}
    assert pages.same_features(records) == {"fmcib": "fmcib"}
    assert pages.comparison(three, COHORT, records).empty


def test_where_none_of_the_runs_tables_is_the_studys_its_map_stands_alone_without_the_mark_of_the_run(three):
    records = dict.fromkeys(RECORDS, RECORDS["volume"])
    shown = pages.published_shown(three, COHORT, records, TITLES, "phantom")
    assert shown.caption.startswith("As published, not of this run") and "PHANTOM" not in shown.caption
    assert len(numbers_of(shown)) == 90
    study = pages.published_pairs(COHORT)["published"]
    assert f"({study.max():.2f})" in shown.caption and f"({study.min():.2f})" in shown.caption


def test_a_cohort_that_the_study_has_not_shows_nothing_published(three):
    assert pages.published_shown(three, "phantom", RECORDS, TITLES, "phantom") is None


# Figures of this run


def test_every_figure_bears_the_mark_and_says_in_numbers_what_it_shows(three):
    mark = "phantom, partly untrained"
    pairs, models = three.pairs, three.models.set_index("model")
    most = pairs.loc[pairs["shared"].idxmax()]
    confounds = pages.confounds_shown(three, TITLES, mark)
    assert isinstance(confounds, Several)
    shown = {
        "map": (pages.map_shown(three, TITLES, mark), f"({most['shared']:.2f})"),
        "pairs": (pages.pairs_shown(three, COHORT, RECORDS, TITLES, mark), "of 3 pairs"),
        "curves": (pages.curves_shown(three, TITLES, mark), f"k = 10: {100 * pairs['shared'].mean() / 10:.0f} %"),
        "cka": (pages.cka_shown(three, TITLES, mark), f"({pairs['cka'].max():.2f})"),
        "volume": (confounds.shown[0], f"CT-FM {models.loc['ct_fm.benchmark', 'volume']:.2f}"),
        "label": (confounds.shown[1], f"CT-FM {models.loc['ct_fm.benchmark', 'label']:.2f}"),
    }
    for each, number in shown.values():
        assert isinstance(each, Shown) and number in each.caption and number in each.alt
        assert each.caption.startswith(f"{mark.upper()}: ") and each.caption.endswith(".")
    assert pages.map_shown(three, TITLES, "").caption.startswith("Mean number of the 10 nearest")


def test_of_many_pairs_some_are_drawn_and_all_are_in_the_table(ten):
    shown = pages.pairs_shown(ten, COHORT, ALL, NAMES, "")
    assert shown.caption.startswith("The 15 pairs of most overlap; all 45 are in the results.")
    table, which = pages.pairs_words(ten, NAMES)
    assert len(table) == 20 and which == "Of 45 pairs the 10 that share most and the 10 that share least"
    value = table["shared of 10"].str.split(" ").str[0].astype(float)
    assert value.is_monotonic_decreasing and value.iloc[0] == pytest.approx(ten.pairs["shared"].max(), abs=0.005)
    assert value.iloc[-1] == pytest.approx(ten.pairs["shared"].min(), abs=0.005)
    best = ten.pairs.loc[ten.pairs["shared"].idxmax()]
    assert table["pair"].iloc[0] == f"{NAMES[best['first']]} – {NAMES[best['second']]}"
    assert table["given volume"].iloc[0].startswith(f"{best['shared_given_volume']:.2f} (")


def test_what_is_not_known_is_left_away_and_said():
    found = aligned_of(["fmcib", "volume"], volumes=False)
    table, which = pages.pairs_words(found, TITLES)
    assert not [name for name in table if "volume" in name] and which == "All pairs"
    assert isinstance(pages.confounds_shown(found, TITLES, ""), Shown)
    assert pages.confounds_lacking(found) == "- Not shown: volume, since these samples have none."
    assert pages.confounds_lacking(found, "phantom").startswith("- PHANTOM: Not shown: volume")
    assert "volume alone" not in pages.findings(found, TITLES, "")
    assert set(pages.tidy(found, "c", TITLES)["quantity"]).isdisjoint({"volume", "volume_p"})
    blind = alignment.align({"a": normal(30, 3, 0), "b": normal(30, 3, 1)}, range(30), draws=20, permutations=20)
    assert pages.confounds_shown(blind, {}, "") is None


def test_two_tables_of_one_model_are_two_rows_and_columns_and_the_studys_own_counts():
    titles = {"fmcib": "FMCIB, as released", "fmcib.benchmark": "FMCIB", "ct_fm.benchmark": "CT-FM"}
    found = aligned_of(list(titles), permutations=20)
    records = RECORDS | {"fmcib.benchmark": RECORDS["fmcib"], "fmcib": RECORDS["fmcib"] | {"source": "released"}}
    records = {name: records[name] for name in ("fmcib.benchmark", "fmcib", "ct_fm.benchmark")}
    assert set(pages.same_features(records)) == {"fmcib", "ct_fm.benchmark"}
    shown = pages.published_shown(found, COHORT, records, titles, "")
    assert "below, this run (extracted here by the study's recipe: CT-FM)" in shown.caption
    records["ct_fm.benchmark"] = records["ct_fm.benchmark"] | {"source": "released"}
    shown = pages.published_shown(found, COHORT, records, titles, "")
    assert "below, this run, of the features that the study released" in shown.caption
    assert "Map of 3 by 3 models" in pages.map_shown(found, titles, "").alt
    assert len(pages.tidy(found, "c", titles)["title"].unique()) == 3


def test_neighbours_are_searched_on_a_gpu_if_there_is_one(monkeypatch):
    assert [pages.device_of(name) for name in ("cpu", "mps", "cuda:1")] == ["cpu", "mps", "cuda:1"]
    torch = types.SimpleNamespace(cuda=types.SimpleNamespace(is_available=lambda: True))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(device, "find_spec", lambda name: name)
    assert pages.device_of("auto") == "cuda"
    torch.cuda.is_available = lambda: False
    assert pages.device_of("auto") == "cpu"
    monkeypatch.setattr(device, "find_spec", lambda name: None)
    torch.cuda.is_available = lambda: True
    assert pages.device_of("auto") == "cpu"


# Ties


def test_models_with_ties_are_not_held_against_scikit_learn_and_named():
    vectors = {"a": normal(40, 4, 0), "b": normal(40, 4, 1), "c": normal(40, 4, 2)}
    vectors["b"][5] = vectors["b"][9]
    tied, clear = pages.ties(vectors, 10)
    assert clear == ["a", "c"] and list(tied) == ["b"] and tied["b"] >= 2
    words = pages.ties_words(tied, clear, {"b": "Tumour volume"})
    assert "all 1 pairs of 2 models" in words and f"Tumour volume ({tied['b']})" in words
    assert "twin" not in pages.ties_words({}, ["a", "c"], {})


# Sentences and files


def test_findings_count_pairs_and_name_the_extremes(three):
    words = pages.findings(three, TITLES, "phantom")
    above = (three.pairs["p_holm"] < 0.05).sum()
    assert all(line.startswith("- PHANTOM: ") for line in words.splitlines())
    assert f"{above} of 3 pairs share more neighbours than unrelated embeddings do (1.69 of 10 by chance)" in words
    best = three.models.loc[three.models["average"].idxmax()]
    assert f"average is {TITLES[best['model']]} ({best['average']:.2f}" in words
    pairs = three.pairs
    part = (pairs["shared_given_volume"] - pairs["chance"]).sum() / (pairs["shared"] - pairs["chance"]).sum()
    assert f"at least {100 * part:.0f} % goes with volume alone" in words
    left = pairs[(pairs["p_holm"] < 0.05) & (pairs["p_given_volume_holm"] >= 0.05)]
    assert ("share: none." in words) == left.empty


def test_files_have_the_columns_that_the_leaderboard_reads_and_provenance(three, tmp_path):
    record = artefacts.provenance({"cohort": COHORT}, {})
    stem = tmp_path / "6_representation_alignment" / COHORT
    pages.save(stem, three, COHORT, TITLES, record)
    pairs, models = pd.read_csv(f"{stem}.pairs.csv"), pd.read_csv(f"{stem}.csv")
    assert list(pairs)[: len(PAIR_COLUMNS)] == PAIR_COLUMNS and len(pairs) == 3
    assert_allclose(pairs["shared"], three.pairs["shared"])
    assert list(models) == ["cohort", "model", "title", "quantity", "value"] and set(models["cohort"]) == {COHORT}
    wide = models.pivot(index="model", columns="quantity", values="value").loc[three.models["model"]]
    assert_allclose(wide["average"], three.models["average"])
    assert_allclose(wide["volume_chance_high"], three.models["volume_chance_high"])
    assert {"average_low", "average_high", "closest_shared", "label", "label_p"} <= set(wide)
    assert dict(zip(models["model"], models["title"], strict=True)) == TITLES
    for suffix in ("", ".pairs"):
        kept = json.loads(artefacts.provenance_path(tmp_path / "6_representation_alignment" / f"{COHORT}{suffix}.csv")
                          .read_text())  # fmt: skip
        assert kept["parameters"] == {"cohort": COHORT}
