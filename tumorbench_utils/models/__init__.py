"""The ten foundation models of the study, one short file each, in the order of its first table."""

from ..registry import Registry
from . import (
    ct_clip,
    ct_fm,
    fmcib,
    medimageinsight,
    merlin,
    models_genesis,
    pasta,
    suprem,
    vista3d,
    voco,
)
from .base import Model

MODELS: Registry[Model] = Registry(
    "model",
    (
        fmcib.MODEL,
        ct_fm.MODEL,
        ct_clip.MODEL,
        pasta.MODEL,
        vista3d.MODEL,
        voco.MODEL,
        suprem.MODEL,
        merlin.MODEL,
        medimageinsight.MODEL,
        models_genesis.MODEL,
    ),
)

__all__ = ["MODELS", "Model"]
