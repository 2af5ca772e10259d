"""The exercises of the workshop: arrays and tables in, tidy tables out; the story is in the notebooks.

``base`` has what every exercise begins with; ``leakage``, ``size``, ``choice`` (of k), ``stability`` and ``alignment``
are the five exercises.
"""

from .base import HEADS, INPUTS, ORIGINAL, VIEWS, Views, WorkshopError, as_published, checked, for_page, tidy, views

__all__ = [
    "HEADS",
    "INPUTS",
    "ORIGINAL",
    "VIEWS",
    "Views",
    "WorkshopError",
    "as_published",
    "checked",
    "for_page",
    "tidy",
    "views",
]
