"""PHANTOM, site A: patients of a scanner of little noise and a smooth kernel; 40 % of their nodules are malignant."""

from dataclasses import replace

from . import phantom

COHORT = replace(
    phantom.COHORT,
    id="phantom_a",
    title="PHANTOM, site A",
    made={"sites": ("a",), "seed": 3},  # other patients than those of the other cohorts
)
