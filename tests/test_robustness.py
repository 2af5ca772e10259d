"""ICC and kappa against published and independent figures, test-retest pairs and verdicts, negative controls."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from tests import real
from tumorbench_utils import published, statistics
from tumorbench_utils.robustness import RobustnessError, agreement, negatives, retest

# six targets rated by four judges: Shrout & Fleiss 1979, table 2
JUDGES = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]])


def scans(n=26, d=200, noise=0.3, seed=0):
    """Two noisy scans of n patients, and their names."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(n, d))
    test, again = (truth + noise * rng.normal(size=(n, d)) for _ in range(2))
    return test, again, [f"p{i:02}" for i in range(n)]


def anova(ratings):
    """ICC(2,1) of ratings (n, k) by plain loops over the two-way table."""
    n, k = ratings.shape
    grand = sum(ratings[i, j] for i in range(n) for j in range(k)) / (n * k)
    rows = [sum(ratings[i, j] for j in range(k)) / k for i in range(n)]
    columns = [sum(ratings[i, j] for i in range(n)) / n for j in range(k)]
    total = sum((ratings[i, j] - grand) ** 2 for i in range(n) for j in range(k))
    of_rows, of_columns = k * sum((m - grand) ** 2 for m in rows), n * sum((m - grand) ** 2 for m in columns)
    bms, jms = of_rows / (n - 1), of_columns / (k - 1)
    ems = (total - of_rows - of_columns) / ((n - 1) * (k - 1))
    return (bms - ems) / (bms + (k - 1) * ems + k * (jms - ems) / n)


def quantity(found, name, column="value"):
    return found.summary.set_index("quantity")[column][name]


def test_icc_is_that_of_shrout_and_fleiss():
    assert round(agreement.icc_of(JUDGES[:, :, None])[0], 2) == 0.29
    assert agreement.icc_of(JUDGES[:, :, None])[0] == pytest.approx(anova(JUDGES), abs=1e-12)


@pytest.mark.parametrize(("n", "k"), [(5, 2), (26, 2), (12, 3), (7, 5)])
def test_icc_is_that_of_a_plain_analysis_of_variance(n, k):
    rng = np.random.default_rng(n * k)
    ratings = rng.normal(size=(n, 1, 9)) + rng.normal(size=(1, k, 9)) + rng.normal(size=(n, k, 9)) + 1000
    assert agreement.icc_of(ratings) == pytest.approx([anova(ratings[:, :, d]) for d in range(9)], abs=1e-9)
    assert agreement.icc(ratings[:, 0], ratings[:, 1]) == pytest.approx(agreement.icc_of(ratings[:, :2]))


def test_icc_asks_for_absolute_agreement_and_is_unknown_where_all_is_constant():
    first = np.arange(6.0)[:, None] * [1, 1, 0, 1] + [0, 0, 3, 0]
    second = first + np.array([0, 5, 0, 0])
    values = agreement.icc(first, second)
    assert values[0] == 1 and values[1] < 0.3 and np.isnan(values[2])
    assert np.isnan(agreement.icc([[1.0], [0.0]], [[0.0], [1.0]])[0])  # nothing to divide by


def test_icc_names_bad_input():
    with pytest.raises(RobustnessError, match=r"these are \(5, 2\) and \(4, 2\)"):
        agreement.icc(np.zeros((5, 2)), np.zeros((4, 2)))
    with pytest.raises(RobustnessError, match=r"at least \(2, 2, 1\), not \(1, 2, 3\)"):
        agreement.icc_of(np.zeros((1, 2, 3)))


@pytest.mark.parametrize("seed", range(40))
def test_weighted_kappa_is_that_of_scikit_learn(seed):
    rng = np.random.default_rng(seed)
    one = rng.integers(0, rng.integers(1, 101), 50)
    others = np.where(rng.random((6, 50)) < 0.6, one, rng.integers(0, rng.integers(1, 101), (6, 50)) - 20)
    others[0] = one
    others[1] = one[0]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns where it gives NaN, as it does for a single label
        expected = [cohen_kappa_score(one, other, weights="linear") for other in others]
    assert agreement.weighted_kappa(one, others) == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_weighted_kappa_counts_ranks_and_is_unknown_for_a_single_label():
    assert agreement.weighted_kappa([0, 0, 1, 2], [[0, 1, 1, 2]]) == agreement.weighted_kappa(
        [0, 0, 50, 99], [[0, 50, 50, 99]]
    )
    assert np.isnan(agreement.weighted_kappa([7, 7, 7], [[7, 7, 7]])[0])
    assert agreement.weighted_kappa([7, 7, 7], [[8, 8, 8]])[0] == 0
    with pytest.raises(RobustnessError, match=r"not \(3,\) and \(1, 2\)"):
        agreement.weighted_kappa([1, 2, 3], [[1, 2]])


