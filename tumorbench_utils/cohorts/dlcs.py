"""DLCS: malignancy of lung nodules found in the Duke screening programme."""

import pandas as pd

from ..sources import Zenodo
from .base import Cohort, Endpoint, column


def nodule(rows: pd.DataFrame) -> pd.Series:
    """Patient and nodule number."""
    return rows["patient-id"].astype(str) + "_" + rows["nodule_id"].astype(str)


def of_the_paper(rows: pd.DataFrame) -> pd.Series:
    """Whether a nodule is one of the paper's: those of patients DLCS_0001 to DLCS_1120.

    Inferred: no other range of patients has 1,714 nodules, and the balance of classes fits the published AUCs.
    """
    return rows["patient-id"].astype(str).str.extract(r"(\d+)$")[0].astype(float) <= 1120


LABEL = column("Malignant_lbl", float)

COHORT = Cohort(
    id="dlcs",
    title="DLCS",
    anatomy="lung",
    size="1,714 nodules",
    source="Zenodo record 10782890",
    doi="10.5281/zenodo.10782890",
    licence="see the record",
    citation="wang2024dlcs",
    seed_rule="centre of the annotated bounding box",
    images=Zenodo(record="10782890", files=("DLCSD24_Annotations*.csv",)),
    endpoints={
        "paper": Endpoint(
            title="nodule malignancy",
            rule="the malignancy label of the public annotation table, patients DLCS_0001 to DLCS_1120",
            label=lambda rows: LABEL(rows).where(of_the_paper(rows)),
            positives=176,
            negatives=1538,
            exclusion="no label, or not one of the paper's patients",
        ),
        "full": Endpoint(
            title="nodule malignancy",
            rule="the malignancy label of the public annotation table",
            label=LABEL,
            positives=264,
            negatives=2223,
        ),
    },
    patient=column("patient-id"),
    sample=nodule,
)
