"""The page of the leaderboard, from small results of a run: sources stay apart, sentences are of the numbers."""

import csv
import json
import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from tumorbench_utils import artefacts, embeddings, exchange, knn, leaderboard, published, statistics
from tumorbench_utils import leaderboard_pages as pages
from tumorbench_utils.leaderboard_pages import choosing, gathering, showing, standing
from tumorbench_utils.leaderboard_pages.findings import _of_all, shown_rows
from tumorbench_utils.models import TEN

LABELS = np.tile([0, 1], 20)
PEOPLE = [f"P{number:02}" for number in range(40)]
SPLITS = [np.random.default_rng(seed).permutation(40)[:16] for seed in range(3)]
ENCODERS = {"astra.benchmark": 1.2, "random_encoder.benchmark.untrained": 0.1, "volume": 1.6}
TITLES = {
    "astra.benchmark": "Astra (third-party copy)",
    "random_encoder.benchmark.untrained": "Random encoder (untrained ResNet-18)",
    "volume": "Tumour volume",
}


def put_result(run, stage, name, frame, inputs=()):
    path = run / "results" / stage / f"{name}.csv"
    return artefacts.write_csv(path, frame, artefacts.provenance({}, dict(inputs)))


def table_of(run, cohort, name, title, **given):
    """An embedding table with its provenance, and its hash."""
    about = {
        "model": name.split(".")[0],
        "title": title,
        "recipe": "benchmark",
        "control": None,
        "source": "extraction",
    }
    kind = "random" if "untrained" in name else "pretrained"
    about |= {"weights": {"kind": kind} if "." in name else None} | given
    path = embeddings.path_of(run, cohort, name)
    embeddings.write(path, PEOPLE, np.ones((40, 2), np.float32), {"parameters": about, "inputs": {}})
    return {path.name: artefacts.sha256_of(path)}


def evaluated(run, cohort, tables, seed=0, variant="paper"):
    """Predictions and the kNN page's results of tables {name: (effect, title, provenance)}."""
    rng, rows, inputs = np.random.default_rng(seed), [], {}
    for name, (effect, title, given) in tables.items():
        inputs |= table_of(run, cohort, name, title, **given)
        score = LABELS * effect + rng.normal(size=40)
        parts = [
            pd.DataFrame({"split": number, "row": test, "label": LABELS[test], "probability": score[test], "k": 5})
            for number, test in enumerate(SPLITS)
        ]
        frame = pd.concat(parts, ignore_index=True).assign(protocol="grouped")
        frame["sample_id"] = frame["patient_id"] = np.array(PEOPLE)[frame["row"]]
        artefacts.write_parquet(knn.path_of(run, cohort, name), frame, {})
        aucs = [statistics.auc(part["label"].to_numpy(), part["probability"].to_numpy()) for part in parts]
        low, high = np.mean(aucs) - 0.1, np.mean(aucs) + 0.1
        rows.append((name, "grouped", "grouped", np.mean(aucs), low, high, title, cohort, variant, 40, False))
    columns = ["model", "protocol", "series", "auc", "low", "high", "title", "cohort", "variant", "n", "control"]
    put_result(run, "3_knn_evaluation", cohort, pd.DataFrame(rows, columns=columns), inputs)


def phantoms(run):
    for seed, cohort in enumerate(("phantom_a", "phantom_b")):
        evaluated(run, cohort, {name: (effect, TITLES[name], {}) for name, effect in ENCODERS.items()}, seed)


