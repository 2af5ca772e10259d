"""Rows of the leaderboard from records, pretraining flags, and the rules of the choice, against cases by hand."""

import numpy as np
import pandas as pd
import pytest

from tumorbench_utils import leaderboard, published, statistics
from tumorbench_utils.leaderboard import LeaderboardError, Task


def measure(stage, head, name, value, features="embedding", low=None, high=None, **more):
    return {
        "stage": stage, "head": head, "features": features, "measure": name, "value": value, "low": low, "high": high,
    } | more  # fmt: skip


def record(table, cohort, measures, weights="pretrained", control=None, variant="paper", **more):
    model, *recipe = table.split(".")
    return {
        "table": table,
        "model": model,
        "recipe": recipe[0] if recipe else None,
        "weights": weights,
        "control": control,
        "title": model.upper(),
        "cohort": cohort,
        "variant": variant,
        "phantom": cohort.startswith("phantom"),
        "samples": 48,
        "positives": 20,
        "measures": measures,
    } | more


def grouped(value):
    return measure("3", "knn", "auc_grouped", value, low=value - 0.05, high=value + 0.05)


def test_a_row_holds_means_and_the_worst_of_the_cohorts_of_patients():
    records = [
        record("fmcib.benchmark", "luna16", [grouped(0.8), measure("3", "knn", "auc_paper", 0.99)]),
        record("fmcib.benchmark", "dlcs", [grouped(0.6)], samples=99),
        record("fmcib.benchmark", "phantom_a", [grouped(0.1)]),
        record("merlin.benchmark", "luna16", [measure("3b", "knn", "auc", 0.7), measure("3b", "linear", "auc", 0.9)]),
    ]
    row, other = leaderboard.rows(records).to_dict("records")
    assert row["auc_within"] == pytest.approx(0.7) and row["cohorts"] == "luna16, dlcs" and row["samples"] == 99
    assert (row["auc_within_worst"], row["auc_within_worst_on"]) == (0.6, "dlcs")
    assert not row["phantom"] and row["phantom_columns"] == ""
    assert other["auc_within"] == 0.7  # of kNN, and of the other stage where the first is lacking
    assert (row["licence_weights"], row["gated"], row["parameters_m"]) == ("CC BY 4.0", None, 184.478)


def test_what_only_phantoms_tell_is_marked_and_never_mixed_with_patients():
    records = [
        record("fmcib.benchmark", "luna16", [grouped(0.8)]),
        record("fmcib.benchmark", "phantom_retest", [measure("4", "retest", "identification rate", 0.9)]),
        record("fmcib.benchmark", "phantom_a", [grouped(0.2), measure("4", "jitter", "kappa", 0.5)]),
    ]
    (row,) = leaderboard.rows(records).to_dict("records")
    assert (row["auc_within"], row["retest_identification"], row["kappa"]) == (0.8, 0.9, 0.5)
    assert row["phantom"] and row["phantom_columns"] == "retest_identification, kappa"
    assert np.isnan(row["retest_icc"])


def test_what_is_not_known_stays_missing():
    (row,) = leaderboard.rows([record("volume", "phantom_a", [grouped(0.7)], weights="none")]).to_dict("records")
    for name in ("auc_external_worst", "retest_identification", "kappa", "tumour_focus", "overlap", "seconds_per_patch",
                 "published_auc", "parameters_m", "external_on", "published_cohorts", "gated"):  # fmt: skip
        assert pd.isna(row[name]), name
    assert leaderboard.rows([]).empty and "published_auc" in leaderboard.rows([])


