"""Records: made of a run in the formats that stages write, checked, written, merged; conflicts are told."""

import copy
import json
import runpy
import shutil
import sys
from itertools import permutations

import numpy as np
import pandas as pd
import pytest

from tumorbench_utils import artefacts, embeddings, exchange, leaderboard
from tumorbench_utils.exchange import ConflictError, ExchangeError

SHA = "ab" * 32
GIVEN = {
    "format": "tumorbench-record",
    "version": 1,
    "table": "fmcib.benchmark",
    "model": "fmcib",
    "recipe": "benchmark",
    "weights": "pretrained",
    "control": None,
    "title": "FMCIB",
    "cohort": "luna16",
    "variant": "paper",
    "status": "recomputed",
    "phantom": False,
    "samples": 677,
    "positives": 327,
    "contributor": "A",
    "measures": [
        {"stage": "3", "head": "knn", "features": "embedding", "measure": "auc_grouped", "value": 0.81, "low": 0.7,
         "high": 0.9},
        {"stage": "3c", "head": "knn", "features": "embedding", "measure": "auc_external", "value": 0.75, "low": None,
         "high": None, "train": "dlcs"},
    ],
    "versions": {"numpy": "2.4.6"},
    "inputs": {"luna16/fmcib.benchmark.parquet": SHA},
}  # fmt: skip


def given(**changes):
    return copy.deepcopy(GIVEN) | changes


def with_measure(at=0, **changes):
    record = given()
    record["measures"][at] |= changes
    return record


def without(name):
    return {key: value for key, value in given().items() if key != name}


def test_a_record_comes_back_as_it_was_and_its_bytes_do_not_depend_on_order(tmp_path):
    (path,) = exchange.write([given()], tmp_path / "one")
    assert path == tmp_path / "one" / "luna16" / "fmcib.benchmark.paper.json"
    assert exchange.read(tmp_path / "one") == [exchange.canonical(given())]
    turned = dict(reversed(given().items())) | {"measures": given()["measures"][::-1]}
    (other,) = exchange.write([turned], tmp_path / "two")
    assert path.read_bytes() == other.read_bytes()
    third = given()
    third["measures"][0]["value"] = 0.81 + 1e-15  # the last bits of a sum
    assert exchange.text_of(third) == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", list(GIVEN))
def test_every_field_of_a_record_is_asked_for(name):
    with pytest.raises(ExchangeError, match=rf"here\.json: .*'{name}' is a required property"):
        exchange.check(without(name), "here.json")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([], r"\$: \[\] is not of type 'object'"),
        (given(extra=1), r"\$: Additional properties .*'extra'"),
        (given(format="table"), r"\$\.format: 'tumorbench-record' was expected"),
        (given(version=2), r"\$\.version: 1 was expected"),
        (given(status="published"), r"\$\.status: 'recomputed' was expected"),
        (given(table="../../x"), r"\$\.table: '\.\./\.\./x' does not match"),
        (given(variant="a.b"), r"\$\.variant: 'a\.b' does not match"),
        (given(cohort="luna16\n"), r"\$\.cohort: 'luna16\\n' does not match"),
        (given(weights="good"), r"\$\.weights: 'good' does not match"),
        (given(recipe="mine"), r"\$\.recipe: 'mine' is not one of"),
        (given(samples=0), r"\$\.samples: 0 is less than the minimum"),
        (given(positives=678), r"\$\.positives: 678 of 677 samples"),
        (given(measures=[]), r"\$\.measures: \[\] should be non-empty"),
        (given(inputs={"a": "abc"}), r"\$\.inputs\.a: 'abc' does not match"),
        (given(inputs={"a": SHA.upper()}), r"\$\.inputs\.a: "),
        (given(inputs={"a": SHA + "\n"}), r"\$\.inputs\.a: "),
        (given(inputs={}), r"\$\.inputs: \{\} should be non-empty"),
        (given(cohort="luna61"), r"\$\.cohort: unknown cohort 'luna61'\. Did you mean 'luna16'\? Known: "),
        (given(model="fmcbi"), r"\$\.model: unknown model 'fmcbi'\. Did you mean 'fmcib'\?.* model_card"),
        (given(phantom=True), r"\$\.phantom: is True, but the cohort's images say otherwise"),
        (given(model_card={"title": "x"}), r"\$\.model_card: 'licence' is a required property"),
        (with_measure(value=1.2, high=1.3), r"\$\.measures\[0\]\.value: 1\.2 is greater than the maximum"),
        (with_measure(measure="pr_auc", value=-0.1, low=-1), r"\$\.measures\[0\]\.value: -0\.1 is less than"),
        (with_measure(value="0.5"), r"\$\.measures\[0\]\.value: '0\.5' is not of type 'number'"),
        (with_measure(value=None), r"\$\.measures\[0\]\.value: None is not of type 'number'"),
        (with_measure(value=float("nan")), r"\$\.measures\[0\]\.value: nan is not finite"),
        (with_measure(high=float("inf")), r"\$\.measures\[0\]\.high: inf is not finite"),
        (with_measure(low=0.82), r"\$\.measures\[0\]: 3 knn embedding auc_grouped is 0\.81, outside .* 0\.82 to 0\.9"),
        (with_measure(high=0.8), r"\$\.measures\[0\]: .* outside of its interval from 0\.7 to 0\.8"),
        (with_measure(1, train="dcls"), r"\$\.measures\[1\]\.train: unknown cohort 'dcls'\. Did you mean 'dlcs'\?"),
        (with_measure(1, train="dlcs.a.b"), r"\$\.measures\[1\]\.train: 'dlcs\.a\.b' does not match"),
        (with_measure(stage="9"), r"\$\.measures\[0\]\.stage: '9' is not one of"),
        (with_measure(p=0.1), r"\$\.measures\[0\]: Additional properties .*'p'"),
        (given(measures=[GIVEN["measures"][0]] * 2), r"\$\.measures\[1\]: .* is there twice, first as .*\[0\]"),
        (given(timings=[{"device": "cpu", "precision": "fp32", "images": 1, "seconds_per_patch": float("inf")}]),
         r"\$\.timings\[0\]\.seconds_per_patch: inf is not finite"),
    ],
)  # fmt: skip
def test_a_bad_record_is_refused_with_the_file_and_the_place(record, message):
    with pytest.raises(ExchangeError, match=r"here\.json: .*" + message):
        exchange.check(record, "here.json")


