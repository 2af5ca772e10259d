"""Ranks, complete blocks and their bootstrap, by hand, by scipy and by plain loops."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, rankdata

from tumorbench_utils import leaderboard
from tumorbench_utils.leaderboard import LeaderboardError


def tidy(wide):
    """AUCs {cohort: {model: auc}} as a tidy table."""
    return pd.DataFrame(
        [(model, cohort, auc) for cohort, row in wide.items() for model, auc in row.items()],
        columns=["model", "cohort", "auc"],
    )


def test_ranks_are_one_for_the_best_and_exact_ties_share_their_mean():
    found = leaderboard.ranks(tidy({"x": {"a": 0.8, "b": 0.7, "c": 0.7, "d": 0.6}, "y": {"a": 0.5, "b": 0.9, "c": 0.6,
                                                                                       "d": 0.55}}))  # fmt: skip
    rank = found.cells.set_index(["cohort", "model"])["rank"]
    assert rank["x"].to_dict() == {"a": 1, "b": 2.5, "c": 2.5, "d": 4}
    assert rank["y"].to_dict() == {"b": 1, "c": 2, "d": 3, "a": 4}
    assert found.mean["model"].tolist() == ["b", "c", "a", "d"]
    assert found.mean["mean_rank"].tolist() == [1.75, 2.25, 2.5, 3.5]
    assert found.mean.set_index("model").loc["a", ["best", "worst", "first", "cohorts"]].tolist() == [1, 4, 1, 2]
    assert found.missing.empty and found.left_out.empty and found.cells["in_block"].all()


def test_ranks_are_those_of_scipy_on_many_cohorts_with_ties():
    rng = np.random.default_rng(0)
    aucs = pd.DataFrame(rng.integers(50, 60, (7, 9)) / 100, index=list("abcdefg"), columns=[f"c{i}" for i in range(9)])
    found = leaderboard.ranks(tidy({cohort: aucs[cohort].to_dict() for cohort in aucs}))
    expected = pd.Series(rankdata(-aucs.to_numpy(), axis=0).mean(axis=1), index=aucs.index)
    assert found.mean.set_index("model")["mean_rank"].reindex(aucs.index).to_numpy() == pytest.approx(expected)


GAPS = {
    "x": {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6},
    "y": {"a": 0.9, "b": 0.8, "c": 0.7},
    "z": {"a": 0.6, "b": 0.8, "c": 0.7},
    "w": {"d": 0.6, "a": 0.5},
}


def test_the_largest_block_is_ranked_and_what_is_outside_is_told():
    found = leaderboard.ranks(tidy(GAPS))
    assert list(found.aucs.index) == ["a", "b", "c"] and list(found.aucs) == ["x", "y", "z"]
    assert found.mean.set_index("model")["mean_rank"].to_dict() == pytest.approx({"a": 5 / 3, "b": 5 / 3, "c": 8 / 3})
    assert found.left_out.to_numpy().tolist() == [
        ["model", "d", "has 2 of 4 cohorts"],
        ["cohort", "w", "has 2 of 4 models"],
    ]
    assert sorted(map(tuple, found.missing.to_numpy())) == [("b", "w"), ("c", "w"), ("d", "y"), ("d", "z")]
    cells = found.cells.set_index(["model", "cohort"])
    # a rank in a cell counts all that the cohort has, the mean rank only the block
    assert cells.loc[("d", "x"), ["rank", "of"]].tolist() == [4, 4] and not cells.loc[("d", "x"), "in_block"]
    assert cells.loc[("a", "w"), ["rank", "of"]].tolist() == [2, 2] and not cells.loc[("a", "w"), "in_block"]


@pytest.mark.parametrize(
    ("keep", "models", "cohorts"), [("models", list("abcd"), ["x"]), ("cohorts", ["a"], list("xyzw"))]
)
def test_all_models_or_all_cohorts_can_be_kept(keep, models, cohorts):
    found = leaderboard.ranks(tidy(GAPS), keep)
    assert list(found.aucs.index) == models and list(found.aucs) == cohorts
    assert set(found.mean["model"]) == set(models) and (found.mean["cohorts"] == len(cohorts)).all()


def test_the_block_has_as_many_cells_as_any_of_a_search_by_brute_force():
    rng = np.random.default_rng(3)
    for _ in range(5):
        wide = pd.DataFrame(rng.random((5, 4)), index=list("abcde"), columns=list("wxyz"))
        wide = wide.mask(rng.random(wide.shape) < 0.3)
        table = wide.stack().rename_axis(["model", "cohort"]).rename("auc").reset_index()
        wide = leaderboard.matrix(table)
        best = 0
        for chosen in range(1, 2 ** len(wide)):
            rows = wide[[bool(chosen >> place & 1) for place in range(len(wide))]]
            best = max(best, rows.notna().all(axis=0).sum() * len(rows) if len(rows) > 1 else 0)
        assert leaderboard.ranks(table).aucs.size == best


def test_an_auc_that_is_missing_is_no_rank():
    table = tidy({"x": {"a": 0.7, "b": np.nan, "c": 0.6}})
    found = leaderboard.ranks(table)
    assert found.cells["model"].tolist() == ["a", "c"] and found.missing.to_numpy().tolist() == [["b", "x"]]
    assert found.left_out["name"].tolist() == ["b"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (pd.DataFrame({"model": ["a"], "auc": [0.5]}), "lacks the column.s. cohort"),
        (tidy({"x": {"a": 1.2}}), "AUC of a on x is 1.2, not within 0 to 1"),
        (tidy({"x": {"a": "good"}}), "AUC of a on x is good"),
        (pd.concat([tidy({"x": {"a": 0.5}})] * 2), "1 cells are there more than once, the first is a on x"),
    ],
)
def test_a_table_that_cannot_be_ranked_is_refused(table, message):
    with pytest.raises(LeaderboardError, match=message):
        leaderboard.ranks(table)


def test_an_unknown_way_to_keep_a_block_is_refused():
    with pytest.raises(LeaderboardError, match="keep is 'all', must be one of most, models, cohorts"):
        leaderboard.ranks(tidy(GAPS), "all")


def drawn(means, draws=400, spread=0.02, seed=0):
    """AUC draws {cohort: {model: (draws + 1,)}} around means {cohort: {model: auc}}."""
    rng = np.random.default_rng(seed)
    return {
        cohort: {model: np.append(auc, auc + spread * rng.normal(size=draws)) for model, auc in row.items()}
        for cohort, row in means.items()
    }


def test_a_model_that_is_best_everywhere_beyond_doubt_is_first_in_every_draw():
    table = leaderboard.rank_draws(drawn({c: {"a": 0.9, "b": 0.6, "c": 0.6} for c in "xyz"})).set_index("model")
    assert table.loc["a", ["mean_rank", "low", "high", "first", "place_low", "place_high"]].tolist() == [
        1,
        1,
        1,
        1,
        1,
        1,
    ]
    assert table["first"].sum() == pytest.approx(1) and (table["cohorts"] == 3).all()
    assert table.loc["b", "low_patients"] < table.loc["b", "high_patients"]
    assert table.loc[["b", "c"], "mean_rank"].tolist() == [2.5, 2.5]  # the data themselves are tied


def test_cohorts_add_to_the_uncertainty_where_they_disagree():
    # two models, sure on each cohort, but not the same one: patients tell nothing of it, cohorts all
    means = {"x": {"a": 0.9, "b": 0.5}, "y": {"a": 0.5, "b": 0.9}, "z": {"a": 0.9, "b": 0.5}}
    table = leaderboard.rank_draws(drawn(means, draws=4000), seed=1).set_index("model")
    assert table.loc["a", ["low_patients", "high_patients", "first_patients"]].tolist() == pytest.approx(
        [4 / 3, 4 / 3, 1]
    )
    assert table.loc["a", ["low", "high"]].tolist() == [1, 2]
    # of three cohorts drawn with replacement at least two are x or z: 20 of 27
    assert table.loc["a", "first"] == pytest.approx(20 / 27, abs=0.03)


def test_one_cohort_has_no_part_in_the_uncertainty():
    table = leaderboard.rank_draws(drawn({"x": {"a": 0.62, "b": 0.6}}, draws=4000)).set_index("model")
    assert table["first"].to_numpy() == pytest.approx(table["first_patients"].to_numpy(), abs=0.03)
    assert table.loc["a", "first_patients"] == pytest.approx(norm.cdf(0.02 / (0.02 * np.sqrt(2))), abs=0.03)


def test_a_draw_is_the_same_for_all_models_of_a_cohort():
    # b is always a little worse than a in the same draw, though both move far
    base = np.random.default_rng(0).normal(0.7, 0.1, 300)
    draws = {cohort: {"a": base, "b": base - 1e-6} for cohort in "xy"}
    table = leaderboard.rank_draws(draws).set_index("model")
    assert table["first"].to_dict() == {"a": 1.0, "b": 0.0} and table["first_patients"].to_dict() == {
        "a": 1.0,
        "b": 0.0,
    }


def test_patients_of_two_cohorts_are_drawn_independently():
    # draws of one seed are alike in both cohorts, yet a draw that favours a here says nothing of there
    swing = np.append(0.0, np.where(np.arange(4000) % 2, 0.1, -0.1))
    draws = {cohort: {"a": 0.7 + swing, "b": np.full(4001, 0.7)} for cohort in "xy"}
    table = leaderboard.rank_draws(draws, seed=2).set_index("model")
    # both for a, both against, or one each (a tie, shared): a first with probability 1/4 + 1/2 * 1/2
    assert table.loc["a", "first_patients"] == pytest.approx(0.5, abs=0.03)
    rank = table.loc["a", ["low_patients", "high_patients"]].tolist()
    assert rank == [1, 2]
    middle = {"x": draws["x"], "y": {"a": 0.7 - swing, "b": draws["y"]["b"]}}  # always opposite, were they paired
    opposite = leaderboard.rank_draws(middle, seed=2).set_index("model")
    assert opposite.loc["a", ["low_patients", "high_patients"]].tolist() == [1, 2]


def test_draws_without_a_class_are_passed_over_and_a_cohort_of_only_such_is_refused():
    draws = drawn({"x": {"a": 0.9, "b": 0.5}, "y": {"a": 0.9, "b": 0.5}}, draws=50)
    for model in "ab":
        draws["x"][model][1:20] = np.nan
    table = leaderboard.rank_draws(draws)
    assert np.isfinite(table.drop(columns="model").to_numpy()).all() and table["first"].tolist() == [1, 0]
    for model in "ab":
        draws["x"][model][1:] = np.nan
    with pytest.raises(LeaderboardError, match="no usable draw of x"):
        leaderboard.rank_draws(draws)


@pytest.mark.parametrize(
    ("draws", "message"),
    [
        ({}, "no cohort has draws"),
        ({"x": {"a": np.ones(5)}}, "1 models are in all of x: ranks take two"),
        ({"x": {"a": np.ones(5), "b": np.ones(5)}, "y": {"c": np.ones(5)}}, "0 models are in all of x, y"),
        ({"x": {"a": np.ones(5), "b": np.ones(4)}}, r"as many draws .* x \[4, 5\]"),
        ({"x": {"a": np.ones(1), "b": np.ones(1)}}, "as many draws"),
    ],
)
def test_draws_that_do_not_fit_are_refused(draws, message):
    with pytest.raises(LeaderboardError, match=message):
        leaderboard.rank_draws(draws)


def test_ranks_of_draws_do_not_depend_on_the_order_of_models_and_repeat_with_their_seed():
    draws = drawn({c: {"a": 0.7, "b": 0.69, "c": 0.68} for c in "xy"})
    turned = {cohort: dict(reversed(of.items())) for cohort, of in draws.items()}
    one, two = (leaderboard.rank_draws(each, seed=5).set_index("model").sort_index() for each in (draws, turned))
    pd.testing.assert_frame_equal(one, two)
    assert not leaderboard.rank_draws(draws, seed=6).set_index("model").sort_index().equals(one)
