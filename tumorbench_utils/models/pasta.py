"""PASTA: pretrained on synthetic tumours."""

from .base import Model

MODEL = Model(
    id="pasta",
    title="PASTA",
    year=2025,
    released_name="PASTAExtractor",
    dim=1024,
    objective="segmentation of synthetic tumours, then text alignment",
    architecture="nnU-Net encoder",
    pretraining="30,000 CTs of PASTA-Gen-30K",
    parameters_paper=127.11,
    parameters_encoder=113.155,
    code_licence="MIT",
    weights_licence="not stated",
    citation="lei2025pasta",
)
