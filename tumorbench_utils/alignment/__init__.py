"""Representation alignment: do two embeddings find the same tumours alike, more than chance and size would have it?

``neighbours`` finds the nearest samples, ``overlap`` counts those in common, ``chance`` permutes, ``confounds`` asks
about volume and label, ``similarity`` has CKA, ``tables`` puts it together. Arrays in, tidy tables out, no files.
"""

from . import chance, confounds, overlap, similarity
from .base import AlignmentError
from .neighbours import K, nearest, nearest_values, tied
from .overlap import average, curve, matrix, shared
from .similarity import cka
from .tables import Alignment, align, curves_table, models_table, pairs_table

__all__ = [
    "Alignment",
    "AlignmentError",
    "K",
    "align",
    "average",
    "chance",
    "cka",
    "confounds",
    "curve",
    "curves_table",
    "matrix",
    "models_table",
    "nearest",
    "nearest_values",
    "overlap",
    "pairs_table",
    "shared",
    "similarity",
    "tied",
]
