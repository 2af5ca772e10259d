"""An encoder that learnt nothing: what architecture and patches alone tell of an endpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..patches import BENCHMARK
from .base import Model, Recipe, monai_alone

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def build() -> Module:
    """A 3D ResNet-18 for one channel, without a classifier."""
    with monai_alone():
        from monai.networks.nets import resnet18

    return resnet18(pretrained=False, spatial_dims=3, n_input_channels=1, conv1_t_stride=2, feed_forward=False)


def embed(encoder: Module, batch: Tensor) -> Tensor:
    """The average over space of the last level, (n, 512)."""
    return encoder(batch)


MODEL = Model(
    id="random_encoder",
    title="Random encoder (untrained ResNet-18)",
    build=build,
    benchmark=Recipe(BENCHMARK[0], "RAS", (48, 48, 48), ((-1024, 0), (2048, 1)), 512, embed),
    objective="none: untrained",
    architecture="3D ResNet-18",
    pretraining="none",
    parameters_encoder=33.161,
    code_licence="Apache-2.0",
    weights_licence="no weights",
    citation="cardoso2022monai",
    overlap="none",
    note="A control, with weights as drawn from a seed. What it reaches needs no pretraining: a model that is no "
    "better has shown nothing of its own.",
)
