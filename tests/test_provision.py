"""What a later notebook needs of data curation: made for the open cohorts, asked for otherwise."""

import dataclasses
import json
import shutil

import pandas as pd
import pytest

from tumorbench_utils import annotations, artefacts, bank, provision
from tumorbench_utils.bank import Bank
from tumorbench_utils.models import geometries
from tumorbench_utils.patches import BENCHMARK, Geometry

SMALL = Geometry("small", (2, 2, 2), (16, 16, 16), "exact")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the two real CTs, with one grid of the benchmark."""
    folder = tmp_path_factory.mktemp("run")
    provision.ensure(folder, "lung_ct", BENCHMARK[:1], workers=1)
    return folder


def test_the_two_real_tumours_get_table_bank_and_masks(run):
    table = annotations.read(annotations.path_of(run, "lung_ct")).set_index("sample_id")
    found = Bank(bank.path_of(run, "lung_ct", "iso_1mm"))
    assert sorted(found.rows["sample_id"]) == ["lung1", "lung2"] == sorted(table.index)
    for row in found.rows.itertuples():
        mask = found.mask(row, (48, 48, 48))
        assert mask[24, 24, 24] or mask[22:27, 22:27, 22:27].any()
        assert (
            mask.sum() / 1000 == pytest.approx(table["volume_ml"][row.sample_id], rel=0.1) or row.sample_id == "lung2"
        )


def test_what_is_there_is_left_alone_and_only_what_lacks_is_made(run):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    provision.ensure(run, "lung_ct", [*BENCHMARK[:1], SMALL], workers=1)
    after = {path: path.stat().st_mtime_ns for path in run.rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before
    assert len(Bank(bank.path_of(run, "lung_ct", "small")).rows) == 2
    shutil.rmtree(bank.path_of(run, "lung_ct", "small"))


def test_phantoms_are_as_many_as_data_curation_made(tmp_path, monkeypatch):
    monkeypatch.setitem(provision.OPEN, "phantom", {"cases": 1, "retests": 1})
    provision.ensure(tmp_path, "phantom", [SMALL], workers=1)
    monkeypatch.setitem(provision.OPEN, "phantom", {"cases": 5, "retests": 1})
    provision.ensure(tmp_path, "phantom", BENCHMARK[:1], workers=1)
    assert len(pd.read_csv(tmp_path / "images" / "phantom" / "cases.csv")) == 2
    kept = [len(Bank(bank.path_of(tmp_path, "phantom", each)).rows) for each in ("small", "iso_1mm")]
    assert kept == [1, 1]  # a retest has no label of its own
    assert len(annotations.read(annotations.path_of(tmp_path, "phantom"))) == 1


def test_phantoms_scanned_twice_have_images_of_their_own_and_no_label(tmp_path, monkeypatch):
    assert provision.OPEN["phantom_retest"] == {"cases": 12, "retests": 12}
    monkeypatch.setitem(provision.OPEN, "phantom_retest", {"cases": 1, "retests": 1})
    provision.ensure(tmp_path, "phantom_retest", [SMALL], workers=1)
    table = annotations.read(annotations.path_of(tmp_path, "phantom_retest"))
    assert table["patient_id"].value_counts().tolist() == [2] and table["label"].isna().all()
    assert table["volume_ml"].notna().all() and annotations.read_excluded(tmp_path, "phantom_retest").empty
    found = Bank(bank.path_of(tmp_path, "phantom_retest", "small")).rows
    assert sorted(found["sample_id"]) == sorted(table["sample_id"]) and set(found["mask_reason"]) == {""}
    assert [path.name for path in (tmp_path / "images").iterdir()] == ["phantom_retest"]
    record = artefacts.provenance_path(annotations.path_of(tmp_path, "phantom_retest")).read_text()
    assert json.loads(record)["parameters"]["images"] == "phantom"


def test_a_lacking_bank_gets_the_jittered_seed_points_of_the_others(tmp_path):
    provision.ensure(tmp_path, "lung_ct", [SMALL], workers=1)
    table = annotations.read(annotations.path_of(tmp_path, "lung_ct"))
    shutil.rmtree(bank.path_of(tmp_path, "lung_ct", "small"))
    images = provision._images(tmp_path, "lung_ct", 1)
    bank.build(tmp_path, "lung_ct", bank.seed_points(table, trials=2), [SMALL], root=images.root, workers=1)
    provision.ensure(tmp_path, "lung_ct", [SMALL, BENCHMARK[1]], workers=1)
    kept = [Bank(bank.path_of(tmp_path, "lung_ct", each)).rows for each in ("small", "ct_clip")]
    seeds = [rows.set_index(["sample_id", "trial"]).sort_index()[["x", "y", "z"]] for rows in kept]
    assert len(seeds[0]) == 6
    pd.testing.assert_frame_equal(*seeds)


def test_another_cohort_is_asked_for_with_the_notebook_s_parameters(tmp_path):
    with pytest.raises(provision.ProvisionError, match=r"1_data_curation.ipynb with cohort=rider.*\['iso_1mm', 'ct_cl"):
        provision.ensure(tmp_path, "rider", BENCHMARK)
    assert not list(tmp_path.iterdir())


def test_the_grids_of_recipes_have_distinct_ids_and_fit_their_recipes():
    assert list(geometries())[:2] == ["iso_1mm", "ct_clip"]
    assert all(name == grid.id for name, grid in geometries().items())


def test_jittered_seed_points_go_into_banks_of_the_released_sampling_alone(tmp_path):
    small = dataclasses.replace(SMALL, sampling="released")
    exact = dataclasses.replace(SMALL, id="exact")
    provision.ensure(tmp_path, "lung_ct", [exact, small], workers=1, trials=2, jitter_mm=[4.0, 8.0])
    rows = {name: Bank(bank.path_of(tmp_path, "lung_ct", name)).rows for name in ("small", "exact")}
    assert sorted(rows["small"]["trial"].unique()) == [0, 1, 2, 3, 4] and len(rows["small"]) == 10
    assert list(rows["exact"]["trial"]) == [0, 0]
    annotated = rows["small"].query("trial == 0")[["x", "y", "z"]].to_numpy()
    assert (rows["exact"][["x", "y", "z"]].to_numpy() == annotated).all()
    provision.ensure(tmp_path, "lung_ct", [BENCHMARK[1]], workers=1)
    assert len(Bank(bank.path_of(tmp_path, "lung_ct", "ct_clip")).rows) == 10