def test_bins_are_cut_at_hundredths_and_one_has_a_bin_of_its_own():
    probabilities = np.array([0, 0.004, 0.011, 0.5, 0.999, 1])
    assert list(agreement.binned(probabilities)) == [0, 0, 1, 50, 99, 100]
    assert list(agreement.binned(probabilities, 2)) == [0, 0, 0, 1, 1, 2]


def test_pairs_leave_out_with_a_reason_whoever_has_no_two_scans():
    names = {
        "a": ["a-retest", "a-test"],
        "b": ["b-test"],
        "c": ["c-test", "c2-test", "c-retest"],
        "d": ["d-test", "d-second"],
        "e": ["e-contest", "e-retest"],
        "f": ["f-test", "f-retest"],
    }
    rows = [(sample, patient) for patient, samples in names.items() for sample in samples]
    found = retest.pairs(pd.DataFrame(rows, columns=["sample_id", "patient_id"]))
    assert found.table.to_numpy().tolist() == [["a", "a-test", "a-retest"], ["f", "f-test", "f-retest"]]
    reasons = found.left_out.groupby("patient_id")["reason"].unique().map(list).to_dict()
    assert reasons == {
        "b": ["no retest scan"],
        "c": ["2 test scans"],
        "d": ["names end in neither -test nor -retest: d-second"],
        "e": ["names end in neither -test nor -retest: e-contest"],
    }
    assert len(found.left_out) + 2 * len(found.table) == len(rows)


def test_pairs_of_nobody_and_bad_tables():
    empty = retest.pairs(pd.DataFrame({"sample_id": [], "patient_id": []}))
    assert list(empty.table) == ["patient_id", "test", "retest"] and list(empty.left_out)[2] == "reason"
    with pytest.raises(RobustnessError, match=r"lack the column\(s\) patient_id"):
        retest.pairs(pd.DataFrame({"sample_id": ["a-test"]}))
    with pytest.raises(RobustnessError, match="more than once: a-test"):
        retest.pairs(pd.DataFrame({"sample_id": ["a-test"] * 2, "patient_id": ["a", "a"]}))


def test_figures_of_a_retest_are_those_of_plain_loops():
    test, again, patients = scans(n=12, d=6, noise=1.5)
    found = retest.compare(test, again, patients, draws=50)
    n = len(patients)
    cosine = [[a @ b / np.sqrt(a @ a) / np.sqrt(b @ b) for b in again] for a in test]
    others = [(i, j) for i in range(n) for j in range(n) if i != j]
    expected = {
        "within-patient cosine": np.mean([cosine[i][i] for i in range(n)]),
        "between-patient cosine": np.mean([cosine[i][j] for i, j in others]),
        "separation": np.mean([cosine[i][i] > cosine[i][j] for i, j in others]),
        "identification rate": np.mean([np.argmax(cosine[i]) == i for i in range(n)]),
        "median ICC": np.median([anova(np.stack([test[:, d], again[:, d]], axis=1)) for d in range(6)]),
    }
    assert {name: quantity(found, name) for name in expected} == pytest.approx(expected, abs=1e-12)
    assert quantity(found, "gap") == pytest.approx(
        expected["within-patient cosine"] - expected["between-patient cosine"]
    )
    assert list(found.rank) == [1 + sum(cosine[i][j] > cosine[i][i] for j in range(n)) for i in range(n)]
    assert found.similar == pytest.approx(np.array(cosine)) and found.within == pytest.approx(np.diag(cosine))
    assert found.rank.max() > 1 and found.constant == 0 and found.icc.shape == (6,)


