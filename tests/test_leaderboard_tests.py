"""Friedman, Nemenyi, cliques and pairs against scipy, Demsar's paper and cases by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tumorbench_utils import leaderboard
from tumorbench_utils.leaderboard import LeaderboardError

NAMES = ["C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf"]
DEMSAR = np.array(  # J Mach Learn Res 7 (2006), table 6: AUC of four variants of C4.5 on 14 data sets
    [
        [0.763, 0.768, 0.771, 0.798],
        [0.599, 0.591, 0.590, 0.569],
        [0.954, 0.971, 0.968, 0.967],
        [0.628, 0.661, 0.654, 0.657],
        [0.882, 0.888, 0.886, 0.898],
        [0.936, 0.931, 0.916, 0.931],
        [0.661, 0.668, 0.609, 0.685],
        [0.583, 0.583, 0.563, 0.625],
        [0.775, 0.838, 0.866, 0.875],
        [1.000, 1.000, 1.000, 1.000],
        [0.940, 0.962, 0.965, 0.962],
        [0.619, 0.666, 0.614, 0.669],
        [0.972, 0.981, 0.9752, 0.9748],  # both printed as 0.975, ranked 2 and 3
        [0.957, 0.978, 0.946, 0.970],
    ]
)


def demsar():
    return pd.DataFrame(DEMSAR.T, index=NAMES, columns=[f"set {number}" for number in range(14)])


def test_the_worked_example_of_demsar_comes_out_as_printed():
    found = leaderboard.friedman(demsar())
    assert found.mean_rank.round(3).to_dict() == dict(zip(NAMES, [3.143, 2.000, 2.893, 1.964], strict=True))
    assert (round(found.chi2_plain, 2), round(found.f_plain, 2)) == (9.28, 3.69)
    assert (found.models, found.cohorts) == (4, 14)
    assert round(leaderboard.critical_difference(4, 14), 2) == 1.25
    assert round(leaderboard.critical_difference(4, 14, alpha=0.10), 2) == 1.12
    # at 0.10 the paper tells C4.5 apart from both with m, and C4.5+cf from neither
    groups = leaderboard.cliques(found.mean_rank, leaderboard.critical_difference(4, 14, alpha=0.10))
    assert groups == [["C4.5+m+cf", "C4.5+m", "C4.5+cf"], ["C4.5+cf", "C4.5"]]


def test_friedman_is_that_of_scipy_and_f_is_its_iman_davenport_form():
    found = leaderboard.friedman(demsar())
    chi2, p = stats.friedmanchisquare(*DEMSAR.T)
    assert (found.chi2, found.p) == pytest.approx((chi2, p)) and found.chi2 > found.chi2_plain  # there are ties
    f = 13 * chi2 / (14 * 3 - chi2)
    assert found.f == pytest.approx(f) and found.p_f == pytest.approx(stats.f.sf(f, 3, 39))


def test_without_ties_the_correction_does_nothing():
    aucs = pd.DataFrame(np.random.default_rng(1).random((5, 8)))
    found = leaderboard.friedman(aucs)
    assert (found.chi2, found.f) == pytest.approx((found.chi2_plain, found.f_plain))


def test_f_is_the_analysis_of_variance_of_the_ranks():
    # Iman and Davenport: the F of a two-way layout of ranks, without ties
    ranks = pd.DataFrame(np.random.default_rng(2).random((4, 9))).rank(axis=0).to_numpy()
    grand = ranks.mean()
    models = 9 * np.square(ranks.mean(axis=1) - grand).sum() / 3
    rest = np.square(ranks - ranks.mean(axis=1, keepdims=True)).sum() / (3 * 8)  # cohorts have equal means
    assert leaderboard.friedman(pd.DataFrame(ranks)).f == pytest.approx(models / rest)


def test_models_in_the_same_order_on_every_cohort_and_models_that_are_all_alike():
    same = pd.DataFrame(np.repeat([[0.9], [0.8], [0.7]], 4, axis=1))
    found = leaderboard.friedman(same)
    assert found.f == np.inf and found.p_f == 0 and found.chi2 == pytest.approx(8)
    alike = leaderboard.friedman(pd.DataFrame(np.full((3, 4), 0.5)))
    assert (alike.p, alike.p_f, alike.chi2) == (1, 1, 0)


def test_friedman_is_calibrated_when_models_are_alike():
    rng = np.random.default_rng(4)
    p = [leaderboard.friedman(pd.DataFrame(rng.random((5, 10)))).p_f for _ in range(150)]
    assert 0.01 <= np.mean(np.array(p) < 0.05) <= 0.1


@pytest.mark.parametrize("shape", [(2, 5), (3, 1)])
def test_friedman_takes_three_models_and_two_cohorts(shape):
    with pytest.raises(LeaderboardError, match="takes 3 models and 2 cohorts; there are"):
        leaderboard.friedman(pd.DataFrame(np.random.default_rng(0).random(shape)))


def test_friedman_refuses_empty_cells():
    with pytest.raises(LeaderboardError, match="1 cells are empty: give a complete block"):
        leaderboard.friedman(pd.DataFrame([[0.5, np.nan], [0.6, 0.7], [0.8, 0.9]]))


@pytest.mark.parametrize(("k", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (8, 3.031), (10, 3.164)])
def test_critical_values_are_those_of_demsars_table(k, q):
    # of N such that the square root is 1
    assert leaderboard.critical_difference(k, 1) / np.sqrt(k * (k + 1) / 6) == pytest.approx(q, abs=1e-3)
    assert leaderboard.critical_difference(k, 36) == pytest.approx(leaderboard.critical_difference(k, 1) / 6)


@pytest.mark.parametrize(("models", "cohorts"), [(1, 5), (3, 0)])
def test_a_critical_difference_takes_two_models_and_a_cohort(models, cohorts):
    with pytest.raises(LeaderboardError, match="takes 2 models and a cohort"):
        leaderboard.critical_difference(models, cohorts)


@pytest.mark.parametrize(
    ("ranks", "difference", "groups"),
    [
        ({"a": 1, "b": 2, "c": 3, "d": 4}, 1.5, [["a", "b"], ["b", "c"], ["c", "d"]]),
        ({"a": 1, "b": 2, "c": 3, "d": 4}, 5, [["a", "b", "c", "d"]]),
        ({"a": 1, "b": 2, "c": 3}, 0.5, []),
        ({"c": 3, "a": 1, "b": 1.2}, 1, [["a", "b"]]),
        ({"a": 1, "b": 2}, 1, []),  # just as much as the difference is told apart
        ({"a": 1, "b": 1}, 0.1, [["a", "b"]]),
        ({"a": 1, "b": 1.5, "c": 2, "d": 4, "e": 4.5}, 1.2, [["a", "b", "c"], ["d", "e"]]),
        ({}, 1, []),
    ],
)
def test_cliques_are_the_longest_runs_within_the_difference(ranks, difference, groups):
    assert leaderboard.cliques(ranks, difference) == groups


def pairs(rows):
    """A table of pairs of (first, second, auc_first, auc_second, p_holm)."""
    table = pd.DataFrame(rows, columns=["first", "second", "auc_first", "auc_second", "p_holm"])
    difference = table["auc_first"] - table["auc_second"]
    return table.assign(difference=difference, low=difference - 0.1, high=difference + 0.2, p=table["p_holm"] / 3)


TABLE = pairs([("a", "b", 0.8, 0.7, 0.01), ("a", "c", 0.8, 0.78, 0.06), ("b", "c", 0.7, 0.78, 0.04)])


def test_a_pair_is_turned_with_its_interval():
    row = leaderboard.versus(TABLE, "b", "a")
    assert (row["first"], row["second"], row["auc_first"], row["auc_second"]) == ("b", "a", 0.7, 0.8)
    assert (row["difference"], row["low"], row["high"]) == pytest.approx((-0.1, -0.3, 0.0))
    assert leaderboard.versus(TABLE, "a", "b")["difference"] == pytest.approx(0.1)
    assert leaderboard.versus(TABLE, "a", "nobody") is None
