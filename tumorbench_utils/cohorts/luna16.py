"""LUNA16: malignancy of lung nodules as four readers rated it (a subset of LIDC-IDRI)."""

import pandas as pd

from ..sources import Expected, Idc
from .base import Cohort, Endpoint, column


def scan(rows: pd.DataFrame) -> pd.Series:
    """Series UID of the CT, which the released tables carry in the image's file name."""
    return rows["image_path"].astype(str).str.rsplit("/", n=1).str[-1].str.removesuffix(".mhd")


def nodule(rows: pd.DataFrame) -> pd.Series:
    """Scan and seed point in whole mm: a scan has up to eight nodules and the tables do not number them."""
    place = rows[["coordX", "coordY", "coordZ"]].astype(float).round().astype(int).astype(str)
    return scan(rows) + "_" + place.agg("_".join, axis=1)


COHORT = Cohort(
    id="luna16",
    title="LUNA16",
    anatomy="lung",
    size="677 nodules in 433 scans",
    source="IDC collection `lidc_idri`, LIDC reader annotations",
    doi="10.7937/K9/TCIA.2015.LO9QL9SX",
    licence="CC BY 3.0",
    citation="setio2017luna16",
    seed_rule="centre of the bounding box of all readers' contours",
    images=Idc(
        collection="lidc_idri",
        mask=None,
        case="SeriesInstanceUID",
        note="the scans are selected by the LIDC annotations",
        expected=Expected(cases=433, ct=433, ct_gb=59.2),
    ),
    endpoints={
        "paper": Endpoint(
            title="nodule malignancy",
            rule="mean reader rating of malignancy: at most 2.5 benign, at least 3.5 malignant, in between left out",
            label=column("malignancy", float),
            positives=327,
            negatives=350,
        ),
    },
    patient=scan,
    sample=nodule,
)
