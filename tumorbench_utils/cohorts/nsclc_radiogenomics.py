"""NSCLC-Radiogenomics: survival after surgery for lung cancer."""

from ..sources import Expected, Idc
from .base import Cohort, Endpoint, column, survives

TIME = column("Survival.time", float)
EVENT = column("deadstatus.event", float)

COHORT = Cohort(
    id="nsclc_radiogenomics",
    title="NSCLC-Radiogenomics",
    anatomy="lung",
    size="144 patients",
    source="IDC collection `nsclc_radiogenomics`",
    doi="10.7937/K9/TCIA.2017.7hs46erv",
    licence="CC BY 3.0 (images)",
    citation="napel2017radiogenomics",
    seed_rule="centroid of the largest component of the tumour segmentation",
    images=Idc(
        collection="nsclc_radiogenomics",
        note="67 of the 211 patients have no segmentation; the study of R01-059 has six CTs",
        expected=Expected(cases=144, ct=149, ct_gb=21.0, mask=144, mask_gb=0.9, open_cases=1),
    ),
    endpoints={
        "paper": Endpoint(
            title="alive at last follow-up",
            rule="vital status at last follow-up, of all 144 patients: the label behind the published AUCs, "
            "although the paper's text says two-year survival",
            label=lambda rows: 1.0 - EVENT(rows),
            positives=93,
            negatives=51,
        ),
        "two_year": Endpoint(
            title="two-year survival",
            rule="alive at 730 days against dead before; censored before two years is left out",
            label=survives(TIME, EVENT),
            positives=105,
            negatives=28,
            exclusion="censored before two years",
        ),
    },
    patient=column("Case ID"),
    time_days=TIME,
    event=EVENT,
    clinical={"age": "Age at Histological Diagnosis", "gender": "Gender", "smoking": "Smoking status"},
)
