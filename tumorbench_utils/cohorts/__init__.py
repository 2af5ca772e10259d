"""The cohorts, one short file each. A new one is a file here or ``COHORTS.register(Cohort(...))`` in a notebook."""

from ..registry import Registry
from . import (
    c4kc_kits,
    colorectal_liver_metastases,
    dlcs,
    luna16,
    lung_ct,
    nsclc_radiogenomics,
    nsclc_radiomics,
    own,
    phantom,
    phantom_a,
    phantom_b,
    phantom_retest,
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
STUDY = tuple(COHORTS)  # the cohorts of the study; the following are for trying things out
COHORTS.register(lung_ct.COHORT)
COHORTS.register(phantom.COHORT)
COHORTS.register(phantom_retest.COHORT)
COHORTS.register(phantom_a.COHORT)
COHORTS.register(phantom_b.COHORT)
COHORTS.register(own.COHORT)


def is_phantom(cohort: str) -> bool:
    """Whether the images of the cohort called ``cohort`` are computed, of no patient; an unknown one's are not."""
    return cohort in COHORTS and COHORTS.get(cohort).phantom


__all__ = ["COHORTS", "STUDY", "Cohort", "Endpoint", "is_phantom"]
