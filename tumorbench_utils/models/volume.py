"""Tumour volume as an embedding: the plainest description there is, and hard to beat for prognosis."""

from __future__ import annotations

import numpy as np

from .base import Control, Sample

DECADES = (-4.0, 5.0)  # log10 of the volumes in ml that lie between the ends: from a voxel to a whole body


def features(sample: Sample) -> np.ndarray:
    """The volume as a direction (cos t, sin t), whose angle t in (0, pi/2) is a straight function of its logarithm.

    Nearest neighbours are found by cosine distance here, in which all positive numbers are one. Between directions it
    is 1 - cos of the difference of angles, which grows with the difference of log volumes. ``volume_ml`` of the
    annotation is read; :class:`ValueError` if there is none, or if it is not positive or beyond ``DECADES``.
    """
    volume = sample.annotation.get("volume_ml")
    if volume is None or np.isnan(volume):
        raise ValueError("no volume_ml in the annotation")
    low, high = DECADES
    if not 10**low < volume < 10**high:
        raise ValueError(f"volume_ml is {volume:g}, must lie between {10**low:g} and {10**high:g} ml")
    angle = (np.log10(volume) - low) / (high - low) * np.pi / 2
    return np.array([np.cos(angle), np.sin(angle)])


MODEL = Control(
    id="volume",
    title="Tumour volume",
    features=features,
    names=lambda: ("volume_cos", "volume_sin"),
    architecture="log volume as an angle",
    note="A control: a model that is no better may have learnt no more than size.",
)
