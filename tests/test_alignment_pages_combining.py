"""What a page says of ensembles: the table, its figure, and sentences that claim no more than the table."""

import numpy as np
import pandas as pd
import pytest

from tumorbench_utils import ensembles, knn
from tumorbench_utils.alignment_pages import combining

TITLES = {"left": "The left", "right": "The right"}


def parts(labels, patients, seeds=None):
    """Patient-grouped splits without the time of :func:`knn.grouped_splits`, and its error."""
    people = np.unique(patients)
    if len(people) < 20:
        raise knn.KNNError("grouped splits need 10 patients of each class; there are 4 positive, 5 negative")
    found = []
    for seed in range(3):
        cut = np.split(np.random.default_rng(seed).permutation(people), [len(people) // 2, 7 * len(people) // 10])
        found.append(knn.Split(seed, *(np.flatnonzero(np.isin(patients, part)) for part in cut)))
    return found


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(knn, "grouped_splits", parts)


def halves(n=200, strength=1.5, seed=0):
    """Two models that know one half of the samples each."""
    rng = np.random.default_rng(seed)
    labels, half = rng.integers(0, 2, n).astype(float), rng.integers(0, 2, n)
    know = [np.where(half == own, 2 * labels - 1, 0) * strength for own in (0, 1)]
    vectors = {
        name: np.column_stack([each, *rng.normal(0, 0.5, (3, n))]) for name, each in zip(TITLES, know, strict=True)
    }
    return vectors, labels, np.array([f"p{number:03}" for number in range(n)])


@pytest.fixture(scope="module")
def planted():
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(knn, "grouped_splits", parts)
        return combining.combined(*halves(), TITLES, draws=300, seed=0)


def test_the_table_is_that_of_the_ensembles_room_with_titles(planted):
    table, sentence = planted
    vectors, labels, patients = halves()
    found = ensembles.evaluate(vectors, labels, patients, parts(labels, patients))
    expected = ensembles.compared(found, patients, 300, 0)
    pd.testing.assert_frame_equal(table.drop(columns="title"), expected)
    assert list(table["title"]) == [*TITLES.values(), *ensembles.ENSEMBLES.values()]
    assert sentence == (
        "2 models on 200 samples of 200 patients, in 3 patient-grouped splits with 100 samples to learn from, 40 to "
        "choose by and 60 to test on, on average."
    )


def test_samples_without_a_label_are_left_out_and_counted(planted):
    vectors, labels, patients = halves()
    rng = np.random.default_rng(1)
    more = {name: np.vstack([each, rng.normal(size=(5, each.shape[1]))]) for name, each in vectors.items()}
    table, sentence = combining.combined(
        more, np.append(labels, [np.nan] * 5), np.append(patients, ["q"] * 5), TITLES, 300, 0
    )
    pd.testing.assert_frame_equal(table, planted[0])
    assert sentence == f"{planted[1]} 5 samples without a label are left out."


def test_draws_are_raised_to_what_the_correction_asks_for():
    table, _ = combining.combined(*halves(), TITLES, draws=20)
    assert table["p"].min() * 7 < 0.05 <= 2 / 21 * 7  # seven comparisons


def test_a_small_training_part_is_told():
    vectors, labels, patients = halves(n=60)
    _, sentence = combining.combined(vectors, labels, patients, TITLES, 20)
    assert sentence.endswith("nested stacking uses k of 5, 10, 15.") and "k up to 30 instead of 50" in sentence


def test_where_nothing_can_be_combined_the_sentence_says_why():
    vectors, labels, patients = halves(n=60)
    one = {"left": vectors["left"]}
    assert combining.combined(one, labels, patients, TITLES, 20) == (
        None,
        "No ensembles: they need two models at least, and this page has 1.",
    )
    table, sentence = combining.combined(vectors, np.full(60, np.nan), patients, TITLES, 20)
    assert table is None and sentence == "No ensembles: this cohort has no endpoint."
    few = {name: each[:9] for name, each in vectors.items()}
    table, sentence = combining.combined(few, labels[:9], patients[:9], TITLES, 20)
    assert table is None and sentence.startswith("No ensembles: grouped splits need 10 patients of each class")
    table, sentence = combining.combined(vectors, np.ones(60), patients, TITLES, 20)
    assert table is None and "all 60 labels are 1" in sentence
    broken = {**vectors, "right": np.zeros((60, 4))}
    table, sentence = combining.combined(broken, labels, patients, TITLES, 20)
    assert table is None and "right: 60 embeddings hold NaN or are zero" in sentence


def test_caption_and_alternative_text_hold_the_numbers_and_the_mark(planted):
    table, _ = planted
    shown = combining.combined_shown(table, "phantom")
    rows = table.set_index("name")
    for text in (shown.caption, shown.alt):
        assert text.startswith("PHANTOM: ")
        assert f"Greedy complementary choice {rows.loc['greedy', 'auc']:.3f} " in text
        assert f"({rows.loc['greedy', 'difference']:+.3f}, {rows.loc['greedy', 'difference_low']:+.3f} to " in text
        assert f"{rows.loc['best_single', 'auc']:.3f}" in text
    assert f"the hollow mark {rows.loc['oracle', 'auc']:.3f}" in shown.caption and "no competitor" in shown.caption
    assert "phantom" in shown.svg and "PHANTOM" not in combining.combined_shown(table).caption


def test_findings_name_what_is_better_and_what_was_taken(planted):
    table, _ = planted
    verdict, optimism, weights, nested, taken = combining.combined_found(table)
    rows = table.set_index("name")
    better = rows[(rows["kind"] == "ensemble") & (rows["p_holm"] < 0.05)]
    assert verdict.startswith("Better than the best single model that validation chooses") and len(better) > 2
    assert all(f"{row.title} ({row.difference:+.3f}" in verdict for row in better.itertuples())
    assert f"{rows.loc['oracle', 'auc'] - rows.loc['best_single', 'auc']:+.3f} AUC is what" in optimism
    assert f"{rows.loc['alignment_weighted', 'auc'] - rows.loc['equal_weights', 'auc']:+.3f}" in weights
    assert f"{rows.loc['stacking_released', 'auc'] - rows.loc['stacking_nested', 'auc']:+.3f}" in nested
    assert (
        f"The left {100 * rows.loc['left', 'taken']:.0f} %" in taken
        and f"The right {100 * rows.loc['right', 'taken']:.0f} %" in taken
    )


def test_findings_of_no_difference_and_of_a_loss(planted):
    table = planted[0].assign(p_holm=0.5)
    some = table["kind"] == "ensemble"
    (verdict, *_) = combining.combined_found(table)
    assert verdict.startswith("None of the 5 ensembles is shown to be better")
    assert f"up to {table.loc[some, 'difference_high'].max():+.3f} AUC." in verdict
    worse = table["name"] == "stacking_released"
    table = table.assign(
        p_holm=table["p_holm"].where(~worse, 0.01), difference=table["difference"].where(~worse, -0.05)
    )
    (verdict, *_) = combining.combined_found(table)
    assert verdict.startswith("Worse than the best single") and "Stacking, as released (-0.050, p = 0.010)" in verdict
    assert "None of the 5 ensembles" in verdict
    chosen = table.assign(
        chosen=np.where(table["name"] == "right", 0.7, 0.3), taken=np.where(table["name"] == "left", 1, 0)
    )
    (*_, last) = combining.combined_found(chosen)
    assert "chooses The right most often as the best single model, in 70 %" in last
    assert last.endswith("Shares in the greedy choice: The left 100 %.")
