"""CT volumes from files, in HU on a grid in LPS millimetres.

A CT is a folder with one DICOM series, or a NIfTI, NRRD or MetaImage file. Arrays are (z, y, x), indices and points
(x, y, z), as in ITK. Nothing is guessed: what is damaged or does not say where it lies is refused.
"""

from __future__ import annotations

import gzip
import io
import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from pydicom import Dataset

NIFTI = (".nii", ".nii.gz")
NRRD = (".nrrd", ".nhdr")
ITK = (*NRRD, ".mha", ".mhd")
IMAGES = NIFTI + ITK
SPACES = ("left-posterior-superior", "right-anterior-superior", "left-anterior-superior", "lps", "ras", "las")
CHUNK = 1 << 18  # bytes read at a time of a packed file
GAP_MM = 0.1  # slice distances may differ by this much (the rule of LUNA16), and are no distance below it
OFF_LINE_MM = 0.5  # what a slice may lie off the straight line of even steps from the first to the last
ORTHONORMAL = 1e-3  # what direction cosines may be off; files round them
PLACE = ("Rows", "Columns", "PixelSpacing", "ImageOrientationPatient")
NEEDED = (*PLACE, "ImagePositionPatient", "RescaleSlope", "RescaleIntercept", "SeriesInstanceUID", "Modality")


class ImageError(ValueError):
    """An image or mask that must not be used; the message names the file or series and says what to do."""


@dataclass(frozen=True, eq=False)
class Volume:
    """An image on a regular grid.

    ``array`` is (z, y, x), int16 HU for a CT; ``origin`` (3,) the centre of voxel (0, 0, 0) and ``spacing`` (3,),
    both mm; ``direction`` (3, 3), its columns the LPS unit vectors of the x, y and z index; ``source`` the path;
    ``frame`` the DICOM frame of reference UID, empty if the format has none; ``read`` the slices that were read, the
    others are 0 (:func:`read_ct` with ``near``).
    """

    array: np.ndarray
    origin: np.ndarray
    spacing: np.ndarray
    direction: np.ndarray
    source: str
    frame: str = ""
    read: slice = field(default_factory=lambda: slice(None))

    @property
    def steps(self) -> np.ndarray:
        """(3, 3) mm; its columns lead from a voxel to the next along x, y and z."""
        return self.direction * self.spacing

    def to_physical(self, index: np.ndarray) -> np.ndarray:
        """LPS points (..., 3) in mm of voxel indices (..., 3), x first; fractions are allowed."""
        return np.asarray(index) @ self.steps.T + self.origin

    def to_index(self, points: np.ndarray) -> np.ndarray:
        """Continuous voxel indices (..., 3), x first, of LPS points (..., 3) in mm."""
        return (np.asarray(points) - self.origin) @ np.linalg.inv(self.steps).T

    def contains(self, points: np.ndarray) -> np.ndarray:
        """Whether LPS points (..., 3) in mm lie in a voxel, edges included: booleans (...,). NaN lies in none."""
        index = self.to_index(points)
        return ((index >= -0.5) & (index <= np.array(self.array.shape[::-1]) - 0.5)).all(axis=-1)


class Stored(NamedTuple):
    """What a file holds: values (z, y, x), of which ``values * slope + intercept`` is meant, and where they lie."""

    values: np.ndarray
    steps: np.ndarray
    origin: np.ndarray
    slope: float = 1.0
    intercept: float = 0.0


class Near(NamedTuple):
    """What is needed of an image: LPS ``points`` (n, 3) and all within ``reach`` (3,) of one, mm along x, y, z."""

    points: np.ndarray
    reach: np.ndarray

    def slices(self, steps: np.ndarray, origin: np.ndarray, count: int) -> slice:
        """The slices, of ``count``, that hold what is needed and one more on either side."""
        row = np.linalg.inv(steps)[2]
        k, margin = (np.asarray(self.points) - origin) @ row, np.abs(row) @ np.asarray(self.reach) + 1
        low, high = np.clip([np.floor(k.min() - margin), np.ceil(k.max() + margin) + 1], 0, count).astype(int)
        return slice(int(low), int(high))


