"""The two real lung tumours: fetched whole, and read, measured and placed as their publisher recorded."""

import csv
import tarfile

import numpy as np
import pytest

from tumorbench_utils import artefacts, masks
from tumorbench_utils.cohorts import lung_ct
from tumorbench_utils.imaging import read_ct

# shape, spacing; then as the package itself records them (data/baseline/baseline_shape.csv)
SHAPE = {"lung1": (48, 512, 512), "lung2": (61, 512, 512)}
SPACING = {"lung1": (0.5703125, 0.5703125, 5), "lung2": (0.6269531, 0.6269531, 5)}
CENTROID = {"lung1": (-21.858572, -120.535814, -611.496416), "lung2": (52.608755, -95.868491, -256.495293)}


@pytest.fixture(scope="module")
def recorded():
    """Features of the masks as their publisher computed them: {feature: {image: text}}."""
    lung_ct.fetch()
    archive = artefacts.fetch_sdist("pyradiomics-bhklab==3.1.4", f"{lung_ct.SDIST}.tar.gz", lung_ct.SDIST_SHA256)
    with tarfile.open(archive) as opened:
        lines = opened.extractfile(f"{lung_ct.SDIST}/data/baseline/baseline_shape.csv").read().decode().splitlines()
    return {row["featureName"]: row for row in csv.DictReader(lines)}


@pytest.mark.parametrize("name", SHAPE)
def test_the_tumours_are_read_and_measured_as_published(name, recorded):
    files = lung_ct.fetch()
    ct = read_ct(files[f"{name}_image.nrrd"])
    assert (ct.array.shape, ct.array.dtype, ct.array.min()) == (SHAPE[name], np.int16, -1024)
    np.testing.assert_allclose(ct.spacing, SPACING[name], atol=1e-6)
    mask = masks.read_mask(files[f"{name}_label.nrrd"], ct)
    np.testing.assert_array_equal(masks.largest_component(mask), mask)
    found = masks.tumour(mask, ct)
    assert ct.contains(found.centroid)
    np.testing.assert_allclose(found.centroid, CENTROID[name], atol=1e-5)
    assert found.volume_ml == pytest.approx(float(recorded["original_shape_VoxelVolume"][name]) / 1000, rel=1e-6)
    assert mask.sum() == int(recorded["diagnostics_Mask-original_VoxelNum"][name])
    # theirs ends on the surface mesh, which cuts the corners of the voxels
    theirs = float(recorded["original_shape_Maximum3DDiameter"][name])
    assert 0 < found.diameter_mm - theirs < np.hypot(*ct.spacing[:2])


def test_the_cases_name_files_of_the_cache():
    cases = lung_ct.cases()
    assert list(cases["sample_id"]) == ["lung1", "lung2"]
    for path in [*cases["ct"], *cases["mask"]]:
        assert (artefacts.cache_dir() / path).is_file()
    assert list(lung_ct.COHORT.patient(cases)) == list(lung_ct.COHORT.sample(cases)) == ["lung1", "lung2"]


def test_a_missing_file_is_extracted_again_and_a_changed_one_is_refused(tmp_path, monkeypatch):
    archive = artefacts.cache_dir() / f"{lung_ct.SDIST}.tar.gz"
    lung_ct.fetch()
    monkeypatch.setenv("TUMORBENCH_CACHE", str(tmp_path))
    (tmp_path / archive.name).symlink_to(archive)
    first = lung_ct.fetch()["lung1_label.nrrd"]
    first.unlink()
    (first.parent / ".tmp-1-lung1_label.nrrd").write_bytes(b"what a killed process left")
    assert lung_ct.fetch()["lung1_label.nrrd"] == first
    first.write_bytes(first.read_bytes()[:-1])
    with pytest.raises(artefacts.ArtefactError, match=r"lung1_label\.nrrd: SHA-256 is"):
        lung_ct.fetch()
    assert artefacts.sha256_of(lung_ct.fetch()["lung1_label.nrrd"]) == lung_ct.FILES["lung1_label.nrrd"]