def test_robustness_focus_overlap_and_the_external_test_come_from_their_stages():
    astra = [
        measure("3c", "knn", "auc_external", 0.7, low=0.6, high=0.8, train="phantom_b"),
        measure("3c", "knn", "drop", 0.1, train="phantom_b"),
        measure("3c", "linear", "auc_external", 0.1, train="phantom_b"),
        measure("4", "retest", "median ICC", 0.8),
        measure("5", "occlusion", "auc", 0.8),
        measure("5", "occlusion", "auc_centre", 0.6),
        measure("5", "occlusion", "auc_brightness", 0.7),
        measure("5", "gradients", "auc", 0.1),
        measure("6", "neighbours", "shared, k=10", 4.0, **{"with": "fmcib.benchmark"}),
        measure("6", "neighbours", "shared, k=10", 2.0, **{"with": "merlin.benchmark"}),
        measure("6", "neighbours", "shared, k=10", 8.0, **{"with": "volume"}),
        measure("6", "neighbours", "shared, k=10", 8.5, **{"with": "astra.authors"}),
        measure("6", "neighbours", "shared, k=10", 9.5, **{"with": "merlin.benchmark.untrained"}),
        measure("6", "neighbours", "shared, k=10", 9.0, **{"with": "astra_shuffled"}),
        measure("6", "neighbours", "shared, k=5", 1.0, **{"with": "volume"}),
    ]
    records = [
        record("astra.benchmark", "phantom_a", astra, timings=[{"seconds_per_patch": 0.3}, {"seconds_per_patch": 0.2}]),
        record(
            "astra.benchmark",
            "phantom_b",
            [measure("3c", "knn", "auc_external", 0.6, low=0.45, high=0.7, train="phantom_a")],
        ),
        record("astra_shuffled", "phantom_a", [grouped(0.5)], control="shuffled_roi", model="astra"),
        record("volume", "phantom_a", [grouped(0.5)], weights="none"),
        record("merlin.benchmark.untrained", "phantom_a", [grouped(0.5)], weights="untrained"),
        *(
            record(name, "phantom_a", [grouped(0.5)])
            for name in ("astra.authors", "fmcib.benchmark", "merlin.benchmark")
        ),
    ]
    row = leaderboard.rows(records).iloc[0]
    assert row["retest_icc"] == 0.8 and row["tumour_focus"] == pytest.approx(0.1)  # minus the better blind map
    assert row["overlap"] == 3.0  # of other trained models, not of its own twin, nor of what is no model
    assert (row["auc_external_worst"], row["external_low"], row["external_on"]) == (0.6, 0.45, "phantom_a -> phantom_b")
    assert row["seconds_per_patch"] == 0.2


def test_focus_is_missing_where_a_blind_map_is():
    maps = [measure("5", "occlusion", "auc", 0.8), measure("5", "occlusion", "auc_centre", 0.6)]
    assert np.isnan(leaderboard.rows([record("astra.benchmark", "phantom_a", maps)])["tumour_focus"].iloc[0])


def test_published_figures_stand_in_columns_of_their_own_and_only_by_trained_weights():
    figures = {name: published.figures(name) for name in ("auc", "robustness")}
    records = [
        record("fmcib.benchmark", "nsclc_radiomics", [grouped(0.55)]),
        record("fmcib_authors", "nsclc_radiomics", [grouped(0.57)], model="fmcib", recipe="authors"),
        record("fmcib.benchmark.untrained", "nsclc_radiomics", [grouped(0.5)], weights="untrained"),
        record("fmcib_shuffled", "nsclc_radiomics", [grouped(0.5)], model="fmcib", control="shuffled_roi"),
        record("astra.benchmark", "nsclc_radiomics", [grouped(0.5)]),
    ]
    table = leaderboard.rows(records, figures)
    study = figures["auc"].query("model == 'fmcib'")
    assert table["published_auc"].tolist()[:2] == pytest.approx([study["auc"].mean()] * 2)
    assert table["published_auc"].isna().tolist() == [False, False, True, True, True]
    assert table["published_same_recipe"].tolist()[:2] == [True, False]
    assert table["published_kappa"].iloc[0] == 0.6957 and table["published_retest_cosine"].iloc[0] == 0.990284
    bare = leaderboard.rows(records)
    own = [name for name in table if not name.startswith("published")]
    pd.testing.assert_frame_equal(table[own], bare[own])  # published figures change no other column
    assert bare["published_auc"].isna().all()