def read_ct(path: str | Path, near: Near | None = None) -> Volume:
    """A CT in HU (int16, rounded) from a folder with one DICOM series, or from a NIfTI, NRRD or MetaImage file.

    With ``near``, slices that are not needed may stay unread and then hold 0: of a DICOM series their pixels are not
    decoded, and a gzip NRRD is unpacked no further, so that its checksum at the end is not compared.
    Raises :class:`ImageError`, also for values that are no HU: NaN, or outside int16.
    """
    path = Path(path)
    if path.is_dir():
        return _read_series(path, near)
    if near is not None and (begun := _nrrd_begun(path, near)):
        return begun
    stored = _read_stored(path)
    if stored.values.dtype == np.int16 and (stored.slope, stored.intercept) == (1, 0):
        return _volume(stored.values, stored, path)
    array = np.empty(stored.values.shape, np.int16)
    for k, values in enumerate(stored.values):  # by slices: no copy of all in a wider type
        array[k] = _hounsfield(values, stored.slope, stored.intercept, path)
    return _volume(array, stored, path)


def read_image(path: str | Path) -> Volume:
    """An image file that is no CT, such as a mask, with its values in their own type. Raises :class:`ImageError`."""
    stored = _read_stored(Path(path))
    plain = (stored.slope, stored.intercept) == (1, 0)
    return _volume(stored.values if plain else stored.values * stored.slope + stored.intercept, stored, Path(path))


def is_image(path: Path) -> bool:
    """Whether a file name is that of an image file that can be read."""
    return path.name.lower().endswith(IMAGES)


def _read_stored(path: Path) -> Stored:
    if not (path.is_file() and is_image(path)):
        raise ImageError(f"{path}: no such image; give a folder with one CT series or a file {' '.join(IMAGES)}")
    read = _nifti if path.name.lower().endswith(NIFTI) else _itk
    try:
        stored = read(path)
    except (ImageError, ImportError):
        raise
    except Exception as error:  # nibabel and SimpleITK raise many kinds
        reason = (str(error).strip() or "the file ends too early").splitlines()[-1]
        raise ImageError(f"{path}: truncated or damaged ({reason}); fetch it again, or write it anew") from error
    if stored.values.ndim != 3:
        raise ImageError(f"{path}: {stored.values.shape[::-1]} values are no 3D image; save one volume of it alone")
    return stored


def _nifti(path: Path) -> Stored:
    import nibabel  # ITK fills up a truncated .nii.gz and turns a spacing of 0 into 1, both without a word
    from isal import igzip

    kind = type(nibabel.load(path))  # NIfTI 1 or 2
    content = path.read_bytes()
    if path.name.lower().endswith(".gz"):
        content = igzip.decompress(content)  # all of it, so that its checksum is compared; nibabel alone would not
    raw = kind.header_class.from_fileobj(io.BytesIO(content), check=False)  # nibabel too would make that 0 a 1
    image = kind.from_bytes(content)
    if not (raw["pixdim"][1:4] > 0).all():
        raise ImageError(f"{path}: voxel spacing {raw['pixdim'][1:4].tolist()} mm; repair the header from its source")
    if not (raw["qform_code"] > 0 or raw["sform_code"] > 0):
        raise ImageError(f"{path}: neither qform nor sform, so its place in space is unknown; convert it again")
    affine = np.diag([-1, -1, 1, 1]) @ image.affine  # LPS, not RAS
    data = image.dataobj
    return Stored(data.get_unscaled().T, affine[:3, :3], affine[:3, 3], float(data.slope), float(data.inter))


def _itk(path: Path) -> Stored:
    import SimpleITK

    image = SimpleITK.ReadImage(str(path))
    array = SimpleITK.GetArrayFromImage(image)
    n = image.GetDimension()
    if array.ndim == 3:  # what ITK does not look at; it puts 1 for a spacing that is absent or NaN
        fields = _fields(path)
        (_check_nrrd if path.name.lower().endswith(NRRD) else _check_metaimage)(path, fields, array)
    steps = np.reshape(image.GetDirection(), (n, n)) * image.GetSpacing()
    return Stored(array, steps, np.array(image.GetOrigin()))


