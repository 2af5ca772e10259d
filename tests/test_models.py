"""The registries of models against the study's own table, the released features and the released pipeline."""

import sys

import pytest
import released_pipeline

from tumorbench_utils import models, published
from tumorbench_utils.models import MODELS, TEN, Control, Model, base
from tumorbench_utils.patches import BENCHMARK

FURTHER = ["astra", "random_encoder", "volume", "radiomics"]
each_of_the_ten = pytest.mark.parametrize("model", tuple(TEN), ids=lambda model: model.id)


def test_the_ten_models_of_the_study_in_its_order():
    assert [model.id for model in TEN] == list(dict.fromkeys(published.figures("auc")["model"]))
    assert len(TEN) == 10


def test_further_models_follow_the_ten():
    assert [model.id for model in MODELS][: len(TEN) + len(FURTHER)] == [*(model.id for model in TEN), *FURTHER]


def test_dimensions_add_up_to_the_released_floats_a_sample():
    assert sum(model.dim for model in TEN) == 16_128


def test_the_encoder_is_never_larger_than_what_the_paper_counts():
    for model in TEN:
        assert model.parameters_encoder <= model.parameters_paper * 1.001, model.id


def test_released_names_are_distinct():
    assert len({model.released_name for model in TEN}) == len(TEN)


@each_of_the_ten
def test_the_benchmark_recipe_is_that_of_the_released_pipeline(model):
    axes, window, spacing, size = released_pipeline.RECIPES[model.id]
    recipe = model.benchmark
    assert (recipe.axes, recipe.size) == (axes, (size,) * 3)
    assert (recipe.window[0][0], recipe.window[-1][0]) == window and recipe.clip and len(recipe.window) == 2
    assert recipe.geometry in BENCHMARK and recipe.geometry.spacing == spacing
    assert max(recipe.size) <= min(recipe.geometry.size)


@each_of_the_ten
def test_every_model_has_both_recipes_a_checkpoint_and_reasons(model):
    assert model.authors and model.differences and model.checkpoint.keys and model.checkpoint.layouts
    assert bool(model.checkpoint.repo) != bool(model.checkpoint.url)
    assert model.authors.geometry.sampling == "exact"
    assert sorted(model.authors.size) == sorted(model.authors.geometry.size)
    assert model.objective != model.pretraining != "not stated"


def test_grids_are_found_by_name_and_unknown_ones_told():
    assert models.grids(["ct_clip", "iso_1mm"]) == [BENCHMARK[1], BENCHMARK[0]]
    with pytest.raises(ValueError, match=r"no recipe has a geometry iso_2mm\. Known: iso_1mm, ct_clip"):
        models.grids(["iso_1mm", "iso_2mm"])


def test_a_geometry_of_one_name_is_one_grid():
    recipes = [getattr(model, name) for model in MODELS if isinstance(model, Model) for name in models.RECIPES]
    grids = {recipe.geometry for recipe in recipes if recipe}
    assert len(grids) == len({grid.id for grid in grids})


def test_a_recipe_that_is_not_there_is_told():
    with pytest.raises(ValueError, match="must be one of benchmark, authors"):
        TEN.get("voco").recipe("mine")
    with pytest.raises(ValueError, match="astra: no recipe 'authors'"):
        MODELS.get("astra").recipe("authors")


def test_controls_are_no_models_of_the_study():
    assert [model.id for model in MODELS if isinstance(model, Control)] == ["volume", "radiomics"]


@pytest.mark.parametrize("name", ["volume", "random_encoder.benchmark.untrained"])
def test_an_encoder_is_called_by_the_name_of_its_table(name):
    pytest.importorskip("torch")
    assert models.called(name, device="cpu").name == name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("volume.benchmark", "a control, its table bears its name alone"),
        ("suprem", "no embedding table is called 'suprem': <model>.<recipe>"),
        ("suprem.benchmark.untrained.more", "no embedding table"),
        ("suprem.mine.untrained", "recipe is 'mine'"),
        ("suprem.benchmark.file-01234567", "weights of a file: give its path"),
        ("nobody.benchmark", "nobody"),
    ],
)
def test_a_table_that_nobody_makes_is_told(name, words):
    with pytest.raises((ValueError, LookupError), match=words):
        models.called(name)


def test_what_monai_does_without_is_hidden_for_that_import_only(monkeypatch):
    monkeypatch.setattr(base, "UNUSED", ("chunk_of_none", "colorsys", "json"))
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    loaded = sys.modules["json"]
    with pytest.raises(ModuleNotFoundError, match="colorsys"), base.monai_alone():
        assert sys.modules["json"] is loaded  # what is there already stays
        import colorsys
    import colorsys

    assert colorsys.rgb_to_hsv(0, 0, 0) == (0, 0, 0)
    assert "chunk_of_none" not in sys.modules and sys.modules["json"] is loaded
