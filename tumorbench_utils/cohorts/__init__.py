"""The cohorts, one short file each. A new one is a file here or ``COHORTS.register(Cohort(...))`` in a notebook."""

from ..registry import Registry
from . import (
    c4kc_kits,
    colorectal_liver_metastases,
    dlcs,
    luna16,
    nsclc_radiogenomics,
    nsclc_radiomics,
    rider,
)
from .base import Cohort, Endpoint

COHORTS: Registry[Cohort] = Registry(
    "cohort",
    (
        luna16.COHORT,
        dlcs.COHORT,
        nsclc_radiomics.COHORT,
        nsclc_radiogenomics.COHORT,
        c4kc_kits.COHORT,
        colorectal_liver_metastases.COHORT,
        rider.COHORT,
    ),
)

__all__ = ["COHORTS", "Cohort", "Endpoint"]