def _nrrd_begun(path: Path, near: Near) -> Volume | None:
    """A gzip NRRD of 16-bit voxels up to the last slice that is needed; None if the file is of another kind."""
    if not (path.is_file() and path.name.lower().endswith(".nrrd")):
        return None
    fields = _fields(path)
    kind = [fields.get(name) for name in ("dimension", "type", "endian", "data file", "datafile")]
    placed = fields.get("space") in SPACES and "nan" not in fields.get("space directions", "nan")
    if kind != ["3", "short", "little", None, None] or fields.get("encoding") not in ("gzip", "gz") or not placed:
        return None  # the whole reader says what is wrong, if anything is
    import SimpleITK

    header = SimpleITK.ImageFileReader()
    header.SetFileName(str(path))
    header.ReadImageInformation()
    steps = np.reshape(header.GetDirection(), (3, 3)) * header.GetSpacing()
    origin, (columns, rows, count) = np.array(header.GetOrigin()), header.GetSize()
    needed = near.slices(steps, origin, count)
    array = np.zeros((count, rows, columns), "<i2")
    if not _unpacked(path, memoryview(array).cast("B")[: needed.stop * rows * columns * 2]):
        raise ImageError(f"{path}: truncated or damaged (the file ends too early); fetch it again")
    return replace(_volume(array, Stored(array, steps, origin), path), read=slice(0, needed.stop))


def _unpacked(path: Path, into: memoryview) -> bool:
    """Fill ``into`` with the first bytes that follow the header of a gzip NRRD; whether there were as many."""
    from isal import isal_zlib  # twice as fast as zlib

    unpack, at = isal_zlib.decompressobj(31), 0
    with path.open("rb") as stream:
        while stream.readline().strip():
            pass
        while at < len(into) and (packed := unpack.unused_data or stream.read(CHUNK)):
            unpack = isal_zlib.decompressobj(31) if unpack.eof else unpack  # for the next gzip member
            try:
                voxels = unpack.decompress(packed, len(into) - at)
            except isal_zlib.error as error:
                raise ImageError(f"{path}: truncated or damaged ({error}); fetch it again") from error
            into[at : at + len(voxels)] = voxels
            at += len(voxels)
    return at == len(into)


def _fields(path: Path) -> dict[str, str]:
    """Lower-case fields of the header of an NRRD ("key: value") or MetaImage ("Key = value")."""
    fields = {}
    mark = ":" if path.name.lower().endswith(NRRD) else "="
    with path.open("rb") as stream:
        for line in stream:
            key, _, value = line.decode("latin-1").partition(mark)
            key = key.strip().lower()
            fields[key] = value.strip().lower() if key not in ("data file", "datafile") else value.strip()
            if not line.strip() or key == "elementdatafile":
                fields[key] = value.strip()
                return fields
    return fields


def _check_nrrd(path: Path, fields: dict[str, str], array: np.ndarray) -> None:
    space, directions = fields.get("space"), fields.get("space directions", "nan")
    if space not in SPACES or "nan" in directions or "nan" in fields.get("space origin", "nan"):
        raise ImageError(f"{path}: no spacing, directions or origin in a known space ({space}); convert it again")
    if fields.get("encoding") in ("gzip", "gz"):
        found = zlib.crc32(array.byteswap() if fields.get("endian") == "big" else array)
        packed = _packed(path, fields.get("data file", fields.get("datafile", "LOCAL")))
        if found != (recorded := int.from_bytes(packed[-8:-4], "little")):  # of one member of several, as of bgzip?
            recorded = zlib.crc32(gzip.GzipFile(fileobj=io.BytesIO(packed[packed.find(b"\x1f\x8b") :])).read())
        _check_sum(path, found, recorded)


def _check_metaimage(path: Path, fields: dict[str, str], array: np.ndarray) -> None:
    spacing = fields.get("elementspacing", "nan").split()
    if not all(float(value) > 0 for value in spacing):
        raise ImageError(f"{path}: voxel spacing is {' '.join(spacing)} mm; repair the header from its source")
    if not {"offset", "position", "origin"} & set(fields):
        raise ImageError(f"{path}: no offset, so its place in space is unknown; convert it again")
    if fields.get("compresseddata") == "true":
        big = "true" in (fields.get("binarydatabyteordermsb"), fields.get("elementbyteordermsb"))
        recorded = int.from_bytes(_packed(path, fields["elementdatafile"])[-4:], "big")
        _check_sum(path, zlib.adler32(array.byteswap() if big else array), recorded)


