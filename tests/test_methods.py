"""Formulas of the book are those of the package; the checks of the page on the released code print what it says."""

import contextlib
import importlib
import inspect
import io
import itertools
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tumorbench_utils import alignment, ensembles, knn, leaderboard, probes, robustness, saliency, statistics
from tumorbench_utils.alignment import chance, confounds
from tumorbench_utils.ensembles import rules
from tumorbench_utils.leaderboard import comparing
from tumorbench_utils.models.base import Recipe
from tumorbench_utils.patches import BENCHMARK
from tumorbench_utils.probes import calibration, concordance
from tumorbench_utils.robustness import agreement

BOOK = Path(__file__).parents[1] / "book"
METHODS, RELEASED = ((BOOK / f"{name}.md").read_text(encoding="utf-8") for name in ("methods", "released_code"))
CHAPTERS = {path.name: path.read_text(encoding="utf-8") for path in sorted(BOOK.glob("*.md"))}
NAME = re.compile(r"`(tumorbench_utils(?:\.\w+)+)`")
ROOMS = (knn, statistics, robustness, saliency, alignment, probes, ensembles, leaderboard)
NO_FORMULA = {  # public functions of these rooms that state no measure of their own: why, and which
    "checks what is given": """
        probes.external.check_sites probes.external.site probes.linear.checked robustness.agreement.classes
        robustness.agreement.lengths statistics.binary_labels
    """,
    "orders samples by the cosine or by a value": """
        alignment.neighbours.nearest alignment.neighbours.nearest_values alignment.neighbours.tied
        ensembles.neighbours.nearest probes.few_shot.cosines
    """,
    "splits, draws or permutes": """
        alignment.chance.label_groups alignment.chance.patient_places alignment.chance.relabelled knn.reordered
        knn.reordered_splits knn.reseeded_splits probes.few_shot.draw probes.few_shot.possible probes.null.given
        probes.null.one_each probes.null.permuted probes.survival.splits robustness.agreement.weights
        robustness.retest.pairs
    """,
    "puts measures together, in a table or as a mean": """
        alignment.overlap.average alignment.overlap.matrix alignment.tables.align alignment.tables.curves_table
        alignment.tables.models_table alignment.tables.pairs_table knn.auc_table knn.mean_aucs knn.path_of
        knn.predictions_table knn.scores_table leaderboard.assembling.external leaderboard.assembling.label
        leaderboard.assembling.measures leaderboard.assembling.within leaderboard.base.matrix
        leaderboard.comparing.names_of leaderboard.comparing.versus probes.external.evaluate
        probes.few_shot.evaluate probes.few_shot.summary probes.linear.evaluate probes.linear.predictions_table
        probes.linear.tabulate robustness.jitter.likeness
    """,
    "a step of a measure that is stated": """
        alignment.chance.totals alignment.overlap.columns alignment.overlap.counts alignment.overlap.total
        ensembles.rules.stacking probes.calibration.bin_of probes.external.judged probes.external.learnt
        probes.external.within probes.linear.span robustness.agreement.icc_of
        robustness.agreement.icc_of_squares robustness.agreement.unit
    """,
    "the bootstrap or an interval that is stated, of another measure": """
        alignment.chance.enough alignment.overlap.intervals ensembles.evaluating.compared
        probes.calibration.wilson probes.linear.interval probes.survival.differences probes.survival.summary
        robustness.agreement.limits
    """,
    "a rule in words, told on the page": """
        leaderboard.assembling.pretraining leaderboard.choosing.choose probes.calibration.at_edge
        probes.calibration.rarer probes.clinical.covariates probes.clinical.features robustness.jitter.nominal
        robustness.negatives.identical
    """,
}


def found(name):
    """What a dotted name stands for; the longest part that is a module is imported."""
    parts, value = name.split("."), None
    for end in range(1, len(parts) + 1):
        value = getattr(value, parts[end - 1], None) if end > 1 else None
        value = importlib.import_module(".".join(parts[:end])) if value is None else value
    return value


