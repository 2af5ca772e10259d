"""What a page of external validation is made of: cohorts read, tables, figures with captions, closing sentences.

``reading`` labels the cohorts alike and counts who is left out, ``showing`` has tables and figures, ``findings`` the
sentences and the results.
"""

from .findings import findings, predictions_path, results, save
from .reading import ENDPOINTS, Page, inputs, labelled, provide, read
from .showing import (
    apart_shown,
    apart_table,
    calibration_table,
    choices_table,
    cohorts_shown,
    cohorts_table,
    compared_shown,
    drift_table,
    drops_shown,
    drops_table,
    enough,
    judged,
    left_out_table,
    rescaled_table,
    worst,
    worst_shown,
)

__all__ = [
    "ENDPOINTS",
    "Page",
    "apart_shown",
    "apart_table",
    "calibration_table",
    "choices_table",
    "cohorts_shown",
    "cohorts_table",
    "compared_shown",
    "drift_table",
    "drops_shown",
    "drops_table",
    "enough",
    "findings",
    "inputs",
    "judged",
    "labelled",
    "left_out_table",
    "predictions_path",
    "provide",
    "read",
    "rescaled_table",
    "results",
    "save",
    "worst",
    "worst_shown",
]