def test_intervals_of_a_retest_are_those_of_drawing_patients_in_a_loop():
    test, again, patients = scans(n=9, d=5, noise=1.0)
    found = retest.compare(test, again, patients, draws=40, seed=3)
    drawn = {name: [] for name in found.summary["quantity"]}
    nearer = found.similar < found.within[:, None]
    for weight in agreement.weights(np.array(patients), 40, 3)[1:].astype(int):
        rows = np.repeat(np.arange(9), weight)
        pairs = [(i, j) for i in rows for j in rows if i != j]
        within, between = found.within[rows].mean(), np.mean([found.similar[i, j] for i, j in pairs])
        drawn["within-patient cosine"].append(within)
        drawn["between-patient cosine"].append(between)
        drawn["gap"].append(within - between)
        drawn["separation"].append(np.mean([nearer[i, j] for i, j in pairs]))
        drawn["median ICC"].append(np.median(agreement.icc(test[rows], again[rows])))
    bias = np.median(np.arctanh(drawn["median ICC"])) - np.arctanh(quantity(found, "median ICC"))
    drawn["median ICC"] = np.tanh(np.arctanh(drawn["median ICC"]) - bias)
    assert not drawn.pop("identification rate")
    for name, values in drawn.items():
        expected = np.quantile(values, (0.025, 0.975))
        assert (quantity(found, name, "low"), quantity(found, name, "high")) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(("rank_one", "n"), [(0, 12), (12, 12), (5, 9), (1, 3)])
