"""CT-CLIP: the image tower of a chest CT and report model."""

from .base import Model

MODEL = Model(
    id="ct_clip",
    title="CT-CLIP",
    year=2024,
    released_name="CTClipVitExtractor",
    dim=512,
    objective="contrast of image and report, chest CT",
    architecture="3D vision transformer (CT-ViT)",
    pretraining="25,692 CTs of CT-RATE",
    parameters_paper=25.89,
    parameters_encoder=23.426,
    code_licence="CC BY-NC-SA 4.0",
    weights_licence="CC BY-NC-SA 4.0",
    citation="hamamci2024ctclip",
)
