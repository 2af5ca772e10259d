"""PHANTOM: computed thoraces with one lung nodule each, to test the machinery. Rows are those of ``phantom.make``."""

from .base import Cohort, Column, Endpoint, column, survives

TIME = column("time_days", float)
EVENT = column("event", float)


def first_scan(label: Column) -> Column:
    """``label`` of the first scan of a patient; a second scan has none, so that nobody counts twice."""
    return lambda rows: label(rows).where(rows["scan"] == "test")


COHORT = Cohort(
    id="phantom",
    title="PHANTOM",
    anatomy="lung",
    size="as many as are made",
    source="computed by `tumorbench_utils.phantom`",
    doi="",
    licence="MIT",
    citation="",
    seed_rule="centroid of the largest component of the nodule",
    endpoints={
        "paper": Endpoint(
            title="PHANTOM nodule malignancy",
            rule="the malignancy that the phantom was made with; a second scan is left out",
            label=first_scan(column("malignant", float)),
            exclusion="second scan of the patient",
        ),
        "survival": Endpoint(
            title="PHANTOM two-year survival",
            rule="alive at 730 days against dead before; censored before two years, and a second scan, is left out",
            label=first_scan(survives(TIME, EVENT)),
            exclusion="censored before two years, or second scan of the patient",
        ),
    },
    patient=column("patient_id"),
    sample=column("sample_id"),
    time_days=TIME,
    event=EVENT,
    phantom=True,
)
