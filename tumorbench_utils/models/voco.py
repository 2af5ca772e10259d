"""VoCo: pretrained to place crops in the body."""

from .base import Model

MODEL = Model(
    id="voco",
    title="VoCo",
    year=2024,
    released_name="VocoExtractor",
    dim=3072,
    objective="geometric context of crops",
    architecture="3D SwinUNETR encoder",
    pretraining="160,000 CTs of 30 public sets",
    parameters_paper=294.86,
    parameters_encoder=294.864,
    code_licence="Apache-2.0",
    weights_licence="Apache-2.0",
    citation="wu2024voco",
    overlap="not excluded: pretrained on public sets",
)
