"""Models Genesis: restoring corrupted chest CT."""

from .base import Model

MODEL = Model(
    id="models_genesis",
    title="Models Genesis",
    year=2019,
    released_name="ModelsGenExtractor",
    dim=4096,
    objective="restoring corrupted volumes",
    architecture="3D U-Net encoder",
    pretraining="623 CTs of LUNA16",
    parameters_paper=7.03,
    parameters_encoder=7.028,
    code_licence="ASU non-commercial",
    weights_licence="Apache-2.0",
    citation="zhou2019modelsgenesis",
    overlap="LUNA16: pretrained on its scans",
)
