"""AUC, intervals, bootstrap and correction against scikit-learn, scipy and cases worked by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from tumorbench_utils import statistics


def predictions(rng, scores, labels, splits=3, per_patient=1):
    """Test predictions of ``splits`` random halves of the samples, seeded alike for every model."""
    frames = []
    for split in range(splits):
        rows = np.sort(rng.permutation(len(labels))[: len(labels) // 2])
        frames.append(
            pd.DataFrame(
                {
                    "split": split,
                    "sample_id": [f"s{row}" for row in rows],
                    "patient_id": [f"p{row // per_patient}" for row in rows],
                    "label": labels[rows],
                    "probability": scores[rows],
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


@pytest.mark.parametrize("levels", [2, 5, 10_000])
def test_auc_is_that_of_scikit_learn_with_and_without_ties(levels):
    rng = np.random.default_rng(levels)
    labels, scores = rng.integers(0, 2, 200), rng.integers(0, levels, 200)
    assert statistics.auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 2], "1 of 3 are not: 2"),
        ([0, 1, None], "1 of 3 are not: None"),
        (["0", "yes", "1"], "1 of 3 are not: yes"),
        ([1, 1, 1], "all 3 labels are 1"),
        ([], "no labels"),
        ([0.0, 1.0, np.nan], "1 of 3 are not: nan"),
    ],
)
def test_labels_that_are_not_binary_are_refused(labels, message):
    with pytest.raises(statistics.LabelError, match=message):
        statistics.binary_labels(labels)


def test_booleans_and_floats_are_labels():
    assert list(statistics.binary_labels([True, False])) == [1, 0]
    assert list(statistics.binary_labels(pd.Series([1.0, 0.0]))) == [1, 0]


def test_normal_interval_by_hand():
    mean, low, high = statistics.normal_interval([0.5, 0.6, 0.7])
    margin = 1.96 * 0.1 / np.sqrt(3)
    assert (mean, low, high) == pytest.approx((0.6, 0.6 - margin, 0.6 + margin))


def test_corrected_interval_is_the_corrected_t_test():
    values = np.random.default_rng(1).normal(0.6, 0.03, 10)
    mean, low, high = statistics.corrected_interval(values, n_train=70, n_test=30)
    variance = (1 / 10 + 30 / 70) * np.var(values, ddof=1)
    expected = stats.t.interval(0.95, 9, loc=values.mean(), scale=np.sqrt(variance))
    assert (low, high) == pytest.approx(expected) and mean == pytest.approx(values.mean())
    assert high - low > np.diff(statistics.normal_interval(values)[1:])[0] * 2


def test_holm_by_hand():
    # sorted 0.01, 0.02, 0.03, 0.4 times 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.4, never decreasing
    assert statistics.holm([0.03, 0.01, 0.4, 0.02]) == pytest.approx([0.06, 0.04, 0.4, 0.06])
    assert statistics.holm([0.9, 0.8]) == pytest.approx([1.0, 1.0])
    assert len(statistics.holm([])) == 0


def test_bootstrap_point_estimates_are_plain_mean_aucs():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 120)
    tables = {
        name: predictions(np.random.default_rng(9), labels * weight + rng.normal(size=120), labels)
        for name, weight in (("strong", 2.0), ("weak", 0.5))
    }
    row = statistics.paired_bootstrap(tables, "strong", draws=200).iloc[0]
    for name, value in (("weak", row["auc"]), ("strong", row["reference_auc"])):
        groups = tables[name].groupby("split")
        expected = np.mean([roc_auc_score(rows["label"], rows["probability"]) for _, rows in groups])
        assert value == pytest.approx(expected, abs=1e-6)
    assert row["name"] == "weak" and row["high"] < 0 and row["p"] < 0.05


def test_bootstrap_equals_a_direct_loop_over_resampled_patients():
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 2, 40)
    tables = {name: predictions(np.random.default_rng(5), rng.normal(size=40), labels, 2, 2) for name in "ab"}
    people, person = np.unique(tables["a"]["patient_id"], return_inverse=True)
    weights = np.random.default_rng(0).multinomial(len(people), np.full(len(people), 1 / len(people)), size=30)
    direct = []
    for weight in weights:
        values = {}
        for name, table in tables.items():
            drawn = table.assign(weight=weight[person])
            values[name] = np.mean(
                [
                    roc_auc_score(rows["label"], rows["probability"], sample_weight=rows["weight"])
                    for _, rows in drawn.groupby("split")
                ]
            )
        direct.append(values["b"] - values["a"])
    row = statistics.paired_bootstrap(tables, "a", draws=30).iloc[0]
    assert (row["low"], row["high"]) == pytest.approx(tuple(np.quantile(direct, (0.025, 0.975))), abs=1e-6)


def test_bootstrap_is_calibrated_when_nothing_differs():
    rejected = 0
    for repeat in range(50):
        rng = np.random.default_rng(repeat)
        labels = rng.integers(0, 2, 60)
        split = np.random.default_rng(repeat).bit_generator.seed_seq
        tables = {
            name: predictions(np.random.default_rng(split), labels * 0.5 + rng.normal(size=60), labels) for name in "ab"
        }
        rejected += statistics.paired_bootstrap(tables, "a", draws=200)["p"].iloc[0] < 0.05
    assert 1 <= rejected <= 8  # 0.05 of 50 is 2.5; the bootstrap may be somewhat liberal


def test_bootstrap_refuses_models_tested_on_different_samples():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 40)
    tables = {
        name: predictions(np.random.default_rng(seed), rng.normal(size=40), labels) for seed, name in enumerate("ab")
    }
    with pytest.raises(ValueError, match="not tested on the same samples"):
        statistics.paired_bootstrap(tables, "a")


def test_bootstrap_of_nothing_is_an_empty_table():
    rng = np.random.default_rng(0)
    only = {"a": predictions(rng, rng.normal(size=20), rng.integers(0, 2, 20))}
    assert list(statistics.paired_bootstrap(only, "a", draws=10).columns)[-1] == "p_holm"


BEFORE = [
    [
        0.864257017771403,
        0.6963632901509603,
        0.16789372762044263,
        -0.026503427823384638,
        0.35003891388575215,
        0.09966777408637874,
        0.19933554817275748,
    ],
    [
        0.6741201877593994,
        0.6963632901509603,
        -0.02224310239156091,
        -0.22513775924841561,
        0.15992270310719803,
        0.7774086378737541,
        0.7774086378737541,
    ],
]


def three_tables(n=80, draws_of=7):
    rng = np.random.default_rng(draws_of)
    labels = rng.integers(0, 2, n)
    scores = {name: labels * weight + rng.normal(size=n) for name, weight in (("a", 1.5), ("b", 0.6), ("c", 0.5))}
    return {name: predictions(np.random.default_rng(8), each, labels, 3, 2) for name, each in scores.items()}


def test_draws_of_an_auc_begin_with_the_data_and_go_on_with_the_same_patients_for_all():
    tables = three_tables()
    aucs = statistics.auc_draws(tables, draws=6, seed=4)
    assert {name: draws.shape for name, draws in aucs.items()} == dict.fromkeys("abc", (7,))
    people, person = np.unique(tables["a"]["patient_id"], return_inverse=True)
    weights = np.random.default_rng(4).multinomial(len(people), np.full(len(people), 1 / len(people)), size=6)
    for name, table in tables.items():
        for draw, weight in enumerate([np.ones(len(people)), *weights]):
            groups = table.assign(weight=weight[person]).groupby("split")
            values = [
                roc_auc_score(rows["label"], rows["probability"], sample_weight=rows["weight"]) for _, rows in groups
            ]
            assert aucs[name][draw] == pytest.approx(np.mean(values), abs=1e-6)
    assert statistics.auc_draws({}) == {}


@pytest.mark.parametrize("reference", list("abc"))
def test_a_bootstrap_against_a_reference_is_read_off_the_draws_to_the_last_digit(reference):
    tables = three_tables()
    aucs = statistics.auc_draws(tables, draws=100, seed=2)
    found = statistics.paired_bootstrap(tables, reference, draws=100, seed=2).set_index("name")
    assert list(found.index) == [name for name in "abc" if name != reference]
    for name, row in found.iterrows():
        apart = (aucs[name] - aucs[reference])[1:]
        tail = min((apart <= 0).sum(), (apart >= 0).sum())
        assert (row["low"], row["high"]) == tuple(np.quantile(apart, (0.025, 0.975)))
        assert row["p"] == min(1, 2 * (tail + 1) / 101)
        assert row["difference"] == aucs[name][0] - aucs[reference][0]


def test_the_figures_of_the_bootstrap_are_those_of_the_code_before_the_draws_were_public():
    # written down from the release in which paired_bootstrap made its draws itself
    found = statistics.paired_bootstrap(three_tables(), "b", draws=300, seed=3)
    assert list(found.columns) == ["name", "auc", "reference_auc", "difference", "low", "high", "p", "p_holm"]
    assert found.drop(columns="name").to_numpy() == pytest.approx(np.array(BEFORE), abs=1e-12)


def test_draws_are_the_same_however_many_are_made_at_a_time(monkeypatch):
    whole = statistics.auc_draws(three_tables(), draws=50, seed=5)
    monkeypatch.setattr(statistics, "CHUNK", 7)
    parts = statistics.auc_draws(three_tables(), draws=50, seed=5)
    for name, aucs in whole.items():
        assert len(parts[name]) == 51
        np.testing.assert_allclose(parts[name], aucs, rtol=1e-6)


def test_pairwise_gives_every_pair_once_with_holm_over_all_of_them():
    tables = three_tables()
    table = statistics.pairwise_of(statistics.auc_draws(tables, draws=200, seed=5))
    assert list(zip(table["first"], table["second"], strict=True)) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert table["p_holm"].tolist() == list(statistics.holm(table["p"])) and (table["p_holm"] >= table["p"]).all()
    for row in table.itertuples():
        single = statistics.paired_bootstrap({name: tables[name] for name in (row.first, row.second)}, row.second,
                                             draws=200, seed=5).iloc[0]  # fmt: skip
        assert (row.auc_first, row.auc_second) == (single["auc"], single["reference_auc"])
        assert (row.difference, row.low, row.high, row.p) == tuple(single[["difference", "low", "high", "p"]])
    assert list(statistics.pairwise_of({"a": np.ones(3)}).columns) == list(table.columns)


def test_draws_refuse_models_tested_on_different_samples_and_names_them():
    tables = three_tables()
    tables["c"] = tables["c"].iloc[:-1]
    with pytest.raises(ValueError, match="'c' and 'a' were not tested on the same samples"):
        statistics.auc_draws(tables, draws=5)


@pytest.mark.parametrize("models", [2, 4, 7, 20])
def test_fewer_draws_than_the_least_can_make_nothing_significant(models):
    pairs = models * (models - 1) // 2
    least = statistics.least_draws(models)
    assert 2 * pairs / (least + 1) < 0.05 <= 2 * pairs / least
    for draws, significant in ((least - 1, False), (least, True)):
        if models < 8:
            aucs = {str(number): np.full(draws + 1, number / 10) for number in range(models)}
            assert (statistics.pairwise_of(aucs)["p_holm"].min() < 0.05) == significant


def test_pairs_keep_the_order_of_the_names_and_the_sign_that_goes_with_it():
    aucs = {"b": np.array([0.8, 0.7, 0.9]), "a": np.array([0.6, 0.6, 0.6])}
    row = statistics.pairwise_of(aucs).iloc[0]
    assert (row["first"], row["second"]) == ("b", "a") and row["difference"] == pytest.approx(0.2)
    assert 0.1 < row["low"] < row["high"] < 0.3