def test_another_endpoint_of_a_cohort_is_another_cohort():
    records = [
        record("astra.benchmark", "phantom_a", [grouped(0.8)]),
        record("astra.benchmark", "phantom_a", [grouped(0.6)], variant="survival"),
    ]
    found = leaderboard.within(leaderboard.measures(records))
    assert found["cohort"].tolist() == ["phantom_a", "phantom_a.survival"] and found["auc"].tolist() == [0.8, 0.6]
    assert leaderboard.rows(records)["cohorts"].tolist() == ["phantom_a, phantom_a.survival"]


def test_a_model_of_others_is_described_by_its_card():
    card = {"title": "Mine", "licence": "CC0", "parameters": 3.5}
    (row,) = leaderboard.rows([record("mine.benchmark", "luna16", [grouped(0.8)], model_card=card)]).to_dict("records")
    assert (row["licence_weights"], row["parameters_m"], row["pretraining_possible"]) == ("CC0", 3.5, "luna16")


def test_a_table_of_two_models_is_refused():
    two = [record("fmcib.benchmark", "luna16", [grouped(0.8)])]
    two.append(record("fmcib.benchmark", "dlcs", [grouped(0.8)], model="merlin"))
    with pytest.raises(LeaderboardError, match=r"'fmcib.benchmark' is of two models"):
        leaderboard.rows(two)


@pytest.mark.parametrize(
    ("model", "cohort", "flag"),
    [
        ("models_genesis", "luna16", "known"),
        ("models_genesis", "dlcs", "none known"),
        ("ct_fm", "nsclc_radiomics", "possible"),
        ("ct_fm", "nsclc_radiomics.survival", "possible"),
        ("ct_fm", "dlcs", "none known"),  # of Zenodo, not of IDC
        ("voco", "dlcs", "not excluded"),
        ("voco", "phantom_a", "none known"),
        ("fmcib", "luna16", "none known"),
        ("volume", "luna16", "none known"),
        ("mine", "luna16", "not excluded"),
    ],
)
def test_pretraining_overlap_is_told_for_every_cell(model, cohort, flag):
    assert leaderboard.pretraining(model, cohort)[0] == flag


def drawn(aucs, cohort_seed=0, spread=0.01):
    """Pairs of models whose AUCs are about ``aucs``, sure to about ``spread``."""
    rng = np.random.default_rng(cohort_seed)
    return statistics.pairwise_of(
        {name: np.append(auc, auc + spread * rng.normal(size=2000)) for name, auc in aucs.items()}
    )


def rows_of(*names, **models):
    """Leaderboard rows by table name."""
    table = pd.DataFrame({"table": names, "model": [models.get(name, name.split(".")[0]) for name in names]})
    weights = ["untrained" if name.endswith("untrained") else "pretrained" for name in names]
    return table.assign(weights=weights, control=None)


RANDOM = "random_encoder.benchmark.untrained"
GOOD, TWIN, POOR = "fmcib.benchmark", "merlin.benchmark", "voco.benchmark"
ALL = (GOOD, TWIN, POOR, "volume", "radiomics", RANDOM)
AUCS = {GOOD: 0.80, TWIN: 0.795, POOR: 0.70, "volume": 0.6, "radiomics": 0.65, RANDOM: 0.55}


def outside(**low):
    """External tests both ways between two cohorts, with lower limits by model."""
    limits = {GOOD: 0.6, TWIN: 0.6, POOR: 0.6} | low
    rows = [(name, one, two, 0.7, each, 0.8) for name, each in limits.items() for one, two in
            (("luna16", "dlcs"), ("dlcs", "luna16"))]  # fmt: skip
    return pd.DataFrame(rows, columns=["table", "train", "test", "auc", "low", "high"])


def task(first=AUCS, second=AUCS, external=None):
    pairs = {"luna16": drawn(first, 1), "dlcs": drawn(second, 2)}
    return Task(["luna16", "dlcs"], pairs, outside() if external is None else external)


