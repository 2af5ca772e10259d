"""FMCIB: a lesion-centred contrastive encoder."""

from .base import Model

MODEL = Model(
    id="fmcib",
    title="FMCIB",
    year=2024,
    released_name="FMCIBExtractor",
    dim=4096,
    objective="contrast of lesions with other tissue (SimCLR, mined negatives)",
    architecture="3D ResNet-50, twice as wide",
    pretraining="11,467 lesions of DeepLesion",
    parameters_paper=184.48,
    parameters_encoder=184.478,
    code_licence="MIT",
    weights_licence="CC BY 4.0",
    citation="pai2024fmcib",
)
