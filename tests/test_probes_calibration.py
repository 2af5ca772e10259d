"""Calibration and measures beyond AUC against scikit-learn and plain loops over bootstrap draws; bad input."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from scipy.stats import binomtest
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from tumorbench_utils import statistics
from tumorbench_utils.probes import ProbeError, calibration


def toy(n=300, people=120, splits=2, seed=0, slope=1.0, shift=0.0, rounded=None):
    """Predictions whose logits are (logits of the truth - shift) / slope: the calibration slope and intercept."""
    rng = np.random.default_rng(seed)
    tables = []
    for split in range(splits):
        truth = rng.normal(-0.5, 1.2, n)
        probability = expit((truth - shift) / slope)
        probability = probability if rounded is None else np.round(probability * rounded) / rounded
        label = (rng.random(n) < expit(truth)).astype(int)
        patient = rng.integers(0, people, n)
        tables.append(pd.DataFrame({"split": split, "patient_id": patient, "label": label, "probability": probability}))
    table = pd.concat(tables, ignore_index=True)
    return table.assign(sample_id=np.arange(len(table)))


def values(table, **how):
    return calibration.measures(table, **{"draws": 20} | how).set_index("measure")


@pytest.mark.parametrize("rounded", [None, 12])  # with and without ties
def test_auc_average_precision_and_brier_are_means_over_splits_of_scikit_learns(rounded):
    table = toy(rounded=rounded)
    found = values(table)
    for name, score in (("auc", roc_auc_score), ("pr_auc", average_precision_score), ("brier", brier_score_loss)):
        expected = np.mean([score(rows["label"], rows["probability"]) for _, rows in table.groupby("split")])
        assert found["value"][name] == pytest.approx(expected, abs=1e-12)
    shares = [rows["label"].mean() for _, rows in table.groupby("split")]
    reference = np.mean([share * (1 - share) for share in shares])
    assert found["value"]["brier_skill"] == pytest.approx(1 - found["value"]["brier"] / reference)
    guessed = [
        calibration.chance_precision(*rows[["label", "probability"]].T.to_numpy()) for _, rows in table.groupby("split")
    ]
    assert (
        found["chance"]["pr_auc"] == pytest.approx(np.mean(guessed)) and found["of"]["pr_auc"] == "positives (label 1)"
    )
    assert found["chance"]["brier"] == pytest.approx(reference) and found["chance"]["auc"] == 0.5


@pytest.mark.parametrize("rounded", [None, 3])
def test_chance_of_average_precision_is_the_mean_over_permuted_labels(rounded):
    rng = np.random.default_rng(1)
    label, score = np.r_[np.ones(4), np.zeros(36)], rng.random(40)
    score = score if rounded is None else np.round(score * rounded) / rounded
    drawn = [average_precision_score(rng.permutation(label), score) for _ in range(400)]
    found = calibration.chance_precision(label, score)
    assert found == pytest.approx(np.mean(drawn), abs=4 * np.std(drawn) / np.sqrt(400))
    assert found > 0.1 + (0.05 if rounded is None else 0.002)  # the share is biased for few
    assert calibration.chance_precision(label, np.full(40, 0.3)) == pytest.approx(0.1)


def test_average_precision_is_of_the_rarer_class_whichever_it_is():
    table = toy(n=200, rounded=9)
    turned = table.assign(label=1 - table["label"], probability=1 - table["probability"])
    one, two = values(table, draws=40), values(turned, draws=40)
    assert table["label"].mean() < 0.5 and two["of"]["pr_auc"] == "negatives (label 0)"
    assert two.loc["pr_auc", ["value", "low", "high", "chance"]].tolist() == pytest.approx(
        one.loc["pr_auc", ["value", "low", "high", "chance"]].tolist(), abs=1e-12
    )
    assert one["value"]["auc"] == pytest.approx(two["value"]["auc"]) and set(one["of"].drop("pr_auc")) == {""}
    assert calibration.rarer([0, 1]) == calibration.rarer([0, 0, 1]) == 1 and calibration.rarer([0, 1, 1]) == 0


@pytest.mark.parametrize(("slope", "shift"), [(1.0, 0.0), (0.3, 0.0), (2.0, 0.8)])
def test_slope_and_intercept_are_those_of_an_unpenalised_logistic_regression(slope, shift):
    table = toy(slope=slope, shift=shift)
    found = values(table)["value"]
    odds = logit(np.clip(table["probability"].to_numpy(), calibration.EDGE, 1 - calibration.EDGE))
    model = LogisticRegression(C=1e12, tol=1e-10, max_iter=1000).fit(odds[:, None], table["label"])
    assert found["calibration_slope"] == pytest.approx(model.coef_[0, 0], rel=1e-4)
    assert found["calibration_slope"] == pytest.approx(slope, rel=0.25)
    # at slope 1 the mean of the shifted probabilities is the observed share
    shifted = expit(odds + found["calibration_intercept"])
    assert shifted.mean() == pytest.approx(table["label"].mean(), abs=1e-8)


def test_a_slope_far_from_one_is_still_found():
    table = toy(slope=400.0)
    assert values(table)["value"]["calibration_slope"] == pytest.approx(400, rel=0.25)


def test_draws_in_which_the_classes_are_parted_have_no_slope_and_hold_up_no_other(monkeypatch):
    label, odds = np.array([0, 0, 1, 0, 1, 1]), np.array([-2.0, -1, -0.5, 0.5, 1, 2])
    weight = np.array(
        [[1, 1, 1, 1, 1, 1], [1, 1, 0, 1, 1, 1], [2, 1, 3, 1, 0, 1], [1, 0, 1, 0, 1, 1], [1, 1, 1, 1, 1, 2]]
    )
    seen, step = [], calibration._newton
    monkeypatch.setattr(calibration, "_newton", lambda *given: seen.append(len(given[2])) or step(*given))
    slope, offset = calibration._recalibrated(label, odds, weight.astype(float))
    assert np.isfinite(slope).tolist() == [True, False, True, False, True] and np.isfinite(offset).all()
    assert seen[0] == 3 and len(seen) < 20 and seen[-1] <= seen[0]
    for at in (0, 2, 4):
        rows = np.repeat(np.arange(6), weight[at])
        model = LogisticRegression(C=1e12, tol=1e-12, max_iter=2000).fit(odds[rows, None], label[rows])
        assert slope[at] == pytest.approx(model.coef_[0, 0], rel=1e-3)
    assert calibration._separated(label, odds, weight).tolist() == [False, True, False, True, False]
    assert calibration._separated(1 - label, odds, weight).tolist() == [False, True, False, True, False]


@pytest.mark.parametrize("rounded", [None, 10])
def test_reliability_points_are_scikit_learns_with_wilsons_interval_for_the_patients(rounded):
    table = toy(rounded=rounded)
    found = calibration.reliability(table)
    observed, predicted = calibration_curve(table["label"], table["probability"], n_bins=10, strategy="quantile")
    assert found["observed"].to_numpy() == pytest.approx(observed)
    assert found["predicted"].to_numpy() == pytest.approx(predicted)
    assert found["samples"].sum() == len(table) and (found["patients"] < found["samples"]).any()
    error = np.average(np.abs(observed - predicted), weights=found["samples"])
    assert values(table)["value"]["calibration_error"] == pytest.approx(error)
    expected = binomtest(3, 17).proportion_ci(method="wilson")
    assert calibration.wilson(3 / 17, 17) == pytest.approx((expected.low, expected.high))
    first = found.iloc[0]
    assert (first["low"], first["high"]) == pytest.approx(calibration.wilson(first["observed"], int(first["patients"])))


def test_intervals_are_of_patients_drawn_with_all_their_predictions():
    table = toy(n=80, people=25)
    found = values(table, draws=40, seed=4)
    people, person = np.unique(table["patient_id"].to_numpy(str), return_inverse=True)
    weights = np.random.default_rng(4).multinomial(len(people), np.full(len(people), 1 / len(people)), size=40)
    drawn = {"auc": [], "pr_auc": [], "brier": []}
    for weight in weights:
        each = {"auc": [], "pr_auc": [], "brier": []}
        for rows in table.groupby("split").indices.values():
            some = table.iloc[np.repeat(rows, weight[person[rows]])]
            each["auc"].append(roc_auc_score(some["label"], some["probability"]))
            each["pr_auc"].append(average_precision_score(some["label"], some["probability"]))
            each["brier"].append(brier_score_loss(some["label"], some["probability"]))
        for name, numbers in each.items():
            drawn[name].append(np.mean(numbers))
    for name, numbers in drawn.items():
        assert found.loc[name, ["low", "high"]].tolist() == pytest.approx(
            np.quantile(numbers, (0.025, 0.975)), abs=1e-9
        )


def test_the_auc_interval_is_that_of_the_shared_statistics():
    table = toy(n=80, people=25)
    flat = table.assign(probability=0.5)
    paired = statistics.paired_bootstrap({"a": table, "b": flat}, "b", draws=300, seed=0).iloc[0]
    found = values(table, draws=300, seed=0).loc["auc"]
    assert (found["low"] - 0.5, found["high"] - 0.5) == pytest.approx((paired["low"], paired["high"]), abs=1e-5)


def test_every_value_lies_within_its_interval():
    found = values(toy(n=120, people=60), draws=300)
    assert ((found["low"] <= found["value"]) & (found["value"] <= found["high"])).all()


def test_probabilities_of_zero_and_one_are_moved_and_counted_and_equal_ones_have_no_slope():
    table = toy(rounded=2)
    assert calibration.at_edge(table) == table["probability"].isin([0, 1]).sum() > 0
    assert np.isfinite(values(table)["value"]).all()
    equal = values(table.assign(probability=0.4))
    assert np.isnan(equal["value"]["calibration_slope"]) and equal["value"]["auc"] == 0.5


def test_bad_input_is_named():
    table = toy(n=20)
    with pytest.raises(ProbeError, match="no column patient_id"):
        calibration.measures(table.drop(columns="patient_id"))
    with pytest.raises(ProbeError, match=r"1 probabilities do not lie between 0 and 1, the first is 1\.2"):
        calibration.measures(table.assign(probability=[*table["probability"][:-1], 1.2]))
    with pytest.raises(ProbeError, match="1 probabilities do not lie"):
        calibration.measures(table.assign(probability=[*table["probability"][:-1], np.nan]))
    with pytest.raises(ProbeError, match="split 1 are of one class only"):
        calibration.measures(table.assign(label=table["label"].where(table["split"] == 0, 0)))
    with pytest.raises(statistics.LabelError):
        calibration.measures(table.assign(label=2))
