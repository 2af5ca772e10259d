"""CT volumes: real DICOM series and image files are written and read back, and spoilt in every way that happens."""

import gzip
import re
import zlib
from dataclasses import replace

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless, generate_uid

from tests.dicom import DIRECTIONS, ORIGIN, same_grid, volume, write_image, write_series
from tumorbench_utils.imaging import ImageError, Near, read_ct


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_series_is_read_back_whatever_its_orientation_and_file_order(tmp_path, direction):
    ct = volume(direction=direction)
    order = np.random.default_rng(1).permutation(len(ct.array))
    slices = write_series(tmp_path, ct, order=order)
    found = read_ct(tmp_path)
    assert found.array.dtype == np.int16
    np.testing.assert_array_equal(found.array, ct.array)
    same_grid(found, ct)
    assert found.frame == slices[0].FrameOfReferenceUID
    assert found.source == str(tmp_path)


def test_the_normal_orders_slices_not_the_file_or_the_instance_number(tmp_path):
    ct = volume()
    write_series(tmp_path, replace(ct, array=ct.array[::-1], origin=ct.to_physical([0, 0, 8]),
                                   direction=ct.direction * [1, 1, -1]))  # fmt: skip
    found = read_ct(tmp_path)
    np.testing.assert_array_equal(found.array, ct.array)
    same_grid(found, ct)


def test_each_slice_has_its_own_slope_and_intercept(tmp_path):
    ct = volume()
    write_series(tmp_path, ct, rescale=lambda k: (0.5 + 0.25 * k, -1000.0 + k))
    assert np.abs(read_ct(tmp_path).array - ct.array.astype(int)).max() <= 2  # half of the largest slope, rounded


def test_files_that_are_no_dicom_are_passed_over(tmp_path):
    ct = volume()
    write_series(tmp_path, ct)
    (tmp_path / "LICENSE").write_text("CC BY 3.0")
    np.testing.assert_array_equal(read_ct(tmp_path).array, ct.array)


def at(slice_index, **values):
    """An edit of one slice, or of all for None."""

    def edit(k, dataset):
        if slice_index in (k, None):
            for name, value in values.items():
                setattr(dataset, name, value)

    return edit


BAD_SLICES = {
    "two series": (at(4, SeriesInstanceUID="1.2.3"), "2 series .*1.2.3.*folder of its own"),
    "wrong modality": (at(None, Modality="MR"), r"000.dcm: modality MR, not CT, in series \d"),
    "one of another modality": (at(5, Modality="SR"), "005.dcm: modality SR"),
    "other orientation": (
        at(3, ImageOrientationPatient=[1, 0, 0, 0, 0, -1]),
        "ImageOrientationPatient .*003.dcm.*scout",
    ),
    "other size": (at(3, Rows=11, Columns=13), "Rows is 11 in 003.dcm but 13 in 000.dcm"),
    "other pixel spacing": (at(3, PixelSpacing=[0.9, 0.8]), "PixelSpacing .*003.dcm"),
    "other frame": (at(3, FrameOfReferenceUID="1.2.3"), "FrameOfReferenceUID is 1.2.3 in 003.dcm"),
    "no position": (at(2, ImagePositionPatient=None), "002.dcm: lacks ImagePositionPatient"),
    "no slope": (at(2, RescaleSlope=None), "002.dcm: lacks RescaleSlope"),
    "zero spacing": (at(None, PixelSpacing=[0, 0.7]), r"spacing \[0.7\d*, 0.0, 2.5\d*\] mm"),
    "skewed axes": (at(None, ImageOrientationPatient=[1, 0, 0, 0.1, 0.995, 0]), "right angles"),
    "a localizer": (at(3, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), r"1 localizers \(003.dcm\)"),
    "values outside int16": (at(4, RescaleIntercept=32000), "004.dcm: values from .* are no HU"),
    "stray slice": (
        at(4, ImagePositionPatient=[ORIGIN[0] + 30, ORIGIN[1], ORIGIN[2] + 10]),
        "004.dcm lies 30.0 mm off",
    ),
    "enhanced": (at(None, NumberOfFrames=9), "000.dcm: enhanced multi-frame CT; convert it"),
    "truncated pixels": (at(6, PixelData=b"\0" * 100), "006.dcm: cannot decode the pixels .*fetch the file again"),
}


