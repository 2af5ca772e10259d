"""RIDER Lung CT: the same tumour scanned twice within 15 minutes. No endpoint."""

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
    endpoints={},
    patient=lambda rows: column("PatientID")(rows).str.rsplit("-", n=1).str[0],
    sample=column("PatientID"),
)
