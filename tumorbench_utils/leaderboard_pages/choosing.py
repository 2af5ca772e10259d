"""Which model for my task? What this run supports, what only the study says, and what cannot be said; in 300 words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from .. import leaderboard, published
from ..cohorts import COHORTS
from ..models import TEN
from ..plots.base import percent
from ..statistics import bounded
from .gathering import Board, gathered, titles_of
from .standing import PATIENTS, cohort_title

STUDY = "As published:"
MARKED = "[{:.2f}]{{.tb-published}}"  # a figure of the study, in the book's mark
NONE_KNOWN = "none known"
VOLUME = "volume"
OTHER_ENDPOINT = ("nsclc_radiogenomics",)  # its published AUC is not of two-year survival
NAMED = 2  # candidates with their numbers; the others are counted
NUMBERS = ("No", "One", "Two", "Three", "Four", "Five", "Six", "Seven", "Eight", "Nine", "Ten", "Eleven", "Twelve")
FOCUS = (
    "(AUC for voxels of the tumour minus that of a map that knows no model; 0 or less is no sign that it looks at the "
    "tumour)"
)
NO_CONTROL = " *This run has no table of {}: a model cannot be held against it, so no result can name one here.*"
LIMITS = (
    "*Published figures are of kNN on the study's own splits, whose intervals are too narrow. A model is named only if "
    "no rule left it out: trained, never significantly worse than the best, better than tumour volume and an untrained "
    "encoder, above chance on another cohort.*"
)


@dataclass(frozen=True)
class Question:
    """A task of a reader and the cohorts (labels of :func:`leaderboard.label`) that stand for it."""

    words: str
    cohorts: tuple[str, ...]


QUESTIONS = (
    Question("Is this lung nodule malignant?", ("luna16", "dlcs")),
    Question(
        "Two-year survival in lung cancer?",
        ("nsclc_radiomics", "nsclc_radiogenomics", "nsclc_radiomics.strict", "nsclc_radiogenomics.two_year"),
    ),
    Question("Two-year survival with kidney or liver tumours?", ("c4kc_kits", "colorectal_liver_metastases")),
)


def which_model(run: str | Path, contributed: Sequence[str | Path] = (), draws: int = 2000, seed: int = 0) -> str:
    """Markdown of about 300 words on a run: for each task what it supports, what is published, and what is open."""
    return answers(gathered(run, contributed, draws, seed))


def answers(board: Board) -> str:
    """:func:`which_model` of a leaderboard that was gathered already."""
    told = [_question(each, board) for each in QUESTIONS]
    lines = [f"- **{question.words}** {words}" for question, (words, _) in zip(QUESTIONS, told, strict=True)]
    lines += [f"- **Following a tumour over time?** {_retest(board)}"]
    lines += [f"- **Showing where it looks?** {_focus(board)}"]
    return (
        "\n".join([_verdict(board, [named for _, named in told]), "", *lines, "", LIMITS + _no_control(board)]) + "\n"
    )


def _no_control(board: Board) -> str:
    """Why a run without the controls of the rules, as one of released tables alone, cannot name a model."""
    if board.rows.empty:
        return ""
    there = {"tumour volume": board.rows["model"] == VOLUME, "an untrained encoder": board.rows["untrained"]}
    lacking = [words for words, some in there.items() if not some.any()]
    return NO_CONTROL.format(" or ".join(lacking)) if lacking else ""


def _verdict(board: Board, named: list[list[str]]) -> str:
    """The answer in one paragraph: models that this run supports, or that it names none."""
    found = sorted({title for titles in named for title in titles})
    if found:
        return f"**This run supports, for at least one task: {', '.join(found)}.** For the others it names none."
    some = [each for each in board.runs if each.group == PATIENTS]
    tested = _trained(board) & {name for each in some for name in each.models}
    patients = f"{_number(len(tested))} trained {'models were' if len(tested) > 1 else 'model was'} tested on patients"
    rest = "phantoms and untrained encoders test the machinery, not medicine"
    return (
        f"**This run names no model for patients.** {patients}; {rest}. Published figures are a hint of where to start."
    )


def _number(count: int) -> str:
    """A number as a sentence begins with it: in words, as far as these are short."""
    return NUMBERS[count] if count < len(NUMBERS) else f"{count:,}"


def _trained(board: Board) -> set[str]:
    if board.rows.empty:
        return set()
    return set(board.rows.loc[~board.rows["untrained"] & ~board.rows["is_control"], "table"])


def _question(question: Question, board: Board) -> tuple[str, list[str]]:
    """A paragraph on a question, and the titles of the models that this run supports."""
    here, named, checks = _run_says(question, board)
    wanted = {"volume": "gain over tumour volume", "external": "another hospital"}
    open_to = [words for check, words in wanted.items() if check not in checks]
    rest = f" Not shown: {', '.join(open_to)}." if open_to else ""
    return f"This run: {here} {STUDY} {_study_says(question.cohorts)}.{rest}", named


def _run_says(question: Question, board: Board) -> tuple[str, list[str], set[str]]:
    standing = next((each for each in board.runs if each.group == PATIENTS), None)
    cells = standing.ranks.cells if standing else pd.DataFrame(columns=["model", "cohort", "auc"])
    cells = cells[cells["model"].isin(_trained(board)) & cells["cohort"].isin(question.cohorts)]
    if cells.empty:
        return "no trained model was tested.", [], set()
    titles = titles_of(board.records)
    external = leaderboard.external(board.measures)
    task = leaderboard.Task(question.cohorts, standing.pairs, external)
    choice = leaderboard.choose(board.rows, task, standing.alpha)
    checks = set(choice.evidence["check"])
    best = cells.loc[cells["auc"].idxmax()]
    if choice.candidates:
        words = "; ".join(_worst(name, board, question.cohorts) for name in choice.candidates[:NAMED])
        more = f"; and {len(choice.candidates) - NAMED} more" if len(choice.candidates) > NAMED else ""
        return f"supports {words}{more}.", [titles[name] for name in choice.candidates], checks
    reasons = dict(zip(choice.excluded["model"], choice.excluded["reason"], strict=True))
    why = _readable(reasons.get(best["model"], "the evidence is too little").split("; ")[0], titles)
    return f"{_numbers(best['model'], board, [best['cohort']])}, not named: {why}.", [], checks


def _numbers(name: str, board: Board, cohorts: Sequence[str]) -> str:
    """A model with its AUC on cohorts of this run."""
    found = bounded(leaderboard.within(board.measures))
    rows = found[(found["table"] == name) & found["cohort"].isin(cohorts)]
    words = [f"{_interval(row.auc, row.low, row.high)} on {_place(row.cohort)}" for row in rows.itertuples()]
    return f"{titles_of(board.records)[name]}, {', '.join(words)}"


def _place(label: str) -> str:
    """The title of a cohort; of one whose endpoint in the study is not what is asked for, with that endpoint."""
    if label in OTHER_ENDPOINT:
        return f"{cohort_title(label)} ({COHORTS.get(label).endpoint('paper').title})"
    return cohort_title(label)


def _worst(name: str, board: Board, cohorts: Sequence[str]) -> str:
    """A model with the lowest of its AUCs on cohorts of this run."""
    found = leaderboard.within(board.measures)
    rows = found[(found["table"] == name) & found["cohort"].isin(cohorts)]
    lowest = _numbers(name, board, [rows.loc[rows["auc"].idxmin(), "cohort"]])
    return lowest if len(rows) == 1 else f"{lowest} at worst"


def _interval(value: float, low: float, high: float, form: str = "{:.2f}") -> str:
    """An AUC with its interval, "AUC 0.57 (95 % interval 0.51 to 0.64)", the value in a form."""
    known = pd.notna(low) and pd.notna(high)
    return f"AUC {form.format(value)}" + (f" (95 % interval {low:.2f} to {high:.2f})" if known else "")


def _readable(reason: str, titles: dict[str, str]) -> str:
    """A reason with titles in the place of the names of tables and cohorts."""
    known = {**titles, **{cohort: _place(cohort) for each in QUESTIONS for cohort in each.cohorts}}
    for name in sorted(known, key=len, reverse=True):
        reason = re.sub(rf"(?<!tumour )(?<![\w.]){re.escape(name)}(?![\w.])", lambda _, name=name: known[name], reason)
    return reason


def _study_says(cohorts: Sequence[str]) -> str:
    """The best model of the study on each cohort, and how many of the others' intervals meet its."""
    words, before = [], ""
    for cohort in [each for each in cohorts if "." not in each]:
        table = published.figures("auc").query("cohort == @cohort").sort_values("auc", ascending=False)
        best, others = table.iloc[0], table.iloc[1:]
        level = int((others["ci_high"] >= best["ci_low"]).sum())
        flag, _ = leaderboard.pretraining(best["model"], cohort)
        seen = "" if flag == NONE_KNOWN else f"; pretraining on it {flag}"
        title = TEN.get(best["model"]).title
        words.append(
            f"{'' if title == before else f'{title}, '}"
            f"{_interval(best['auc'], best['ci_low'], best['ci_high'], MARKED)} on {_place(cohort)} "
            f"({level} of {len(others)} intervals overlap{seen})"
        )
        before = title
    return ", ".join(words)