@pytest.mark.parametrize("case", BAD_SLICES)
def test_a_series_that_is_no_single_ct_volume_is_refused(tmp_path, case):
    edit, message = BAD_SLICES[case]
    write_series(tmp_path, volume(), edit=edit)
    with pytest.raises(ImageError, match=message):
        read_ct(tmp_path)


def test_a_missing_slice_is_named(tmp_path):
    write_series(tmp_path, volume())
    (tmp_path / "004.dcm").unlink()
    with pytest.raises(
        ImageError, match=r"missing slices, 1 times, first between 003.dcm and 005.dcm, .* 5.00 mm apart where 2.50 mm"
    ):
        read_ct(tmp_path)


def test_slices_may_be_uneven_by_a_tenth_of_a_millimetre_and_not_more(tmp_path):
    def shifted(by):
        return lambda k, one: at(4, ImagePositionPatient=[*ORIGIN[:2], ORIGIN[2] + 4 * 2.5 + by])(k, one)

    write_series(tmp_path / "little", volume(), edit=shifted(0.09))
    assert read_ct(tmp_path / "little").array.shape == (9, 13, 11)
    write_series(tmp_path / "much", volume(), edit=shifted(0.12))
    with pytest.raises(
        ImageError, match=r"missing slices, 2 times, first between 003.dcm and 004.dcm, which are 2.62 mm"
    ):
        read_ct(tmp_path / "much")


def test_slices_at_one_place_are_named(tmp_path):
    slices = write_series(tmp_path, volume())
    slices[4].SOPInstanceUID = slices[4].file_meta.MediaStorageSOPInstanceUID = generate_uid()
    slices[4].save_as(tmp_path / "copy.dcm")
    with pytest.raises(ImageError, match=r"duplicate slices, 1 times, first between 004.dcm and copy.dcm"):
        read_ct(tmp_path)


def test_a_tilted_gantry_is_refused(tmp_path):
    ct = volume()
    write_series(tmp_path, ct, edit=lambda k, one: setattr(one, "ImagePositionPatient", [0, 0.5 * k, 2.5 * k]))
    with pytest.raises(ImageError, match="tilted gantry"):
        read_ct(tmp_path)


def encoded(syntax, compressor, folder):
    """An edit that stores a slice as pydicom or, of what only GDCM can write, SimpleITK compresses it."""

    def edit(k, one):
        if not compressor:
            return one.compress(syntax)
        writer = sitk.ImageFileWriter()
        writer.SetFileName(str(folder / f"{k}.tmp.dcm"))
        writer.UseCompressionOn()
        writer.SetCompressor(compressor)
        pixels = np.frombuffer(one.PixelData, np.int16).reshape(1, one.Rows, one.Columns)
        writer.Execute(sitk.GetImageFromArray(pixels))
        made = pydicom.dcmread(folder / f"{k}.tmp.dcm")
        assert made.file_meta.TransferSyntaxUID == syntax
        one.file_meta.TransferSyntaxUID = syntax
        one.PixelData = made.PixelData
        one["PixelData"].VR, one["PixelData"].is_undefined_length = "OB", True
        return None

    return edit


COMPRESSED = {
    "RLE": (RLELossless, None),
    "JPEG-LS": (JPEGLSLossless, None),
    "JPEG 2000": (JPEG2000Lossless, "JPEG2000"),
    "JPEG lossless": (JPEGLosslessSV1, "JPEG"),
}


@pytest.mark.parametrize("rescale", [lambda k: (1.0, -1024.0), lambda k: (0.5, -1000.0 + k)], ids=["whole", "half"])
@pytest.mark.parametrize("name", COMPRESSED)
def test_compressed_slices_are_read_as_the_uncompressed_ones(tmp_path, name, rescale):
    (tmp_path / "tmp").mkdir()
    write_series(tmp_path / "plain", volume(direction="oblique"), rescale=rescale)
    edit = encoded(*COMPRESSED[name], tmp_path / "tmp")
    write_series(tmp_path / "ct", volume(direction="oblique"), rescale=rescale, edit=edit)
    found, plain = read_ct(tmp_path / "ct"), read_ct(tmp_path / "plain")
    np.testing.assert_array_equal(found.array, plain.array)
    same_grid(found, plain)


