"""Robustness: would the number survive another scan, another reader, another protocol?

``agreement`` has the measures, ``retest`` holds two scans of a patient against each other, ``jitter`` asks what becomes
of predictions when the seed point or the patch is another, ``negatives`` holds an embedding against its negative
controls. ``perturbations`` and ``controls`` alter patches. Arrays in, tidy tables out, no files.
"""

from . import agreement, jitter, negatives, retest
from .agreement import RobustnessError
from .jitter import HeldOut, StudyKappa
from .retest import Pairs, Retest

__all__ = [
    "HeldOut",
    "Pairs",
    "Retest",
    "RobustnessError",
    "StudyKappa",
    "agreement",
    "jitter",
    "negatives",
    "retest",
]
