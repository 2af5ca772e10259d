"""What cards and sentences say is what registry, diagnosis and timings hold."""

import numpy as np
import pandas as pd
import pytest

from tumorbench_utils import cards, diagnostics
from tumorbench_utils.models import MODELS, TEN
from tumorbench_utils.models.base import Checkpoint, Control, Model, Recipe
from tumorbench_utils.models.loading import Weights
from tumorbench_utils.patches import Geometry

RNG = np.random.default_rng(0)
RELEASED = Recipe(Geometry("ct_clip", (1.5, 0.75, 0.75), (60, 60, 60)), "SLP", (60, 60, 40), ((-1000, -1), (1000, 1)),
                  512, lambda encoder, batch: encoder(batch), pad=0)  # fmt: skip
AUTHORS = Recipe(Geometry("thick", (0.75, 0.75, 3), (64, 64, 64), "exact"), "SAL", (32, 64, 64),
                 ((-1000, 0), (-200, 0.2), (200, 0.9), (1000, 1)), 1024, lambda encoder, batch: encoder(batch),
                 pooling="average over tokens")  # fmt: skip
UNCLIPPED = Recipe(Geometry("iso", (1, 1, 1), (48, 48, 48)), "RAS", (48, 48, 48), ((-1024, 0), (2048, 1)), 8,
                   lambda encoder, batch: encoder(batch), clip=False)  # fmt: skip
CHECKPOINT = Checkpoint(file="a/weights.pt", keys=3, repo="group/name", repo_type="dataset",
                        revision="0123456789abcdef", sha256="ab" * 32, size=3_387_654_321, gated=True,
                        note="Not opened here")  # fmt: skip
GIVEN = Model(
    id="given", title="Given", build=lambda: None, benchmark=RELEASED, authors=AUTHORS,
    differences=("Axes differ", "Pad."),
    checkpoint=CHECKPOINT, year=2024, objective="contrast", architecture="a network", pretraining="1,000 CTs",
    parameters_paper=25.89, parameters_encoder=23.426, code_licence="MIT", weights_licence="CC BY-NC-SA 4.0",
    citation="given2024", overlap="LUNA16 <all> of it", note="Of note.",
)  # fmt: skip
BARE = Model(id="bare", title="Bare", build=lambda: None, benchmark=UNCLIPPED)
CONTROL = Control(id="size", title="Size", features=lambda sample: np.ones(6), names=lambda: tuple("abcdef"),
                  needs_mask=True, standardise=True, architecture="six numbers", note="No network")  # fmt: skip


def embedding(n, d=16, rank=5):
    return RNG.normal(size=(n, rank)) @ RNG.normal(size=(rank, d)) + 0.2 * RNG.normal(size=(n, d)) + 1


def diagnosed(vectors, volume=None, **options):
    return diagnostics.diagnose(vectors, [f"S{n}" for n in range(len(vectors))], volume, **options)


# Cards


def test_card_says_what_the_registry_holds():
    text = cards.card(GIVEN)
    for said in (
        "**Given**, 2024 (`given`), 512 dimensions.",
        '<p class="tb-notice">pretraining overlap – LUNA16 &lt;all&gt; of it</p>',
        "- **Learnt by**: contrast",
        "a network; 23.4 million parameters in the encoder used (25.9 million as the study counts)",
        "- **Licence**: code MIT; weights CC BY-NC-SA 4.0. **Gated**",
        "[group/name](https://huggingface.co/datasets/group/name) on Hugging Face at `0123456789ab`, "
        "file `a/weights.pt`, 3.39 GB, SHA-256 `abababababababab…`",
        "- **Note**: Not opened here.\n- **Note**: Of note.\n",
        "\n\n| recipe | benchmark | authors |\n| --- | --- | --- |\n",
        "Why the recipes differ:\n\n- Axes differ.\n- Pad.",
    ):
        assert said in text, said


def test_card_of_a_model_of_which_little_is_known():
    text = cards.card(BARE)
    assert "tb-notice" not in text and "- **Overlap with the cohorts**: none known" in text
    assert "- **Licence**: code not stated; no weights" in text and "parameters not counted" in text
    assert "- **Weights**: none; it runs untrained" in text and "authors" not in text and "differ" not in text


@pytest.mark.parametrize(
    ("checkpoint", "said"),
    [
        (Checkpoint("w.pt", 1, repo="a/b"), "[a/b](https://huggingface.co/a/b) on Hugging Face, revision not pinned, "),
        (Checkpoint("w.pt", 1, url="https://x.org/w", size=738e6), "<https://x.org/w>, file `w.pt`, 738 MB, hash not"),
        (Checkpoint("w.pt", 1, package="w", revision="0.1.1"), "Python package `w` at `0.1.1`, file `w.pt`"),
    ],
)  # fmt: skip
def test_weights_are_where_they_are_said_to_be(checkpoint, said):
    assert cards.whereabouts(checkpoint).startswith(said)


