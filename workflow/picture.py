"""Draw the picture of the README from the results of a run: ``python workflow/picture.py --run runs/quick``.

Marks and colours are those of the book; the ground is white, as GitHub shows the same image on light and dark pages.
"""

import argparse
import io
import re
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes

from tumorbench_utils import artefacts, plots

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "book" / "_static" / "quick.svg"
INK, GROUND = "#1f2328", "#ffffff"
MODEL, CONTROL = {"fmt": "o", "color": plots.OURS}, {"fmt": "s", "color": plots.CONTROL}
COLUMNS = ["title", "auc", "low", "high", "control"]
SHORT = {"Random encoder (untrained ResNet-18)": "Untrained encoder", "Astra (third-party copy)": "Astra"}
WIDTH, HEIGHT = 6.6, 3.7  # inches


def main() -> None:
    """Draw the picture of one run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of a finished run of the quick profile")
    results = parser.parse_args().run / "results"
    drawn = picture(patients(results / "3_knn_evaluation" / "nsclc_radiomics.csv"), phantoms(results / "7_leaderboard"))
    print(artefacts.write_text(PICTURE, drawn))


def patients(path: Path) -> pd.DataFrame:
    """FMCIB and its negative controls (``COLUMNS`` and n): AUC and corrected interval of patient-grouped splits."""
    table = pd.read_csv(path)
    return table.loc[table["protocol"] == "grouped", [*COLUMNS, "n"]]


def phantoms(folder: Path) -> pd.DataFrame:
    """What was tested at the other phantom site (``COLUMNS``): the lower of the two AUCs and its interval."""
    table = pd.read_csv(folder / "leaderboard.csv")
    table = table[table["auc_external_worst"].notna() & table["external_on"].str.contains("phantom")]
    names = {"auc_external_worst": "auc", "auc_external_worst_low": "low", "auc_external_worst_high": "high"}
    table = table.drop(columns="control").rename(columns=names | {"is_control": "control"})[COLUMNS]
    return table.replace({"title": SHORT}).sort_values("auc", ascending=False)


def picture(real: pd.DataFrame, made_up: pd.DataFrame) -> str:
    """The picture as SVG: a forest of AUCs of patients, below it one of phantoms, on the same axis."""
    shares = (len(real), len(made_up))
    figure, (above, below) = plots.canvas(HEIGHT, rows=2, height_ratios=shares, sharex=True)
    figure.set_figwidth(WIDTH)
    with matplotlib.rc_context(plots.STYLE | {"font.size": 10}):
        forest(above, real, f"{real['n'].iloc[0]} patients with lung cancer: alive after two years?")
        forest(below, made_up, "PHANTOM nodules: malignant? Learnt at the other site")
        above.tick_params(axis="x", labelbottom=False)
        below.set_xlabel("AUC with 95 % interval (dotted: chance)")
        below.set_xlim(0.35, 1)
        for name, mark in {"trained model": MODEL, "control": CONTROL}.items():
            above.plot([], [], mark["fmt"], color=mark["color"], label=name)
        figure.legend(loc="outside upper right", ncols=2)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", facecolor=GROUND, metadata={"Date": None})
    svg = re.sub(r"<metadata>.*?</metadata>", "", stream.getvalue(), flags=re.DOTALL)
    return svg.replace(plots.INK, INK)


def forest(axis: Axes, table: pd.DataFrame, title: str) -> None:
    """One row a name: a mark, its interval, and both as numbers at the right."""
    for row, one in enumerate(table.itertuples()):
        mark = CONTROL if one.control else MODEL
        axis.errorbar(one.auc, row, xerr=[[one.auc - one.low], [one.high - one.auc]], **mark, markersize=6, capsize=3)
        words = f"{one.auc:.2f} ({one.low:.2f} to {one.high:.2f})"
        axis.text(1.02, row, words, transform=axis.get_yaxis_transform(), va="center", fontsize=9)
    axis.axvline(plots.CHANCE, color=plots.INK, linestyle=":", linewidth=1)
    axis.set_yticks(range(len(table)), table["title"])
    axis.set(ylim=(len(table) - 0.5, -0.5))
    axis.set_title(title, loc="left")
    axis.grid(axis="y", visible=False)


if __name__ == "__main__":
    main()
