"""MedImageInsight: a 2D encoder, one vector a slice."""

from .base import Model

MODEL = Model(
    id="medimageinsight",
    title="MedImageInsight",
    year=2024,
    released_name="MedImageInsightExtractor",
    dim=1024,
    objective="contrast of image, text and label, many modalities",
    architecture="2D vision transformer (DaViT), mean over slices",
    pretraining="3.7 million image-text pairs",
    parameters_paper=616.0,
    parameters_encoder=362.734,
    code_licence="MIT",
    weights_licence="MIT",
    citation="codella2024medimageinsight",
)
