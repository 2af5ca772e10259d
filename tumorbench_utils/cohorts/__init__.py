"""The cohorts, one short file each.

A new one is a file here, ``COHORTS.register(Cohort(...))`` in a notebook, or a :class:`Cohort` that another package
offers as an entry point of the group ``tumorbench.cohorts``. Images of one's own need none of these: ``own_<name>`` is
a cohort for every name (:mod:`cohorts.own`).
"""

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

GROUP = "tumorbench.cohorts"


class Cohorts(Registry[Cohort]):
    """The registered cohorts, over which it iterates, and any ``own_<name>``, which is made as it is asked for."""

    def get(self, name: str) -> Cohort:
        """The cohort called ``name``, made if it is one's own; an unknown one is an error that lists what there is."""
        if not super().__contains__(name) and own.is_own(name):
            return own.named(name)
        return super().get(name)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or own.is_own(name)


COHORTS = Cohorts(
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
COHORTS.register_installed(GROUP)


def is_phantom(cohort: str) -> bool:
    """Whether the images of the cohort called ``cohort`` are computed, of no patient; an unknown one's are not."""
    return cohort in COHORTS and COHORTS.get(cohort).phantom


__all__ = ["COHORTS", "STUDY", "Cohort", "Endpoint", "is_phantom"]