@pytest.mark.parametrize("text", [METHODS, RELEASED], ids=["methods", "released_code"])
def test_every_name_of_the_package_is_there(text):
    names = set(NAME.findall(text))
    assert names
    for name in sorted(names):
        assert found(name) is not None, name


def test_every_formula_says_what_computes_it_and_what_it_does_not_tell():
    parts = re.split(r"^#{2,3} ", METHODS, flags=re.MULTILINE)[1:]
    stated = [part for part in parts if "```{math}" in part]
    assert len(stated) > 50
    for part in stated:
        assert re.search(r"^- Computed by `tumorbench_utils\.", part, re.MULTILINE), part.splitlines()[0]
        assert re.search(r"^- Does not tell", part, re.MULTILINE), part.splitlines()[0]
    assert METHODS.count("```{math}") == METHODS.count(":label: ")


def test_no_two_chapters_number_the_same_formula():
    labels = [label for text in CHAPTERS.values() for label in re.findall(r"^:label: ([\w-]+)", text, re.MULTILINE)]
    assert sorted(labels) == sorted(set(labels))
    for name, text in CHAPTERS.items():
        assert set(re.findall(r"\{eq\}`([\w-]+)`", text)) <= set(labels), name


def test_no_line_of_prose_is_taken_for_a_comment():
    code = re.compile(r"^ *```(?:\{code-block\} *)?\w+\n.*?^ *```$", re.MULTILINE | re.DOTALL)
    lost = {name: re.findall(r"^\s*%.*", code.sub("", text), re.MULTILINE) for name, text in CHAPTERS.items()}
    assert {name: lines for name, lines in lost.items() if lines} == {}  # MyST leaves out a line that begins with %


def functions_of(room):
    """Public functions of a room by name: those of the room itself, and those of the modules that it names."""
    own = {}
    for name in getattr(room, "__all__", [each for each in vars(room) if not each.startswith("_")]):
        value = getattr(room, name)
        if inspect.ismodule(value) and hasattr(room, "__all__"):
            own |= functions_of(value)
        elif inspect.isfunction(value) and value.__module__.startswith(room.__name__):
            own[f"{value.__module__}.{name}".removeprefix("tumorbench_utils.")] = value
    return own


def test_every_measure_of_the_arithmetic_rooms_has_its_formula():
    stated = {found(name) for name in NAME.findall(METHODS) if callable(found(name))}
    public = {name: value for room in ROOMS for name, value in functions_of(room).items()}
    lacking = {name for name, value in public.items() if value not in stated}
    assert lacking == set(" ".join(NO_FORMULA.values()).split())


# Formulas as printed, in plain Python, against the package


def test_chance_of_shared_neighbours_is_the_mean_of_the_printed_distribution():
    n, k = 48, 10
    total = math.comb(n - 1, k)
    share = [math.comb(k, h) * math.comb(n - 1 - k, k - h) / total for h in range(k + 1)]
    assert sum(share) == pytest.approx(1)
    assert sum(h * part for h, part in enumerate(share)) == pytest.approx(chance.expected(n, k))


def test_intervals_are_the_printed_ones():
    aucs = [0.61, 0.55, 0.58, 0.66, 0.49, 0.57, 0.6, 0.52, 0.63, 0.59]
    mean = sum(aucs) / 10
    s = math.sqrt(sum((each - mean) ** 2 for each in aucs) / 9)
    assert statistics.normal_interval(aucs)[1] == pytest.approx(mean - 1.96 * s / math.sqrt(10))
    corrected = 2.2621571628 * math.sqrt((1 / 10 + 30 / 70) * s**2)
    assert statistics.corrected_interval(aucs, 70, 30) == pytest.approx((mean, mean - corrected, mean + corrected))
    z, (f, n) = 1.959963985, (12, 12)
    middle, half = (f + z**2 / 2) / (n + z**2), z / (n + z**2) * math.sqrt(f * (n - f) / n + z**2 / 4)
    assert statistics.wilson(f, n) == pytest.approx((middle - half, min(1, middle + half)))


