"""SuPreM: pretrained to segment abdominal organs, on the network of Models Genesis."""

from __future__ import annotations

from ..patches import BENCHMARK, Geometry
from .base import Checkpoint, Layout, Model, Recipe
from .models_genesis import REST, average, build

GRID = Geometry("suprem_authors", (1.5, 1.5, 1.5), (96, 96, 96), "exact")

MODEL = Model(
    id="suprem",
    title="SuPreM",
    build=build,
    benchmark=Recipe(BENCHMARK[0], "RAS", (48, 48, 48), ((-1024, 0), (2048, 1)), 512, average),
    authors=Recipe(GRID, "RAS", (96, 96, 96), ((-175, 0), (250, 1)), 512, average),
    differences=(
        "Spacing and size: the authors cut 96 voxels of 1.5 mm, 144 mm; the released code 48 of 1 mm.",
        "Intensities: the authors' window, [-175, 250] HU, is of soft tissue; the released one [-1024, 2048].",
        "Centre: the seed point lies in the middle of the patch; the released code truncates it to a voxel.",
    ),
    checkpoint=Checkpoint(
        file="supervised_suprem_unet_2100.pth",
        keys=32,
        layouts=(Layout(container="net", prefix="module.backbone.", drop=REST),),
        repo="MrGiovanni/SuPreM",
        note="Not opened here: 56 tensors of the encoder are expected, of which 24 are running statistics without use.",
    ),
    year=2024,
    released_name="SUPREMExtractor",
    objective="supervised segmentation of AbdomenAtlas 1.1",
    architecture="3D U-Net encoder",
    pretraining="9,262 CTs of AbdomenAtlas 1.1",
    parameters_paper=19.07,
    parameters_encoder=7.028,
    code_licence="CC BY-NC-ND 4.0",
    weights_licence="Apache-2.0",
    citation="li2024suprem",
    overlap="not excluded: AbdomenAtlas is made of public sets",
    note="Each patch is normalised by itself, as in the published network with one patch at a time: there, patches of "
    "one batch change each other's features.",
)
