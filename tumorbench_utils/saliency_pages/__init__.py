"""What the saliency page of a model is made of: maps held against tumours, figures with captions, closing sentences.

``cases`` has the maps drawn and the tumours they are of, ``measures`` the tables, ``showing`` the figures, ``findings``
the sentences.
"""

from .cases import (
    Case,
    Mapped,
    beside,
    cases,
    draw,
    entitled,
    first,
    inputs,
    left_out,
    lost_shown,
    marked,
    provide,
    same_tumour,
    times,
    times_shown,
    told,
)
from .findings import findings, settings
from .measures import STEPS, Curves, deletions, focus_table, paired, sanity_table, summary, tidy
from .showing import MOST, deletion_shown, focus_shown, grid_shown, hu_shown, planes_shown, sanity_shown, viewer_shown

__all__ = [
    "MOST",
    "STEPS",
    "Case",
    "Curves",
    "Mapped",
    "beside",
    "cases",
    "deletion_shown",
    "deletions",
    "draw",
    "entitled",
    "findings",
    "first",
    "focus_shown",
    "focus_table",
    "grid_shown",
    "hu_shown",
    "inputs",
    "left_out",
    "lost_shown",
    "marked",
    "paired",
    "planes_shown",
    "provide",
    "same_tumour",
    "sanity_shown",
    "sanity_table",
    "settings",
    "summary",
    "tidy",
    "times",
    "times_shown",
    "told",
    "viewer_shown",
]