REGISTRY = {"model": "fmcib", "recipe": "authors", "source": "registry", "weights": None}


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A run as the quick profile makes it: phantoms of two sites, one cohort of patients with a control."""
    run = tmp_path_factory.mktemp("quick")
    phantoms(run)
    real = {
        "fmcib_authors": (0.3, "FMCIB (own recipe)", REGISTRY),
        "fmcib_authors_shuffled_roi": (0.6, "tumour shuffled", REGISTRY | {"control": "shuffled_roi"}),
    }
    evaluated(run, "nsclc_radiomics", real, 2)
    rows = [("phantom_retest", "retest", "astra.benchmark", quantity, value)
            for quantity, value in (("identification rate", 0.75), ("identification rate, low", 0.5),
                                    ("identification rate, high", 0.9))]  # fmt: skip
    columns = ["cohort", "part", "embedding", "quantity", "value"]
    inputs = table_of(run, "phantom_retest", "astra.benchmark", TITLES["astra.benchmark"])
    inputs = {f"phantom_retest/{name}": digest for name, digest in inputs.items()}
    put_result(run, "4_robustness", "phantom_retest", pd.DataFrame(rows, columns=columns), inputs)
    return run


@pytest.fixture(scope="module")
def board(quick):
    return pages.gathered(quick, draws=200)


# Sources


def test_the_study_the_patients_and_the_phantoms_are_ranked_apart(board):
    assert [each.group for each in board.standings] == ["as published", "this run, patients", "this run, phantoms"]
    study, patients, computed = board.standings
    assert set(study.models.values()) == {model.id for model in TEN}
    assert set(patients.models) == {"fmcib_authors", "fmcib_authors_shuffled_roi"}
    assert set(computed.models) == set(ENCODERS) and list(computed.cohorts) == ["phantom_a", "phantom_b"]
    assert (study.mark, patients.mark, computed.mark) == ("", "", "phantom, partly untrained")


def test_ranks_of_the_study_are_those_of_its_published_auc():
    study = pages.study()
    figures = published.figures("auc").pivot(index="model", columns="cohort", values="auc")
    expected = figures.rank(ascending=False).mean(axis=1).sort_values()
    found = study.ranks.mean.set_index("model")["mean_rank"]
    np.testing.assert_allclose(found.loc[expected.index], expected)
    chi2, p = stats.friedmanchisquare(*figures.to_numpy())
    assert (study.friedman.chi2, study.friedman.p) == pytest.approx((chi2, p))
    assert study.sure is None and not study.pairs and "published no predictions" in study.lacking[0]


def test_ranks_of_the_run_are_of_the_auc_of_its_predictions(quick, board):
    computed = board.runs[1]
    for cohort in ("phantom_a", "phantom_b"):
        aucs = {}
        for name in ENCODERS:
            frame = pd.read_parquet(knn.path_of(quick, cohort, name))
            each = [roc_auc_score(part["label"], part["probability"]) for _, part in frame.groupby("split")]
            aucs[name] = np.mean(each)
        cells = computed.ranks.cells.query("cohort == @cohort").set_index("model")
        np.testing.assert_allclose(cells["auc"], pd.Series(aucs)[cells.index], atol=1e-6)
        assert dict(cells["rank"]) == dict(pd.Series(aucs).rank(ascending=False))
    assert set(computed.sure["model"]) == set(ENCODERS) and (computed.sure["low"] <= computed.sure["high"]).all()
    assert len(computed.pairs["phantom_a"]) == 3


def test_predictions_that_do_not_give_the_auc_of_the_record_are_not_drawn_from(quick):
    table = pd.DataFrame({"table": list(ENCODERS), "cohort": "phantom_a.survival", "auc": 0.123})
    drawn, lost = standing.drawn_of(table, quick, 20, 0)
    assert drawn == {} and "phantom_a.survival: no predictions that give this AUC" in lost[0]


def test_there_are_as_many_draws_as_a_difference_needs_to_be_significant_and_captions_say_how_many(board):
    assert [each.draws for each in board.standings] == [0, 200, 200]
    titles = {record["table"]: record["title"] for record in board.records}
    few = standing.runs(leaderboard.within(board.measures), titles, board.run, 20, 0, 0.05)[1]
    assert few.draws == statistics.least_draws(3) == 120 and few.pairs["phantom_a"]["p"].min() >= 2 / 121
    assert "patient bootstrap of 120 draws" in pages.wins_shown(few).caption
    assert "cohorts, 120 draws" in pages.mean_shown(few).caption


def test_predictions_of_other_samples_are_not_compared_in_pairs(quick):
    frames = {name: standing._grouped(knn.path_of(quick, "phantom_a", name)) for name in ENCODERS}
    frames["volume"] = frames["volume"].iloc[1:]
    assert set(standing._alike(frames)) == set(ENCODERS) - {"volume"}
    assert standing._alike({}) == {}


def test_a_table_of_one_cohort_has_no_test_over_cohorts_and_says_so(board):
    patients = board.runs[0]
    assert patients.friedman is None and np.isnan(patients.difference)
    assert any(
        "3 models and 2 cohorts are needed, here are 2 models and 1 cohort" in words for words in patients.lacking
    )
    assert pages.critical_shown(patients) is None and pages.trajectories_shown(patients) is None


# Rows


def test_rows_know_what_is_of_phantoms_what_is_a_control_and_why_a_value_is_missing(board):
    rows = board.rows.set_index("table")
    assert rows.loc["astra.benchmark", "auc_within_mark"] == "phantom" and rows.loc["astra.benchmark", "phantom_only"]
    assert rows.loc["fmcib_authors", "auc_within_mark"] == "" and not rows.loc["fmcib_authors", "phantom_only"]
    assert dict(rows["is_control"]) == {name: name not in ("astra.benchmark", "fmcib_authors") for name in rows.index}
    assert list(rows.index[rows["untrained"]]) == ["random_encoder.benchmark.untrained"]
    assert "scanned twice" in rows.loc["volume", "retest_identification_why"]
    assert rows.loc["astra.benchmark", "retest_identification_why"] == ""
    assert rows.loc["fmcib_authors_shuffled_roi", "title"] == "FMCIB, tumour shuffled (control)"
    assert rows.loc["volume", "tags"] == "phantom only, control"


def test_patients_stand_above_phantoms_whatever_the_auc(board):
    marks = list(board.rows["auc_within_mark"])
    assert marks == ["", "", "phantom", "phantom", "phantom"]
    for some in ("", "phantom"):
        values = board.rows.loc[board.rows["auc_within_mark"] == some, "auc_within"]
        assert values.is_monotonic_decreasing


def test_intervals_are_those_of_the_value_and_a_mean_over_cohorts_has_none(board):
    rows = board.rows.set_index("table")
    one = rows.loc["fmcib_authors"]
    assert (one["auc_within_low"], one["auc_within_high"]) == pytest.approx(
        (one["auc_within"] - 0.1, one["auc_within"] + 0.1)
    )
    two = rows.loc["astra.benchmark"]
    assert np.isnan(two["auc_within_low"]) and two["auc_within_worst_low"] == pytest.approx(
        two["auc_within_worst"] - 0.1
    )
    assert (two["retest_identification_low"], two["retest_identification_high"]) == (0.5, 0.9)


def test_no_interval_of_an_auc_leaves_its_range(board):
    rows = board.rows.set_index("table")
    assert rows["auc_within_worst_high"].max() <= 1 and rows["auc_within_worst_low"].min() >= 0
    table = pd.DataFrame({"auc": [0.5, 0.95, 0.02], "low": [0.4, 0.85, -0.08], "high": [0.6, 1.05, np.nan]})
    cut = gathering.bounded(table)
    assert list(cut["low"]) == [0.4, 0.85, 0] and list(cut["high"][:2]) == [0.6, 1] and np.isnan(cut["high"][2])


def test_titles_are_of_their_own():
    same = {"title": "A", "recipe": "benchmark", "control": None, "model": "astra", "weights": "pretrained"}
    records = [same | {"table": "one"}, same | {"table": "two"}, same | {"table": "x", "weights": "untrained"},
               same | {"table": "y", "recipe": "authors"}]  # fmt: skip
    assert gathering.titles_of(records) == {
        "one": "A (one)", "two": "A (two)", "x": "A, untrained", "y": "A, authors' recipe"
    }  # fmt: skip


# What others contribute


def test_a_contributed_record_is_ranked_with_the_others_which_keep_their_intervals(quick, board, tmp_path):
    record = next(each for each in board.records if each["table"] == "fmcib_authors")
    measures = [each | {"value": 0.95, "low": 0.9, "high": 0.99} for each in record["measures"]]
    theirs = record | {"table": "ct_fm.benchmark", "model": "ct_fm", "title": "CT-FM", "recipe": "benchmark",
                       "contributor": "A hospital", "measures": measures}  # fmt: skip
    exchange.write([theirs], tmp_path)
    whole = pages.gathered(quick, [tmp_path], draws=50)
    patients = whole.runs[0]
    assert patients.ranks.mean["model"].iloc[0] == "ct_fm.benchmark" and patients.held == ("ct_fm.benchmark",)
    sure = patients.sure.set_index("model")
    assert list(sure.index[sure["low"].isna()]) == ["ct_fm.benchmark"] and (sure["mean_rank"] == [1, 2, 3]).all()
    assert "interval of the mean rank of ct_fm.benchmark: no predictions came with it" in patients.lacking
    words = pages.mean_shown(patients).caption
    assert "without one, held as they are, CT-FM. CT-FM has the best mean rank, 1.00." in words
    assert "- This run, patients: mean rank of FMCIB" in pages.findings(whole)
    assert set(patients.pairs["nsclc_radiomics"][["first", "second"]].to_numpy().ravel()) == {
        "fmcib_authors", "fmcib_authors_shuffled_roi"
    }  # fmt: skip


def test_a_conflict_names_both_files(quick, board, tmp_path):
    record = next(each for each in board.records if each["table"] == "fmcib_authors")
    measures = [each | {"value": each["value"] + 0.01} for each in record["measures"]]
    (path,) = exchange.write([record | {"measures": measures}], tmp_path)
    with pytest.raises(exchange.ConflictError, match=re.escape(str(path))):
        pages.gathered(quick, [tmp_path], draws=20)


def test_pages_that_no_longer_count_leave_no_record(tmp_path):
    phantoms(tmp_path)
    assert {path.parent.name for path in gathering._own(tmp_path, {}).rglob("*.json")} == {"phantom_a", "phantom_b"}
    kept = gathering._own(tmp_path, {"3_knn_evaluation": ["phantom_b"]}).rglob("*.json")
    assert {path.parent.name for path in kept} == {"phantom_b"}


def test_a_record_of_an_earlier_result_does_not_stay(tmp_path):
    phantoms(tmp_path)
    stale = gathering._own(tmp_path) / "phantom_a" / "volume.paper.json"
    assert stale.exists()
    before = stale.stat().st_mtime_ns
    assert gathering._own(tmp_path).is_dir() and stale.stat().st_mtime_ns == before
    (tmp_path / "results" / "3_knn_evaluation" / "phantom_a.csv").unlink()
    kept = {path.parent.name for path in gathering._own(tmp_path).rglob("*.json")}
    assert not stale.exists() and kept == {"phantom_b"}


# What is shown


def test_every_figure_of_phantoms_says_so_and_published_ones_do_not(board):
    draws = (pages.heat_shown, pages.trajectories_shown, pages.mean_shown, pages.critical_shown, pages.wins_shown)
    for draw in draws:
        shown = pages.each(draw, [board.study, board.runs[1]]).shown
        computed = [each.caption.startswith("PHANTOM, PARTLY UNTRAINED: ") for each in shown]
        assert computed.count(True) == 1 and computed[-1]
        assert shown[0].caption.startswith("As published.") or draw is pages.wins_shown
        if draw is pages.heat_shown:
            assert "var(--tb-published" in shown[0].svg
    assert pages.facets_shown(board.rows, board.mark).caption.startswith("PARTLY PHANTOM, PARTLY UNTRAINED: ")


def test_daggers_stand_where_the_registry_says_so_and_never_on_untrained_weights(board):
    study = board.study
    assert showing._seen(study, "models_genesis", "luna16") and not showing._seen(study, "models_genesis", "dlcs")
    assert showing._seen(study, "ct_fm", "luna16") and not showing._seen(study, "ct_fm", "dlcs")  # DLCS is not in IDC
    assert not showing._seen(board.runs[1], "random_encoder.benchmark.untrained", "phantom_a")
    assert pages.heat_shown(study).svg.count("†") == sum(
        showing._seen(study, name, cohort) for name in study.order for cohort in study.cohorts
    )


def test_a_control_that_is_first_is_called_a_control(board):
    words = pages.findings(board)
    who = "first on NSCLC-Radiomics, the only cohort: FMCIB, tumour shuffled (control)."
    assert f"{who} It is a control, not a model." in words
    first = pd.Series([name for best in showing.leaders(board.runs[1]).values() for name in best]).value_counts()
    told = ", ".join(f"{TITLES[name]} on {count}" for name, count in first.items())
    assert f"- PHANTOM, PARTLY UNTRAINED: This run, phantoms: first on 2 cohorts: {told}." in words
    assert "- As published: first on 6 cohorts: FMCIB on 3, VISTA3D on 2, Models Genesis on 1." in words


def test_counts_of_a_sentence_agree_with_their_words():
    told = [_of_all(1, 1, "control"), _of_all(1, 3, "control"), _of_all(3, 3, "control"), _of_all(2, 3, "control")]
    assert told == ["control", "1 control", "all controls", "2 controls"]
    assert [_of_all(2, 2, "untrained"), _of_all(2, 3, "untrained")] == ["all untrained", "2 untrained"]
    assert [choosing._number(count) for count in (0, 1, 12, 13)] == ["No", "One", "Twelve", "13"]


def test_a_dagger_is_explained_where_there_is_one(board):
    assert "†" in pages.heat_shown(board.study).caption and "†" not in pages.heat_shown(board.runs[0]).caption


def of_two(*aucs):
    """The standing of a run of patients with these AUCs (rows: cohorts), no predictions, of as many models."""
    cells = [(f"m{model}", f"c{cohort}", auc) for cohort, row in enumerate(aucs) for model, auc in enumerate(row)]
    table = pd.DataFrame(cells, columns=["table", "cohort", "auc"]).assign(phantom=False, weights="x", control=None)
    table["model"] = table["table"]
    return standing._standing(standing.PATIENTS, table, {f"m{n}": f"M{n}" for n in range(9)}, 0.05, [])


def test_models_that_tie_for_the_best_mean_rank_are_all_named_and_numbers_agree():
    tied = of_two((0.9, 0.8, 0.7, 0.6), (0.8, 0.9, 0.7, 0.6))
    assert pages.mean_shown(tied).caption.endswith("M0 and M1 share the best mean rank, 1.50 and 1.50.")
    words = pages.trajectories_shown(tied).caption
    assert words.endswith("Best on average, alike: M0, rank 1 to 2; M1, rank 1 to 2. Move most: M0, rank 1 to 2; M1, "
                          "rank 1 to 2.") and "in colour the 3 of the best mean rank" in words  # fmt: skip
    assert "No model is told apart from the best, M0 and M1." in pages.critical_shown(tied).caption
    alone = of_two((0.9, 0.8), (0.9, 0.8))
    assert "M0 has the best mean rank, 1.00." in pages.mean_shown(alone).caption
    sure = alone.ranks.mean.assign(low=1.0, high=2.0, first=[0.8, 0.2])
    words = pages.mean_shown(replace(alone, sure=sure, draws=20)).caption
    assert words.endswith("best of all in 80 % of draws; 1 other interval meets its.")
    assert "in colour all models" in pages.trajectories_shown(of_two((0.9, 0.8), (0.8, 0.9))).caption


def test_wins_and_losses_of_a_pair_are_each_other_s(board):
    table = showing.duels(board.runs[1]).set_index(["first", "second"])
    for first, second in table.index:
        assert table.loc[(first, second), "wins"] == table.loc[(second, first), "losses"]
        assert table.loc[(first, second)].sum() == 2
    decided = sum((each["p_holm"] < 0.05).sum() for each in board.runs[1].pairs.values())
    assert table["wins"].sum() == decided


def test_of_many_models_the_best_twelve_are_compared_and_the_others_counted():
    names = [f"m{number:02}.benchmark" for number in range(24)]
    table = pd.DataFrame({"table": names, "model": names, "cohort": "luna16", "auc": np.linspace(0.9, 0.5, 24)})
    table = table.assign(weights="pretrained", control=None, phantom=False)
    rng = np.random.default_rng(0)
    drawn = {"luna16": {row.table: row.auc + np.append(0, rng.normal(0, 0.1, 99)) for row in table.itertuples()}}
    many = standing._standing("this run, patients", table, {name: name[:3] for name in names}, 0.05, [], drawn)
    shown = showing.duels(many)
    assert len(shown) == 12 * 11 and set(shown["first"]) == {f"m{number:02}" for number in range(12)}
    words = pages.wins_shown(many).caption
    assert "of 276 comparisons on 1 cohort" in words and words.endswith("Of the best 12; 12 models more in pairs.csv.")


def test_rows_start_in_order_of_the_mean_over_the_cohorts_that_they_share():
    cells = [("a", "luna16", 0.7), ("a", "dlcs", 0.6), ("b", "luna16", 0.75), ("b", "dlcs", 0.5), ("c", "luna16", 0.9)]
    parts = [{"table": table, "model": table, "title": table, "recipe": None, "weights": "pretrained", "control": None,
              "cohort": cohort, "variant": "paper", "phantom": False, "samples": 9, "positives": 4,
              "measures": [{"stage": "3", "head": "knn", "features": "embedding", "measure": "auc_grouped",
                            "value": auc, "low": None, "high": None}]} for table, cohort, auc in cells]  # fmt: skip
    rows = leaderboard.rows(parts, {"auc": pd.DataFrame()})
    rows = gathering.completed(rows, leaderboard.measures(parts), {"a": "A", "b": "B", "c": "C"})
    assert list(rows["table"]) == ["a", "b", "c"] and list(rows["cohorts_within"]) == [2, 2, 1]
    assert rows["auc_common"].tolist()[:2] == pytest.approx([0.65, 0.625]) and np.isnan(rows["auc_common"][2])
    assert list(rows["cohorts_within_tip"]) == ["LUNA16, DLCS", "LUNA16, DLCS", "LUNA16"]
    assert list(rows["common_cohorts"]) == ["luna16, dlcs", "luna16, dlcs", ""]


def test_published_figures_of_another_recipe_say_so_and_the_sentences_say_what_is_of_phantoms_alone(board):
    rows = board.rows.set_index("table")
    assert rows.loc["fmcib_authors", "published_auc"] > 0.5
    assert rows["published_auc_mark"].to_dict() == {
        name: "other recipe" if name == "fmcib_authors" else "" for name in rows.index
    }
    page = pages.table_shown(board, {}).html
    assert page.count('data-mark="other recipe"') == 1 and 'title="PHANTOM, site A, PHANTOM, site B"' in page
    words = pages.findings(board)
    assert "- PARTLY PHANTOM, PARTLY UNTRAINED: Known of 5 rows: " in words
    assert "second scans found for 1 (on phantoms only); kappa of moved seed points for 0;" in words
    kinds = "2 trained, 0 untrained, 3 controls; 3 seen on phantoms only"
    assert f"9 records of 5 embedding tables ({kinds}), 0 contributors named" in words


def test_the_table_has_a_row_a_model_with_pretraining_in_words(board):
    page = pages.table_shown(board, {"versions": {}}).html
    assert page.count("<tr data-flags") == len(board.rows) == 5
    words = shown_rows(board).set_index("table")["pretraining"]
    assert words["volume"] == words["random_encoder.benchmark.untrained"] == "none"
    assert words["astra.benchmark"].startswith("not excluded: ")


def test_files_hold_the_rows_with_provenance_and_null_for_what_is_missing(quick, board):
    record = artefacts.provenance({"draws": 200}, pages.inputs(board))
    pages.save(board, record)
    target = quick / "results" / "7_leaderboard"
    whole = json.loads((target / "leaderboard.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    with open(target / "leaderboard.csv", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert whole["provenance"] == record and len(record["inputs"]) == len(board.records)
    assert [row["table"] for row in whole["rows"]] == [row["table"] for row in rows] == list(board.rows["table"])
    missing = next(row for row in whole["rows"] if row["table"] == "volume")
    assert missing["kappa"] is None and (target / "which_model.md").read_text() == pages.answers(board)
    ranks = pd.read_csv(target / "ranks.csv")
    assert ranks["group"].value_counts().to_dict() == {
        "as published": 60,
        "this run, phantoms": 6,
        "this run, patients": 2,
    }
    assert len(pd.read_csv(target / "pairs.csv")) == 7


def test_a_run_without_results_shows_what_is_published_and_says_what_to_run(tmp_path):
    board = pages.gathered(tmp_path / "empty", draws=20)
    assert board.runs == [] and board.rows.empty and pages.table_shown(board, {}) is None
    assert "3_knn_evaluation" in pages.nothing_yet(board) and "3_knn_evaluation" in pages.findings(board)
    assert len(pages.each(pages.heat_shown, board.standings).shown) == 1
    assert pages.each(pages.wins_shown, board.standings) is None and pages.merged_table(board) is None
    assert pages.facets_shown(board.rows, board.mark) is None
    pages.save(board, artefacts.provenance({}, pages.inputs(board)))
    assert pd.read_csv(tmp_path / "empty" / "results" / "7_leaderboard" / "leaderboard.csv").empty


def test_what_is_outside_of_the_block_is_listed_by_title(board):
    cells = [(name, cohort) for name in ENCODERS for cohort in ("phantom_a", "phantom_b")] + [
        ("radiomics", "phantom_a")
    ]
    table = pd.DataFrame(cells, columns=["table", "cohort"]).assign(auc=np.linspace(0.5, 0.9, len(cells)), phantom=True)
    table = table.assign(model=table["table"].str.split(".").str[0], weights="none", control=None)
    titles = TITLES | {"radiomics": "Radiomics"}
    lost = pages.left_out(replace(board, runs=standing.runs(table, titles, board.run / "nowhere", 20, 0, 0.05)))
    assert lost.to_dict("records") == [
        {"group": "this run, phantoms", "what": "model", "name": "Radiomics", "reason": "has 1 of 2 cohorts"}
    ]


# Which model?


def test_a_run_of_phantoms_and_one_cohort_names_no_model_for_patients(board):
    words = pages.answers(board)
    assert words.startswith("**This run names no model for patients.** One trained model was tested on patients")
    marked = "AUC [0.89]{.tb-published} (95 % interval 0.87 to 0.90)"
    assert f"FMCIB, {marked} on LUNA16 (0 of 9 intervals overlap)" in words
    published = " ".join(line.partition("As published:")[2] for line in words.splitlines())
    assert published.count("]{.tb-published}") == 9 and not re.search(
        r"(AUC|RIDER|to|kappa of \S+) \d\.\d\d \(95", published
    )
    value = board.rows.set_index("table").loc["fmcib_authors", "auc_within"]
    assert (
        f"FMCIB (own recipe), AUC {value:.2f} (95 % interval {value - 0.1:.2f} to {value + 0.1:.2f}) on "
        "NSCLC-Radiomics, not named" in words
    )
    assert "on PHANTOMS only, Astra (third-party copy) 75 % of second scans found" in words
    assert 250 <= len(words.split()) <= 350


def test_an_empty_run_has_an_answer_of_the_same_length(tmp_path):
    words = pages.which_model(tmp_path, draws=20)
    assert words.startswith("**This run names no model for patients.** No trained model was tested")
    assert 250 <= len(words.split()) <= 350 and words.count("As published:") == 5


def external(rows):
    columns = [
        "page",
        "endpoint",
        "model",
        "title",
        "head",
        "train",
        "test",
        "measure",
        "value",
        "low",
        "high",
        "n_train",
        "n_test",
    ]
    return pd.DataFrame(rows, columns=columns)


def put_task(run, question):
    """Results on two cohorts of a question: one model is far above chance and controls, also on the other cohort."""
    tables = {
        "vista3d.benchmark": (9.0, "VISTA3D", {}),
        "pasta.benchmark": (0.0, "PASTA", {}),
        "random_encoder.benchmark.untrained": (0.0, TITLES["random_encoder.benchmark.untrained"], {}),
        "volume": (0.0, TITLES["volume"], {}),
    }
    one, two = question.cohorts[:2]
    for seed, cohort in enumerate((one, two)):
        evaluated(run, cohort, tables, seed)
    rows = [(one, "label", name, title, "knn", train, test, "auc_external", 0.9, 0.8, 0.95, 40, 40)
            for name, (_, title, _) in tables.items() for train, test in ((one, two), (two, one))]  # fmt: skip
    put_result(run, "3c_external_validation", one, external(rows))


def test_a_model_that_passes_every_rule_is_named_with_its_worst_auc(tmp_path):
    for question in choosing.QUESTIONS:
        put_task(tmp_path, question)
    words = pages.which_model(tmp_path, draws=300)
    assert words.startswith("**This run supports, for at least one task: VISTA3D.**")
    told = "This run: supports VISTA3D, AUC 1.00 (95 % interval 0.90 to 1.00) on "  # no AUC is above 1
    assert re.search(rf"malignant\?\*\* {re.escape(told)}\S+ at worst\.", words)
    assert "supports PASTA" not in words and "another hospital" not in words and "gain over" not in words
    assert 250 <= len(words.split()) <= 350


def test_without_an_external_test_it_is_not_named_and_the_reason_is_told_in_titles(tmp_path):
    tables = {"vista3d.benchmark": (9.0, "VISTA3D", {}), "pasta.benchmark": (0.0, "PASTA", {}),
              "volume": (0.0, "Tumour volume", {})}  # fmt: skip
    evaluated(tmp_path, "luna16", tables)
    words = pages.which_model(tmp_path, draws=300)
    assert "**This run names no model for patients.** Two trained models were tested" in words
    assert "on LUNA16, not named: not held against an untrained encoder" in words and "another hospital" in words
    assert "*This run has no table of an untrained encoder: a model cannot be held against it" in words
    assert 250 <= len(words.split()) <= 350


def test_a_model_that_fails_under_the_two_year_rule_on_another_cohort_is_not_named(tmp_path):
    lung = next(each for each in choosing.QUESTIONS if "lung cancer" in each.words)
    put_task(tmp_path, lung)
    beside = tmp_path / "results" / "3_knn_evaluation" / "nsclc_radiogenomics.provenance.json"
    inputs = json.loads(beside.read_text())["inputs"]
    one, two = "nsclc_radiomics", "nsclc_radiogenomics"
    rows = [
        ("two_year", "two_year", "vista3d.benchmark", "VISTA3D", "knn", one, two, "auc_external", 0.4, 0.3, 0.5, 40, 40)
    ]
    table = external(rows).assign(train_variant="strict", variant="two_year")
    put_result(tmp_path, "3c_external_validation", "two_year", table, inputs)
    words = pages.which_model(tmp_path, draws=300)
    (line,) = [line for line in words.splitlines() if line.startswith("- **Two-year survival in lung cancer?**")]
    assert (
        "not named: trained on NSCLC-Radiomics (strict), no better than chance on NSCLC-Radiogenomics (two_year)"
        in line
    )
    assert "on NSCLC-Radiogenomics (alive at last follow-up)" in line.partition("As published:")[2]


def test_reasons_name_titles_and_not_tables():
    titles = {"fmcib_authors": "FMCIB", "volume": "Tumour volume", "fmcib_authors_x": "FMCIB, control"}
    told = choosing._readable(
        "worse than fmcib_authors_x on luna16, than volume; not held against tumour volume", titles
    )
    assert told == "worse than FMCIB, control on LUNA16, than Tumour volume; not held against tumour volume"
