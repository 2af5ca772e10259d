"""NSCLC-Radiomics (Lung1): survival two years after radiotherapy."""

from ..sources import Expected, Idc
from .base import TWO_YEARS, Cohort, Endpoint, column, survives

TIME = column("Survival.time", float)
EVENT = column("deadstatus.event", float)

COHORT = Cohort(
    id="nsclc_radiomics",
    title="NSCLC-Radiomics",
    anatomy="lung",
    size="421 patients",
    source="IDC collection `nsclc_radiomics`",
    doi="10.7937/K9/TCIA.2015.PF0M9REI",
    licence="CC BY-NC 3.0",
    citation="aerts2015nsclcradiomics",
    seed_rule="centroid of the largest component of GTV-1",
    segment=r"gtv-?1\b|neoplasm, primary",
    images=Idc(
        collection="nsclc_radiomics",
        note="LUNG1-128 has no segmentation",
        expected=Expected(cases=421, ct=421, ct_gb=26.9, mask=421, mask_gb=8.2),
    ),
    endpoints={
        "paper": Endpoint(
            title="two-year survival",
            rule="survival time of at least 730 days, censored or not (LUNG1-406, censored at 314 days, is kept as 0)",
            label=lambda rows: (TIME(rows) >= TWO_YEARS).astype(float).where(TIME(rows).notna()),
            positives=169,
            negatives=252,
            exclusion="no survival time",
        ),
        "strict": Endpoint(
            title="two-year survival",
            rule="alive at 730 days against dead before; censored before two years is left out",
            label=survives(TIME, EVENT),
            positives=169,
            negatives=251,
            exclusion="censored before two years",
        ),
    },
    patient=column("PatientID"),
    time_days=TIME,
    event=EVENT,
    clinical={
        "age": "age",
        "gender": "gender",
        "t_stage": "clinical.T.Stage",
        "n_stage": "Clinical.N.Stage",
        "m_stage": "Clinical.M.Stage",
        "overall_stage": "Overall.Stage",
        "histology": "Histology",
    },
)
