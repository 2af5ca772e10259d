"""Two real thorax CTs with a lung tumour: the test images of pyradiomics. No endpoint."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pandas as pd

from .. import artefacts
from .base import Cohort, column

SDIST = "pyradiomics_bhklab-3.1.4"  # its files are those of pyradiomics 3.0.1, whose own build script needs old tools
SDIST_SHA256 = "a44a087efc4ede91b5dfa5cf0de58ea3596bfaec1ef2484f278504b0a8fd5ffb"
FILES = {
    "lung1_image.nrrd": "379fa48bf34cfa961e6f5ec19c0c38757a30b9aa884212ef28dc29b5061c64ed",
    "lung1_label.nrrd": "e9d9a88054d7bc1d3034193ff907ce6b8c6ba28a7bc3a16f23728982d1b6b50a",
    "lung2_image.nrrd": "aa2b94eec79127ed786798ac8dc3c013010e1692d5787bebfae1a1e9685a4651",
    "lung2_label.nrrd": "cef52738dc51aab69a48fe30639da956d2b911b1c2920439c091fab84727657a",
}

COHORT = Cohort(
    id="lung_ct",
    title="Two lung tumour CTs (pyradiomics)",
    anatomy="lung",
    size="2 patients",
    source="package index, source distribution of `pyradiomics-bhklab` 3.1.4",
    doi="10.1158/0008-5472.CAN-17-0339",
    licence="BSD 3-Clause",
    citation="vangriethuysen2017pyradiomics",
    seed_rule="centroid of the largest component of the tumour",
    endpoints={},
    patient=column("patient_id"),
    sample=column("sample_id"),
)


def fetch() -> dict[str, Path]:
    """The four NRRD files (30 MB) by name, ``lung1_image.nrrd`` and so on, in the cache, each of its known SHA-256."""
    folder = artefacts.cache_dir() / COHORT.id
    missing = [name for name in FILES if not (folder / name).exists()]
    if missing:
        archive = artefacts.fetch_sdist("pyradiomics-bhklab==3.1.4", f"{SDIST}.tar.gz", SDIST_SHA256)
        with tarfile.open(archive) as opened:
            for name in missing:
                with artefacts.atomic_path(folder / name) as temporary:
                    temporary.write_bytes(opened.extractfile(f"{SDIST}/data/{name}").read())
    return {name: artefacts.check_sha256(folder / name, digest, str(folder / name)) for name, digest in FILES.items()}


def cases() -> pd.DataFrame:
    """Columns sample_id, patient_id, ct and mask, the two paths relative to :func:`artefacts.cache_dir`. Fetches."""
    fetch()
    names = ("lung1", "lung2")
    files = {"ct": "image", "mask": "label"}
    columns = {role: [f"{COHORT.id}/{name}_{kind}.nrrd" for name in names] for role, kind in files.items()}
    return pd.DataFrame({"sample_id": names, "patient_id": names, **columns})
