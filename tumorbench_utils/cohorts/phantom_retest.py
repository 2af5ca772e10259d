"""PHANTOM, test and retest: phantoms that lie in the scanner twice, as the patients of RIDER do. No endpoint."""

from dataclasses import replace

from . import phantom

COHORT = replace(
    phantom.COHORT,
    id="phantom_retest",
    title="PHANTOM, test and retest",
    size="two scans of each patient",
    seed_rule="centroid of the nodule of each scan",
    endpoints={},
    time_days=None,
    event=None,
)
