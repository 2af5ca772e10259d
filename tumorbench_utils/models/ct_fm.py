"""CT-FM: contrastive pretraining on the Imaging Data Commons."""

from .base import Model

MODEL = Model(
    id="ct_fm",
    title="CT-FM",
    year=2025,
    released_name="CTFMExtractor",
    dim=512,
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