@pytest.mark.parametrize("name", ["drop", "brier_skill", "calibration_slope", "gap"])
def test_what_is_no_auc_may_leave_the_range_of_one(name):
    assert exchange.check(with_measure(measure=name, value=-3.5, low=-4, high=5))


def test_an_interval_may_be_open_or_reach_beyond_one_and_a_model_of_others_brings_its_card():
    assert exchange.check(with_measure(low=None, high=1.02))  # of a t distribution
    card = {"title": "Mine", "licence": "CC0", "parameters": None}
    assert exchange.check(given(model="mine", table="mine.benchmark", model_card=card))


def test_many_faults_are_counted():
    record = given(samples=0, version=3, status="x", phantom=1, format=2)
    with pytest.raises(ExchangeError, match=r"; and 2 more$"):
        exchange.check(record)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ('{"value": NaN}', "holds NaN"),
        ('{"value": -Infinity}', "holds -Infinity"),
        ('{"a": 1, "a": 2}', "the key 'a' is there twice"),
        (b"\xff\xfe", "is no JSON"),
    ],
)
def test_a_file_that_is_no_json_is_named(text, message, tmp_path):
    path = tmp_path / "luna16" / "x.json"
    path.parent.mkdir()
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    for read in (exchange.read, lambda folder: exchange.merge([folder])):
        with pytest.raises(ExchangeError, match=rf"x\.json: .*{message}"):
            read(tmp_path)


