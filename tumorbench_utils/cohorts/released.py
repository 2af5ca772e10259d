"""The cohort tables that the study's authors released: source rows of five cohorts and RIDER, in their order.

They lie in the source distribution of tumorimagingbench 0.1.4 (58 MB, MIT; the images' own licences hold for what
they were made from). DLCS has none there.
"""

from __future__ import annotations

import tarfile
from functools import cache

import pandas as pd

from .. import artefacts

SDIST = "tumorimagingbench-0.1.4"
SHA256 = "5a55c35ef64565da5b01b18574d60e375a500ba3003f46d89ef6813b20c5f233"
SPLITS = ("train", "val", "test")
TABLES = {
    "luna16": [f"luna16/luna16/{split}.csv" for split in SPLITS],
    "nsclc_radiomics": [f"nsclc_radiomics/{split}_annotations.csv" for split in SPLITS],
    "nsclc_radiogenomics": [f"nsclc_radiogenomics/{split}_annotations.csv" for split in SPLITS],
    "c4kc_kits": ["c4c-kits/data.csv"],
    "colorectal_liver_metastases": ["colorectal_liver_metastases/data.csv"],
    "rider": ["rider/annotations.csv"],
}


@cache
def rows(cohort: str) -> pd.DataFrame:
    """Source rows of a cohort, train, validation and test in that order; LookupError names those there are."""
    if cohort not in TABLES:
        raise LookupError(f"no released table of {cohort}. There are: {', '.join(TABLES)}")
    archive = artefacts.fetch_sdist("tumorimagingbench==0.1.4", f"{SDIST}.tar.gz", SHA256)
    with tarfile.open(archive) as opened:
        members = [opened.extractfile(f"{SDIST}/data/eval/{name}") for name in TABLES[cohort]]
        return pd.concat([pd.read_csv(member) for member in members], ignore_index=True)
