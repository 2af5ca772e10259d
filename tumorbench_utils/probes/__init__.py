"""Judges of frozen embeddings beside kNN, and how far their verdicts can be believed.

``linear`` logistic regression, ``few_shot`` a handful of labels, ``clinical`` what the clinic knows already,
``survival`` those censored too, ``external`` another cohort; ``calibration`` whether a probability is one, ``null``
whether the tests keep their promise.
"""

from . import calibration, clinical, external, few_shot, linear, null, survival
from .linear import ProbeError

__all__ = ["ProbeError", "calibration", "clinical", "external", "few_shot", "linear", "null", "survival"]
