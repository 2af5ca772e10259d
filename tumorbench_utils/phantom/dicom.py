"""A phantom as DICOM: a CT series and a SEG of its nodule, the same bytes whenever they are written."""

from __future__ import annotations

import io
import uuid
from collections.abc import ItemsView
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import __version__
from .cases import Case
from .image import Scan

if TYPE_CHECKING:
    from pydicom import Dataset

WARNING = "PHANTOM: computed image, no patient"
DATE, TIME = "20000101", "120000"
FIXED = {"DA": DATE, "TM": TIME, "DT": DATE + TIME}  # what highdicom takes from the clock
INTERCEPT = -1024
SEGMENT = "Nodule"


def write(folder: Path, of: Case, retest: bool, image: Scan) -> None:
    """Write a scan as ``<folder>/ct/*.dcm``, a slice a file by increasing z, and its mask as ``<folder>/seg.dcm``."""
    (folder / "ct").mkdir(parents=True)
    slices = ct_series(of, retest, image)
    for one in slices:
        one.save_as(folder / "ct" / f"{one.InstanceNumber:04d}.dcm", enforce_file_format=True)
    segmentation(of, retest, image, slices).save_as(folder / "seg.dcm", enforce_file_format=True)


def _uid(of: Case, *name: object) -> str:
    """A UID made from a UUID (DICOM PS3.5, B.2) made from a name."""
    place = "/".join(map(str, ("tumorbench phantom", of.seed, of.site.id, of.number, *name)))
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, place).int}"


def ct_series(of: Case, retest: bool, image: Scan) -> list[Dataset]:
    """The slices of a CT, by increasing z: int16, explicit VR little endian, HU = stored value - 1024."""
    from pydicom.charset import default_encoding
    from pydicom.dataset import Dataset, FileMetaDataset

    slices, header = [], _header(of, retest, image)
    elements = _encoded(header)
    for k, pixels in enumerate(image.hu):
        position = image.origin + np.array([0, 0, k * image.spacing[2]])
        one = Dataset(dict(elements))
        one.set_original_encoding(False, True, default_encoding)  # that of the elements
        one.file_meta = FileMetaDataset(dict(header.file_meta.items()))
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = _uid(of, retest, "ct", k)
        one.InstanceNumber = k + 1
        one.ImagePositionPatient = [f"{value:.4f}" for value in position]
        one.SliceLocation = f"{position[2]:.4f}"
        one.add_new("PixelData", "OW", (pixels - np.int16(INTERCEPT)).astype("<i2").tobytes())
        slices.append(one)
    return slices


def _header(of: Case, retest: bool, image: Scan) -> Dataset:
    """All of a slice but its number, place and pixels."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

    one = Dataset()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one.file_meta.MediaStorageSOPClassUID = one.SOPClassUID = CTImageStorage
    one.ImageType = ["DERIVED", "PRIMARY", "AXIAL"]
    one.StudyDate = one.SeriesDate = one.AcquisitionDate = one.ContentDate = DATE
    one.StudyTime = one.SeriesTime = one.AcquisitionTime = one.ContentTime = TIME
    one.AccessionNumber = one.ReferringPhysicianName = one.PatientBirthDate = one.PatientSex = ""
    one.PatientID, one.PatientName = of.patient_id, f"PHANTOM^{of.patient_id}"
    one.PatientComments = one.ImageComments = WARNING
    one.Modality, one.Manufacturer, one.ManufacturerModelName = "CT", "TumorBench", "PHANTOM"
    one.SoftwareVersions, one.StationName = __version__, f"PHANTOM-{of.site.id}"
    one.StudyID, one.StudyDescription = "1", "PHANTOM thorax"
    one.SeriesNumber, one.SeriesDescription = 1 + retest, f"PHANTOM CT, {'second' if retest else 'first'} scan"
    one.AcquisitionNumber, one.PatientPosition, one.BodyPartExamined = 1, "HFS", "CHEST"
    one.StudyInstanceUID, one.SeriesInstanceUID = _uid(of, "study"), _uid(of, retest, "ct")
    one.FrameOfReferenceUID, one.PositionReferenceIndicator = _uid(of, retest, "frame"), ""
    one.KVP, one.ConvolutionKernel = "120", "SHARP" if of.site.boost else "SMOOTH"
    one.SliceThickness = one.SpacingBetweenSlices = f"{image.spacing[2]:.4f}"
    one.PixelSpacing = [f"{value:.4f}" for value in image.spacing[1::-1]]
    one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    one.Rows, one.Columns = image.hu.shape[1:]
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
    one.RescaleSlope, one.RescaleIntercept, one.RescaleType = "1", str(INTERCEPT), "HU"
    one.WindowCenter, one.WindowWidth = "-600", "1500"
    return one


def _encoded(header: Dataset) -> ItemsView:
    """The elements of a dataset as the bytes of a file, which pydicom writes as they are: once for all slices."""
    import pydicom

    buffer = io.BytesIO()
    header.save_as(buffer)
    buffer.seek(0)
    return pydicom.dcmread(buffer, force=True).items()


def segmentation(of: Case, retest: bool, image: Scan, slices: list[Dataset]) -> Dataset:
    """The nodule's mask as a binary SEG with one segment, a frame for each of the slices that it is on."""
    import highdicom
    from pydicom.sr.codedict import codes

    segment = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label=SEGMENT,
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.NeoplasmPrimary,
        algorithm_type="MANUAL",
        anatomic_regions=[codes.SCT.Lung],
        tracking_id=SEGMENT,
        tracking_uid=_uid(of, "nodule"),
    )
    result = highdicom.seg.Segmentation(
        source_images=slices,
        pixel_array=image.mask.astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=[segment],
        series_instance_uid=_uid(of, retest, "seg series"),
        series_number=11 + retest,
        sop_instance_uid=_uid(of, retest, "seg"),
        instance_number=1,
        manufacturer="TumorBench",
        manufacturer_model_name="PHANTOM",
        software_versions=__version__,
        device_serial_number="0",
        content_description=WARNING,
        content_label="PHANTOM",
        series_description="PHANTOM SEG of the nodule",
    )
    result.ImageComments = WARNING
    dimensions = _uid(of, retest, "dimensions")

    def settle(dataset: Dataset, element) -> None:
        if element.VR in FIXED:
            element.value = FIXED[element.VR] if element.value else element.value
        elif element.keyword == "DimensionOrganizationUID":  # else random
            element.value = dimensions

    result.walk(settle)
    return result
