"""What is known of a foundation model before a weight is loaded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Model:
    """A CT foundation model of the study.

    ``released_name`` is the class name under which the authors' released features file it, ``dim`` the length of
    its embedding under the ``benchmark`` recipe, ``parameters_paper`` and ``parameters_encoder`` millions of
    parameters as the paper counts them and in the encoder that gives the embedding. ``overlap`` says which cohorts of
    the study are, or may be, in the pretraining data.
    """

    id: str
    title: str
    year: int
    released_name: str
    dim: int
    objective: str
    architecture: str
    pretraining: str
    parameters_paper: float
    parameters_encoder: float
    code_licence: str
    weights_licence: str
    citation: str
    overlap: str = "none known"