def test_nothing_is_written_unless_all_records_are_well_and_no_two_share_a_place(tmp_path):
    with pytest.raises(ExchangeError, match=r"luna16/fmcib\.benchmark\.paper\.json: \$\.samples"):
        exchange.write([given(cohort="dlcs"), given(samples=-1)], tmp_path)
    with pytest.raises(ExchangeError, match=r"luna16/fmcib\.benchmark\.paper\.json: two records have this place"):
        exchange.write([given(), given(contributor="B")], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_is_killed_leaves_the_old_record_and_nothing_that_is_read(tmp_path, monkeypatch):
    exchange.write([given()], tmp_path)
    monkeypatch.setattr(artefacts.os, "replace", lambda *paths: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        exchange.write([given(samples=700)], tmp_path)
    monkeypatch.undo()
    (tmp_path / "luna16" / ".tmp-9-fmcib.benchmark.paper.json").write_text("{")  # of one that could not clear up
    assert [record["samples"] for record in exchange.read(tmp_path)] == [677]


def test_a_record_in_another_place_than_its_own_is_refused(tmp_path):
    (path,) = exchange.write([given()], tmp_path)
    path.rename(path.with_name("merlin.benchmark.paper.json"))
    for read in (exchange.read, lambda folder: exchange.merge([folder])):
        with pytest.raises(ExchangeError, match=r"merlin.* belongs into luna16/fmcib\.benchmark\.paper\.json"):
            read(tmp_path)
    with pytest.raises(ExchangeError, match="nowhere: no such folder"):
        exchange.read(tmp_path / "nowhere")


def folders(tmp_path, *records):
    """A folder for each record: a, b, c."""
    for name, record in zip("abc", records, strict=False):
        exchange.write([record], tmp_path / name)
    return [tmp_path / name for name in "abc"[: len(records)]]


def test_identical_records_and_those_equal_to_a_billionth_become_one(tmp_path):
    merged, report = exchange.merge(folders(tmp_path, given(), given()))
    assert merged == [exchange.canonical(given())] and report["outcome"].tolist() == ["identical"]
    near = with_measure(value=0.81 + 9e-10)
    near |= {"contributor": "B", "versions": {"numpy": "2.5.0"}}
    merged, report = exchange.merge(folders(tmp_path / "near", given(), near))
    assert report["outcome"].tolist() == ["same"] and len(merged) == 1
    assert merged[0]["contributor"] == "A; B" and merged[0]["versions"] == {"numpy": "2.4.6, 2.5.0"}
    assert report["files"][0].count(".json") == 2
    assert exchange.check(merged[0])


def test_different_keys_stand_side_by_side(tmp_path):
    merged, report = exchange.merge(folders(tmp_path, given(), given(cohort="dlcs"), given(variant="strict")))
    assert [exchange.key(record)[::2] for record in merged] == [
        ("dlcs", "paper"),
        ("luna16", "paper"),
        ("luna16", "strict"),
    ]
    assert set(report["outcome"]) == {"alone"}


def test_measures_and_timings_that_one_of_two_lacks_are_united(tmp_path):
    timing = {"device": "cpu", "precision": "fp32", "images": 9, "seconds_per_patch": 0.5}
    one = given(measures=GIVEN["measures"][:1], timings=[timing])
    two = given(timings=[timing | {"device": "cuda", "seconds_per_patch": 0.01}, timing])
    merged, report = exchange.merge(folders(tmp_path, one, two))
    assert report["outcome"].tolist() == ["united"]
    assert merged[0]["measures"] == exchange.canonical(given())["measures"]
    assert [each["device"] for each in merged[0]["timings"]] == ["cpu", "cuda"]


def test_what_one_machine_does_not_know_is_taken_from_the_other(tmp_path):
    for name, records in {"one": (given(positives=None), given()), "two": (given(), given(positives=None))}.items():
        merged, report = exchange.merge(folders(tmp_path / name, *records))
        assert merged == [exchange.canonical(given())] and report["outcome"].tolist() == ["same"]


def test_two_stages_of_a_table_need_no_input_in_common_as_they_have_no_measure_in_common(tmp_path):
    one = given(measures=GIVEN["measures"][:1])
    two = given(measures=GIVEN["measures"][1:], inputs={"luna16/patches": "cd" * 32})
    merged, report = exchange.merge(folders(tmp_path, one, two))
    assert report["outcome"].tolist() == ["united"] and len(merged[0]["measures"]) == 2
    assert merged[0]["inputs"] == one["inputs"] | two["inputs"]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (with_measure(value=0.82), r"3 knn embedding auc_grouped: value 0\.81 against 0\.82"),
        (with_measure(value=0.81 + 2e-9), r"auc_grouped: value 0\.81\d* against 0\.81"),
        (with_measure(high=0.91), r"auc_grouped: high 0\.9 against 0\.91"),
        (with_measure(low=None), r"auc_grouped: low (None against 0\.7|0\.7 against None)"),
        (given(samples=676), r"\$\.samples: 67\d against 67\d"),
        (given(weights="untrained"), r"\$\.weights: "),
        (given(inputs={"luna16/fmcib.benchmark.parquet": "cd" * 32}), r"\$\.inputs\['luna16/fmcib.*made of .* against"),
        (given(inputs={"another": SHA}), r"\$\.inputs: they have no input in common"),
    ],
)  # fmt: skip
def test_a_conflict_names_both_files_the_first_difference_and_both_values(other, message, tmp_path):
    both = folders(tmp_path, given(), other)
    names = [str(folder / "luna16" / "fmcib.benchmark.paper.json") for folder in both]
    for order in permutations(both):
        with pytest.raises(ConflictError, match=message) as told:
            exchange.merge(order)
        assert all(name in str(told.value) for name in names)


