"""SuPreM: pretrained to segment abdominal organs."""

from .base import Model

MODEL = Model(
    id="suprem",
    title="SuPreM",
    year=2024,
    released_name="SUPREMExtractor",
    dim=512,
    objective="supervised segmentation of AbdomenAtlas 1.1",
    architecture="3D U-Net encoder",
    pretraining="9,262 CTs of AbdomenAtlas 1.1",
    parameters_paper=19.07,
    parameters_encoder=7.028,
    code_licence="CC BY-NC-ND 4.0",
    weights_licence="Apache-2.0",
    citation="li2024suprem",
    overlap="not excluded: AbdomenAtlas is made of public sets",
)
