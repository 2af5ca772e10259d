"""VISTA3D: the image encoder of an interactive segmentation model."""

from .base import Model

MODEL = Model(
    id="vista3d",
    title="VISTA3D",
    year=2024,
    released_name="VISTA3DExtractor",
    dim=768,
    objective="supervised segmentation, supervoxels, interactive",
    architecture="3D SegResNet encoder",
    pretraining="11,454 CTs of 15 public sets",
    parameters_paper=174.95,
    parameters_encoder=174.951,
    code_licence="Apache-2.0",
    weights_licence="contradictory: NVIDIA Open Model or non-commercial",
    citation="he2024vista3d",
    overlap="not excluded: pretrained on public sets",
)
