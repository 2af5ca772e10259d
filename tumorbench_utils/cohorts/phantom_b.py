"""PHANTOM, site B: noisier images, a sharp kernel, larger nodules than at site A, of which 60 % are malignant."""

from dataclasses import replace

from . import phantom

COHORT = replace(
    phantom.COHORT,
    id="phantom_b",
    title="PHANTOM, site B",
    made={"sites": ("b",), "seed": 7},  # other patients than those of the other cohorts
)