@pytest.mark.parametrize("name", COMPRESSED)
def test_a_cut_compressed_slice_is_refused(tmp_path, name):
    (tmp_path / "tmp").mkdir()
    write_series(tmp_path / "ct", volume((3, 64, 64)), edit=encoded(*COMPRESSED[name], tmp_path / "tmp"))
    path = tmp_path / "ct" / "001.dcm"
    whole = path.read_bytes()
    for part in (0.6, 0.9):
        path.write_bytes(whole[: int(part * len(whole))])
        with pytest.raises(ImageError, match=r"001\.dcm"):
            read_ct(tmp_path / "ct")


@pytest.mark.parametrize("syntax", [JPEGLosslessSV1, "1.2.840.99999.1"], ids=["damaged", "unknown"])
def test_a_transfer_syntax_that_cannot_be_decoded_is_named(tmp_path, syntax):
    def encode(k, one):
        one.file_meta.TransferSyntaxUID = syntax
        one.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9" * 8])
        one["PixelData"].VR = "OB"
        one["PixelData"].is_undefined_length = True

    write_series(tmp_path, volume(), edit=encode)
    with pytest.raises(ImageError, match=rf"000.dcm: .*transfer syntax .*\({re.escape(syntax)}\).*uncompressed"):
        read_ct(tmp_path)


def test_a_truncated_or_empty_dicom_file_does_not_go_unseen(tmp_path):
    write_series(tmp_path, volume())
    whole = (tmp_path / "008.dcm").read_bytes()
    for content in (b"", whole[:200], whole[:400], whole[:-100]):
        (tmp_path / "008.dcm").write_bytes(content)
        with pytest.raises(ImageError, match=r"008\.dcm"):
            read_ct(tmp_path)


def test_an_empty_folder_and_a_single_slice_are_no_series(tmp_path):
    with pytest.raises(ImageError, match="0 DICOM files"):
        read_ct(tmp_path)
    write_series(tmp_path, volume((1, 13, 11)))
    with pytest.raises(ImageError, match="1 DICOM files"):
        read_ct(tmp_path)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz", "ct.nrrd", "ct.nhdr", "ct.mha", "ct.mhd", "CT.NRRD"])
def test_image_files_are_read_back(tmp_path, name, direction):
    ct = volume(direction=direction)
    found = read_ct(write_image(tmp_path / name, ct))
    np.testing.assert_array_equal(found.array, ct.array)
    same_grid(found, ct)
    assert found.frame == ""


@pytest.mark.parametrize("name", ["ct.nii.gz", "ct.nrrd"])
def test_itk_and_this_reader_agree_on_where_a_voxel_is(tmp_path, name):
    path = write_image(tmp_path / name, volume(direction="oblique"))
    expected = sitk.ReadImage(str(path)).TransformContinuousIndexToPhysicalPoint((2.25, 7.5, 3.0))
    np.testing.assert_allclose(read_ct(path).to_physical([2.25, 7.5, 3.0]), expected, atol=1e-4)


def test_a_left_handed_image_stays_as_it_is(tmp_path):
    ct = replace(volume(), direction=np.diag([1.0, 1.0, -1.0]))
    for name in ("ct.nii.gz", "ct.nrrd"):
        same_grid(read_ct(write_image(tmp_path / name, ct)), ct)


def test_fractions_are_rounded_and_what_is_no_hu_is_refused(tmp_path):
    values = np.full((3, 4, 5), -1024.6, np.float32)
    found = read_ct(write_image(tmp_path / "ct.nrrd", replace(volume(), array=values)))
    assert (found.array.dtype, set(found.array.ravel())) == (np.int16, {-1025})
    for name, bad in [("ct.nii", np.nan), ("ct.nrrd", np.inf), ("ct.mha", 32768), ("ct.nii.gz", -1e6)]:
        values[1, 2, 3] = bad
        with pytest.raises(ImageError, match=rf"{name}: values from .* are no HU"):
            read_ct(write_image(tmp_path / name, replace(volume(), array=values)))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int32, np.float64])