def test_sizes_of_a_split_are_the_printed_ones():
    labels = np.arange(421) % 2
    test = math.ceil(0.3 * 421)
    validation = math.ceil(0.2 / (0.5 + 0.2) * (421 - test))
    split = knn.paper_splits(labels, [10])[0]
    assert (len(split.test), len(split.validation), len(split.train)) == (test, validation, 421 - test - validation)


def test_auc_from_counts_is_that_of_the_pairs():
    rng = np.random.default_rng(1)
    labels = np.arange(40) % 2
    votes = np.cumsum(rng.integers(0, 2, (40, 5)), axis=1)
    for k, auc in enumerate(knn.auc_curve(votes, labels)):
        counts = votes[:, k]
        pairs = [(p > m) + 0.5 * (p == m) for p in counts[labels == 1] for m in counts[labels == 0]]
        assert auc == pytest.approx(sum(pairs) / len(pairs))


def test_holm_is_the_printed_maximum():
    p = [0.04, 0.001, 0.02, 0.5]
    ordered = sorted(p)
    printed = [min(1, max((4 - j) * ordered[j] for j in range(i + 1))) for i in range(4)]
    assert sorted(statistics.holm(p)) == pytest.approx(printed)


def test_brier_skill_and_its_parts_are_the_printed_ones():
    label = np.array([1, 0, 0, 1, 0, 0, 0, 1])
    score = np.array([0.9, 0.2, 0.4, 0.6, 0.1, 0.7, 0.2, 0.3])
    rows = {"split": 0, "patient_id": np.arange(8), "label": label, "probability": score}
    table = calibration.measures(pd.DataFrame(rows), draws=1).set_index("measure")["value"]
    brier = sum((p - y) ** 2 for p, y in zip(score, label, strict=True)) / 8
    prevalence = 3 / 8
    assert table["brier"] == pytest.approx(brier)
    assert table["brier_skill"] == pytest.approx(1 - brier / (prevalence * (1 - prevalence)))


def test_kappa_and_icc_are_the_printed_ones():
    one, other = np.array([0, 0, 2, 9, 9]), np.array([0, 2, 2, 9, 0])
    rank = {0: 0, 2: 1, 9: 2}
    seen = sum(abs(rank[a] - rank[b]) for a, b in zip(one, other, strict=True))
    expected = sum(abs(rank[a] - rank[b]) for a in one for b in other) / 5
    assert agreement.weighted_kappa(one, other[None])[0] == pytest.approx(1 - seen / expected)
    ratings = np.array([[9.0, 8], [6, 7], [8, 8], [7, 5]])  # patients, scans
    n, k = ratings.shape
    grand, patients, scans = ratings.mean(), ratings.mean(axis=1), ratings.mean(axis=0)
    p = k * sum((patients - grand) ** 2) / (n - 1)
    s = n * sum((scans - grand) ** 2) / (k - 1)
    e = ((ratings - patients[:, None] - scans + grand) ** 2).sum() / ((n - 1) * (k - 1))
    printed = (p - e) / (p + (k - 1) * e + k / n * (s - e))
    assert agreement.icc(ratings[:, :1], ratings[:, 1:])[0] == pytest.approx(printed)


def test_concordance_of_survival_is_the_printed_share_of_pairs():
    time, event, risk = [5, 8, 8, 12, 3], [1, 0, 1, 1, 0], [0.9, 0.4, 0.9, 0.1, 0.7]
    above = total = 0
    for i in range(5):
        for j in range(5):
            comparable = event[i] and (time[i] < time[j] or (time[i] == time[j] and not event[j]))
            total += bool(comparable)
            above += bool(comparable) * ((risk[i] > risk[j]) + 0.5 * (risk[i] == risk[j]))
    assert concordance.harrell(time, event, risk).value == pytest.approx(above / total)


