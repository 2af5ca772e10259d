"""Handcrafted radiomic features of the tumour, as the Image Biomarker Standardisation Initiative (IBSI) defines them."""

from __future__ import annotations

import numpy as np

from .base import Control, Sample

BIN_HU = 25.0  # width of the grey levels, fixed, as is usual for CT
LEAST = 64  # voxels, below which texture means nothing
CLASSES = ("shape", "firstorder", "glcm", "glrlm", "glszm", "gldm", "ngtdm")


def features(sample: Sample) -> np.ndarray:
    """Size and shape, intensities and texture within the mask, in the order of :func:`names`.

    :class:`ValueError` with the reason if there is no mask, or if it holds fewer than ``LEAST`` voxels.
    """
    found = _computed(sample.patch, sample.mask, sample.spacing)
    return np.array(list(found.values()))


def names() -> tuple[str, ...]:
    """The features, each opened by its class, such as "glcm:joint_entropy"."""
    cube = np.zeros((8, 8, 8), bool)
    cube[2:6, 2:6, 2:6] = True
    return tuple(_computed(np.arange(512).reshape(8, 8, 8), cube, (1.0, 1.0, 1.0)))


def _computed(patch: np.ndarray, mask: np.ndarray | None, spacing: tuple[float, float, float]) -> dict[str, float]:
    import torch
    from fastrad import FeatureExtractor, FeatureSettings, Mask, MedicalImage

    if mask is None:
        raise ValueError("no mask: radiomic features are of the voxels of a mask")
    if mask.sum() < LEAST:
        raise ValueError(f"the mask holds {int(mask.sum())} voxels in the patch, {LEAST} are needed")
    settings = FeatureSettings(feature_classes=list(CLASSES), bin_width=BIN_HU, device="cpu")
    grey, drawn = (torch.as_tensor(np.ascontiguousarray(each), dtype=torch.float64) for each in (patch, mask))
    return FeatureExtractor(settings).extract(MedicalImage(grey, spacing), Mask(drawn, spacing))


MODEL = Control(
    id="radiomics",
    title="Radiomics (handcrafted)",
    features=features,
    names=names,
    needs_mask=True,
    standardise=True,
    architecture="shape, first order and texture features",
    code_licence="Apache-2.0",
    citation="zwanenburg2020ibsi",
    note="A control: what was computed from tumours before there were foundation models. It alone sees the mask.",
)