def test_recipes_stand_side_by_side_in_the_axes_of_the_array():
    table = cards.recipe_table(GIVEN).set_index("recipe")
    assert table.loc["array axes lead to"].tolist() == ["S, L, P", "S, A, L"]
    assert table.loc["spacing along them, mm"].tolist() == ["0.75 × 1.5 × 0.75", "3 × 0.75 × 0.75"]
    assert table.loc["voxels"].tolist() == ["60 × 60 × 40", "32 × 64 × 64"]
    assert table.loc["field of view, mm"].tolist() == ["45 × 90 × 30", "96 × 48 × 48"]
    assert table.loc["seed point"].tolist() == ["truncated to a voxel, as released", "in the middle of the patch"]
    assert table.loc["HU → value", "authors"] == "−1000 → 0, −200 → 0.2, 200 → 0.9, 1000 → 1"
    assert table.loc["padding, HU"].tolist() == ["0", "−1024"] and table.loc["dimensions"].tolist() == ["512", "1,024"]
    assert table.loc["pooling", "authors"] == "average over tokens"
    assert (
        cards.recipe_table(BARE).set_index("recipe").loc["beyond these", "benchmark"] == "carried on in a straight line"
    )
    assert list(cards.recipe_table(BARE)) == ["recipe", "benchmark"]


def test_card_of_a_control_is_shorter():
    text = cards.card(CONTROL)
    assert "**Size** (`size`), a control without a network; 6 features." in text
    assert "`a`, `b`, `c`, `d`, …" in text and "patch and mask" in text and "standardised" in text
    assert "No network." in text and "|" not in text


def test_every_registered_model_has_a_card_and_a_row():
    pytest.importorskip("torch")  # by which radiomics names its features
    assert len(TEN) == 10
    table = cards.models_table(MODELS).set_index("model")
    assert len(table) == len(MODELS) and not table.isna().any(axis=None)
    for model in MODELS:
        text = cards.card(model)
        assert f"(`{model.id}`)" in text and "None" not in text and "nan" not in text.lower().split()
        if isinstance(model, Model):
            assert f"{model.dim:,} dimensions" in text
            assert ("Gated" in text) == bool(model.checkpoint and model.checkpoint.gated)
            assert all(difference.rstrip(".") in text for difference in model.differences)


def test_table_of_models_has_text_for_every_column():
    table = cards.models_table([GIVEN, BARE, CONTROL])
    given, bare, control = table.to_dict("records")
    assert given["model"] == "Given (2024) {cite}`given2024`" and bare["model"] == "Bare"
    assert given["million parameters (paper)"] == "23.4 (25.9)" and bare["million parameters (paper)"] == "–"
    assert [row["gated"] for row in (given, bare, control)] == ["yes", "–", "–"]
    assert given["weights"] == "group/name" and given["size"] == "3.39 GB" and bare["size"] == "–"
    assert given["recipe: benchmark"] == "SLP 60 × 60 × 40 at 0.75 × 1.5 × 0.75 mm, −1000 to 1000 HU"
    assert bare["recipe: benchmark"] == "RAS 48³ at 1 mm, −1024 to 2048 HU" and bare["recipe: authors"] == "–"
    assert control["dimensions"] == "6" and given["overlap with the cohorts"] == "LUNA16 <all> of it"


# Weights


def test_random_weights_are_a_notice():
    text = cards.weights_sentence(Weights("random", "untrained, seed 0", "", "f" * 64, 83))
    assert text.startswith('<p class="tb-notice">untrained: weights as drawn at random (seed 0).')


def test_loaded_weights_are_counted():
    text = cards.weights_sentence(Weights("pretrained", "group/name@0123/w.pt", "ab" * 32, "f" * 64, 1157, 24, 74))
    assert text == (
        "Weights from `group/name@0123/w.pt`, SHA-256 `abababababababab…`: 1,157 tensors loaded, all that the encoder "
        "has; 24 left out by name; 74 of other parts of the network."
    )
    assert cards.weights_sentence(Weights("file", "w.pt", "ab" * 32, "f" * 64, 3)).endswith("has; nothing left over.")


# Findings