def _packed(path: Path, data: str) -> bytes:
    """The file of an image's compressed data, which ends with its checksum (RFC 1950, RFC 1952)."""
    return (path if data.upper() == "LOCAL" else path.parent / data).read_bytes()


def _check_sum(path: Path, found: int, recorded: int) -> None:
    if found != recorded:  # ITK stops at the last voxel, or goes on after an error, and does not say so
        raise ImageError(f"{path}: truncated or damaged (the checksum of its voxels is wrong); fetch it again")


def _volume(array: np.ndarray, stored: Stored, source: Path, frame: str = "") -> Volume:
    """A volume whose geometry is sound: three axes at right angles, positive spacing."""
    steps, origin = stored.steps, stored.origin
    spacing = np.linalg.norm(steps, axis=0)
    if not (np.isfinite(origin).all() and np.isfinite(spacing).all() and (spacing > 0).all()):
        raise ImageError(f"{source}: voxel spacing {spacing.tolist()} mm at {origin.tolist()}; repair the header")
    direction = steps / spacing
    if np.abs(direction.T @ direction - np.eye(3)).max() > ORTHONORMAL:
        raise ImageError(f"{source}: the axes are not at right angles (tilted gantry or shear); resample it first")
    return Volume(np.ascontiguousarray(array), origin, spacing, direction, str(source), frame)


def _hounsfield(values: np.ndarray, slope: float, intercept: float, source: Path) -> np.ndarray:
    """HU of stored values, rounded; whole numbers stay so, which is twice as fast."""
    if values.dtype.kind in "iu" and values.itemsize < 4 and slope == 1 and intercept == int(intercept):
        hu = np.add(values, int(intercept), dtype=np.int32)
    else:
        hu = np.rint(values * float(slope) + float(intercept))
    low, high = hu.min(), hu.max()
    if not (low >= -32768 and high <= 32767):  # NaN is neither
        raise ImageError(f"{source}: values from {low} to {high} are no HU; give a CT in HU, or leave it out")
    return hu.astype(np.int16)


def read_dicom(path: Path) -> Dataset:
    """A DICOM file, whole. Raises :class:`ImageError`."""
    import pydicom

    try:
        return pydicom.dcmread(path)
    except Exception as error:  # pydicom raises many kinds
        raise ImageError(f"{path}: no DICOM file, or a truncated one ({error}); fetch it again") from error


def dicom_files(folder: Path) -> list[Path]:
    """Files of a folder with the DICOM mark, or the name of such a file: a damaged slice must not go unseen."""
    from pydicom.misc import is_dicom

    files = sorted(path for path in folder.iterdir() if path.is_file())
    return [path for path in files if path.suffix.lower() == ".dcm" or is_dicom(path)]