def _retest(board: Board) -> str:
    table = published.figures("robustness").set_index("model")
    kappa, cosine = table["kappa_mean"].idxmax(), table["rider_mean_cosine"]
    study = (
        f"mean cosine on RIDER {MARKED.format(cosine.min())} ({TEN.get(cosine.idxmin()).title}) to "
        f"{MARKED.format(cosine.max())}; seed points moved: kappa of {TEN.get(kappa).title} "
        f"{MARKED.format(table.loc[kappa, 'kappa_mean'])}"
    )
    here = _best(board, "retest_identification", percent, "of second scans found", "nobody was scanned twice")
    return f"This run: {here} {STUDY} {study}. Other patients may be as alike."


def _focus(board: Board) -> str:
    here = _best(board, "tumour_focus", "{:+.2f}".format, FOCUS, "no map was made")
    return f"This run: {here} {STUDY} pictures only (FMCIB and Models Genesis on the tumour), no figure."


def _best(board: Board, column: str, form: Callable[[float], str], words: str, without: str) -> str:
    """The trained model of the largest value in a column, on patients if there are any, beside the best of the rest."""
    rows = board.rows
    if rows.empty or rows[column].isna().all():
        return f"{without}."
    rows = rows[rows["table"].isin(_trained(board)) & rows[column].notna()]
    if rows.empty:
        return "no trained model was tested."
    of_patients = rows[rows[f"{column}_mark"] == ""]
    rows = of_patients if len(of_patients) else rows
    best = rows.loc[rows[column].idxmax()]
    mark = "" if len(of_patients) else "on PHANTOMS only, "
    idle = board.rows[
        ~board.rows["table"].isin(_trained(board)) & (board.rows[f"{column}_mark"] == best[f"{column}_mark"])
    ]
    limit = idle[column].max()
    beside = f"; best control or untrained {_signed(form, limit)}" if pd.notna(limit) else ""
    return f"{mark}{best['title']} {_signed(form, best[column])} {words}{beside}."


def _signed(form: Callable[[float], str], value: float) -> str:
    return form(value).replace("-", "−")
