"""The released pipeline (tumorimagingbench 0.1.4, ``get_transforms``) on MONAI's own transforms, to compare with.

The crop, which comes from another package there, is written anew from its description: the seed goes through the
inverse of the image's affine, is truncated to integers, and the box around it is clamped to the image.
"""

import warnings

import numpy as np

from tumorbench_utils.models.base import monai_alone

AIR = -1024
L, M = (AIR, 2048), (-1000, 1000)  # windows, HU
RECIPES = {  # axes, window, spacing, size of the ten models, in the order of the study's first table
    "fmcib": ("SPL", L, (1, 1, 1), 48),
    "ct_fm": ("SPL", L, (1, 1, 1), 48),
    "ct_clip": ("SLP", M, (1.5, 0.75, 0.75), 60),
    "pasta": ("LPS", L, (1, 1, 1), 48),
    "vista3d": ("RAS", L, (1, 1, 1), 48),
    "voco": ("RAS", L, (1, 1, 1), 64),
    "suprem": ("RAS", L, (1, 1, 1), 48),
    "merlin": ("RAS", M, (1, 1, 1), 48),
    "medimageinsight": ("LPS", M, (1, 1, 1), 48),
    "models_genesis": ("RAS", L, (1, 1, 1), 48),
}


def tensor(volume):
    """A volume as MONAI holds it after loading: (1, x, y, z) float32 with an index-to-RAS affine."""
    import torch

    with monai_alone():
        from monai.data import MetaTensor

    affine = np.eye(4)
    affine[:3, :3] = np.diag([-1, -1, 1]) @ (volume.direction * volume.spacing)
    affine[:3, 3] = np.diag([-1, -1, 1]) @ volume.origin
    voxels = torch.as_tensor(np.ascontiguousarray(volume.array.T), dtype=torch.float32)
    return MetaTensor(voxels[None], affine=torch.as_tensor(affine))


def resample(image, spacing):
    """The whole volume on the released grid."""
    from monai.transforms import Orientation, Spacing

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of MONAI about its own defaults
        image = Orientation("LPS")(image)
        return Spacing(spacing, mode="bilinear", padding_mode="zeros", align_corners=True, diagonal=True)(image)


def patch(resampled, seed, size, axes, window=None):
    """The patch around an LPS seed: HU padded with air, or scaled by ``window`` to [0, 1] and padded with 0; None if
    it lies outside."""
    from monai.transforms import Orientation, ScaleIntensityRange, SpatialPad

    centre = np.linalg.inv(resampled.affine.numpy()) @ np.array((-seed[0], -seed[1], seed[2], 1))
    centre = [int(value) for value in centre[:3]]
    box = [
        slice(max(c - size // 2, 0), min(c + size // 2, n)) for c, n in zip(centre, resampled.shape[1:], strict=True)
    ]
    if any(each.start >= each.stop for each in box):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cut = Orientation(axes)(resampled[(slice(None), *box)])
    if window is None:
        return SpatialPad((size,) * 3, value=AIR)(cut)[0].numpy()
    return SpatialPad((size,) * 3)(ScaleIntensityRange(*window, 0, 1, clip=True)(cut))[0].numpy()