def test_the_files_named_are_those_that_differ_also_among_three(tmp_path):
    # a lacks the measure over which b and c differ
    records = given(measures=GIVEN["measures"][:1]), given(), with_measure(1, value=0.6)
    with pytest.raises(ConflictError) as told:
        exchange.merge(folders(tmp_path, *records))
    assert f"{tmp_path}/b/" in str(told.value) and f"{tmp_path}/c/" in str(told.value)
    assert f"{tmp_path}/a/" not in str(told.value) and "auc_external" in str(told.value)


def test_two_versions_of_the_format_are_a_conflict_and_one_unknown_version_a_bad_record(tmp_path):
    one, two = folders(tmp_path, given(), given())
    path = two / "luna16" / "fmcib.benchmark.paper.json"
    path.write_text(json.dumps(given(version=2)))
    with pytest.raises(ConflictError, match=r"a/luna16.* and .*b/luna16.*\$\.version is 1 in the one and 2"):
        exchange.merge([one, two])
    with pytest.raises(ExchangeError, match=r"version: 1 was expected") as told:
        exchange.merge([two])
    assert not isinstance(told.value, ConflictError)


def test_the_order_of_a_merge_does_not_matter(tmp_path):
    records = (
        with_measure(value=0.81 + 4e-10) | {"contributor": "C", "versions": {"numpy": "2.5.0", "scipy": "1.17"}},
        given(measures=GIVEN["measures"][:1], contributor="B"),
        given(),
    )
    made = folders(tmp_path, *records)
    results = [exchange.merge(order) for order in permutations(made)]
    for merged, report in results[1:]:
        assert [exchange.text_of(each) for each in merged] == [exchange.text_of(each) for each in results[0][0]]
        pd.testing.assert_frame_equal(report, results[0][1])
    assert results[0][0][0]["contributor"] == "A; B; C"
    exchange.write(results[0][0], tmp_path / "into")  # merged again with what went in, nothing changes
    again, _ = exchange.merge([tmp_path / "into", *made])
    assert [exchange.text_of(each) for each in again] == [exchange.text_of(each) for each in results[0][0]]


def test_the_command_line_merges_all_or_nothing(tmp_path, capsys, monkeypatch):
    from tumorbench_utils.exchange import __main__ as command

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["exchange", *map(str, arguments)])
        try:
            command.main()
            return 0, *capsys.readouterr()
        except SystemExit as end:
            return end.code, *capsys.readouterr()

    one, two, other = folders(tmp_path, given(), given(cohort="dlcs"), with_measure(value=0.5, low=0.1))
    into = tmp_path / "into"
    assert run("merge", one, two, "--into", into)[0] == 0 and len(exchange.read(into)) == 2
    before = {path: path.read_bytes() for path in into.rglob("*.json")}
    code, _, error = run("merge", other, "--into", into)  # what is there takes part
    assert code == 1 and "auc_grouped" in error and "Traceback" not in error
    assert {path: path.read_bytes() for path in into.rglob("*") if path.is_file()} == before
    code, _, _ = run("merge", two, other, one, "--into", tmp_path / "new")
    assert code == 1 and not (tmp_path / "new").exists()
    good = into / "dlcs" / "fmcib.benchmark.paper.json"
    assert run("check", good)[1].endswith("a record, of dlcs/fmcib.benchmark.paper.json, 2 measures\n")
    bad = tmp_path / "bad.json"
    bad.write_text("[]")
    code, out, error = run("check", bad, good, tmp_path / "none.json")
    assert code == 1 and "bad.json: $: [] is not of type" in error and "none.json: cannot be read" in error
    assert str(good) in out


def test_the_module_can_be_called(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["exchange", "check", str(tmp_path / "none.json")])
    monkeypatch.delitem(sys.modules, "tumorbench_utils.exchange.__main__", raising=False)
    with pytest.raises(SystemExit) as end:
        runpy.run_module("tumorbench_utils.exchange", run_name="__main__")
    assert end.value.code == 1 and "none.json: cannot be read" in capsys.readouterr().err


NAMES = ("astra.benchmark", "volume")