def test_findings_carry_the_numbers_of_the_diagnosis():
    vectors, volume = embedding(60, 32), RNG.lognormal(size=60)
    vectors[:, 4] = 2
    vectors[9] = vectors[3]
    found = diagnosed(vectors, volume)
    said = cards.findings(found, "phantom")
    assert all(point.startswith("phantom: ") for point in said) and len(said) == 6
    assert "60 vectors of 32 dimensions, length" in said[0] and "say little" not in said[0]
    assert "1 of 32 dimensions are constant" in said[1]
    each = found.spectrum
    assert (
        f"Effective rank {each.effective_rank:.1f} of at most 32" in said[2]
        and f"{100 * each.shares[0]:.0f} % of" in said[2]
    )
    assert f"median {np.median(found.cosines):.3f}" in said[3] and "one direction" not in said[3]
    assert "1 pair cannot be told apart by cosine, 1 identical: S3 and S9." in said[4]
    assert f"rank correlation {abs(found.size['spearman'][0]):.2f} without its sign" in said[5]


def test_findings_of_few_samples_are_a_warning():
    said = cards.findings(diagnosed(embedding(2)))
    assert said[0].endswith("With 2 the figures say little: a rank is 1 at most, and much of the rest is chance.")
    two_wide = cards.findings(diagnosed(embedding(24)[:, :2]))
    assert two_wide[0].endswith("With 24 the figures say little: much of them is chance.")  # not they bound the rank
    assert any("The cosine similarity of the two samples is" in point for point in said)
    assert any(point.startswith("Not computed: a spectrum: two samples differ in one direction") for point in said)
    one = cards.findings(diagnosed(embedding(1)))
    assert len(one) == 2 and one[0].startswith("1 vector of 16 dimensions, length") and "Not computed" in one[1]


def test_findings_of_a_collapsed_embedding():
    vectors = 100 + 0.01 * embedding(40, 8)
    said = " ".join(cards.findings(diagnosed(vectors)))
    assert "all lie in nearly one direction" in said and "pairs cannot be told apart" in said
    equal = " ".join(cards.findings(diagnosed(np.ones((40, 8)))))
    assert "Not computed: rank" in equal and "8 of 8 dimensions are constant" in equal and "nan" not in equal
    assert (
        "780 pairs cannot be told apart by cosine, at least 100 identical: S0 and S1; S0 and S2; S0 and S3, …." in equal
    )


def test_findings_name_the_component_that_follows_the_volume_most():
    vectors = np.stack([10 * RNG.normal(size=50), np.linspace(-1, 1, 50), np.ones(50)], axis=1)
    said = cards.findings(diagnosed(vectors, np.exp(np.linspace(-1, 1, 50))))[-1]
    assert said.startswith("Component 1 and the tumour's volume") and "of component 2 (50 samples)." in said


def test_findings_say_how_many_were_looked_at():
    assert "50 vectors of 16 dimensions (20 of them looked at, evenly spaced)" in cards.findings(
        diagnosed(embedding(50), most=20)
    )[0]  # fmt: skip


def test_recipes_are_held_against_chance():
    first = embedding(40)
    compared = diagnostics.compare(first, first + 0.5 * embedding(40))
    said = cards.recipes_findings(compared, "phantom")
    assert said[0] == (
        f"phantom: Of the 10 nearest neighbours of a sample the two recipes share {100 * compared.overlap:.0f} % "
        "(unrelated embeddings: 26 %; 40 samples)."
    )
    assert f"Linear CKA {compared.cka:.2f}" in said[1] and f"{compared.cka_debiased:.2f}, where 0" in said[1]
    assert f"Spearman {compared.spearman:.2f}" in said[2] and len(said) == 3


def test_recipes_of_two_samples_cannot_be_compared():
    said = cards.recipes_findings(diagnostics.compare(embedding(2), embedding(2)))
    assert said[-1] == "2 samples cannot tell recipes apart." and sum("Not computed" in point for point in said) == 3
    assert "nan" not in " ".join(said)


# Time


def test_time_and_memory_in_a_sentence():
    timings = pd.DataFrame(
        {"name": ["a", "b", "c"], "images": [24, 24, 0], "seconds": [6.0, 18.0, np.nan],
         "forward_seconds": [5.7, 17.1, np.nan], "peak_bytes": [7e8, 2.1e9, np.nan]}
    )  # fmt: skip
    assert cards.timing_sentence(timings) == (
        "48 patches in 24.0 s, 2 a second, 95 % of the wall time in the network; memory grew by at most 2.1 GB. "
        "1 table was there already."
    )
    # two encoders in one pass, which had to wait for the disk, and another cohort
    shared = timings.assign(pass_seconds=[32.0, 32.0, np.nan], cohort="x")
    other = shared.head(1).assign(pass_seconds=6.0, cohort="y")
    told = cards.timing_sentence(pd.concat([shared, other]))
    assert told.startswith("72 patches in 38.0 s, 1.89 a second, 75 % of the wall time in the network")
    plain = timings[["name", "images", "seconds"]][:1]
    assert cards.timing_sentence(plain) == "24 patches in 6.0 s, 4 a second."
    assert cards.timing_sentence(timings.assign(images=0)).startswith("Nothing was computed")
