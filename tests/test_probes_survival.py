"""Concordance, Cox and neighbours against plain loops and lifelines; planted and absent hazards; bad follow-up."""

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter, KaplanMeierFitter
from lifelines.statistics import logrank_test
from lifelines.utils import concordance_index
from numpy.testing import assert_allclose, assert_array_equal

from tumorbench_utils import knn, statistics
from tumorbench_utils.probes import concordance, cox, risk_groups, survival
from tumorbench_utils.probes.concordance import SurvivalError


def cohort(n=120, d=6, strength=1.2, censored=0.3, seed=0):
    """Vectors (n, d) whose first dimension carries the hazard, times in whole days, events."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    death = rng.exponential(700 * np.exp(-strength * x[:, 0]))
    leave = rng.exponential(700 * (1 - censored) / censored, n) if censored else np.full(n, np.inf)
    return x, np.ceil(np.minimum(death, leave)), (death <= leave).astype(int)


def small(seed=0, n=40, days=15):
    """Few days, so that deaths and censored patients share them; risks in steps, so that they tie."""
    rng = np.random.default_rng(seed)
    return rng.integers(1, days, n).astype(float), rng.integers(0, 2, n), np.round(rng.normal(size=n), 1), rng


def halves(event, seeds=(1, 2, 3)):
    """Splits by hand: 50/20/30, balanced in deaths by order of a shuffle."""
    found = []
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(event))
        order = order[np.argsort(event[order], kind="stable")]
        part = np.tile([0, 0, 0, 0, 0, 1, 1, 2, 2, 2], len(event) // 10 + 1)[: len(event)]
        found.append(knn.Split(seed, *(np.sort(order[part == number]) for number in range(3))))
    return found


# concordance


@pytest.mark.parametrize("seed", range(5))
def test_harrells_c_is_that_of_lifelines_with_ties_in_time_and_risk(seed):
    time, event, risk, _ = small(seed)
    assert concordance.harrell(time, event, risk).value == pytest.approx(
        concordance_index(time, -risk, event), abs=1e-6
    )


def test_a_death_on_the_day_of_a_censoring_came_first_and_two_deaths_on_a_day_do_not_count():
    assert concordance.harrell([5, 5], [1, 0], [2, 1]).value == 1
    assert concordance.harrell([5, 5], [1, 0], [1, 2]).value == 0
    assert np.isnan(concordance.harrell([5, 5], [1, 1], [1, 2]).value)
    assert np.isnan(concordance.harrell([4, 5], [0, 1], [1, 2]).value)  # who left first may have lived longer


@pytest.mark.parametrize("seed", range(5))
def test_antolinis_c_is_that_of_a_double_loop_over_crossing_curves(seed):
    time, event, _, rng = small(seed, n=25)
    days = np.arange(1, 15)
    curves = np.round(np.cumprod(1 - rng.uniform(0, 0.3, (25, 14)), axis=1), 1)
    total = right = 0
    for i in range(25):
        for j in range(25):
            if event[i] and (time[i] < time[j] or (time[i] == time[j] and not event[j])):
                own, other = curves[i, int(time[i]) - 1], curves[j, int(time[i]) - 1]
                total += 1
                right += 1 if own < other else 0.5 if own == other else 0
    survived = concordance.at(days, curves, time).T
    assert concordance.antolini(time, event, survived).value == pytest.approx(right / total, abs=1e-6)
    assert concordance.antolini(time, event, survived.T).value != pytest.approx(right / total, abs=1e-6)


def test_where_hazards_are_proportional_antolinis_c_is_harrells():
    time, event, risk, _ = small(3)
    days = np.arange(1, 15)
    curves = np.exp(-np.exp(risk)[:, None] * 0.05 * days)
    over_time = concordance.antolini(time, event, concordance.at(days, curves, time).T).value
    assert over_time == pytest.approx(concordance.harrell(time, event, risk).value, abs=1e-7)
    late = concordance.antolini(time, event, concordance.at(days[5:], curves[:, 5:], time).T).value
    assert late != pytest.approx(over_time, abs=1e-3)  # curves that are all 1 at a death are tied there


def test_steps_change_on_their_day_and_start_at_one():
    curves = np.array([[0.8, 0.4]])
    assert_array_equal(
        concordance.at(np.array([3.0, 7.0]), curves, [0, 2.9, 3, 6.9, 7, 99]), [[1, 1, 0.8, 0.8, 0.4, 0.4]]
    )


def test_censoring_is_kaplan_and_meiers_with_deaths_first():
    # of five, one dies and one leaves on day 2 (4 at risk after the death), one of 3 leaves on day 3, two die later
    found = concordance.censoring([2, 2, 3, 5, 6], [1, 0, 0, 1, 1])
    assert_allclose(found.before(np.array([2, 3, 5, 6])), [1, 3 / 4, 3 / 4 * 2 / 3, 3 / 4 * 2 / 3])
    assert found.until(2) == 3 / 4 and found.until(1.9) == 1 and found.until(100) == pytest.approx(0.5)
    distinct = np.arange(1.0, 31)
    event = np.random.default_rng(0).integers(0, 2, 30)
    theirs = KaplanMeierFitter().fit(distinct, 1 - event).survival_function_at_times(distinct).to_numpy()
    assert_allclose(concordance.censoring(distinct, event).still, theirs, atol=1e-12)


def weight_by_loop(time, event, learnt, when):
    """G(t-) by a loop over days."""
    still = 1.0
    for day in sorted(set(learnt[0])):
        if day < when:
            at_risk = sum(t >= day for t in learnt[0]) - sum(t == day and e for t, e in zip(*learnt, strict=True))
            left = sum(t == day and not e for t, e in zip(*learnt, strict=True))
            still *= 1 - left / at_risk if at_risk else 1
    return still


@pytest.mark.parametrize("seed", range(4))
def test_dynamic_auc_and_brier_are_those_of_loops(seed):
    time, event, risk, rng = small(seed, n=30)
    learnt = (rng.integers(1, 20, 50).astype(float), rng.integers(0, 2, 50))
    weights, alive = concordance.censoring(*learnt), rng.random(30)
    total = right = error = 0.0
    for i in range(30):
        case = event[i] and time[i] <= 7
        case_weight = 1 / weight_by_loop(time, event, learnt, time[i])
        if case:
            error += case_weight * alive[i] ** 2
        elif time[i] > 7:
            error += (1 - alive[i]) ** 2 / weight_by_loop(time, event, learnt, 7.5)
        for j in range(30):
            if case and time[j] > 7:
                total += case_weight
                right += case_weight * (1 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0)
    assert concordance.dynamic_auc(time, event, risk, 7, weights).value == pytest.approx(right / total, abs=1e-6)
    assert concordance.brier(time, event, alive, 7, weights) == pytest.approx(error / 30, abs=1e-12)


def test_without_censoring_the_dynamic_auc_is_the_auc_and_brier_the_mean_square():
    time, _, risk, rng = small(8)
    nobody = concordance.censoring(time, np.ones(40))
    dead, alive = (time <= 7).astype(int), rng.random(40)
    value = concordance.dynamic_auc(time, np.ones(40), risk, 7, nobody).value
    assert value == pytest.approx(statistics.auc(dead, risk), abs=1e-6)
    assert concordance.brier(time, np.ones(40), alive, 7, nobody) == pytest.approx(np.mean((1 - dead - alive) ** 2))


def test_measures_at_a_horizon_that_nobody_in_training_reached_are_undefined():
    everybody_left = concordance.censoring([3, 4, 5], [0, 0, 0])
    assert np.isnan(concordance.dynamic_auc([2, 9], [1, 0], [1, 0], 7, everybody_left).value)
    assert np.isnan(concordance.brier([2, 9], [1, 0], np.array([0.1, 0.9]), 7, everybody_left))


def test_weighted_values_are_those_of_samples_with_repeated_patients():
    time, event, risk, rng = small(1)
    rows = [np.arange(0, 25), np.arange(10, 40)]
    pairs = [concordance.harrell(time[part], event[part], risk[part]) for part in rows]
    counts = rng.multinomial(40, np.full(40, 1 / 40), size=3)
    values = concordance.drawn(pairs, rows, counts)
    for value, count in zip(values, counts, strict=True):
        repeated = [np.repeat(part, count[part]) for part in rows]
        alone = [concordance_index(time[part], -risk[part], event[part]) for part in repeated]
        # a patient's own copy ties on its day unless censored; such pairs are not comparable either way
        assert value == pytest.approx(np.mean(alone), abs=1e-5)


# Cox


@pytest.mark.parametrize("penalty", [0.0, 0.1, 1.0])
def test_coefficients_and_baseline_are_those_of_lifelines_with_tied_deaths(penalty):
    x, time, event = cohort(n=90, d=3)
    time = np.ceil(time / 60)  # many deaths on one day
    x = (x - x.mean(0)) / x.std(0, ddof=1)
    frame = pd.DataFrame(x, columns=list("abc")).assign(T=time, E=event)
    theirs = CoxPHFitter(penalizer=penalty).fit(frame, "T", "E", fit_options={"precision": 1e-10})
    beta = cox.fit(x, time, event, penalty)
    assert_allclose(beta, theirs.params_.to_numpy(), atol=1e-5)
    times, hazard = cox.baseline(x @ beta, time, event == 1)
    assert_allclose(hazard, theirs.baseline_cumulative_hazard_.loc[times].iloc[:, 0], rtol=1e-4)


def test_the_order_of_rows_does_not_matter_and_perfect_order_does_not_converge():
    x, time, event = cohort(n=60, d=2)
    order = np.random.default_rng(1).permutation(60)
    assert_allclose(cox.fit(x, time, event, 0.1), cox.fit(x[order], time[order], event[order], 0.1), atol=1e-8)
    days = np.arange(1.0, 21)
    with pytest.raises(cox.NotConverged):
        cox.fit(-days[:, None] / 5, days, np.ones(20))
    assert np.isfinite(cox.fit(-days[:, None] / 5, days, np.ones(20), 0.1)).all()
    with pytest.raises(cox.NotConverged, match="singular"):
        cox.fit(np.zeros((20, 1)), days, np.ones(20))
    with pytest.raises(SurvivalError, match="no deaths among 20 patients"):
        cox.fit(days[:, None], days, np.zeros(20))


@pytest.mark.parametrize("d", [5, 60])
def test_components_are_those_of_the_training_rows_at_variance_one(d):
    rng = np.random.default_rng(0)
    vectors = rng.normal(3, 2, (50, d)) * np.linspace(1, 9, d)
    train = np.arange(0, 50, 2)
    found = cox.components(vectors, train, 4)
    scaled = (vectors - vectors[train].mean(0)) / vectors[train].std(0)
    _, _, right = np.linalg.svd(scaled[train], full_matrices=False)
    expected = scaled @ right[:4].T
    expected = expected / expected[train].std(0)
    assert_allclose(np.abs(found), np.abs(expected), atol=1e-8)
    assert_allclose(found[train].T @ found[train] / len(train), np.eye(4), atol=1e-8)
    changed = vectors.copy()
    changed[1::2] += 100
    assert_allclose(cox.components(changed, train, 4)[train], found[train], atol=1e-8)


def test_missing_values_are_the_training_mean_and_constant_columns_are_nothing():
    rng = np.random.default_rng(0)
    vectors = np.column_stack([rng.normal(size=(30, 2)), np.full(30, 7.3)])
    train = np.arange(20)
    filled, gaps = vectors.copy(), vectors.copy()
    gaps[25, 0] = np.nan
    filled[25, 0] = vectors[train, 0].mean()
    assert cox.components(gaps, train, 8).shape == (30, 2)
    assert_allclose(cox.components(gaps, train, 8), cox.components(filled, train, 8), atol=1e-10)
    with pytest.raises(SurvivalError, match="the same vector"):
        cox.components(np.ones((30, 3)), train, 8)


# heads


def test_survival_among_neighbours_is_kaplan_and_meiers_and_risk_nelson_and_aalens():
    x, time, event = cohort(n=100, d=4)
    time = np.ceil(time / 40) * 40
    split = halves(event)[0]
    fitted = survival.HEADS["knn_survival"][1](survival.HEADS["knn_survival"][0](x), time, event == 1, split, 730)
    k = fitted.chosen["k"]
    unit = x / np.linalg.norm(x, axis=1, keepdims=True)
    from lifelines import NelsonAalenFitter

    for row in split.test[:6]:
        near = split.train[np.argsort(-(unit[split.train] @ unit[row]))[:k]]
        theirs = KaplanMeierFitter().fit(time[near], event[near])
        assert_allclose(fitted.survival[row], theirs.survival_function_at_times(fitted.times).to_numpy(), atol=1e-9)
        hazard = NelsonAalenFitter(nelson_aalen_smoothing=False).fit(time[near], event[near])
        assert fitted.risk[row] == pytest.approx(hazard.predict(730), abs=1e-9)


@pytest.mark.parametrize("head", ["cox", "knn_survival"])
def test_a_planted_hazard_is_found_and_an_absent_one_is_not(head):
    x, time, event = cohort(n=200, d=6, strength=1.5)
    found = survival.summary(survival.evaluate(x, time, event, halves(event), head)).set_index("measure")
    oracle = concordance.harrell(time, event, x[:, 0]).value
    assert found["value"]["c_harrell"] > (0.95 if head == "cox" else 0.8) * oracle
    assert found["value"]["auc_two_year"] > 0.75 and found["value"]["brier"] < found["value"]["brier_reference"]
    covered = []
    for seed in range(4):
        nothing = np.random.default_rng(100 + seed).normal(size=x.shape)
        null = survival.summary(survival.evaluate(nothing, time, event, halves(event, range(10)), head))
        null = null[null["measure"].isin(survival.MEASURES)]
        assert (null["value"] - 0.5).abs().max() < 0.1
        covered.append(((null["low"] < 0.5) & (null["high"] > 0.5)).all())
    assert sum(covered) >= 3  # an interval of 95 % may miss now and then


def test_measures_of_a_split_are_those_of_its_test_patients_alone():
    x, time, event = cohort()
    split = halves(event)[0]
    found = survival.evaluate(x, time, event, [split])
    risk = found.predictions["risk"].to_numpy()
    assert_array_equal(found.predictions["row"], split.test)
    theirs = concordance_index(time[split.test], -risk, event[split.test])
    assert found.scores["c_harrell"][0] == pytest.approx(theirs, abs=1e-6)
    # hazards are proportional: C over time is Harrell's, but curves are all 1 before the first death in training
    pair = concordance.harrell(time[split.test], event[split.test], risk)
    before = time[split.test] < time[split.train][event[split.train] == 1].min()
    expected = concordance.Pairs(pair.weight, np.where(before[:, None], 0.5, pair.credit)).value
    assert found.scores["c_td"][0] == pytest.approx(expected, abs=1e-6)
    weights = concordance.censoring(time[split.train], event[split.train])
    dead, control = event[split.test] & (time[split.test] <= 730), time[split.test] > 730
    times = {row: 1 / weights.before(time[[row]])[0] for row in split.test}
    pairs = [
        (times[i], (a > b) + 0.5 * (a == b))
        for i, a, case in zip(split.test, risk, dead, strict=True)
        for b, alive in zip(risk, control, strict=True)
        if case and alive
    ]
    weight, credit = np.array(pairs).T
    assert found.scores["auc_two_year"][0] == pytest.approx(np.average(credit, weights=weight), abs=1e-6)
    assert found.scores["events"][0] == event[split.test].sum()


@pytest.mark.parametrize("head", ["cox", "knn_survival"])
def test_nothing_is_learnt_from_test_patients(head):
    x, time, event = cohort()
    splits = halves(event)[:1]
    before = survival.evaluate(x, time, event, splits, head)
    rng = np.random.default_rng(3)
    test = splits[0].test
    late, other = time.copy(), event.copy()
    late[test], other[test] = rng.integers(1, 3000, len(test)), rng.integers(0, 2, len(test))
    after = survival.evaluate(x, late, other, splits, head)
    chosen = ["components", "penalty"] if head == "cox" else ["k"]
    assert_array_equal(before.scores[[*chosen, "validation_c"]], after.scores[[*chosen, "validation_c"]])
    assert_array_equal(before.predictions, after.predictions)
    assert before.scores["c_harrell"][0] != after.scores["c_harrell"][0]
    moved = x.copy()
    moved[test] += 50
    there = survival.evaluate(moved, time, event, splits, head)
    assert_array_equal(before.scores[[*chosen, "validation_c"]], there.scores[[*chosen, "validation_c"]])


def test_validation_chooses_and_training_learns():
    x, time, event = cohort(n=160, d=20, strength=1.0)
    split = halves(event)[0]
    found = survival.evaluate(x, time, event, [split]).scores.iloc[0]
    components = cox.components(x, split.train, 16)
    limit = event[split.train].sum() // 10
    best = max(
        (concordance_index(time[v], -(components[v][:, :m] @ beta), event[v]), -m, penalty)
        for v in [split.validation]
        for m in {min(m, limit) for m in (2, 4, 8, 16)}
        for penalty in survival.PENALTIES
        for beta in [cox.fit(components[split.train][:, :m], time[split.train], event[split.train], penalty)]
    )
    assert (found["components"], found["penalty"]) == (-best[1], best[2])
    assert found["validation_c"] == pytest.approx(best[0], abs=1e-6)
    assert found["components"] <= limit


def test_models_that_do_not_converge_are_counted_and_only_all_of_them_are_an_error(monkeypatch):
    x, time, event = cohort()
    whole = cox.fit

    def weak(x, time, event, penalty):
        if penalty == 1.0:
            raise cox.NotConverged("told to")
        return whole(x, time, event, penalty)

    monkeypatch.setattr(cox, "fit", weak)
    scores = survival.evaluate(x, time, event, halves(event)).scores
    assert (scores["failed"] == scores["failed"].iloc[0]).all() and scores["failed"].iloc[0] >= 1
    assert not (scores["penalty"] == 1.0).any()
    monkeypatch.setattr(survival, "PENALTIES", (1.0,))
    with pytest.raises(cox.NotConverged, match=r"none of \d Cox models converged in the split of seed 1"):
        survival.evaluate(x, time, event, halves(event))


# splits, intervals, differences


def test_splits_balance_deaths_or_times_and_keep_patients_whole():
    _, time, event = cohort(n=100)
    patients = np.arange(100) // 2
    for split in survival.splits(time, event, patients)[:2]:
        assert not set(patients[split.train]) & set(patients[split.test])
        assert event[split.test].mean() == pytest.approx(event.mean(), abs=0.1)
    everybody = survival.splits(time[:40], np.ones(40), np.arange(40))
    assert len(everybody) == 10
    late = [np.mean(time[split.test] > np.median(time[:40])) for split in everybody]
    assert_allclose(late, 0.5, atol=0.05)
    few = np.zeros(100)
    few[:19] = 1
    with pytest.raises(SurvivalError, match="19 deaths among 100 patients: survival needs at least 20"):
        survival.splits(time, few, np.arange(100))
    few[:] = 0
    few[3] = 1
    with pytest.raises(SurvivalError, match="1 deaths"):
        survival.splits(time, few, np.arange(100))


@pytest.mark.parametrize("censored", [0.0, 0.75])
def test_none_and_heavy_censoring_are_evaluated(censored):
    x, time, event = cohort(n=160, strength=1.5, censored=censored)
    assert event.mean() == pytest.approx(1 - censored, abs=0.15)
    for head in ("cox", "knn_survival"):
        found = survival.summary(survival.evaluate(x, time, event, halves(event), head)).set_index("measure")
        assert found["value"]["c_harrell"] > 0.6 and found["splits"]["c_harrell"] == 3


def test_summary_is_the_corrected_interval_of_the_splits_in_which_a_measure_is_defined():
    x, time, event = cohort()
    found = survival.evaluate(x, time, event, halves(event, range(5)))
    scores = found.scores
    scores.loc[2, "auc_two_year"] = np.nan
    table = survival.summary(found).set_index("measure")
    kept = scores.drop(index=2)
    expected = statistics.corrected_interval(
        kept["auc_two_year"], (kept["n_train"] + kept["n_validation"]).mean(), kept["n_test"].mean()
    )
    assert_allclose(table.loc["auc_two_year", ["value", "low", "high"]].astype(float), expected)
    assert table["splits"]["auc_two_year"] == 4 and table["splits"]["c_td"] == 5
    scores["auc_two_year"] = np.nan
    assert survival.summary(found).set_index("measure").loc["auc_two_year", ["value", "low"]].isna().all()


def test_differences_are_paired_by_patient():
    x, time, event = cohort(n=150, strength=1.5)
    splits, people = halves(event), np.arange(150).astype(str)
    noise = np.random.default_rng(2).normal(size=x.shape)
    found = {
        "good": survival.evaluate(x, time, event, splits),
        "same": survival.evaluate(2 * x, time, event, splits),
        "noise": survival.evaluate(noise, time, event, splits),
    }
    table = survival.differences(found, "good", people, draws=300).set_index("name")
    assert list(table.index) == ["same", "noise"]
    assert abs(table["difference"]["same"]) < 1e-6 and table["p"]["same"] > 0.5
    assert table["high"]["noise"] < 0 and table["p_holm"]["noise"] == pytest.approx(2 * table["p"]["noise"])
    mean = found["noise"].scores["c_harrell"].mean() - found["good"].scores["c_harrell"].mean()
    assert table["difference"]["noise"] == pytest.approx(mean, abs=1e-6)
    assert table["low"]["noise"] < mean < table["high"]["noise"]
    other = {"good": found["good"], "other": survival.evaluate(x, time, event, halves(event, (7, 8, 9)))}
    with pytest.raises(SurvivalError, match="not tested on the same patients"):
        survival.differences(other, "good", people)
    with pytest.raises(SurvivalError, match="no evaluation of the reference 'best'"):
        survival.differences(found, "best", people)


# risk groups


def test_out_of_sample_risks_are_mean_ranks_over_the_splits_that_tested_a_patient():
    predictions = pd.DataFrame(
        {"split": [0, 0, 0, 1, 1], "row": [0, 2, 3, 3, 0], "risk": [5.0, 9.0, 7.0, 100.0, 300.0]}
    )
    found = survival.SurvivalEvaluation(pd.DataFrame(), predictions, {})
    assert_allclose(survival.out_of_sample(found, 5), [(1 / 6 + 0.75) / 2, np.nan, 5 / 6, (0.5 + 0.25) / 2, np.nan])


def test_risk_groups_are_those_of_lifelines():
    x, time, event = cohort(n=90, strength=1.0)
    risk = x[:, 0].copy()
    risk[:3] = np.nan
    found = risk_groups.risk_groups(risk, time, event)
    assert_array_equal(found.group[:3], -1)
    high, low = found.group == 1, found.group == 0
    assert risk[high].min() > risk[low].max() and abs(high.sum() - low.sum()) <= 1
    theirs = logrank_test(time[high], time[low], event[high], event[low]).p_value
    assert found.p_two_sided == pytest.approx(theirs, rel=1e-6) and found.p == pytest.approx(theirs / 2, rel=1e-6)
    turned = risk_groups.risk_groups(-risk, time, event)  # the "low" risk dies sooner: no evidence for the risk
    assert turned.p == pytest.approx(1 - turned.p_two_sided / 2) and turned.p > 0.9 and turned.hazard_ratio < 1
    beta = cox.fit(high[3:, None].astype(float), time[3:], event[3:])
    assert (
        found.hazard_ratio == pytest.approx(np.exp(beta[0]), rel=1e-4) and found.low < found.hazard_ratio < found.high
    )
    assert found.hazard_ratio > 1.5
    fitter = KaplanMeierFitter().fit(time[high], event[high])
    curve = found.curves[found.curves["group"] == 1]
    assert_allclose(curve["survival"], fitter.survival_function_.iloc[:, 0])
    assert_allclose(curve["low"], fitter.confidence_interval_.iloc[:, 0])
    assert found.sizes["deaths"].sum() == event[3:].sum() and found.sizes["patients"].sum() == 87
    at_risk = found.at_risk(time, [0, 365])
    assert at_risk.loc[1, 365] == (time[high] >= 365).sum() and at_risk.loc[0, 0] == low.sum()
    thirds = risk_groups.risk_groups(risk, time, event, 3)
    assert_array_equal(np.bincount(thirds.group[3:]), [29, 29, 29])
    assert thirds.hazard_ratio > found.hazard_ratio
    ends = [thirds.group == 2, thirds.group == 0]
    outer = logrank_test(*(time[end] for end in ends), *(event[end] for end in ends)).p_value
    assert thirds.p == pytest.approx(outer / 2, rel=1e-6)


def test_groups_that_cannot_be_made_or_compared_say_so():
    x, time, event = cohort(n=40)
    with pytest.raises(SurvivalError, match="nearly all the same"):
        risk_groups.risk_groups(np.ones(40), time, event)
    with pytest.raises(SurvivalError, match="1 patients have a risk"):
        risk_groups.risk_groups(np.append(1.0, np.full(39, np.nan)), time, event)
    with pytest.raises(SurvivalError, match="cut in 2 or 3, not in 4"):
        risk_groups.risk_groups(x[:, 0], time, event, 4)
    alive = risk_groups.risk_groups(x[:, 0], time, np.where(x[:, 0] > np.median(x[:, 0]), 1, 0))
    assert np.isnan(alive.hazard_ratio) and alive.reason == "one of the groups has no deaths"


def test_bad_follow_up_is_named():
    x, time, event = cohort(n=40)
    broken = time.copy()
    broken[7] = np.nan
    with pytest.raises(SurvivalError, match=r"1 of 40 patients .* the first is row 7: time nan, event"):
        survival.evaluate(x, broken, event, halves(event))
    with pytest.raises(SurvivalError, match="event 2"):
        concordance.harrell([1, 2], [1, 2], [0, 0])
    with pytest.raises(SurvivalError, match="time -1"):
        concordance.harrell([-1, 2], [1, 1], [0, 0])
    with pytest.raises(SurvivalError, match="one time and one event"):
        concordance.harrell([1, 2], [1], [0, 0])
    with pytest.raises(SurvivalError, match=r"vectors \(39, 6\) of 40 patients"):
        survival.evaluate(x[1:], time, event, halves(event))
    with pytest.raises(SurvivalError, match="no head 'forest'; there are: cox, knn_survival"):
        survival.evaluate(x, time, event, halves(event), "forest")
    with pytest.raises(SurvivalError, match="zero or not finite"):
        survival.evaluate(np.zeros((40, 2)), time, event, halves(event), "knn_survival")