def test_critical_difference_and_friedman_are_the_printed_ones():
    aucs = pd.DataFrame(np.random.default_rng(2).random((4, 6)))
    n, k = 6, 4
    rank = aucs.rank(ascending=False).mean(axis=1)
    chi2 = 12 * n / (k * (k + 1)) * (sum(rank**2) - k * (k + 1) ** 2 / 4)
    found = comparing.friedman(aucs)
    assert (found.chi2_plain, found.f_plain) == pytest.approx((chi2, (n - 1) * chi2 / (n * (k - 1) - chi2)))
    assert comparing.critical_difference(k, n) == pytest.approx(2.569 * math.sqrt(k * (k + 1) / (6 * n)), abs=1e-3)


def test_weights_by_alignment_and_the_chance_of_a_label_are_the_printed_ones():
    shared = np.array([[0, 3.0, 1], [3, 0, 2], [1, 2, 0]])
    means = [(1 + sum(row)) / 3 for row in shared]
    assert rules.alignment_weights(shared) == pytest.approx([each / sum(means) for each in means])
    groups = np.array([0, 0, 0, 1, 1])
    assert confounds.label_chance(groups) == pytest.approx((3 * 2 + 2 * 1) / (5 * 4))


def test_window_is_the_printed_sum():
    points = ((-1000, 0), (-200, 0.2), (200, 0.9), (1000, 1))
    recipe = Recipe(BENCHMARK[0], "RAS", (48, 48, 48), points, 1, None)

    class Values(float):  # what the recipe asks of a tensor
        def float(self):
            return self

        def __sub__(self, other):
            return Values(float(self) - other)

        def __truediv__(self, other):
            return Values(float(self) / other)

        def clamp(self, low, high):
            return min(high, max(low, self))

    for hu in (-3000, -1000, -600, 0, 55, 900, 4000):
        printed = points[0][1]
        for (low, start), (high, stop) in itertools.pairwise(points):
            printed += (stop - start) * min(1, max(0, (hu - low) / (high - low)))
        assert recipe.scaled(Values(hu)) == pytest.approx(printed)


# The page on the released code


def blocks(kind):
    """Blocks of code of one language in the page, without the indentation of the list they stand in."""
    pattern = re.compile(rf"^( *)```{{code-block}} {kind}\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", code, flags=re.MULTILINE) for indent, code in pattern.findall(RELEASED)]


def test_every_check_prints_what_the_page_says():
    codes, outputs, names = blocks("python"), blocks("text"), {}
    assert len(codes) == len(outputs) > 20
    assert not blocks("bash")
    for code, expected in zip(codes, outputs, strict=True):
        shown = io.StringIO()
        with contextlib.redirect_stdout(shown):
            exec(compile(code, "released_code.md", "exec"), names)
        assert shown.getvalue() == expected, code


def test_points_are_as_many_as_the_table_says():
    counts = dict(re.findall(r"^\| \[([^\]]+)\]\(#[\w-]+\) \| (\d+) \|", RELEASED, re.MULTILINE))
    assert sum(map(int, counts.values())) == int(re.search(r"^\| All \| (\d+) \|", RELEASED, re.MULTILINE)[1])
    for part in re.split(r"^## ", RELEASED, flags=re.MULTILINE)[1:]:
        title = part.splitlines()[0]
        assert part.count("\n### ") == int(counts.pop(title, 0)), title
    assert not counts


def test_every_point_has_all_five_parts():
    for part in re.split(r"^### ", RELEASED, flags=re.MULTILINE)[1:]:
        terms = re.findall(r"^(\w[\w ]*)\n: ", part, re.MULTILINE)
        assert terms == ["As written", "As released", "Effect", "Check", "Here"], part.splitlines()[0]