def undecoded(path: Path, dataset: Dataset, error: Exception) -> ImageError:
    """The error for pixels that no decoder can read."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    problem = f"cannot decode the pixels of transfer syntax {syntax and syntax.name} ({syntax})"
    return ImageError(f"{path}: {problem}; fetch the file again, or store it uncompressed. {error}".strip())


def _read_series(folder: Path, near: Near | None) -> Volume:
    slices = [(path, read_dicom(path)) for path in dicom_files(folder)]
    _check_slices(folder, slices)
    first = slices[0][1]
    along, down = np.reshape(first.ImageOrientationPatient, (2, 3)).astype(float)
    normal = np.cross(along, down)
    places = np.array([header.ImagePositionPatient for _, header in slices], float)
    order = np.argsort(places @ normal, kind="stable")
    slices, places = [slices[k] for k in order], places[order]
    _check_gaps(folder, [path.name for path, _ in slices], places, normal)
    step = (places[-1] - places[0]) / (len(places) - 1)  # oblique to the slices if the gantry was tilted
    steps = np.column_stack([along * first.PixelSpacing[1], down * first.PixelSpacing[0], step])
    needed = near.slices(steps, places[0], len(slices)) if near else slice(0, len(slices))
    array = np.zeros((len(slices), first.Rows, first.Columns), np.int16)
    for k in range(needed.start, needed.stop):
        array[k] = _slice(*slices[k])
        slices[k] = None  # its bytes are no longer needed
    volume = _volume(array, Stored(array, steps, places[0]), folder, str(first.get("FrameOfReferenceUID", "")))
    return replace(volume, read=needed) if near else volume


def _slice(path: Path, dataset: Dataset) -> np.ndarray:
    """HU (rows, columns) of a slice; ITK decodes more compressed transfer syntaxes than pydicom, and faster."""
    from pydicom.pixels import pixel_array

    try:
        if dataset.file_meta.TransferSyntaxUID.is_compressed:
            import SimpleITK

            values, slope, intercept = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))[0], 1, 0
        else:
            values = pixel_array(dataset, view_only=True)
            slope, intercept = dataset.RescaleSlope, dataset.RescaleIntercept
        values = values.reshape(dataset.Rows, dataset.Columns)
    except Exception as error:  # they raise many kinds
        raise undecoded(path, dataset, error) from error
    return _hounsfield(values, slope, intercept, path)


def _check_slices(folder: Path, slices: list[tuple[Path, Dataset]]) -> None:
    """Every file is a CT slice, and all are of one series, frame, orientation, size and spacing."""
    for path, header in slices:
        if header.get("Modality", "CT") != "CT":
            raise ImageError(f"{path}: modality {header.Modality}, not CT, in series {header.get('SeriesInstanceUID')}")
        if int(header.get("NumberOfFrames") or 1) > 1 or "PerFrameFunctionalGroupsSequence" in header:
            raise ImageError(f"{path}: enhanced multi-frame CT; convert it to single slices, or to NIfTI (dcm2niix)")
        absent = [name for name in NEEDED if header.get(name) is None]
        if absent:
            raise ImageError(f"{path}: lacks {', '.join(absent)}: no slice, or damaged; fetch the series again")
    if len(slices) < 2:
        raise ImageError(f"{folder}: {len(slices)} DICOM files; a CT series has at least two. Fetch it again")
    series = sorted({header.SeriesInstanceUID for _, header in slices})
    if len(series) > 1:
        raise ImageError(f"{folder}: {len(series)} series ({', '.join(series)}); give each a folder of its own")
    scouts = [path.name for path, header in slices if "LOCALIZER" in header.get("ImageType", ())]
    if scouts:
        raise ImageError(f"{folder}: {len(scouts)} localizers ({', '.join(scouts)}) among the slices; take them out")
    for path, header in slices:
        for name in ("FrameOfReferenceUID", *PLACE):
            own, first = header.get(name), slices[0][1].get(name)
            if own != first and (name not in PLACE or not np.allclose(own, first, rtol=0, atol=1e-4)):
                odd = f"{name} is {own} in {path.name} but {first} in {slices[0][0].name}"
                raise ImageError(f"{folder}: {odd}: not one volume; take stray slices out of {series[0]} (a scout?)")


def _check_gaps(folder: Path, names: list[str], places: np.ndarray, normal: np.ndarray) -> None:
    """``places`` (n, 3), in order, are evenly spaced along the normal and on one line."""
    gaps = np.diff(places @ normal)
    usual = float(np.median(gaps))
    for kind, odd in (("duplicate", gaps < GAP_MM), ("missing", np.abs(gaps - usual) > GAP_MM)):
        if odd.any():
            k = odd.argmax()
            raise ImageError(
                f"{folder}: {kind} slices, {odd.sum()} times, first between {names[k]} and {names[k + 1]}, which are "
                f"{gaps[k]:.2f} mm apart where {usual:.2f} mm is usual. Fetch the series again, or leave the scan out"
            )
    off = np.linalg.norm(places - np.linspace(places[0], places[-1], len(places)), axis=1)
    if off.max() > OFF_LINE_MM:
        k = off.argmax()
        raise ImageError(f"{folder}: {names[k]} lies {off[k]:.1f} mm off the line of the slices; leave the scan out")