def test_other_types_of_voxel_become_int16(tmp_path, kind):
    values = np.arange(60).reshape(3, 4, 5).astype(kind)
    for name in ("ct.nii.gz", "ct.nrrd"):
        found = read_ct(write_image(tmp_path / name, replace(volume(), array=values)))
        np.testing.assert_array_equal(found.array, values)
        assert found.array.dtype == np.int16
    if values.itemsize > 1:
        values[0, 0, 0] = 40000
        with pytest.raises(ImageError, match="are no HU"):
            read_ct(write_image(tmp_path / "ct.nrrd", replace(volume(), array=values)))


@pytest.mark.parametrize("slope", [1.0, 0.5])
def test_the_slope_and_intercept_of_a_nifti_count(tmp_path, slope):
    ct = volume()
    stored = ((ct.array + 1024) / slope).astype(np.int16)
    path = write_image(tmp_path / "ct.nii.gz", replace(ct, array=stored))
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[112:120] = np.array([slope, -1024], np.float32).tobytes()  # scl_slope, scl_inter
    path.write_bytes(gzip.compress(bytes(content)))
    np.testing.assert_array_equal(read_ct(path).array, ct.array)


@pytest.mark.parametrize("name", ["ct.nii.gz", "ct.nrrd", "ct.mha"])
def test_a_changed_byte_of_a_compressed_image_does_not_go_unseen(tmp_path, name):
    path = write_image(tmp_path / name, volume((20, 60, 50)))
    whole = path.read_bytes()
    for part in (0.3, 0.5, 0.7, 0.9):
        changed = bytearray(whole)
        changed[int(part * len(whole))] ^= 0x10
        path.write_bytes(changed)
        with pytest.raises(ImageError, match=rf"{name}: truncated or damaged"):
            read_ct(path)


@pytest.mark.parametrize("name", ["ct.nrrd", "ct.nhdr", "ct.mha", "ct.mhd"])
def test_big_endian_voxels_are_checked_as_they_are_stored(tmp_path, name):
    ct = volume()
    path = write_image(tmp_path / name, ct)
    data = next((other for other in tmp_path.iterdir() if other != path), path)
    compress = gzip.compress if name in ("ct.nrrd", "ct.nhdr") else zlib.compress
    packed = compress(ct.array.astype(">i2").tobytes())
    header = path.read_bytes()
    if data == path:
        header = re.split(rb"(?<=\n\n)|(?<=LOCAL\n)", header, maxsplit=1)[0]
    header = header.replace(b"endian: little", b"endian: big").replace(b"OrderMSB = False", b"OrderMSB = True")
    header = re.sub(rb"CompressedDataSize = \d+", b"CompressedDataSize = %d" % len(packed), header)
    path.write_bytes(header + (packed if data == path else b""))
    if data != path:
        data.write_bytes(packed)
    np.testing.assert_array_equal(read_ct(path).array, ct.array)
    data.write_bytes(data.read_bytes()[:-5] + b"\0" * 5)
    with pytest.raises(ImageError, match=f"{name}: truncated or damaged"):
        read_ct(path)


@pytest.mark.parametrize("name", ["ct.nii", "ct.nii.gz", "ct.nrrd", "ct.mha"])
@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 0.99])
def test_a_truncated_image_file_is_refused(tmp_path, name, part):
    path = write_image(tmp_path / name, volume())
    content = path.read_bytes()
    path.write_bytes(content[: int(part * len(content))])
    with pytest.raises(ImageError, match=rf"{name}: truncated or damaged \(.+\); fetch it again"):
        read_ct(path)


def test_a_4d_nifti_and_a_colour_image_are_refused(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6, 2), np.int16), np.eye(4)), tmp_path / "ct.nii.gz")
    with pytest.raises(ImageError, match=r"ct\.nii\.gz: \(4, 5, 6, 2\) values are no 3D image"):
        read_ct(tmp_path / "ct.nii.gz")
    for name, shape, vector in [("rgb.nrrd", (4, 5, 6, 3), True), ("4d.nrrd", (2, 4, 5, 6), False)]:
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros(shape, np.uint8), isVector=vector), str(tmp_path / name))
        with pytest.raises(ImageError, match=f"{name}: .* no 3D image"):
            read_ct(tmp_path / name)


