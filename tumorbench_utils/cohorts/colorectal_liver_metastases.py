"""Colorectal-Liver-Metastases: survival after resection of liver metastases."""

import pandas as pd

from ..sources import Expected, Idc
from .base import DAYS_PER_MONTH, TWO_YEARS, Cohort, Endpoint, coded, column, two_year_survival

MONTHS = column("overall_survival_months", float)
EVENT = coded("vital_status", {"1": 1, "0": 0})


def days(rows: pd.DataFrame) -> pd.Series:
    """Follow-up in days of 365.25 / 12 a month."""
    return MONTHS(rows) * DAYS_PER_MONTH


def label(rows: pd.DataFrame) -> pd.Series:
    """Two-year survival in the unit of the source: 24 months are exactly two years."""
    return two_year_survival(MONTHS(rows) * (TWO_YEARS / 24), EVENT(rows))


COHORT = Cohort(
    id="colorectal_liver_metastases",
    title="Colorectal-Liver-Metastases",
    anatomy="liver",
    size="194 of 197 patients",
    source="IDC collection `colorectal_liver_metastases`",
    doi="10.7937/QXK2-QG03",
    licence="CC BY 4.0",
    citation="simpson2023crlm",
    seed_rule="centroid of the largest component of the tumour segments",
    segment="tumou?r|neoplasm|metasta",
    images=Idc(
        collection="colorectal_liver_metastases",
        expected=Expected(cases=197, ct=197, ct_gb=9.3, mask=197, mask_gb=1.6),
    ),
    endpoints={
        "paper": Endpoint(
            title="two-year survival",
            rule="alive at 24 months against dead before; censored before two years is left out",
            label=label,
            positives=176,
            negatives=18,
            exclusion="censored before two years",
        ),
    },
    patient=column("Patient-ID"),
    time_days=days,
    event=EVENT,
    clinical={"age": "age", "max_tumour_size_cm": "max_tumor_size"},
)
