"""Figures of the book: tables in, figures out, in one style.

``base`` has the style and what every page uses, ``selection``, ``slices`` and ``curation`` the figures of data
curation, ``evaluation`` those of the kNN stage.
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
    "provenance",
    "raters",
    "roc_bands",
    "spread",
    "table",
    "validation_curves",
    "volumes",
]