def reasons(choice):
    assert choice.excluded["model"].is_unique and not set(choice.excluded["model"]) & set(choice.candidates)
    return choice.excluded.set_index("model")["reason"].to_dict()


def test_candidates_are_those_that_nothing_speaks_against():
    rows = rows_of(*ALL)
    choice = leaderboard.choose(rows, task())
    assert choice.candidates == [GOOD, TWIN]
    why = reasons(choice)
    assert set(why) | set(choice.candidates) == set(ALL)  # every table is there once
    assert why[POOR].startswith(f"significantly worse than {GOOD} on luna16; significantly worse than {GOOD} on dlcs")
    assert why["volume"] == why["radiomics"] == why[RANDOM] == "a control"
    evidence = choice.evidence[choice.evidence["model"] == GOOD]
    assert set(evidence["check"]) == {"volume", "untrained", "external"} and evidence["passed"].all()
    assert set(choice.evidence[choice.evidence["model"] == TWIN]["check"]) == {
        "best",
        "volume",
        "untrained",
        "external",
    }


def test_controls_that_a_table_read_back_from_a_file_leaves_empty_are_still_none():
    rows = rows_of(*ALL).astype({"control": object})
    rows.loc[rows["table"] == POOR, "control"] = "shuffled_roi"
    rows["control"] = rows["control"].where(rows["control"].notna(), np.nan)
    choice = leaderboard.choose(rows, task())
    assert choice.candidates == [GOOD, TWIN] and reasons(choice)[POOR] == "a negative control (shuffled_roi)"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"volume": 0.84}, "significantly worse than volume on luna16; significantly worse than volume on dlcs; "
                           "on no cohort significantly better than volume"),
        ({"volume": 0.80}, "on no cohort significantly better than volume"),
        ({RANDOM: 0.80}, f"on no cohort significantly better than {RANDOM}"),
    ],
)  # fmt: skip
def test_a_model_no_better_than_size_or_than_no_training_is_no_candidate(change, why):
    choice = leaderboard.choose(rows_of(*ALL), task(AUCS | change, AUCS | change))
    assert choice.candidates == [] and reasons(choice)[GOOD] == why


def test_one_cohort_on_which_it_is_better_will_do_if_it_is_worse_on_none():
    choice = leaderboard.choose(rows_of(*ALL), task(second=AUCS | {"volume": 0.8}))
    assert choice.candidates == [GOOD, TWIN]
    choice = leaderboard.choose(rows_of(*ALL), task(second=AUCS | {"volume": 0.9}))
    assert reasons(choice)[GOOD] == "significantly worse than volume on dlcs"


def test_the_untrained_twin_of_a_model_counts_beside_the_random_encoder():
    rows = rows_of(*ALL, f"{GOOD}.untrained")
    aucs = AUCS | {f"{GOOD}.untrained": 0.8}
    choice = leaderboard.choose(rows, task(aucs, aucs))
    assert choice.candidates == [TWIN] and reasons(choice)[f"{GOOD}.untrained"] == "untrained weights"
    assert reasons(choice)[GOOD] == f"on no cohort significantly better than {GOOD}.untrained"


def test_what_was_not_tested_is_not_passed():
    lacking = {name: auc for name, auc in AUCS.items() if name not in ("volume", RANDOM)}
    choice = leaderboard.choose(rows_of(*ALL, "pasta.benchmark"), task(lacking, lacking, outside().iloc[:0]))
    why = reasons(choice)
    assert why[GOOD] == "not held against tumour volume; not held against an untrained encoder; no external test"
    assert why["pasta.benchmark"] == "not tested on a cohort of this task" and choice.candidates == []