def test_wilson_is_that_of_scipy(rank_one, n):
    expected = stats.binomtest(rank_one, n).proportion_ci(method="wilson")
    assert statistics.wilson(rank_one, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_nobody_is_unknown_and_stays_within_0_and_1():
    assert np.isnan(statistics.wilson(0, 0)).all()
    for n in range(1, 60):
        low, high = statistics.wilson(0, n)[0], statistics.wilson(n, n)[1]
        assert (low, high) == pytest.approx((0, 1), abs=1e-15) and low >= 0 and high <= 1


def test_a_full_identification_rate_has_an_interval_of_some_width():
    found = retest.compare(*scans(n=12))
    assert quantity(found, "identification rate") == 1 and quantity(found, "identification rate", "high") == 1
    assert quantity(found, "identification rate", "low") == pytest.approx(0.7575, abs=1e-4)  # 12 / (12 + 1.96^2)
    assert found.verdict == "usable" and "of 12 patients" in found.reason


@pytest.mark.parametrize(("noise", "n"), [(0.01, 6), (0.003, 12), (0.001, 4), (0.0, 6)])
def test_the_interval_of_the_median_icc_of_nearly_equal_scans_ends_at_one(noise, n):
    test, again, patients = scans(n=n, d=40, noise=noise)
    again[0] += noise * 30  # one patient is less like the first scan: draws without that one have nearly 1
    found = retest.compare(test, again, patients)
    value, low, high = (quantity(found, "median ICC", column) for column in ("value", "low", "high"))
    assert -1 < low <= value + 1e-12 and value - 1e-12 <= high <= 1 and value > 0.9


def test_draws_of_exactly_one_do_not_spoil_the_interval_of_the_median_icc():
    test, _, patients = scans(n=8, d=30)
    again = test.copy()
    again[0] += 2.0  # all others are the same to the last digit, so that a third of the draws have an ICC of 1
    found = retest.compare(test, again, patients)
    value, low, high = (quantity(found, "median ICC", column) for column in ("value", "low", "high"))
    assert 0.3 < low < value and high == pytest.approx(1, abs=1e-12)


def test_the_interval_of_the_median_icc_holds_the_value_where_dimensions_are_many():
    found = retest.compare(*scans(d=2000), draws=300)
    assert quantity(found, "median ICC", "low") < quantity(found, "median ICC") < quantity(found, "median ICC", "high")


def test_a_good_embedding_is_usable_and_a_noisy_one_weak():
    good = retest.compare(*scans(noise=0.3))
    assert good.verdict == "usable" and (good.rank == 1).all() and "100 % of the retests of 26 patients" in good.reason
    assert retest.compare(*scans(noise=1.2)).verdict == "weak"  # all identified, but the ICC is low
    few = retest.compare(*scans(noise=0.3, d=2))  # the ICC is high, but few are identified
    assert few.verdict == "weak" and quantity(few, "median ICC") > 0.75


def test_a_constant_embedding_is_useless_and_its_cosine_said_to_mean_nothing():
    vectors = np.tile(np.random.default_rng(0).normal(size=50), (26, 1))
    found = retest.compare(vectors, vectors, scans()[2])
    assert found.verdict == "useless" and "the within-patient cosine of 1.000000 means nothing" in found.reason
    assert quantity(found, "identification rate") == 0 and quantity(found, "separation") == 0.5
    assert (found.rank == 26).all() and found.constant == 50 and np.isnan(found.icc).all()
    assert np.isnan(quantity(found, "median ICC"))


@pytest.mark.parametrize("noise", [1e-8, 1e-7, 4e-7])
def test_rounding_does_not_make_a_constant_embedding_anything_else(noise):
    rng = np.random.default_rng(1)
    test, again = (rng.normal(size=50) + np.zeros((26, 50)) for _ in range(2))
    again = test * (1 + noise * rng.normal(size=test.shape))
    test = test * (1 + noise * rng.normal(size=test.shape))
    found = retest.compare(test, again, scans()[2])
    assert found.verdict == "useless" and "same but for rounding" in found.reason and (found.rank == 26).all()


def test_an_embedding_of_near_equal_vectors_is_judged_by_what_sets_patients_apart():
    test, again, patients = scans(noise=0.3)
    found = retest.compare(1000 + test, 1000 + again, patients)
    assert found.within.min() > 0.999999 and found.verdict == "usable" and (found.rank == 1).all()
    noise = np.random.default_rng(5).normal(size=(2, 26, 200))
    lost = retest.compare(*(1000 + noise), patients)
    assert lost.within.min() > 0.999998 and lost.verdict == "useless" and "no better than chance" in lost.reason


def test_a_separation_above_one_half_by_chance_is_useless():
    found = retest.compare(*scans(n=10, d=20, noise=4.0, seed=5), draws=300)
    assert quantity(found, "separation", "low") < 0.5 < quantity(found, "separation") and found.verdict == "useless"


def test_duplicates_of_the_own_retest_count_against_it():
    test, again, patients = scans()
    again[3] = again[0]
    test[3] = test[0]
    assert retest.compare(test, again, patients).rank[[0, 3]].tolist() == [2, 2]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_fewer_than_three_pairs_are_not_judged(n):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        test, again, patients = (part[:n] for part in scans(n=5, d=7))
        found = retest.compare(test, again, patients)
    assert (found.verdict, found.reason) == ("not judged", f"{n} pair{'s' * (n != 1)}: it takes at least 3")
    shapes = [part.shape for part in (found.similar, found.within, found.rank, found.icc)]
    assert shapes == [(n, n), (n,), (n,), (7,)] and list(found.patients) == patients and found.constant == 0
    table = found.summary.set_index("quantity")
    assert list(table.index) == list(retest.compare(*scans(n=5)).summary["quantity"])
    assert table[["low", "high"]].isna().all(axis=None)
    known = {0: [], 1: ["within-patient cosine"], 2: list(table.index)}[n]
    assert list(table.index[table["value"].notna()]) == known
    if n:
        cosine = [a @ b / np.sqrt(a @ a) / np.sqrt(b @ b) for a, b in zip(test, again, strict=True)]
        assert table["value"]["within-patient cosine"] == pytest.approx(np.mean(cosine), abs=1e-12)
    if n == 2:
        assert found.icc == pytest.approx(agreement.icc(test, again), nan_ok=True)
        assert table["value"]["median ICC"] == pytest.approx(np.nanmedian(found.icc))


def test_few_pairs_are_checked_as_many_are():
    test, again, patients = scans(n=2, d=4)
    with pytest.raises(RobustnessError, match=r"test \(2, 4\) and retest \(1, 4\) of 2 patients"):
        retest.compare(test, again[:1], patients)
    with pytest.raises(RobustnessError, match="more than one pair: p00"):
        retest.compare(test, again, ["p00", "p00"])
    again[1] = np.nan
    with pytest.raises(RobustnessError, match="retest: 1 vectors are zero or not finite, those of p01"):
        retest.compare(test, again, patients)


def test_bad_pairs_are_named():
    test, again, patients = scans(n=5, d=4)
    with pytest.raises(RobustnessError, match=r"test \(5, 4\) and retest \(4, 4\) of 5 patients"):
        retest.compare(test, again[:4], patients)
    with pytest.raises(RobustnessError, match="more than one pair: p00"):
        retest.compare(test, again, ["p00", *patients[:4]])
    again[2] = np.nan
    with pytest.raises(RobustnessError, match="retest: 1 vectors are zero or not finite, those of p02"):
        retest.compare(test, again, patients)
    test[[1, 4]] = 0
    with pytest.raises(RobustnessError, match="test: 2 vectors are zero or not finite, those of p01, p04"):
        retest.compare(test, again, patients)


def real_controls():
    tables = real.registry().tables
    names, original, _ = tables["fmcib_authors"]
    controls = {name: tables[f"fmcib_authors_{name}"][1] for name in published.CONTROLS}
    return names, original, controls


def test_real_controls_have_the_known_cosines_and_retrieval():
    names, original, controls = real_controls()
    found = negatives.compare(original, controls, names, draws=200).set_index("control")
    inside, outside = found.filter(regex="sampled_roi|shuffled_roi", axis=0), found.filter(like="non_roi", axis=0)
    assert inside["cosine"].to_numpy() == pytest.approx([0.970, 0.970], abs=5e-4)
    assert outside["cosine"].to_numpy() == pytest.approx([0.909, 0.909], abs=5e-4)
    assert list(inside["retrieval"].round(2)) == [0.75, 0.76] and list(outside["retrieval"].round(2)) == [0.16, 0.17]
    assert list(inside["identical"]) == [2, 2] and list(outside["identical"]) == [1, 1]
    for figure in ("cosine", "retrieval"):
        assert (found[f"{figure}_low"] < found[figure]).all() and (found[figure] < found[f"{figure}_high"]).all()


def test_the_three_odd_patients_are_found_and_named():
    names, original, controls = real_controls()
    found = negatives.identical(original, controls, names).groupby("control")["sample_id"].apply(sorted).to_dict()
    odd = {"roi": ["LUNG1-326", "LUNG1-399"], "non_roi": ["LUNG1-023"]}
    assert found == {
        f"{kind}_{region}": names for kind in ("shuffled", "randomized_sampled") for region, names in odd.items()
    }


def test_controls_against_plain_loops_with_two_samples_a_patient():
    rng = np.random.default_rng(2)
    original = rng.normal(size=(20, 3))
    control = original + rng.normal(size=(20, 3))
    control[4] = original[4]
    patients = np.repeat([f"p{i}" for i in range(10)], 2)
    row = negatives.compare(original, {"noise": control}, patients, draws=30, seed=1).iloc[0]
    cosine = [[a @ b / np.sqrt((a @ a) * (b @ b)) for b in control] for a in original]
    own, found = np.diag(cosine), np.array([np.argmax(cosine[i]) == i for i in range(20)])
    assert (row["cosine"], row["retrieval"]) == pytest.approx((own.mean(), found.mean()))
    assert (row["identical"], row["samples"]) == (1, 20) and 0 < found.mean() < 1
    drawn = []
    for weight in agreement.weights(patients, 30, 1)[1:].astype(int):
        assert (weight[::2] == weight[1::2]).all() and weight.sum() == 20  # both samples of a patient together
        drawn.append((np.repeat(own, weight).mean(), np.repeat(found, weight).mean()))
    low, high = np.quantile(drawn, (0.025, 0.975), axis=0)
    assert (row["cosine_low"], row["retrieval_low"]) == pytest.approx(tuple(low))
    assert (row["cosine_high"], row["retrieval_high"]) == pytest.approx(tuple(high))


def test_bad_controls_are_named():
    original = np.random.default_rng(0).normal(size=(5, 3))
    names = list("abcde")
    with pytest.raises(RobustnessError, match=r"short: shape \(4, 3\), but the original is \(5, 3\)"):
        negatives.compare(original, {"short": original[:4]}, names)
    with pytest.raises(RobustnessError, match="5 embeddings but 4 patients"):
        negatives.compare(original, {}, names[:4])
    with pytest.raises(RobustnessError, match="5 embeddings but 4 names"):
        negatives.identical(original, {}, names[:4])
    broken = original.copy()
    broken[3, 1] = np.nan
    with pytest.raises(RobustnessError, match="noise: 1 vectors are zero or not finite, those of d"):
        negatives.compare(original, {"noise": broken}, names)
    assert negatives.identical(original, {}, names).empty
