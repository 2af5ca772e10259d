"""Figures of the book: tables in, figures out, in one style.

``base`` has the style and what every page uses, ``selection``, ``slices`` and ``curation`` the figures of data
curation, ``extraction`` those of a model's page, ``evaluation`` those of the kNN stage.
"""

from .base import (
    CHANCE,
    CONTROL,
    INK,
    MUTED,
    OURS,
    PUBLISHED,
    SECOND,
    STYLE,
    THEMED,
    WIDTH,
    Shown,
    canvas,
    inline_svg,
    provenance,
    table,
)
from .curation import (
    has_follow_up,
    kaplan_meier,
    label_counts,
    manifest_bars,
    raters,
    volumes,
)
from .evaluation import (
    auc_forest,
    auc_heatmap,
    cohort_glance,
    differences,
    roc_bands,
    spread,
    validation_curves,
)
from .extraction import projection, recipes, seed_voxel, seen, spectrum, throughput, turned
from .selection import consort, consort_text
from .slices import axial, montage

__all__ = [
    "CHANCE",
    "CONTROL",
    "INK",
    "MUTED",
    "OURS",
    "PUBLISHED",
    "SECOND",
    "STYLE",
    "THEMED",
    "WIDTH",
    "Shown",
    "auc_forest",
    "auc_heatmap",
    "axial",
    "canvas",
    "cohort_glance",
    "consort",
    "consort_text",
    "differences",
    "has_follow_up",
    "inline_svg",
    "kaplan_meier",
    "label_counts",
    "manifest_bars",
    "montage",
    "projection",
    "provenance",
    "raters",
    "recipes",
    "roc_bands",
    "seed_voxel",
    "seen",
    "spectrum",
    "spread",
    "table",
    "throughput",
    "turned",
    "validation_curves",
    "volumes",
]
