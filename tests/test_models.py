"""The registry of models against the study's own table and the released features."""

from tumorbench_utils import published
from tumorbench_utils.models import MODELS


def test_the_ten_models_of_the_study_in_its_order():
    assert [model.id for model in MODELS] == list(dict.fromkeys(published.figures("auc")["model"]))
    assert len(MODELS) == 10


def test_dimensions_add_up_to_the_released_floats_a_sample():
    assert sum(model.dim for model in MODELS) == 16_128


def test_the_encoder_is_never_larger_than_what_the_paper_counts():
    for model in MODELS:
        assert model.parameters_encoder <= model.parameters_paper * 1.001, model.id


def test_released_names_are_distinct():
    assert len({model.released_name for model in MODELS}) == len(MODELS)
