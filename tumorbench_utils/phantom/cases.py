"""Who is in a phantom cohort: sites, patients with their nodules and outcomes, and how each lies in the scanner.

Every case has random streams of its own, keyed by seed, number and purpose, so that it is the same in a cohort of any
size, and images and outcomes can be drawn apart from each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..registry import Registry
from .anatomy import RIB_MM, Chest, Nodule, Pose

STREAMS = ("patient", "follow-up", "null", "anatomy", "pose", "noise", "retest pose", "retest noise")
NULL_PREVALENCE = 0.5  # of malignancy, at every site


class PhantomError(ValueError):
    """Phantoms that cannot be made as asked; the message says why and what to do."""


@dataclass(frozen=True)
class Site:
    """A scanner and its patients.

    ``blur_mm`` and ``boost`` are the kernel: Gaussian sigma, and gain of the highest frequencies; ``noise_hu`` is the
    standard deviation in the middle of the chest, about. ``prevalence`` of malignancy and ``scale`` of nodule size are
    the case mix.
    """

    id: str
    columns: int
    pixel_mm: float
    slices: int
    slice_mm: float
    noise_hu: float
    blur_mm: float
    boost: float
    prevalence: float
    scale: float


SITES: Registry[Site] = Registry(
    "phantom site",
    (
        Site("a", 224, 1.55, 100, 2.0, noise_hu=12, blur_mm=0.9, boost=0.0, prevalence=0.4, scale=0.95),
        Site("b", 208, 1.70, 80, 2.5, noise_hu=28, blur_mm=0.6, boost=1.0, prevalence=0.6, scale=1.10),
    ),
)


@dataclass(frozen=True)
class Case:
    """A patient of a site: what is seen (chest, nodule), what becomes known (malignant, follow-up), and the latent
    severity of the nodule, which has nothing to do with the outcome in a null cohort."""

    number: int
    site: Site
    seed: int
    chest: Chest
    nodule: Nodule
    spiculation: float
    severity: float
    malignant: int
    time_days: int
    event: int

    @property
    def patient_id(self) -> str:
        """Identifier; a null cohort has the same patients."""
        return f"PHANTOM-{self.seed}-{self.number:04d}"

    def sample_id(self, retest: bool) -> str:
        """Identifier of one of the scans."""
        return f"{self.patient_id}-{'retest' if retest else 'test'}"

    def stream(self, purpose: str, retest: bool = False) -> np.random.Generator:
        """The random numbers of this case for a purpose, those of the second scan if ``retest``."""
        return _stream(self.seed, self.number, f"retest {purpose}" if retest else purpose)

    def pose(self, retest: bool = False) -> Pose:
        """How the patient lies in the first scan, or in the second after getting up."""
        rng = self.stream("pose", retest)
        isocentre = rng.normal([0, -150, -200], [5, 10, 60]).round(1)
        return Pose(rng.normal(0, [3, 3, 4]), float(rng.normal(0, 0.03)), float(rng.normal(0, 4)), isocentre)


def case(number: int, site: str = "a", *, seed: int = 0, null: bool = False) -> Case:
    """The patient ``number`` of a cohort, at ``site``. ``null`` changes the outcome only, never the image."""
    place, rng = SITES.get(site), _stream(seed, number, "patient")
    malignant, severity = _disease(rng, place.prevalence)
    chest = Chest(
        a=rng.normal(119, 4),
        b=rng.normal(80, 3),
        fat=rng.uniform(8, 20),
        diaphragm=rng.normal(-48, 7),
        ribs=rng.uniform(0, RIB_MM),
        heart=rng.normal(1, 0.05),
        contrast=float(rng.choice([0, rng.uniform(60, 180)])),
    )
    spiculation = _logistic(1.5 * severity - 1.5 + rng.normal(0, 0.7))
    nodule = _nodule(rng, chest, place.scale, severity, spiculation)
    outcome = severity
    if null:  # not even the site, which can be told from the image, tells the outcome
        other = _stream(seed, number, "null")
        malignant, outcome = _disease(other, NULL_PREVALENCE)
    time_days, event = _follow_up(_stream(seed, number, "follow-up"), outcome)
    return Case(number, place, seed, chest, nodule, spiculation, severity, malignant, time_days, event)


def scans(
    cases: int, sites: Sequence[str] = ("a", "b"), retests: int = 0, null: bool = False, seed: int = 0
) -> Iterator[tuple[Case, bool]]:
    """Case and whether it is the second scan, by case; ``sites`` take turns, the first ``retests`` cases have two."""
    if not (cases >= 1 and 0 <= retests <= cases and sites and seed >= 0):
        raise PhantomError(
            f"no cohort of {cases} cases, {retests} of them scanned twice, at {len(sites)} sites with seed {seed}: "
            "give at least one case and one site, no more retests than cases, and no negative seed"
        )
    for number in range(cases):
        one = case(number, sites[number % len(sites)], seed=seed, null=null)
        yield from ((one, retest) for retest in (False, True)[: 1 + (number < retests)])


def row(of: Case, retest: bool) -> dict:
    """A row of the cohort's table: identifiers, files, outcome, and the truth that a test may look at."""
    sample, nodule, pose = of.sample_id(retest), of.nodule, of.pose(retest)
    x, y, z = (pose.isocentre + pose.to_scanner(nodule.centroid)).round(3)
    return {
        "patient_id": of.patient_id,
        "sample_id": sample,
        "site": of.site.id,
        "scan": "retest" if retest else "test",
        "ct": f"{sample}/ct",
        "mask": f"{sample}/seg.dcm",
        "malignant": of.malignant,
        "time_days": of.time_days,
        "event": of.event,
        "true_diameter_mm": round(nodule.diameter_mm, 3),
        "true_volume_ml": round(nodule.volume_ml, 5),
        "x": x,
        "y": y,
        "z": z,
        "severity": round(of.severity, 4),
        "spiculation": round(of.spiculation, 4),
        "heterogeneity_hu": round(nodule.heterogeneity, 2),
        "solid": round(nodule.solid, 3),
        "calcified": int(nodule.calcified),
        "pleural": int(nodule.pleural),
    }


