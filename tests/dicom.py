"""Real DICOM series, SEG and RTSTRUCT objects and image files, written for tests."""

import highdicom as hd
import nibabel
import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from tumorbench_utils.imaging import Volume

SPACING = np.array([0.7, 0.9, 2.5])


ORIGIN = np.array([-120.25, 33.5, -400.0])


def rotation(*degrees):
    """Axes turned about z, y and x: right-handed and orthonormal."""
    (cz, cy, cx), (sz, sy, sx) = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    return about_z @ about_y @ np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])


DIRECTIONS = {
    "supine": np.eye(3),
    "in-plane axes reversed": np.diag([-1.0, -1.0, 1.0]),  # as in three scans of LIDC
    "feet up": np.diag([1.0, -1.0, -1.0]),
    "coronal": np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]]),
    "oblique": rotation(20, -35, 50),
}


def volume(shape=(9, 13, 11), direction="supine", seed=0):
    """A CT without a file; no two orders of the axes agree on its shape or spacing."""
    hu = np.random.default_rng(seed).integers(-1024, 3000, shape).astype(np.int16)
    return Volume(hu, ORIGIN, SPACING, DIRECTIONS[direction], "memory")


def write_series(folder, ct, *, frame=None, order=None, rescale=lambda k: (1.0, -1024.0), edit=None):
    """A CT as a DICOM series; ``order`` gives the slices' file names and ``edit(k, dataset)`` spoils one."""
    folder.mkdir(parents=True, exist_ok=True)
    frame, study, series, patient = frame or generate_uid(), generate_uid(), generate_uid(), "P1"
    slices = []
    for k, hu in enumerate(ct.array):
        slope, intercept = rescale(k)
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
        one.SOPClassUID, one.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        one.PatientID, one.PatientName, one.PatientBirthDate, one.PatientSex = patient, "P^1", "", "O"
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = study, series, frame
        one.StudyDate = one.StudyTime = one.AccessionNumber = one.StudyID = one.ReferringPhysicianName = ""
        one.PositionReferenceIndicator = ""
        one.Modality, one.SeriesNumber, one.InstanceNumber = "CT", 1, k + 1
        one.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        one.Rows, one.Columns = hu.shape
        one.PixelSpacing = [float(ct.spacing[1]), float(ct.spacing[0])]
        one.SliceThickness = float(ct.spacing[2])
        one.ImageOrientationPatient = [f"{value:.10f}" for value in ct.direction[:, :2].T.ravel()]
        one.ImagePositionPatient = [f"{value:.6f}" for value in ct.to_physical([0, 0, k])]
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 16, 15, 1
        one.RescaleSlope, one.RescaleIntercept = slope, intercept
        one.PixelData = np.rint((hu - intercept) / slope).astype(np.int16).tobytes()
        if edit:
            edit(k, one)
        name = k if order is None else order[k]
        one.save_as(folder / f"{name:03}.dcm", enforce_file_format=True)
        slices.append(one)
    return slices


def same_grid(one, other):
    np.testing.assert_allclose(one.origin, other.origin, atol=1e-4)
    np.testing.assert_allclose(one.steps, other.steps, atol=1e-5)


def write_image(path, ct):
    """By nibabel or SimpleITK; the formats differ in their axes (RAS, LPS), which is the point."""
    if ".nii" in path.name:
        affine = np.eye(4)
        affine[:3] = np.column_stack([ct.steps, ct.origin]) * np.array([[-1], [-1], [1]])
        nibabel.save(nibabel.Nifti1Image(ct.array.T, affine), path)
    else:
        image = sitk.GetImageFromArray(ct.array)
        image.SetSpacing(ct.spacing.tolist())
        image.SetOrigin(ct.origin.tolist())
        image.SetDirection(ct.direction.ravel().tolist())
        sitk.WriteImage(image, str(path), useCompression=True)
    return path


def blob(ct, low=(2, 3, 1), high=(6, 9, 7)):
    """A box in (z, y, x) without one corner, so that no flip of it is itself."""
    mask = np.zeros(ct.array.shape, bool)
    mask[tuple(map(slice, low, high))] = True
    mask[low] = False
    return mask


def description(number, label):
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Neoplasm if number == 1 else codes.SCT.Kidney,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.MANUAL,
    )


def write_seg(path, slices, masks, kind="BINARY", omit=True, scale=1):
    """Masks {label: (z, y, x)} of the slices as they were written, as a DICOM SEG by highdicom."""
    pixels = np.stack(list(masks.values()), axis=-1)
    seg = hd.seg.Segmentation(
        source_images=slices,
        pixel_array=pixels if kind != "FRACTIONAL" else pixels.astype(np.float32) * scale,
        segmentation_type=kind,
        segment_descriptions=[description(k + 1, label) for k, label in enumerate(masks)],
        series_instance_uid=generate_uid(),
        series_number=2,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="TumorBench",
        manufacturer_model_name="test",
        software_versions="0",
        device_serial_number="0",
        omit_empty_frames=omit,
    )
    path.parent.mkdir(exist_ok=True)
    seg.save_as(path)
    return path


def write_rtstruct(path, frame, regions):
    """Regions {name: [points (n, 3) mm]} as an RTSTRUCT."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = pydicom.uid.RTStructureSetStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    one = FileDataset(None, {}, file_meta=meta, preamble=b"\0" * 128)
    one.SOPClassUID, one.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    one.Modality, one.StructureSetLabel = "RTSTRUCT", "test"
    one.StructureSetROISequence, one.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(regions.items(), start=1):
        roi, drawn = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, frame
        drawn.ReferencedROINumber, drawn.ContourSequence = number, []
        for points in contours:
            contour = Dataset()
            contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
            contour.ContourData = [f"{value:.6f}" for value in np.ravel(points)]
            drawn.ContourSequence.append(contour)
        one.StructureSetROISequence.append(roi)
        one.ROIContourSequence.append(drawn)
    one.save_as(path, enforce_file_format=True)
    return path


def rectangle(ct, k, low, high):
    """Contour on slice k around the voxels low..high - 1 of (y, x), through their outer edges."""
    (top, left), (bottom, right) = np.array(low) - 0.5, np.array(high) - 0.5
    return ct.to_physical([[left, top, k], [right, top, k], [right, bottom, k], [left, bottom, k]])
