"""Handcrafted radiomic features, as the Image Biomarker Standardisation Initiative (IBSI) defines them."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .base import Control, Sample

BIN_HU = 25.0  # width of a grey level, fixed, as is usual for CT
LEAST = 64  # voxels; of fewer, texture means nothing
GLCM = """Autocorrelation ClusterProminence ClusterShade ClusterTendency Contrast Correlation DifferenceAverage
    DifferenceEntropy DifferenceVariance Id Idm Idmn Idn Imc1 Imc2 InverseVariance JointAverage JointEnergy JointEntropy
    MaximumProbability SumAverage SumEntropy SumSquares"""
GLSZM = """SmallAreaEmphasis LargeAreaEmphasis GrayLevelNonUniformity GrayLevelNonUniformityNormalized
    ZoneSizeNonUniformity ZoneSizeNonUniformityNormalized ZonePercentage LowGrayLevelZoneEmphasis
    HighGrayLevelZoneEmphasis SmallAreaLowGrayLevelEmphasis SmallAreaHighGrayLevelEmphasis
    LargeAreaLowGrayLevelEmphasis LargeAreaHighGrayLevelEmphasis GrayLevelVariance ZoneSizeVariance ZoneEntropy"""
GLDM = """SmallDependenceEmphasis LargeDependenceEmphasis GrayLevelNonUniformity GrayLevelNonUniformityNormalized
    DependenceNonUniformity DependenceNonUniformityNormalized LowGrayLevelEmphasis HighGrayLevelEmphasis
    SmallDependenceLowGrayLevelEmphasis SmallDependenceHighGrayLevelEmphasis LargeDependenceLowGrayLevelEmphasis
    LargeDependenceHighGrayLevelEmphasis GrayLevelVariance DependenceVariance DependenceEntropy"""
FEATURES = {  # by the library's names; left out is what is not of the IBSI, what differs from it, and what is twice
    "shape": """MeshVolume VoxelVolume SurfaceArea SurfaceVolumeRatio Sphericity Maximum3DDiameter MajorAxisLength
    MinorAxisLength LeastAxisLength Elongation Flatness""",
    "firstorder": """Mean Variance Skewness Kurtosis Median Minimum 10Percentile 90Percentile Maximum InterquartileRange
    Range MeanAbsoluteDeviation RobustMeanAbsoluteDeviation Energy RootMeanSquared Entropy Uniformity""",
    "glcm": GLCM,
    "glszm": GLSZM,
    "gldm": GLDM,
    "ngtdm": "Coarseness Contrast Busyness Complexity Strength",
}


def names() -> tuple[str, ...]:
    """The features, each opened by its class, such as ``glcm_JointEntropy``."""
    return tuple(f"{kind}_{name}" for kind, listed in FEATURES.items() for name in listed.split())


def features(sample: Sample) -> np.ndarray:
    """Shape, intensities and texture of what the mask marks in the patch, in the order of :func:`names`.

    Lengths are in mm, intensities in HU; grey levels are ``BIN_HU`` wide. :class:`ValueError` with the reason if there
    is no mask, if it marks fewer than ``LEAST`` voxels or reaches the border of the patch, which may cut the tumour
    off, or if a feature is not defined, as in an even grey.
    """
    if sample.mask is None:
        raise ValueError("no mask: radiomic features are of the voxels of a mask")
    if sample.mask.sum() < LEAST:
        raise ValueError(f"the mask marks {int(sample.mask.sum())} voxels of the patch, must be {LEAST} or more")
    inner = sample.mask[1:-1, 1:-1, 1:-1]
    if inner.sum() < sample.mask.sum():
        raise ValueError(f"the tumour reaches the border of its patch of {sample.mask.shape} voxels")
    found = computed(sample.patch, sample.mask, sample.spacing, BIN_HU)
    undefined = [name for name, value in zip(names(), found, strict=True) if not np.isfinite(value)]
    if undefined:
        raise ValueError(f"{len(undefined)} features are not defined in this mask, the first is {undefined[0]}")
    return found


def computed(patch: np.ndarray, mask: np.ndarray, spacing: tuple[float, float, float], width: float) -> np.ndarray:
    """The features of any grey values with grey levels ``width`` wide."""
    import numpyradiomics as library

    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    grey, drawn = (np.pad(array[box], 1) for array in (patch.astype(float), mask.astype(np.uint8)))
    of = {"shape": library.shape(drawn, spacing, extend=False)}
    with np.errstate(invalid="ignore", divide="ignore"):  # what is not defined is named by the caller
        for kind in list(FEATURES)[1:]:
            of[kind] = getattr(library, kind)(grey, drawn, binWidth=width)
    return np.array([of[kind][name] for kind, listed in FEATURES.items() for name in listed.split()], float)


MODEL = Control(
    id="radiomics",
    title="Radiomics (handcrafted)",
    features=features,
    names=names,
    needs_mask=True,
    standardise=True,
    architecture="shape, first-order and texture features",
    code_licence="Apache-2.0",
    citation="zwanenburg2020ibsi",
    note="A control: what tumours were described by before there were foundation models. It alone is given the mask. "
    "Run lengths are left out, in which numpyradiomics 0.0.5 differs from the IBSI's reference values.",
)