def test_what_does_not_say_where_it_lies_is_refused(tmp_path):
    """ITK itself takes 1 mm for a spacing that is absent, negative or NaN, and 0 for an absent origin."""
    ct = volume((9, 13, 11))
    for name, pattern, other in [
        ("ct.nrrd", rb"space directions: .*", b"spacings: 0.7 0.9 2.5"),
        ("ct.nrrd", rb"space directions: .*", b"space directions: (nan,0,0) (0,1,0) (0,0,1)"),
        ("ct.nrrd", rb"space origin: .*\n", b""),
        ("ct.nrrd", rb"space: .*", b"space: scanner-xyz"),
        ("ct.nrrd", rb"space directions: \([^)]*\)", b"space directions: (0,0,0)"),
        ("ct.mha", rb"ElementSpacing = .*\n", b""),
        ("ct.mha", rb"ElementSpacing = .*", b"ElementSpacing = -1 1 1"),
        ("ct.mha", rb"ElementSpacing = .*", b"ElementSpacing = nan 1 1"),
        ("ct.mha", rb"Offset = .*\n", b""),
    ]:
        path = write_image(tmp_path / name, ct)
        content, count = re.subn(pattern, other, path.read_bytes(), count=1)
        assert count == 1
        path.write_bytes(content)
        with pytest.raises(ImageError, match=name):
            read_ct(path)


def test_zero_spacing_is_refused(tmp_path):
    nii = write_image(tmp_path / "ct.nii.gz", volume())
    header = bytearray(gzip.decompress(nii.read_bytes()))
    header[84:88] = np.float32(0).tobytes()  # pixdim[2]
    nii.write_bytes(gzip.compress(bytes(header)))
    mha = write_image(tmp_path / "ct.mha", volume())
    mha.write_bytes(re.sub(rb"ElementSpacing = \S+", b"ElementSpacing = 0.0", mha.read_bytes()))
    for path in (nii, mha):
        with pytest.raises(ImageError, match=rf"{path.name}: .*spacing"):
            read_ct(path)


def test_a_nifti_without_orientation_and_one_with_sheared_axes_are_refused(tmp_path):
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), None), tmp_path / "nowhere.nii")
    sheared = np.eye(4)
    sheared[0, 1] = 0.1
    nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.int16), sheared), tmp_path / "sheared.nii")
    for name, message in [("nowhere", "neither qform nor sform"), ("sheared", "right angles")]:
        with pytest.raises(ImageError, match=message):
            read_ct(tmp_path / f"{name}.nii")


def test_other_files_are_no_ct(tmp_path):
    (tmp_path / "ct.txt").write_text("no")
    for name, message in [("ct.txt", "no such image; give a folder"), ("absent.nii.gz", "no such image")]:
        with pytest.raises(ImageError, match=message):
            read_ct(tmp_path / name)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_points_are_in_the_image_up_to_the_edge_of_its_voxels_and_nan_is_not(direction):
    ct = volume(direction=direction)
    inside = [[0, 0, 0], [-0.49, 12.49, 8.49], [10.49, 3, 4]]
    outside = [[-0.51, 0, 0], [0, 12.51, 0], [0, 0, 8.51], [10.51, 3, 4], [np.nan, 3, 4]]
    assert ct.contains(ct.to_physical(inside)).tolist() == [True] * 3
    assert ct.contains(ct.to_physical(outside)).tolist() == [False] * 5
    assert ct.contains(ct.to_physical([3, 4, 5])).shape == ()


NEAR_FORMATS = ["series", "ct.nrrd", "ct.nii.gz", "ct.mha"]


