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
    for repeat in range(200):
        rng = np.random.default_rng(repeat)
        labels = rng.integers(0, 2, 100)
        split = np.random.default_rng(repeat).bit_generator.seed_seq
        tables = {
            name: predictions(np.random.default_rng(split), labels * 0.5 + rng.normal(size=100), labels)
            for name in "ab"
        }
        rejected += statistics.paired_bootstrap(tables, "a", draws=300)["p"].iloc[0] < 0.05
    assert 1 <= rejected <= 24  # 0.05 of 200 is 10; the bootstrap may be somewhat liberal


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
