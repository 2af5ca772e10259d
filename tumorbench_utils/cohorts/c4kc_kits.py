"""C4KC-KiTS: survival after nephrectomy for a kidney tumour."""

from ..sources import Expected, Idc
from .base import Cohort, Endpoint, coded, column, survives

TIME = column("vital_days_after_surgery", float)
EVENT = coded("vital_status", {"dead": 1, "censored": 0})

COHORT = Cohort(
    id="c4kc_kits",
    title="C4KC-KiTS",
    anatomy="kidney",
    size="134 of 210 patients",
    source="IDC collection `c4kc_kits`, arterial phase",
    doi="10.7937/TCIA.2019.IX49E8NX",
    licence="CC BY 3.0",
    citation="heller2019c4kckits",
    seed_rule="centroid of the largest component of the renal tumour",
    segment="tumou?r|neoplasm|mass",
    images=Idc(
        collection="c4kc_kits",
        ct="Modality = 'CT' AND SeriesDescription ILIKE '%arterial%'",
        expected=Expected(cases=210, ct=210, ct_gb=24.0, mask=210, mask_gb=3.0),
    ),
    endpoints={
        "paper": Endpoint(
            title="two-year survival",
            rule="alive at 730 days after surgery against dead before; censored before two years is left out",
            label=survives(TIME, EVENT),
            positives=118,
            negatives=16,
            exclusion="censored before two years",
        ),
    },
    patient=column("patient_id"),
    time_days=TIME,
    event=EVENT,
    clinical={"age": "age_at_nephrectomy", "gender": "gender", "radiographic_size_cm": "radiographic_size"},
)
