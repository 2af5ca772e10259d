"""RIDER Lung CT: the same tumour scanned twice within 15 minutes. No endpoint."""

from ..sources import Expected, Idc
from .base import Cohort, column

COHORT = Cohort(
    id="rider",
    title="RIDER Lung CT",
    anatomy="lung",
    size="26 patients, two scans each",
    source="IDC collection `rider_lung_ct`",
    doi="10.7937/K9/TCIA.2015.U1X8A5NR",
    licence="CC BY 4.0 (CT), CC BY 3.0 (segmentations)",
    citation="zhao2015rider",
    seed_rule="centroid of the tumour of each scan",
    segment="gtv|tumou?r|neoplasm",
    images=Idc(
        collection="rider_lung_ct",
        mask="Modality = 'RTSTRUCT' AND analysis_result_id = 'rider_lungct_seg'"
        " AND PatientID NOT IN ('RIDER-2283289298', 'RIDER-5195703382', 'RIDER-8509201188')"
        " AND PatientID NOT IN ('RIDER-2016615262', 'RIDER-2541949645')",
        case="substr(PatientID, 7) || '-' || lower(SeriesDescription)",
        note="three patients without a TEST or a RETEST contour, and two that the benchmark lacks, are left out",
        expected=Expected(cases=52, ct=52, ct_gb=6.6, mask=52, mask_gb=0.0, open_cases=28),
    ),
    endpoints={},
    patient=lambda rows: column("PatientID")(rows).str.rsplit("-", n=1).str[0],
    sample=column("PatientID"),
)
