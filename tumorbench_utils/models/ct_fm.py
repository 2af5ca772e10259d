"""CT-FM: contrastive pretraining on the Imaging Data Commons."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..patches import BENCHMARK, Geometry
from .base import Checkpoint, Layout, Model, Recipe, last_level, monai_alone

if TYPE_CHECKING:
    from torch.nn import Module


def build() -> Module:
    """The encoder of a SegResNet, which gives a list of five levels."""
    with monai_alone():
        from monai.networks.nets.segresnet_ds import SegResEncoder

    return SegResEncoder(spatial_dims=3, in_channels=1, init_filters=32, blocks_down=(1, 2, 2, 4, 4))


WINDOW = ((-1024, 0), (2048, 1))

MODEL = Model(
    id="ct_fm",
    title="CT-FM",
    year=2025,
    released_name="CTFMExtractor",
    build=build,
    benchmark=Recipe(BENCHMARK[0], "SPL", (48, 48, 48), WINDOW, 512, last_level),
    authors=Recipe(
        Geometry("ct_fm_authors", (1, 1, 3), (128, 128, 32), "exact"),
        axes="SPL",
        size=(32, 128, 128),
        window=WINDOW,
        dim=512,
        embed=last_level,
    ),
    differences=(
        "Spacing: the model was pretrained on slices 3 mm apart with pixels of 1 mm, the benchmark samples 1 mm "
        "throughout.",
        "Field of view: pretraining crops are 32 x 128 x 128 voxels, 96 x 128 x 128 mm; the benchmark takes 48 mm a "
        "side.",
        "Centre: the seed point lies in the middle of the patch; the released code truncates it to a voxel.",
    ),
    checkpoint=Checkpoint(
        file="model.safetensors",
        keys=161,
        layouts=(Layout(prefix="encoder."), Layout()),
        repo="project-lighter/ct_fm_feature_extractor",
        size=311_000_000,
        note="The released code of the study took pretrained_segresnet.torch of surajpaib/CT-FM-SegResNet, which is "
        "older than the model's release; project-lighter/ct_fm_segresnet holds encoder and decoder. Both can be given "
        "as a file; whether their encoders equal this one is not proven.",
    ),
    objective="contrast within 3D scans",
    architecture="3D SegResNet encoder",
    pretraining="148,000 CTs of IDC",
    parameters_paper=77.76,
    parameters_encoder=77.761,
    code_licence="MIT",
    weights_licence="Apache-2.0",
    citation="pai2025ctfm",
    overlap="possible: the cohorts hosted by IDC",
)
