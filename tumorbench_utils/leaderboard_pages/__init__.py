"""What the page of the leaderboard is made of: records gathered, figures with captions, the table, sentences.

``gathering`` collects and merges, ``standing`` has the ranks of each source (the study, this run on patients, on
phantoms), ``showing`` draws them, ``findings`` has the table, sentences and files, ``choosing`` the page "Which model
for my task?".
"""

from .choosing import answers, which_model
from .findings import findings, lacking, merged_table, nothing_yet, save, table_shown
from .gathering import Board, gathered, inputs, left_out
from .showing import (
    critical_shown,
    each,
    facets_shown,
    heat_shown,
    mean_shown,
    trajectories_shown,
    wins_shown,
)
from .standing import Standing, study

__all__ = [
    "Board",
    "Standing",
    "answers",
    "critical_shown",
    "each",
    "facets_shown",
    "findings",
    "gathered",
    "heat_shown",
    "inputs",
    "lacking",
    "left_out",
    "mean_shown",
    "merged_table",
    "nothing_yet",
    "save",
    "study",
    "table_shown",
    "trajectories_shown",
    "which_model",
    "wins_shown",
]
