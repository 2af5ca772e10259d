"""Figures of the book: tables in, figures out, in one style.

``base`` has the style and what every page uses, ``selection``, ``slices`` and ``curation`` the figures of data
curation, ``extraction`` those of a model's page, ``evaluation`` those of the kNN stage, ``robustness`` and ``stress``
those of robustness, ``saliency``, ``focusing`` and ``viewer`` those of saliency. Figures that only one room of pages
draws are taken from their modules: ``probes``, ``survival``, ``external``, ``alignment``, ``ensembles``,
``leaderboard``, and ``sortable``, the table of the leaderboard.
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
    Several,
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
from .focusing import focus
from .robustness import icc, identification, kappas, retest
from .saliency import DISTANCE, deletion, grid, hu, planes, sanity
from .selection import consort, consort_text
from .slices import axial, montage
from .stress import controls, dose, responses, stressed
from .viewer import Viewer, viewer

__all__ = [
    "CHANCE",
    "CONTROL",
    "DISTANCE",
    "INK",
    "MUTED",
    "OURS",
    "PUBLISHED",
    "SECOND",
    "STYLE",
    "THEMED",
    "WIDTH",
    "Several",
    "Shown",
    "Viewer",
    "auc_forest",
    "auc_heatmap",
    "axial",
    "canvas",
    "cohort_glance",
    "consort",
    "consort_text",
    "controls",
    "deletion",
    "differences",
    "dose",
    "focus",
    "grid",
    "has_follow_up",
    "hu",
    "icc",
    "identification",
    "inline_svg",
    "kaplan_meier",
    "kappas",
    "label_counts",
    "manifest_bars",
    "montage",
    "planes",
    "projection",
    "provenance",
    "raters",
    "recipes",
    "responses",
    "retest",
    "roc_bands",
    "sanity",
    "seed_voxel",
    "seen",
    "spectrum",
    "spread",
    "stressed",
    "table",
    "throughput",
    "turned",
    "validation_curves",
    "viewer",
    "volumes",
]
