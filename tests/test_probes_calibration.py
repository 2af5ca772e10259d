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
    assert found["chance"]["pr_auc"] == pytest.approx(np.mean(shares))
    assert found["chance"]["brier"] == pytest.approx(reference) and found["chance"]["auc"] == 0.5


def test_average_precision_of_a_random_score_is_the_prevalence():
    rng = np.random.default_rng(1)
    label = (rng.random(6000) < 0.07).astype(int)
    table = pd.DataFrame({"split": 0, "patient_id": np.arange(6000), "label": label, "probability": rng.random(6000)})
    found = values(table)
    assert found["value"]["pr_auc"] == pytest.approx(found["chance"]["pr_auc"], abs=0.015)


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
