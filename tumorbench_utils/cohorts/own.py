"""A cohort of one's own: a folder of images with a table ``cases.csv`` (sample_id, patient_id, ct, mask, label)."""

from .base import Cohort, Endpoint, column

COHORT = Cohort(
    id="own",
    title="Own images",
    anatomy="as given",
    size="as many as the table has",
    source="a folder with `cases.csv`",
    doi="",
    licence="the user's",
    citation="",
    seed_rule="centroid of the largest component of the mask",
    endpoints={
        "paper": Endpoint(
            title="label",
            rule="the column `label` of the table, 0 or 1; samples where it is empty are left out",
            label=column("label", float),
        ),
    },
    patient=column("patient_id"),
    sample=column("sample_id"),
)
