"""The models: ``TEN`` are those of the study in the order of its first table, ``MODELS`` all that can be run.

``MODELS`` adds a further trained encoder (astra), the controls, and models of other packages, which offer a
:class:`Model` as an entry point of the group ``tumorbench.models``.
"""

from collections.abc import Mapping, Sequence

from ..patches import BENCHMARK, Geometry
from ..registry import Registry
from . import (
    astra,
    ct_clip,
    ct_fm,
    fmcib,
    locating,
    medimageinsight,
    merlin,
    models_genesis,
    pasta,
    radiomics,
    random_encoder,
    suprem,
    vista3d,
    voco,
    volume,
)
from .base import RECIPES, Checkpoint, Control, Layout, Model, Recipe, Sample
from .encoder import Described, Encoder, ready, ready_for
from .loading import CheckpointError

GROUP = "tumorbench.models"

TEN: Registry[Model] = Registry(
    "model",
    (
        fmcib.MODEL,
        ct_fm.MODEL,
        ct_clip.MODEL,
        pasta.MODEL,
        vista3d.MODEL,
        voco.MODEL,
        suprem.MODEL,
        merlin.MODEL,
        medimageinsight.MODEL,
        models_genesis.MODEL,
    ),
)
MODELS: Registry[Model | Control] = Registry(
    "model", (*TEN, astra.MODEL, random_encoder.MODEL, volume.MODEL, radiomics.MODEL)
)


def installed(model: Model | Control) -> bool:
    """False if the published weights of a model come in a package that is not installed, nor were before."""
    checkpoint = getattr(model, "checkpoint", None)
    return not (checkpoint and checkpoint.package) or locating.is_installed(checkpoint, model.id)


def geometries() -> dict[str, Geometry]:
    """Every sampling grid that a recipe of a registered model needs, by id, those of the benchmark first."""
    recipes = [getattr(model, name, None) for model in MODELS for name in RECIPES]
    grids = [*BENCHMARK, *(recipe.geometry for recipe in recipes if recipe)]
    return {grid.id: grid for grid in grids}


def grids(names: Sequence[str]) -> list[Geometry]:
    """The sampling grids called ``names``; an unknown one is an error that lists those there are."""
    known = geometries()
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"no recipe has a geometry {', '.join(map(str, unknown))}. Known: {', '.join(known)}")
    return [known[name] for name in names]


def grids_of(encoders: Sequence[Encoder | Described]) -> list[Geometry]:
    """The sampling grids of encoders and controls, each once."""
    return list(dict.fromkeys(each.geometry for each in encoders))


def called(
    name: str, weights: Mapping[str, str] | None = None, device: str = "auto", precision: str = "fp32", seed: int = 0
) -> Encoder | Described:
    """The encoder or control whose embedding table bears ``name``: astra.benchmark, suprem.authors.untrained, volume.

    A table that was made with the weights of a file (``.file-`` in its name) needs the path of the file:
    ``weights={name: path}``.
    """
    model, *rest = name.split(".")
    source = MODELS.get(model)
    if isinstance(source, Control) != (not rest) or len(rest) > 2:
        what = "a control, its table bears its name alone" if isinstance(source, Control) else "<model>.<recipe>"
        raise ValueError(f"no embedding table is called '{name}': {what}")
    recipe, kind = (*rest, "", "")[:2]
    given = (weights or {}).get(name) or {"": "pretrained", "untrained": "random"}.get(kind)
    if given is None:
        raise ValueError(f"'{name}' was made with the weights of a file: give its path as weights['{name}']")
    made = ready(source, recipe, given, device, precision, seed) if rest else Described(source)
    if made.name != name:
        raise ValueError(f"the weights given for '{name}' make a table called '{made.name}'")
    return made


MODELS.register_installed(GROUP)

__all__ = [
    "MODELS",
    "RECIPES",
    "TEN",
    "Checkpoint",
    "CheckpointError",
    "Control",
    "Described",
    "Encoder",
    "Layout",
    "Model",
    "Recipe",
    "Sample",
    "called",
    "geometries",
    "grids",
    "grids_of",
    "installed",
    "ready",
    "ready_for",
]
