"""The leaderboard: who is best, how sure that is, and which model the evidence supports for a task.

``ranking`` ranks models over cohorts, ``comparing`` says which differences count, ``assembling`` puts all that is known
of a model side by side, ``choosing`` answers which model a task calls for. Tables in, tables out, no files.
"""

from .assembling import external, label, measures, pretraining, rows, within
from .base import ALPHA, CONTROLS, LeaderboardError, matrix
from .choosing import Choice, Task, choose
from .comparing import Friedman, cliques, critical_difference, friedman, names_of, versus
from .ranking import Ranks, rank_draws, ranks

__all__ = [
    "ALPHA",
    "CONTROLS",
    "Choice",
    "Friedman",
    "LeaderboardError",
    "Ranks",
    "Task",
    "choose",
    "cliques",
    "critical_difference",
    "external",
    "friedman",
    "label",
    "matrix",
    "measures",
    "names_of",
    "pretraining",
    "rank_draws",
    "ranks",
    "rows",
    "versus",
    "within",
]
