"""The page of external validation: cohorts read alike, tables, figures, sentences and files."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_array_equal

from tumorbench_utils import annotations, embeddings
from tumorbench_utils import external_pages as pages
from tumorbench_utils.cohorts import COHORTS, base
from tumorbench_utils.external_pages import reading
from tumorbench_utils.external_pages.showing import _chosen
from tumorbench_utils.plots import Several, Shown
from tumorbench_utils.probes import external
from tumorbench_utils.probes.external import ExternalError

A, B = "nsclc_radiomics", "nsclc_radiogenomics"
NOBODY = pd.DataFrame(columns=["sample_id", "patient_id", "reason"])
N = 24


@pytest.fixture(autouse=True, scope="module")
def few_strengths():
    """Three C in place of seven: the tests are about where they come from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(external, "STRENGTHS", external.STRENGTHS[[1, 3, 5]])
        yield


def cohort(run, name, prefix=None, n=N, excluded=NOBODY, **columns):
    """Annotations of n patients, every other one positive, written into a run."""
    prefix = prefix or name
    ids = [f"{prefix}-{number:02}" for number in range(n)]
    table = pd.DataFrame({"sample_id": ids, "patient_id": ids, "x": 0.0, "y": 0.0, "z": 0.0,
                          "label": np.tile([0.0, 1.0], n // 2), "volume_ml": np.linspace(1, 9, n)})  # fmt: skip
    annotations.write(run, name, annotations.Annotations(table.assign(**columns), excluded), {})
    return table.assign(**columns)


def put(run, name, model, table, strength=2.0, seed=0, **given):
    rng = np.random.default_rng([seed, *name.encode()])
    vectors = rng.normal(size=(len(table), 6)) + strength * table["label"].to_numpy()[:, None] * np.eye(6)[0]
    record = {"parameters": {"title": model.capitalize(), "recipe": "benchmark", "source": "extraction"} | given}
    embeddings.write(embeddings.path_of(run, name, model), table["sample_id"].to_numpy(), vectors + 0.2, record)


def both(run, first=A, second=B, models=("good", "volume")):
    for name in (first, second):
        table = cohort(run, name)
        for number, model in enumerate(models):
            put(run, name, model, table, 2.5 - 2 * number, seed=number, standardise=model == "volume")


def read(run, cohorts=(A, B), endpoint="label", models=("good", "volume"), variants=None):
    return pages.read(run, "page", list(cohorts), endpoint, list(models), variants or {}, folds=3)


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    both(run)
    page = read(run)
    return run, page, *pages.judged(page, 10, 60, 0), pages.apart_table(page, 60)


def test_cohorts_are_read_with_raw_features_unscaled_and_known_as_raw(judged):
    run, page, *_ = judged
    assert [site.id for site in page.sites] == [A, B] and page.titles == {"good": "Good", "volume": "Volume"}
    for site in page.sites:
        stored = embeddings.read(embeddings.path_of(run, site.id, "volume"))
        assert (site.vectors["volume"] == stored.vectors).all() and site.raw == {"volume"}
        assert len(site.folds) == 3 and "volume_ml" in site.samples


def test_the_label_of_the_annotations_is_taken_and_whoever_is_left_out_is_counted(tmp_path):
    gone = pd.DataFrame({"sample_id": ["s"], "patient_id": ["p"], "reason": ["second scan of the patient"]})
    cohort(tmp_path, A, excluded=gone, label=[np.nan, *[0.0, 1.0] * 11, 1.0])
    samples, out = pages.labelled(tmp_path, A, "label")
    assert len(samples) == 23 and list(out["reason"]) == ["second scan of the patient", "no label"]
    assert list(out["sample_id"]) == ["s", f"{A}-00"] and list(out) == reading.LEFT_OUT


def test_two_year_survival_is_derived_alike_and_counts_the_censored_and_those_without_follow_up(tmp_path):
    time = [800.0, 729, 730, 100, 100, np.nan, *[900] * 18]
    event = [1.0, 1, 0, 1, 0, 1, *[0] * 18]
    gone = pd.DataFrame({"sample_id": ["s"], "patient_id": ["p"], "reason": ["censored before two years"],
                         "time_days": 900.0, "event": 1.0})  # fmt: skip
    cohort(tmp_path, A, excluded=gone, time_days=time, event=event, label=1.0)
    samples, out = pages.labelled(tmp_path, A, "two_year")
    assert list(samples["label"][:4]) == [1, 0, 1, 0] and len(samples) == 22
    assert dict(out["reason"].value_counts()) == {"censored before two years": 2, "no follow-up": 1}
    assert set(out["sample_id"]) == {"s", f"{A}-04", f"{A}-05"}  # what curation left out stays out
    assert set(out["cohort"]) == {A}


def test_bad_endpoints_are_named(tmp_path):
    cohort(tmp_path, A)
    with pytest.raises(ExternalError, match=f"{A}: two-year survival takes follow-up; .* no time_days, event"):
        pages.labelled(tmp_path, A, "two_year")
    with pytest.raises(LookupError, match="unknown endpoint 'death'"):
        pages.labelled(tmp_path, A, "death")
    cohort(tmp_path, B, label=np.nan)
    with pytest.raises(ExternalError, match=f"{B}: no sample has a label under 'label'"):
        pages.labelled(tmp_path, B, "label")


def test_patients_in_both_cohorts_and_one_class_are_errors_that_name_them(tmp_path):
    for name in (A, B):
        put(tmp_path, name, "good", cohort(tmp_path, name, prefix="same"))
    with pytest.raises(ExternalError, match=f"{A} and {B} have 24 patients in common: same-00"):
        read(tmp_path, models=["good"])
    put(tmp_path, B, "good", cohort(tmp_path, B, label=1.0))
    with pytest.raises(ExternalError, match=f"{B}: all 24 labels are 1"):
        read(tmp_path, models=["good"])


def test_samples_without_an_embedding_or_an_annotation_are_listed_once(tmp_path):
    for name in (A, B):
        table = cohort(tmp_path, name)
        strangers = pd.DataFrame({"sample_id": ["stranger"], "label": [0.0]})
        put(tmp_path, name, "good", pd.concat([table[2:], strangers]))
        put(tmp_path, name, "other", pd.concat([table, strangers]))
    page = read(tmp_path, models=["good", "other"])
    out = page.left_out.query("cohort == @A")
    assert dict(out["reason"].value_counts()) == {"no embedding of good": 2, "no annotation": 1}
    counts = pages.left_out_table(page)
    assert list(counts) == ["cohort", "reason", "samples"] and counts["samples"].sum() == len(page.left_out) == 6
    assert list(out["patient_id"].dropna()) == [f"{A}-00", f"{A}-01"]
    assert [len(site.samples) for site in page.sites] == [22, 22]
    told = pages.cohorts_table(page)
    assert "2 no embedding of good" in told["left out"][0] and "1 no annotation" in told["left out"][0]


def test_a_sample_that_several_tables_lack_is_counted_once(tmp_path):
    for name in (A, B):
        table = cohort(tmp_path, name)
        put(tmp_path, name, "good", table[1:])
        put(tmp_path, name, "other", table[1:])
    page = read(tmp_path, models=["good", "other"])
    assert list(page.left_out["reason"]) == ["no embedding of 2 models"] * 2


def test_two_tables_of_one_model_are_told_apart_by_their_titles(tmp_path):
    for name in (A, B):
        table = cohort(tmp_path, name)
        put(tmp_path, name, "fmcib", table, title="FMCIB", source="released")
        put(tmp_path, name, "fmcib.benchmark", table, seed=1, title="FMCIB")
    page = read(tmp_path, models=["fmcib", "fmcib.benchmark"])
    assert list(page.titles.values()) == ["FMCIB, as released", "FMCIB"]
    assert len(page.sites[0].vectors) == 2


def test_cohorts_are_told_with_rule_counts_and_volume(judged):
    table = pages.cohorts_table(judged[1])
    assert list(table["cohort"]) == ["NSCLC-Radiomics", "NSCLC-Radiogenomics"]
    assert list(table["positive"]) == ["12 (50 %)"] * 2 and list(table["median volume (ml)"]) == ["5", "5"]
    assert "vital status at last follow-up" in table["rule"][1] and list(table["left out"]) == ["none"] * 2
    assert isinstance(pages.cohorts_shown(judged[1]), Shown)


def test_provide_asks_each_cohort_for_its_own_variant_and_sources(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(reading.tables, "provide", lambda *given, **how: asked.append((given, how)))
    pages.provide(tmp_path, [A, B], ["m"], {B: "two_year"}, {A: ["registry"]}, {}, 3, device="cpu")
    assert asked == [
        ((tmp_path, A, ["m"], ["registry"], "paper", {}, 3), {"device": "cpu"}),
        ((tmp_path, B, ["m"], (), "two_year", {}, 3), {"device": "cpu"}),
    ]
    with pytest.raises(ExternalError, match=f"sources: dlcs is not among the cohorts {A}, {B}"):
        pages.provide(tmp_path, [A, B], ["m"], {}, {"dlcs": ["released"]}, {})
    with pytest.raises(LookupError, match="has no variant 'survival'"):
        pages.provide(tmp_path, [A, B], ["m"], {A: "survival"}, {}, {})


def test_marks_name_phantoms_and_untrained_encoders(tmp_path):
    both(tmp_path, "phantom_a", "phantom_b", ["good"])
    assert read(tmp_path, ["phantom_a", "phantom_b"], models=["good"]).mark() == "phantom"
    for name in ("phantom_a", "phantom_b"):
        samples = annotations.read(annotations.path_of(tmp_path, name))
        put(tmp_path, name, "random", samples, untrained=True)
    page = read(tmp_path, ["phantom_a", "phantom_b"], models=["good", "random"])
    assert page.mark() == "phantom, partly untrained" and page.mark({}) == "phantom"
    assert page.mark({"random": page.titles["random"]}) == "phantom, untrained"
    both(tmp_path, A, A, ["good"])
    assert read(tmp_path, ["phantom_a", A], models=["good"]).mark() == "partly phantom"


def test_figures_tell_the_numbers_of_the_run(judged):
    _, page, _, scores, apart = judged
    shown = pages.compared_shown(page, scores)
    assert isinstance(shown, Several) and len(shown.shown) == 2
    at = scores.set_index(["measure", "model", "head", "train", "test"])["value"]
    within, there = at["auc_within", "good", "knn", B, B], at["auc_external", "good", "knn", A, B]
    assert f"Good, kNN: {there:.2f} from NSCLC-Radiomics, {within:.2f} within" in shown.shown[0].alt
    assert shown.shown[0].alt.count("within") == 4 and shown.shown[0].caption.count("within") == 2  # the two extremes
    assert "AUC in NSCLC-Radiogenomics, of judges" in shown.shown[0].caption
    drop = at["drop", "good", "knn", A, B]
    assert drop == pytest.approx(there - within)
    first = pages.drops_shown(page, scores, 2345).shown[0]
    assert "(Holm over the 8 of the page, 2,345 draws)" in first.caption and f"Good, kNN {drop:+.2f} (" in first.alt
    assert "trained on 24 samples of NSCLC-Radiomics, minus AUC of judges trained on 16 samples" in first.caption
    some = scores[(scores["measure"] == "drop") & (scores["test"] == B)]
    high, low = some.loc[some["value"].idxmax()], some.loc[some["value"].idxmin()]
    head = {"knn": "kNN", "linear": "linear probe"}
    told = [f"{row['title']}, {head[row['head']]} {row['value']:+.2f} (" for row in (high, low)]
    assert f"Highest is {told[0]}" in first.caption and f"lowest is {told[1]}" in first.caption
    worst = pages.worst(page, scores)
    assert (worst["value"].diff().dropna() <= 0).all() and len(worst) == 4
    lowest = min(at["auc_external", "good", "knn", A, B], at["auc_external", "good", "knn", B, A])
    row = worst.set_index(["model", "head"]).loc[("good", "kNN")]
    assert row["value"] == lowest and row["where"] == page.names[row["test"]]
    assert f"in {worst['where'][0]}" in pages.worst_shown(page, scores).caption
    assert f"Good {apart['value'][0]:.2f} (" in pages.apart_shown(page, apart).caption


def test_tables_of_the_page_have_a_row_for_each_pair_model_and_head(judged):
    _, page, found, scores, apart = judged
    assert len(apart) == 2 and list(apart["n_first"]) == [24, 24]
    for table, some in (pages.drops_table(page, scores), pages.rescaled_table(page, found, scores, 60, 0),
                        pages.calibration_table(page, found, 60, 0), pages.choices_table(page, found)):  # fmt: skip
        assert len(table) == 8 and some == "" and next(iter(table)) == "judge"
        assert set(table["judge"]) == {
            f"{title}, {head}" for title in ("Good", "Volume") for head in ("kNN", "linear probe")
        }
        assert list(table)[-1].startswith("learnt in")  # by which the notebook puts rows together
    assert list(pages.drops_table(page, scores)[0])[1] == "external − within"  # what a phone shows beside the judge
    drops = pages.drops_table(page, scores)[0].set_index(["judge", "learnt in → tested in"])
    row = scores.query("measure == 'drop' and model == 'volume' and head == 'linear' and train == @B").iloc[0]
    told = drops.loc[("Volume, linear probe", "NSCLC-Radiogenomics → NSCLC-Radiomics")]
    assert told["external − within"].startswith(f"{row['value']:+.2f} (") and told["p, Holm"] == f"{row['p_holm']:.3f}"
    assert len(pages.drift_table(page)[0]) == 4 and pages.left_out_table(page) is None
    chosen = found.choices.query("model == 'good' and head == 'knn' and train == @A and fold == 'all'").iloc[0]
    assert pages.choices_table(page, found)[0]["k or C"][0] == f"{chosen['chosen']:g}"
    assert _chosen(1e-5) == "0.00001" and _chosen(11) == "11"


def test_many_models_are_shown_some_at_a_time(judged):
    _, page, _, scores, _ = judged
    one = scores[scores["model"] == "good"]
    titles = {f"m{i}": f"M{i}" for i in range(13)} | {"volume": "Volume"}
    many = pd.concat([one.assign(model=name, title=title, value=one["value"] - i / 100)
                      for i, (name, title) in enumerate(titles.items())], ignore_index=True)  # fmt: skip
    wide = replace(page, titles=titles)
    assert [len(each.shown) for each in pages.compared_shown(wide, many).shown] == [2, 2]
    assert [len(each.shown) for each in pages.drops_shown(wide, many, 60).shown] == [2, 2]
    ranked = pages.worst_shown(wide, many)
    assert "The 12 best of 28, and tumour volume" in ranked.caption and ranked.alt.count(";") == 13
    assert ranked.svg.count(". Volume") == 2  # of both heads
    drops, some = pages.drops_table(wide, many)
    assert len(drops) == 20 and "the 20 of largest change of 56 rows" in some
    largest = many[many["measure"] == "drop"]["value"].abs().nlargest(20)
    assert drops["external − within"].str.split(" ").str[0].astype(float).abs().min() == pytest.approx(
        largest.min(), abs=0.006
    )


def test_draws_are_raised_to_what_holm_needs(judged):
    page = judged[1]
    assert pages.enough(page, 60) == 2 * 8 / 0.05 and pages.enough(page, 5000) == 5000
    assert 8 * 2 / (pages.enough(page, 60) + 1) < 0.05 <= 8 * 2 / pages.enough(page, 60)


def test_the_endpoint_of_each_cohort_is_the_annotations_or_its_two_year_rule(judged):
    assert judged[1].variants == {A: "paper", B: "paper"}
    time, event = np.array([800.0, 729, 730, 100, 100]), np.array([1.0, 1, 0, 1, 0])
    rows = pd.DataFrame({"Survival.time": time, "deadstatus.event": event, "time_days": time, "event": event,
                         "scan": "test"})  # fmt: skip
    for cohort in (A, "phantom", "phantom_a", "phantom_b"):
        assert reading.variant_of(cohort, "other", "label") == "other"
        endpoint = COHORTS.get(cohort).endpoint(reading.variant_of(cohort, "other", "two_year"))
        assert_array_equal(endpoint.label(rows), base.two_year_survival(rows["time_days"], rows["event"]))
    for cohort in (B, "c4kc_kits"):  # whose tables code the follow-up in several columns
        assert "alive at 730 days" in COHORTS.get(cohort).endpoint(reading.variant_of(cohort, "x", "two_year")).rule
    assert reading.variant_of("own", "x", "two_year") == "two_year"


def test_findings_say_the_worst_case_the_drops_and_what_volume_reaches(judged):
    _, page, _, scores, apart = judged
    lines = pages.findings(page, scores, apart).splitlines()
    best = pages.worst(page, scores).iloc[0]
    assert len(lines) == 5 and all(line.startswith("- ") for line in lines)
    assert f"{best['title']}, {best['head']}, {best['value']:.2f} (" in lines[0] and best["where"] in lines[0]
    drops = scores.loc[scores["measure"] == "drop", "value"]
    assert f"changes by {drops.mean():+.2f} on average over 8 comparisons" in lines[1]
    assert f"{drops.min():+.2f}" in lines[1]
    assert all("1 of 1 other embedding has a higher worst case" in line for line in lines[2:4])
    assert f"{apart['value'].max():.2f}" in lines[4]


def test_a_worst_case_that_is_equal_as_printed_is_as_high_and_not_higher(judged):
    _, page, _, scores, apart = judged
    of_volume = scores.query("model == 'volume' and measure == 'auc_worst'").set_index("head")["value"]
    good = (scores["model"] == "good") & (scores["measure"] == "auc_worst")
    barely = scores.assign(value=scores["value"].where(~good, scores["head"].map(of_volume.round(2) + 0.004)))
    for line in pages.findings(page, barely, apart).splitlines()[2:4]:
        assert "0 of 1 other embedding have a higher worst case" in line and "; 1 is as high to two decimals." in line


def test_results_and_predictions_are_written_tidy_with_provenance(judged):
    run, page, found, scores, apart = judged
    pages.save(run, page, found, scores, apart, {"parameters": {"page": "page"}}, 60)
    folder = run / "results" / "3c_external_validation"
    table = pd.read_csv(folder / "page.csv")
    assert list(table) == ["page", "endpoint", "model", "title", "head", "train", "train_variant", "test", "variant",
                           "measure", "value", "low", "high", "n_train", "n_test"]  # fmt: skip
    assert dict(table["measure"].value_counts()) == {"auc_external": 8, "auc_within": 8, "drop": 8, "auc_worst": 4}
    assert set(table["head"]) == set(external.HEADS) and set(table["endpoint"]) == {"label"}
    odd = pages.results(replace(page, variants={A: "a", B: "b"}), scores)
    assert set(map(tuple, odd[["test", "variant"]].to_numpy())) == {(A, "a"), (B, "b")}
    assert set(map(tuple, odd[["train", "train_variant"]].to_numpy())) == {(A, "a"), (B, "b")}
    assert json.loads((folder / "page.provenance.json").read_text())["parameters"]["page"] == "page"
    drops = pd.read_csv(folder / "page.drops.csv")
    assert drops["p_holm"].notna().all() and len(drops) == 8
    for part in ("apart", "drift", "rescaled", "calibration", "choices", "left_out"):
        assert (folder / f"page.{part}.csv").exists()
    path = pages.predictions_path(run, "page", "good")
    assert path == run / "predictions" / "external" / "page" / "good.parquet"
    kept = pq.read_table(path).to_pandas()
    assert len(kept) == 2 * 2 * 2 * N  # heads, training cohorts, test cohorts
    assert {"train", "test", "head", "sample_id", "patient_id", "label", "probability"} <= set(kept)
    assert set(pages.inputs(run, page)) == {f"{name}/{model}.parquet" for name in (A, B) for model in page.titles}
