"""DLCS: malignancy of lung nodules found in the Duke screening programme."""

import pandas as pd

from .base import Cohort, Endpoint, column


def nodule(rows: pd.DataFrame) -> pd.Series:
    """Patient and nodule number."""
    return rows["patient-id"].astype(str) + "_" + rows["nodule_id"].astype(str)


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
    endpoints={
        "paper": Endpoint(
            title="nodule malignancy",
            rule="the malignancy label of the public annotation table",
            label=column("Malignant_lbl", float),
            positives=176,
            negatives=1538,
        ),
    },
    patient=column("patient-id"),
    sample=nodule,
)
