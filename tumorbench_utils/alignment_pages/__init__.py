"""What the alignment page of a cohort is made of: figures with captions, tables, closing sentences.

``study`` has the published overlap, ``showing`` the figures and tables, ``findings`` the sentences and the files,
``combining`` the ensembles, ``device`` where neighbours are searched.
"""

from .combining import combined, combined_found, combined_shown
from .device import device_of
from .findings import findings, save, tidy
from .showing import (
    cka_shown,
    confounds_lacking,
    confounds_shown,
    curves_shown,
    map_shown,
    pairs_shown,
    pairs_words,
    published_shown,
    ties,
    ties_words,
)
from .study import comparison, published_pairs, same_features

__all__ = [
    "cka_shown",
    "combined",
    "combined_found",
    "combined_shown",
    "comparison",
    "confounds_lacking",
    "confounds_shown",
    "curves_shown",
    "device_of",
    "findings",
    "map_shown",
    "pairs_shown",
    "pairs_words",
    "published_pairs",
    "published_shown",
    "same_features",
    "save",
    "tidy",
    "ties",
    "ties_words",
]