def a_run(folder, cohort="phantom_a", other="phantom_b"):
    """A run with a result of every stage, in the formats that the stages write."""
    rng, inputs = np.random.default_rng(0), {}
    for each in (cohort, other):
        ids = [f"s{number}" for number in range(8)]
        rows = {"sample_id": ids, "patient_id": ids, "label": [0.0, 1.0] * 4}
        artefacts.write_csv(folder / "annotations" / f"{each}.csv", pd.DataFrame(rows),
                            artefacts.provenance({"cohort": each, "variant": "paper"}))  # fmt: skip
        for name in NAMES:
            model, *rest = name.split(".")
            about = {"model": model, "recipe": rest[0] if rest else None, "control": None, "title": model.title(),
                     "source": "extraction"}  # fmt: skip
            if rest:
                about |= {"weights": {"kind": "pretrained", "sha256": SHA}, "device": "cpu", "precision": "fp32"}
            path = embeddings.path_of(folder, each, name)
            trials = [0] * 8 + [1] * 8
            embeddings.write(path, ids * 2, rng.normal(size=(16, 3)), artefacts.provenance(about), trials)
            inputs[f"{each}/{name}.parquet"] = artefacts.sha256_of(path)

    def write(place, rows, **parameters):
        artefacts.write_csv(folder / "results" / place, pd.DataFrame(rows), artefacts.provenance(parameters, inputs))

    knn = [
        {"model": name, "protocol": protocol, "series": "", "auc": auc, "low": auc - 0.1, "high": auc + 0.1,
         "title": name.upper(), "cohort": cohort, "variant": "paper", "n": 7, "control": False}
        for name, auc in zip(NAMES, (0.7, 0.6), strict=True) for protocol in ("paper", "grouped")
    ]  # fmt: skip
    write(f"3_knn_evaluation/{cohort}.csv", knn)
    write(f"3_knn_evaluation/{cohort}.splits.csv", [{"anything": 1}])
    about = {"cohort": cohort, "variant": "paper", "n": 7, "positives": 3}
    beyond = [
        about | {"model": "astra.benchmark", "title": "A", "head": "linear", "features": "both", "measure": "auc",
                 "value": 0.75, "low": 0.6, "high": 0.9},
        about | {"model": "astra.benchmark", "title": "A", "head": "linear", "features": "clinical", "measure": "auc",
                 "value": 0.65, "low": 0.5, "high": 0.8},
        about | {"model": "volume", "title": "V", "head": "linear", "features": "clinical", "measure": "auc",
                 "value": 0.65, "low": 0.5, "high": 0.8},
        about | {"model": "astra.benchmark", "title": "A", "head": "few_shot_1", "features": "embedding",
                 "measure": "auc", "value": np.nan, "low": np.nan, "high": np.nan},
    ]  # fmt: skip
    write(f"3b_beyond_knn/{cohort}.csv", beyond)
    outside = {"page": "sites", "model": "astra.benchmark", "title": "A", "head": "knn", "n_train": 8, "n_test": 6}
    external = [
        outside | {"endpoint": "label", "train": one, "test": two, "measure": measure, "value": value, "low": low,
                   "high": 0.9, "variant": rule, "train_variant": rule}
        for rule, one, two, measure, value, low in (
            ("paper", other, cohort, "auc_external", 0.66, 0.55),
            ("paper", other, cohort, "drop", 0.04, -0.1),
            ("paper", cohort, cohort, "auc_within", 0.7, 0.75),  # an interval that does not hold its value
            ("survival", cohort, other, "auc_external", 0.5, 0.4),
            ("survival", None, other, "auc_worst", 0.5, 0.4),
        )
    ]  # fmt: skip
    write("3c_external_validation/sites.csv", external)
    robust = [
        {"cohort": cohort, "part": part, "embedding": "astra.benchmark", "quantity": quantity, "value": value}
        for part, quantity, value in (
            ("retest", "identification rate", 0.9),
            ("retest", "identification rate, low", 0.6),
            ("retest", "identification rate, high", 1.0),
            ("dose", "auc 4", 0.8), ("dose", "auc_low 4", 0.7), ("dose", "auc_high 4", 0.9), ("jitter", "kappa", 0.4),
        )
    ]  # fmt: skip
    write(f"4_robustness/{cohort}.csv", robust)
    maps = [
        {"model": "astra", "cohort": cohort, "encoder": encoder, "method": "occlusion", "measure": name, "value": value,
         "low": None, "high": None, "cases": 2}
        for encoder, name, value in (
            ("astra.benchmark", "auc", 0.8), ("astra.benchmark", "auc_centre", 0.7),
            ("astra.benchmark", "auc_brightness", 0.6), ("astra.benchmark.untrained", "auc", 0.5),
            ("trained against random", "spearman", 0.4), (None, "deletion area", 0.3),
        )
    ]  # fmt: skip
    write("5_saliency/astra.csv", maps)
    models = [
        {"cohort": cohort, "model": name, "title": "A", "quantity": quantity, "value": value}
        for name in NAMES for quantity, value in (("average", 3.0), ("average_low", 2.0), ("average_high", 4.0))
    ]  # fmt: skip
    write(f"6_representation_alignment/{cohort}.csv", models)
    pair = {"first": NAMES[0], "second": NAMES[1], "k": 10, "shared": 3.0, "low": 2.0, "high": 4.0, "chance": 1.0,
            "chance_low": 0.5, "chance_high": 1.5, "p": 0.1, "p_holm": 0.1, "cka": 0.2}  # fmt: skip
    write(f"6_representation_alignment/{cohort}.pairs.csv", [pair])
    timing = {"name": "astra.benchmark", "status": "extracted", "images": 8, "seconds": 4.0, "cohort": cohort}
    write("2_embedding_extraction/astra.timings.csv", [timing, timing | {"images": 0, "cohort": other}])
    return inputs


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run, and the SHA-256 of its embedding tables."""
    folder = tmp_path_factory.mktemp("run")
    return folder, a_run(folder)


def found(record, **wanted):
    """The one measure of a record with these fields."""
    (measure,) = [each for each in record["measures"] if all(each.get(name) == value for name, value in wanted.items())]
    return measure


@pytest.fixture(scope="module")
def collected(run):
    return {exchange.key(record): record for record in exchange.collect(run[0], "us")}


def test_every_table_cohort_and_endpoint_of_a_run_gives_one_record(run, collected):
    assert set(collected) == {
        ("phantom_a", "astra.benchmark", "paper"),
        ("phantom_a", "astra.benchmark.untrained", "paper"),
        ("phantom_a", "clinical", "paper"),
        ("phantom_a", "volume", "paper"),
        ("phantom_b", "astra.benchmark", "survival"),
    }
    astra = collected["phantom_a", "astra.benchmark", "paper"]
    about = ("model", "recipe", "weights", "control", "title", "phantom", "samples", "positives", "contributor")
    assert [astra[name] for name in about] == [
        "astra",
        "benchmark",
        "pretrained",
        None,
        "Astra",
        True,
        8,
        4,
        "us",
    ]
    made_of = set(run[1]) - {"phantom_b/volume.parquet"}
    assert astra["inputs"] == {name: exchange.content(run[0] / "embeddings" / name) for name in made_of}
    assert astra["timings"] == [{"device": "cpu", "precision": "fp32", "images": 8, "seconds_per_patch": 0.5}]
    assert "python" in astra["versions"]
    volume = collected["phantom_a", "volume", "paper"]
    assert (volume["weights"], volume["recipe"], volume["timings"]) == ("none", None, [])
    twin = collected["phantom_a", "astra.benchmark.untrained", "paper"]  # known by its name alone
    assert (twin["model"], twin["weights"], twin["recipe"]) == ("astra", "untrained", "benchmark")
    assert twin["title"].endswith(", untrained") and twin["samples"] == 8
    clinical = collected["phantom_a", "clinical", "paper"]
    assert (clinical["weights"], clinical["control"], len(clinical["measures"])) == ("none", "clinical", 1)
    away = collected["phantom_b", "astra.benchmark", "survival"]
    assert found(away, measure="auc_external")["train"] == "phantom_a.survival"
    assert (away["samples"], away["positives"]) == (6, None)  # labels of the annotations are of another endpoint


def test_measures_come_with_their_stage_their_head_and_their_limits(collected):
    astra = collected["phantom_a", "astra.benchmark", "paper"]
    grouped = found(astra, stage="3", measure="auc_grouped")
    assert (grouped["value"], grouped["low"], grouped["high"], grouped["head"]) == (0.7, 0.6, 0.8, "knn")
    assert found(astra, stage="3", measure="auc_paper")
    assert found(astra, stage="3b", features="both")["value"] == 0.75
    assert not [each for each in astra["measures"] if each["head"] == "few_shot_1"]  # NaN is no measure
    assert found(astra, measure="auc_external") == {
        "stage": "3c", "head": "knn", "features": "embedding", "measure": "auc_external", "value": 0.66, "low": 0.55,
        "high": 0.9, "train": "phantom_b",
    }  # fmt: skip
    within = found(astra, measure="auc_within")
    assert (within["low"], within["high"]) == (None, None) and "left out" in within["note"]
    assert found(astra, measure="identification rate")["high"] == 1.0
    dose = found(astra, stage="4", measure="auc 4")
    assert (dose["value"], dose["low"], dose["high"], dose["head"]) == (0.8, 0.7, 0.9, "dose")
    assert len([each for each in astra["measures"] if each["stage"] == "4"]) == 3
    assert [each["measure"] for each in astra["measures"] if each["stage"] == "5"] == [
        "auc",
        "auc_brightness",
        "auc_centre",
    ]
    shared = found(astra, measure="shared, k=10")
    assert (shared["value"], shared["low"], shared["with"]) == (3.0, 2.0, "volume")
    assert found(astra, measure="average")["high"] == 4.0 and found(astra, measure="cka")["value"] == 0.2
    away = collected["phantom_b", "astra.benchmark", "survival"]
    assert [each["measure"] for each in away["measures"]] == ["auc_external"]  # the worst is made anew of the others


def test_collected_records_are_written_read_and_merged_with_themselves(collected, run, tmp_path):
    records = list(collected.values())
    exchange.write(records, tmp_path / "a")
    assert exchange.read(tmp_path / "a") == sorted(records, key=exchange.place)
    exchange.write(exchange.collect(run[0], "us"), tmp_path / "b")
    merged, report = exchange.merge([tmp_path / "a", tmp_path / "b"])
    assert merged == sorted(records, key=exchange.key) and set(report["outcome"]) == {"identical"}


def test_the_leaderboard_reads_what_was_collected(collected):
    table = leaderboard.rows(list(collected.values())).set_index("table")
    astra = table.loc["astra.benchmark"]
    assert astra["auc_within"] == 0.7 and astra["kappa"] == 0.4 and astra["retest_identification"] == 0.9
    assert (astra["auc_external_worst"], astra["external_on"]) == (0.5, "phantom_a.survival -> phantom_b.survival")
    assert astra["tumour_focus"] == pytest.approx(0.1) and astra["seconds_per_patch"] == 0.5
    assert np.isnan(astra["overlap"])  # beside a control alone


def test_results_of_other_embeddings_than_the_run_holds_are_refused(tmp_path):
    a_run(tmp_path)
    held = embeddings.path_of(tmp_path, "phantom_a", "volume")
    embeddings.write(held, ["s0"], np.ones((1, 2)), artefacts.provenance({"model": "volume"}))
    with pytest.raises(ExchangeError, match=r"phantom_a\.csv: made of other embeddings than .*volume\.parquet holds"):
        exchange.collect(tmp_path)


def test_results_without_provenance_or_that_contradict_each_other_are_refused(tmp_path):
    a_run(tmp_path)
    path = tmp_path / "results" / "3_knn_evaluation" / "phantom_a.csv"
    table = pd.read_csv(path)
    double = pd.concat([table, table.assign(auc=0.65)])
    double.to_csv(path, index=False)
    with pytest.raises(ExchangeError, match=r"auc_paper of astra\.benchmark on phantom_a is 0\.65, elsewhere .* 0\.7"):
        exchange.collect(tmp_path)
    artefacts.provenance_path(path).unlink()
    with pytest.raises(ExchangeError, match=r"no phantom_a\.provenance\.json beside it"):
        exchange.collect(tmp_path)


def test_a_table_that_is_neither_there_nor_named_after_a_model_is_refused(tmp_path):
    rows = [{"model": "mine", "protocol": "grouped", "auc": 0.5, "low": 0.4, "high": 0.6, "title": "Mine", "n": 9,
             "cohort": "phantom_a", "variant": "paper"}]  # fmt: skip
    path = tmp_path / "results" / "3_knn_evaluation" / "phantom_a.csv"
    artefacts.write_csv(path, pd.DataFrame(rows), artefacts.provenance({}, {"phantom_a/mine.parquet": SHA}))
    with pytest.raises(ExchangeError, match="results of 'mine', but no such embedding table"):
        exchange.collect(tmp_path)
    about = {"model": "mine", "recipe": "benchmark", "title": "Mine"}
    held = embeddings.path_of(tmp_path, "phantom_a", "mine")
    embeddings.write(held, ["s"], np.ones((1, 2)), artefacts.provenance(about))
    inputs = {"phantom_a/mine.parquet": artefacts.sha256_of(held)}
    artefacts.write_csv(path, pd.DataFrame(rows), artefacts.provenance({}, inputs))
    (record,) = exchange.collect(tmp_path)
    assert record["model_card"] == {"title": "Mine", "licence": "not stated", "parameters": None}


def test_samples_that_no_result_tells_are_counted_in_the_embeddings_and_positives_in_the_annotations(tmp_path):
    a_run(tmp_path)
    for stage in ("3_knn_evaluation", "3b_beyond_knn", "3c_external_validation", "5_saliency"):
        shutil.rmtree(tmp_path / "results" / stage)
    found = {record["table"]: (record["samples"], record["positives"]) for record in exchange.collect(tmp_path)}
    assert found == {"astra.benchmark": (8, 4), "volume": (8, 4)}  # of two trials each sample counts once


def test_the_content_of_a_table_is_its_samples_trials_and_vectors_and_nothing_else(tmp_path):
    vectors = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)

    def hashed(name, ids="abc", given=vectors, trials=(0, 0, 1), **about):
        return exchange.content(embeddings.write(tmp_path / name, list(ids), given, about, list(trials)))

    first = hashed("a")
    assert first == hashed("b", versions={"numpy": "9"}) and len(first) == 64
    turned = hashed("c", "cba", vectors[::-1], (1, 0, 0))
    assert turned == first  # rows in another order are the same table
    changed = vectors.copy()
    changed[1, 2] = np.nextafter(changed[1, 2], 9, dtype=np.float32)
    others = {hashed("d", given=changed), hashed("e", trials=(0, 1, 0)), hashed("f", "abd"),
              hashed("g", given=vectors[[1, 0, 2]]), hashed("h", given=vectors[:, :3])}  # fmt: skip
    assert len(others | {first}) == 6


def test_machines_with_other_versions_and_the_same_vectors_are_not_in_conflict(tmp_path, collected):
    a_run(tmp_path / "run")
    held = embeddings.path_of(tmp_path / "run", "phantom_a", "volume")
    table = embeddings.read(held)
    old = artefacts.sha256_of(held)
    embeddings.write(held, table.sample_id, table.vectors, table.provenance | {"versions": {"numpy": "9"}}, table.trial)
    new = artefacts.sha256_of(held)
    assert new != old
    for path in (tmp_path / "run" / "results").rglob("*.provenance.json"):
        path.write_text(path.read_text().replace(old, new))
    exchange.write(collected.values(), tmp_path / "a")
    exchange.write(exchange.collect(tmp_path / "run", "us"), tmp_path / "b")
    assert set(exchange.merge([tmp_path / "a", tmp_path / "b"])[1]["outcome"]) == {"identical"}


def test_two_external_pages_of_the_same_cohorts_under_two_endpoints_stand_side_by_side(tmp_path):
    a_run(tmp_path)
    path = tmp_path / "results" / "3c_external_validation" / "sites.csv"
    table = pd.read_csv(path).query("measure == 'auc_external' and test == 'phantom_a'")
    other = table.assign(
        endpoint="two_year", value=0.4, low=0.3, high=0.5, variant="two_year", train_variant="survival"
    )
    artefacts.write_csv(path.with_name("survival.csv"), other, json.loads(artefacts.provenance_path(path).read_text()))
    records = {exchange.key(record): record for record in exchange.collect(tmp_path)}
    assert found(records["phantom_a", "astra.benchmark", "paper"], measure="auc_external")["value"] == 0.66
    away = found(records["phantom_a", "astra.benchmark", "two_year"], measure="auc_external")
    assert (away["value"], away["train"]) == (0.4, "phantom_b.survival")
    other = other.drop(columns="train_variant")
    artefacts.write_csv(path.with_name("survival.csv"), other, json.loads(artefacts.provenance_path(path).read_text()))
    with pytest.raises(ExchangeError, match=r"survival\.csv: no column train_variant says the endpoint rule"):
        exchange.collect(tmp_path)


def test_results_of_pages_that_the_profile_no_longer_has_are_not_collected(run):
    def measured(pages):
        return {(each["stage"], record["cohort"]) for record in exchange.collect(run[0], pages=pages)
                for each in record["measures"]}  # fmt: skip

    assert measured({"3_knn_evaluation": ["phantom_a"], "1_data_curation": ["phantom_b"]}) == {("3", "phantom_a")}
    assert measured({"3_knn_evaluation": ["phantom_b"], "3c_external_validation": ["sites"]}) == {
        ("3c", "phantom_a"), ("3c", "phantom_b")
    }  # fmt: skip
    assert measured({}) == measured(None) and len(measured(None)) == 7
    (record, _) = exchange.collect(run[0], pages={"3_knn_evaluation": ["phantom_a"]})
    assert record["table"] == "astra.benchmark" and record["timings"] == []


def test_a_run_without_results_has_no_records(tmp_path):
    assert exchange.collect(tmp_path) == []