def test_a_model_that_fails_outside_of_its_cohort_is_no_candidate():
    choice = leaderboard.choose(rows_of(*ALL), task(external=outside(**{GOOD: 0.5})))
    assert choice.candidates == [TWIN]
    assert reasons(choice)[GOOD] == (
        "trained on luna16, no better than chance on dlcs; trained on dlcs, no better than chance on luna16"
    )
    unknown = outside()
    unknown.loc[unknown["table"] == GOOD, "low"] = np.nan
    assert leaderboard.choose(rows_of(*ALL), task(external=unknown)).candidates == [TWIN]
    elsewhere = outside().assign(train="c4kc_kits")  # not of this task
    assert leaderboard.choose(rows_of(*ALL), task(external=elsewhere)).candidates == []


def test_a_cohort_that_a_model_was_pretrained_on_is_no_evidence_for_it_nor_against_others():
    genesis = "models_genesis.benchmark"
    names = (*ALL, genesis)
    first, second = AUCS | {genesis: 0.95}, AUCS | {genesis: 0.70}
    external = pd.concat([outside(), outside().query("table == @GOOD").assign(table=genesis)])
    choice = leaderboard.choose(rows_of(*names), task(first, second, external))
    assert choice.candidates == [GOOD, TWIN]  # not beaten by what it remembers of LUNA16
    assert reasons(choice)[genesis] == f"significantly worse than {GOOD} on dlcs"
    assert set(choice.evidence.query("model == @genesis")["cohort"]) == {"dlcs"}
    only = Task(["luna16"], {"luna16": drawn(first)}, external)
    assert reasons(leaderboard.choose(rows_of(*names), only))[genesis] == "pretrained on the images of luna16"


def test_one_trained_model_alone_is_no_choice():
    aucs = {name: AUCS[name] for name in (GOOD, "volume", RANDOM)}
    choice = leaderboard.choose(rows_of(*aucs), task(aucs, aucs))
    assert choice.candidates == []
    assert reasons(choice)[GOOD] == "no other trained model was tested: a choice takes two"


def test_without_any_evidence_there_is_no_candidate():
    choice = leaderboard.choose(rows_of(*ALL), Task(["c4kc_kits"], {}))
    assert choice.candidates == [] and set(reasons(choice)) == set(ALL)
    assert choice.evidence.empty and list(choice.evidence)[:3] == ["model", "check", "cohort"]


def test_the_endpoints_of_an_external_test_are_those_of_its_own_training_and_test_cohorts():
    away = [measure("3c", "knn", "auc_external", 0.4, low=0.3, high=0.5, train="nsclc_radiomics.strict")]
    own = [measure("3c", "knn", "auc_external", 0.6, low=0.55, high=0.7, train="nsclc_radiomics")]
    records = [record(GOOD, "nsclc_radiogenomics", away, variant="two_year"), record(GOOD, "nsclc_radiogenomics", own)]
    found = leaderboard.external(leaderboard.measures(records))
    assert list(zip(found["train"], found["test"], strict=True)) == [
        ("nsclc_radiomics.strict", "nsclc_radiogenomics.two_year"), ("nsclc_radiomics", "nsclc_radiogenomics")
    ]  # fmt: skip
    labels = ["nsclc_radiomics", "nsclc_radiogenomics", "nsclc_radiomics.strict", "nsclc_radiogenomics.two_year"]
    pairs = {"nsclc_radiomics": drawn(AUCS, 1)}
    choice = leaderboard.choose(rows_of(*ALL), Task(labels, pairs, found))
    why = "trained on nsclc_radiomics.strict, no better than chance on nsclc_radiogenomics.two_year"
    assert choice.candidates == [] and reasons(choice)[GOOD] == why
    passed = leaderboard.choose(rows_of(*ALL), Task(labels[:2], pairs, found))
    assert passed.candidates == [GOOD]  # it is the other endpoint that speaks against it


def test_rows_without_the_columns_of_the_rules_are_refused():
    with pytest.raises(LeaderboardError, match=r"lack the column.s. control, weights"):
        leaderboard.choose(pd.DataFrame({"table": ["a"], "model": ["a"]}), task())
