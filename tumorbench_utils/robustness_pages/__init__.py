"""What the robustness page of a cohort is made of: tables read, figures with captions, closing sentences.

``rescan`` is about test and retest, ``readers`` about jittered seed points, ``stressing``
about perturbed patches and negative controls, ``findings`` has the sentences.
"""

from .findings import findings, save
from .readers import (
    dose,
    dose_shown,
    held_out,
    jittered,
    kappa_table,
    kappas_shown,
    study_kappas,
)
from .rescan import (
    icc_shown,
    identification_shown,
    retest_cosines,
    retest_published,
    retest_shown,
    retest_table,
    retest_verdicts,
    retested,
)
from .stressing import (
    controls_shown,
    perturbed,
    published_controls,
    responses,
    responses_shown,
    scramble_table,
    scrambled,
    stress_left_out,
    tiles_shown,
    tumour_share,
)

__all__ = [
    "controls_shown",
    "dose",
    "dose_shown",
    "findings",
    "held_out",
    "icc_shown",
    "identification_shown",
    "jittered",
    "kappa_table",
    "kappas_shown",
    "perturbed",
    "published_controls",
    "responses",
    "responses_shown",
    "retest_cosines",
    "retest_published",
    "retest_shown",
    "retest_table",
    "retest_verdicts",
    "retested",
    "save",
    "scramble_table",
    "scrambled",
    "stress_left_out",
    "study_kappas",
    "tiles_shown",
    "tumour_share",
]