def written(folder, name, ct):
    if name == "series":
        write_series(folder / name, ct)
    else:
        write_image(folder / name, ct)
    return folder / name


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("name", NEAR_FORMATS)
def test_near_a_point_all_that_is_needed_is_read(tmp_path, name, direction):
    ct = volume(direction=direction)
    (tmp_path / "series").mkdir()
    path = written(tmp_path, name, ct)
    count = len(ct.array)
    for k in (0, 1, count // 2, count - 1):
        point, reach = ct.to_physical([2, 2, k]), np.full(3, 0.6) * ct.spacing[2]
        found = read_ct(path, Near(point[None], reach))
        corners = point + reach * np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
        index = ct.to_index(corners)[:, 2]
        needed = slice(max(0, int(np.floor(index.min()))), min(count, int(np.ceil(index.max())) + 1))
        assert found.read == slice(None) or (found.read.start <= needed.start and needed.stop <= found.read.stop)
        np.testing.assert_array_equal(found.array[needed], ct.array[needed])
        np.testing.assert_array_equal(found.array[found.read], ct.array[found.read])
        same_grid(found, ct)


@pytest.mark.parametrize("name", ["series", "ct.nrrd"])
def test_what_is_not_near_is_not_read(tmp_path, name):
    ct = volume()
    (tmp_path / "series").mkdir()
    found = read_ct(written(tmp_path, name, ct), Near(ct.to_physical([[2, 2, 0]]), np.full(3, 0.1)))
    assert found.read.stop < len(ct.array) and ct.array[found.read.stop :].any()
    assert not found.array[found.read.stop :].any()


def test_near_points_far_outside_nothing_is_read(tmp_path):
    ct = volume()
    found = read_ct(written(tmp_path, "ct.nrrd", ct), Near(ct.to_physical([[2, 2, -500]]), np.ones(3)))
    assert found.read == slice(0, 0) and not found.array.any()


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_near_a_point_a_truncated_file_is_refused_where_it_is_needed(tmp_path, share):
    ct = volume()
    path = written(tmp_path, "ct.nrrd", ct)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ImageError, match=r"ct\.nrrd: truncated"):
        read_ct(path, Near(ct.to_physical([[2, 2, len(ct.array) - 1]]), np.ones(3)))


def test_near_a_point_a_damaged_stream_is_refused(tmp_path):
    path = written(tmp_path, "ct.nrrd", volume())
    content = bytearray(path.read_bytes())
    start = content.index(b"\n\n") + 2
    content[start + 10 : start + 14] = b"\xff\xff\xff\xff"
    path.write_bytes(bytes(content))
    with pytest.raises(ImageError, match=r"ct\.nrrd: truncated or damaged"):
        read_ct(path, Near(volume().to_physical([[2, 2, 8]]), np.ones(3)))


def test_near_with_a_missing_slice_the_series_is_refused_all_the_same(tmp_path):
    ct = volume()
    write_series(tmp_path, ct)
    sorted(tmp_path.iterdir())[6].unlink()
    with pytest.raises(ImageError, match="missing slices"):
        read_ct(tmp_path, Near(ct.to_physical([[2, 2, 0]]), np.full(3, 0.1)))


def gzipped(folder, ct, change):
    """A gzip NRRD whose stream of voxels is what ``change`` makes of it."""
    path = write_image(folder / "ct.nrrd", ct)
    header = path.read_bytes().partition(b"\n\n")[0]
    path.write_bytes(header + b"\n\n" + change(ct.array.astype("<i2").tobytes()))
    return path


def members(voxels):
    """As pigz or bgzip write: a gzip member for each block, and an empty one at the end."""
    blocks = [voxels[at : at + 5000] for at in range(0, len(voxels), 5000)]
    return b"".join(map(gzip.compress, [*blocks, b""]))


def test_an_nrrd_of_several_gzip_members_is_read(tmp_path):
    ct = volume((20, 60, 50))
    path = gzipped(tmp_path, ct, members)
    np.testing.assert_array_equal(read_ct(path).array, ct.array)
    near = Near(ct.to_physical([[2, 2, len(ct.array) - 1]]), np.ones(3))
    np.testing.assert_array_equal(read_ct(path, near).array, ct.array)
    whole = path.read_bytes()
    for part in (0.3, 0.6, 0.9):
        changed = bytearray(whole)
        changed[int(part * len(whole))] ^= 0x10
        for content in (changed, whole[: int(part * len(whole))]):
            path.write_bytes(content)
            with pytest.raises(ImageError, match=r"ct\.nrrd: truncated or damaged"):
                read_ct(path)


def test_bytes_after_a_gzip_nrrd_get_an_error_that_says_what_to_do(tmp_path):
    path = gzipped(tmp_path, volume(), lambda voxels: gzip.compress(voxels) + b"a remark of somebody")
    with pytest.raises(ImageError, match=r"ct\.nrrd: .*[Nn]ot a gzip.*fetch it again, or write it anew"):
        read_ct(path)
