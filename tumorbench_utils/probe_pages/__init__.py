"""What the page beyond kNN is made of: tables, figures with captions, closing sentences.

``judging`` holds kNN against the linear probe, ``believing`` is about few labels, calibration and rare outcomes,
``clinic`` about what the clinic knows and whether the tests are honest, ``survival`` about those censored, ``findings``
has the sentences and the results.
"""

from .believing import (
    believed,
    brier_shown,
    calibration_table,
    few_labels,
    few_labels_shown,
    rare_shown,
    rare_table,
    reliability_shown,
)
from .clinic import clinic, clinic_shown, clinic_table, honest, honest_shown
from .findings import findings, rows, save
from .judging import (
    coverage,
    heads_differences,
    heads_shown,
    heads_table,
    heads_words,
    judged,
    write_predictions,
)
from .survival import (
    risk_groups_shown,
    risk_groups_table,
    survival_found,
    survival_lacking,
    survival_left_out,
    survival_shown,
    survival_table,
    survived,
)

__all__ = [
    "believed",
    "brier_shown",
    "calibration_table",
    "clinic",
    "clinic_shown",
    "clinic_table",
    "coverage",
    "few_labels",
    "few_labels_shown",
    "findings",
    "heads_differences",
    "heads_shown",
    "heads_table",
    "heads_words",
    "honest",
    "honest_shown",
    "judged",
    "rare_shown",
    "rare_table",
    "reliability_shown",
    "risk_groups_shown",
    "risk_groups_table",
    "rows",
    "save",
    "survival_found",
    "survival_lacking",
    "survival_left_out",
    "survival_shown",
    "survival_table",
    "survived",
    "write_predictions",
]