def parameters(
    cases: int = 24, *, sites: Sequence[str] = ("a", "b"), retests: int = 4, null: bool = False, seed: int = 0
) -> pd.DataFrame:
    """The table that :func:`make` writes, without making an image: one row a scan.

    patient_id, sample_id, site, scan (test, retest); ct and mask, relative to the cohort's folder; malignant (0/1),
    time_days, event (1 death, 0 censored); the truth of nodule and image: true_diameter_mm (longest), true_volume_ml,
    centroid x, y, z (LPS, mm), severity (latent), spiculation and solid (shares), heterogeneity_hu (standard
    deviation), calcified, pleural (0/1).
    """
    return pd.DataFrame([row(*one) for one in scans(cases, sites, retests, null, seed)])


def _stream(seed: int, number: int, purpose: str) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number, STREAMS.index(purpose))))


def _logistic(value: float) -> float:
    return float(1 / (1 + np.exp(-value)))


def _disease(rng: np.random.Generator, prevalence: float) -> tuple[int, float]:
    """Whether malignant, and the latent severity."""
    malignant = int(rng.random() < prevalence)
    return malignant, float(rng.normal(1.2 * malignant, 0.7))


def _follow_up(rng: np.random.Generator, severity: float) -> tuple[int, int]:
    """Days, and 1 for death or 0 for censored: Weibull survival, entry one to seven years before the closing day."""
    death = 3600 * np.exp(-0.9 * severity) * rng.weibull(1.2)
    closing = rng.uniform(365, 2555)
    return int(np.ceil(min(death, closing))), int(death <= closing)


def _nodule(rng: np.random.Generator, chest: Chest, scale: float, severity: float, spiculation: float) -> Nodule:
    radius = 5.0 * scale * np.exp(np.clip(0.38 * severity + rng.normal(0, 0.2), -0.4, 1.15))
    pleural = bool(rng.random() < 0.25)
    spicules = round(40 * max(0.0, spiculation - 0.2))
    part_solid = rng.random() < _logistic(1.5 * severity - 2.5)
    return Nodule(
        centre=_place(rng, chest, radius, pleural),
        radius=radius,
        lobes=np.column_stack([_directions(rng, 7), rng.uniform(-0.05, 0.1 + 0.4 * spiculation, 7)]),
        spicules=np.column_stack([_directions(rng, spicules), rng.uniform(1.4, 2.1, spicules)]),
        solid=rng.uniform(0.45, 0.75) if part_solid else 1.0,
        hu=rng.normal(35, 10) + 0.15 * chest.contrast * _logistic(severity),
        heterogeneity=4 + 45 * _logistic(1.5 * severity - 1.5 + rng.normal(0, 0.7)),
        waves=np.column_stack([_directions(rng, 12) * rng.uniform(0.3, 1.2, (12, 1)), rng.uniform(0, 2 * np.pi, 12)]),
        calcified=bool(rng.random() < 0.3 * _logistic(-2 * severity) and not part_solid),
        pleural=pleural,
    )


def _place(rng: np.random.Generator, chest: Chest, radius: float, pleural: bool) -> np.ndarray:
    """A centre in a lung: free of its surface, or so near the wall that the nodule is attached to it."""
    points = rng.uniform([-115, -85, -50], [115, 75, 65], (4000, 3))
    inner = chest.inner(*points.T)
    depth = chest.lung(*points.T, inner)
    attached = (depth == inner) & (np.abs(depth - 0.8 * radius) < 0.1 * radius) & (points[:, 2] < 30)
    return points[np.flatnonzero(attached if pleural else depth > 1.5 * radius + 3)[0]]


def _directions(rng: np.random.Generator, count: int) -> np.ndarray:
    vectors = rng.normal(size=(count, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
