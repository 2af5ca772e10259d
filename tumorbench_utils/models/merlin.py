"""Merlin: the image encoder of an abdominal CT and report model."""

from .base import Model

MODEL = Model(
    id="merlin",
    title="Merlin",
    year=2024,
    released_name="MerlinExtractor",
    dim=512,
    objective="diagnosis codes and reports, abdominal CT",
    architecture="inflated 3D ResNet-152",
    pretraining="15,331 abdominal CTs",
    parameters_paper=270.94,
    parameters_encoder=118.415,
    code_licence="MIT",
    weights_licence="not found",
    citation="blankemeier2024merlin",
)
