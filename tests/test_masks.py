"""Tumour masks: real SEG and RTSTRUCT objects and image files are written and read back onto the grid of their CT."""

from dataclasses import replace

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import generate_uid

from tests.dicom import (
    DIRECTIONS,
    ORIGIN,
    SPACING,
    blob,
    rectangle,
    rotation,
    volume,
    write_image,
    write_rtstruct,
    write_seg,
    write_series,
)
from tumorbench_utils.imaging import ImageError, Volume, read_ct
from tumorbench_utils.masks import largest_component, read_mask, segments, tumour


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_seg_is_read_back_by_number_and_by_name(tmp_path, direction, kind):
    ct = volume(direction=direction)
    slices = write_series(tmp_path / "ct", ct, order=np.arange(9)[::-1])
    masks = {"Tumour": blob(ct), "Kidney": blob(ct, (7, 0, 8), (9, 2, 11))}
    path = write_seg(tmp_path / "seg" / "seg.dcm", slices, masks, kind)
    assert segments(path) == {1: "Tumour", 2: "Kidney"}
    read = read_ct(tmp_path / "ct")
    for segment, label in [(1, "Tumour"), ("tumour", "Tumour"), ("Neoplasm", "Tumour"), (2, "Kidney")]:
        np.testing.assert_array_equal(read_mask(path, read, segment), masks[label])
    np.testing.assert_array_equal(read_mask(path.parent, read, 2), masks["Kidney"])  # the folder will do


def test_frames_go_where_they_say_not_where_they_stand(tmp_path):
    ct = volume()
    slices = write_series(tmp_path / "ct", ct)
    mask = blob(ct) & ((np.arange(9) % 3) == 2)[:, None, None]  # slices 2 and 5 alone
    path = write_seg(tmp_path / "seg.dcm", slices, {"Tumour": mask})
    assert pydicom.dcmread(path).NumberOfFrames == 2
    np.testing.assert_array_equal(read_mask(path, read_ct(tmp_path / "ct")), mask)
    write_seg(path, slices[::-1], {"Tumour": mask[::-1]}, omit=False)
    np.testing.assert_array_equal(read_mask(path, read_ct(tmp_path / "ct")), mask)


def test_a_seg_drawn_on_the_flipped_slices_lands_on_the_same_voxels(tmp_path):
    ct, frame = volume(), generate_uid()
    write_series(tmp_path / "ct", ct, frame=frame)
    turned = replace(ct, array=ct.array[::-1, ::-1], origin=ct.to_physical([0, 12, 8]),
                     direction=ct.direction * [1, -1, -1])  # fmt: skip
    slices = write_series(tmp_path / "turned", turned, frame=frame)
    path = write_seg(tmp_path / "seg.dcm", slices, {"Tumour": blob(ct)[::-1, ::-1]})
    np.testing.assert_array_equal(read_mask(path, read_ct(tmp_path / "ct")), blob(ct))


def test_a_fraction_of_a_half_counts_and_less_does_not(tmp_path):
    ct = volume()
    slices = write_series(tmp_path / "ct", ct)
    path = write_seg(tmp_path / "seg.dcm", slices, {"Tumour": blob(ct)}, "FRACTIONAL", scale=0.51)
    np.testing.assert_array_equal(read_mask(path, read_ct(tmp_path / "ct")), blob(ct))
    write_seg(path, slices, {"Tumour": blob(ct)}, "FRACTIONAL", scale=0.49)
    with pytest.raises(ImageError, match="the mask is empty"):
        read_mask(path, read_ct(tmp_path / "ct"))


def test_masks_that_do_not_belong_to_the_ct_are_refused(tmp_path):
    ct, frame = volume(), generate_uid()
    slices = write_series(tmp_path / "ct", ct, frame=frame)
    read = read_ct(tmp_path / "ct")
    empty = np.zeros_like(blob(ct))
    two = write_seg(tmp_path / "two.dcm", slices, {"Tumour": blob(ct), "Nothing": empty}, omit=False)
    foreign = write_seg(tmp_path / "foreign.dcm", write_series(tmp_path / "b", ct), {"Tumour": blob(ct)})
    between = replace(ct, origin=ct.origin + np.array([0, 0, 1.25]))
    shifted = write_seg(
        tmp_path / "shifted.dcm", write_series(tmp_path / "c", between, frame=frame), {"Tumour": blob(ct)}
    )
    far = replace(ct, origin=ct.origin + np.array([0, 0, 25]))
    away = write_seg(tmp_path / "away.dcm", write_series(tmp_path / "d", far, frame=frame), {"Tumour": blob(ct)})
    for path, segment, message in [
        (two, None, "2 segments match None; choose one of: 1 'Tumour', 2 'Nothing'"),
        (two, 3, "0 segments match 3"),
        (two, "Liver", "0 segments match 'Liver'"),
        (two, "Nothing", "the mask of segment 'Nothing' is empty"),
        (foreign, 1, rf"foreign.dcm: frame of reference \S+, but .*ct has {frame}"),
        (shifted, 1, "not drawn on the slices of .*ct; take"),
        (away, 1, r"36 of 36 marked points lie outside"),
        (tmp_path / "ct" / "000.dcm", None, "modality CT; a mask is a SEG"),
        (tmp_path / "ct", None, "9 DICOM files"),
        (tmp_path / "absent.dcm", None, "absent.dcm"),
    ]:
        with pytest.raises(ImageError, match=message):
            read_mask(path, read, segment)


def test_a_truncated_mask_object_is_refused(tmp_path):
    ct = volume()
    slices = write_series(tmp_path / "ct", ct)
    path = write_seg(tmp_path / "mask.dcm", slices, {"Tumour": blob(ct)})
    contours = write_rtstruct(
        tmp_path / "rt.dcm", slices[0].FrameOfReferenceUID, {"GTV": [rectangle(ct, 3, (1, 2), (12, 10))]}
    )
    for whole in (path.read_bytes(), contours.read_bytes()):
        for part in np.linspace(0, 0.99, 25):
            path.write_bytes(whole[: int(part * len(whole))])
            with pytest.raises(ImageError, match=r"mask\.dcm"):
                read_mask(path, read_ct(tmp_path / "ct"))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_contours_are_filled_with_their_holes_and_islands(tmp_path, direction):
    ct = volume(direction=direction)
    frame = write_series(tmp_path / "ct", ct)[0].FrameOfReferenceUID
    expected = np.zeros(ct.array.shape, bool)
    expected[3:6, 1:12, 2:10] = True
    expected[4, 3:10, 3:9] = False  # a hole, and in it
    expected[4, 5:7, 5:7] = True  # an island
    contours = [rectangle(ct, k, (1, 2), (12, 10)) for k in (3, 4, 5)]
    contours += [rectangle(ct, 4, (3, 3), (10, 9))[::-1], rectangle(ct, 4, (5, 5), (7, 7))]
    regions = {"body": [rectangle(ct, 0, (0, 0), (13, 11))], "GTV-1": contours}
    path = write_rtstruct(tmp_path / "rt.dcm", frame, regions)
    assert segments(path) == {1: "body", 2: "GTV-1"}
    read = read_ct(tmp_path / "ct")
    for segment in (2, "gtv-1"):
        np.testing.assert_array_equal(read_mask(path, read, segment), expected)
    assert read_mask(path, read, "body").sum() == 13 * 11  # up to the border of the image


def test_a_slanted_contour_holds_the_voxels_whose_centres_it_encloses(tmp_path):
    ct = volume((4, 60, 70))
    frame = write_series(tmp_path / "ct", ct)[0].FrameOfReferenceUID
    corners = np.array([[5.3, 4.2], [61.7, 21.4], [33.1, 55.8]])
    path = write_rtstruct(tmp_path / "rt.dcm", frame, {"GTV": [ct.to_physical(np.c_[corners, np.full(3, 2)])]})
    x, y = np.meshgrid(np.arange(70), np.arange(60))
    side = [
        (b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0]) > 0
        for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True)
    ]
    mask = read_mask(path, read_ct(tmp_path / "ct"))
    np.testing.assert_array_equal(mask[2], np.all(side, axis=0))
    assert not mask[[0, 1, 3]].any()


def test_contours_that_do_not_belong_to_the_ct_are_refused(tmp_path):
    ct = volume()
    frame = write_series(tmp_path / "ct", ct)[0].FrameOfReferenceUID
    flat = rectangle(ct, 3, (1, 2), (12, 10))
    up = np.array([0, 0, 2.5])
    regions = {
        "empty": [],
        "between": [flat + 0.4 * up],
        "tilted": [flat + up * [[0], [0], [1], [1]]],
        "above": [flat + 9 * up],
        "beside": [flat + np.array([50, 0, 0])],
    }
    path = write_rtstruct(tmp_path / "rt.dcm", frame, regions)
    other = write_rtstruct(tmp_path / "other.dcm", "1.2.3", {"GTV": [flat]})
    for source, segment, message in [
        (path, "empty", "mask of segment 'empty' is empty"),
        (path, "between", "not drawn on the slices"),
        (path, "tilted", "not drawn on the slices"),
        (path, "above", "4 of 4 marked points lie outside"),
        (path, "beside", "marked points lie outside"),
        (other, "GTV", "other.dcm: frame of reference 1.2.3"),
    ]:
        with pytest.raises(ImageError, match=message):
            read_mask(source, read_ct(tmp_path / "ct"), segment)


@pytest.mark.parametrize("name", ["mask.nii.gz", "mask.nrrd"])
def test_an_image_mask_on_the_grid_of_the_ct_stays_and_on_another_is_resampled(tmp_path, name):
    ct = volume(direction="oblique")
    labels = blob(ct).astype(np.uint8)
    labels[8, 12, 10] = 2
    write_image(tmp_path / name, replace(ct, array=labels))
    np.testing.assert_array_equal(read_mask(tmp_path / name, ct), labels > 0)
    np.testing.assert_array_equal(read_mask(tmp_path / name, ct, 1), labels == 1)
    # the same voxels, stored with all axes turned round; then thrice as many, each of a third
    turned = replace(ct, array=labels[::-1, ::-1, ::-1], origin=ct.to_physical([10, 12, 8]), direction=-ct.direction)
    fine = replace(
        ct,
        array=labels.repeat(3, axis=0).repeat(3, axis=1).repeat(3, axis=2),
        origin=ct.to_physical(np.full(3, -1 / 3)),
        spacing=ct.spacing / 3,
    )
    for other in (turned, fine):
        write_image(tmp_path / name, other)
        np.testing.assert_array_equal(read_mask(tmp_path / name, ct), labels > 0)
        np.testing.assert_array_equal(read_mask(tmp_path / name, ct, 2), labels == 2)  # a voxel at the border


def test_resampling_equals_that_of_itk(tmp_path):
    ct = volume((20, 40, 30), direction="oblique")
    other = Volume(np.zeros((30, 20, 25), np.uint8), ct.to_physical([4, 7, 3]), np.array([0.6, 0.8, 0.9]),
                   ct.direction @ rotation(10, 5, -15), "memory")  # fmt: skip
    other.array[8:20, 4:15, 6:19] = 1
    path = write_image(tmp_path / "mask.nrrd", other)
    reference = sitk.ReadImage(str(write_image(tmp_path / "ct.nrrd", ct)))
    expected = sitk.GetArrayFromImage(
        sitk.Resample(sitk.ReadImage(str(path)), reference, sitk.Transform(), sitk.sitkNearestNeighbor)
    )
    found = read_mask(path, ct)
    assert found.sum() > 200
    np.testing.assert_array_equal(found, expected > 0)


def test_image_masks_that_do_not_belong_to_the_ct_are_refused(tmp_path):
    ct = volume()
    labels = blob(ct).astype(np.uint8)
    far = write_image(tmp_path / "far.nrrd", replace(ct, array=labels, origin=ct.origin + 500))
    half = write_image(tmp_path / "half.nii.gz", replace(ct, array=labels, origin=ct.origin - [0, 0, 10]))
    empty = write_image(tmp_path / "empty.mha", replace(ct, array=0 * labels))
    for path, segment, message in [
        (far, None, r"143 of 143 marked points lie outside memory, another frame"),
        (half, None, r"71 of 143 marked points lie outside"),
        (empty, None, "empty.mha: the mask is empty"),
        (half, 7, "mask of segment 7 is empty"),
        (half, "tumour", "an image file has no segment 'tumour'"),
    ]:
        with pytest.raises(ImageError, match=message):
            read_mask(path, ct, segment)


def test_the_largest_component_counts_diagonal_neighbours():
    mask = np.zeros((10, 10, 10), bool)
    mask[[1, 2, 3, 4], [1, 2, 3, 4], [1, 2, 3, 4]] = True  # joined by their corners only
    diagonal = mask.copy()
    mask[7, 7, 6:9] = True
    np.testing.assert_array_equal(largest_component(mask), diagonal)
    mask[8, 7, 6:9] = True
    np.testing.assert_array_equal(largest_component(mask), mask & ~diagonal)
    with pytest.raises(ImageError, match="empty"):
        largest_component(np.zeros((2, 2, 2), bool))


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_box_has_its_centre_volume_and_diagonal(direction):
    ct = volume(direction=direction)
    mask = np.zeros(ct.array.shape, bool)
    mask[2:6, 3:9, 1:6] = True
    found = tumour(mask, ct)
    np.testing.assert_allclose(found.centroid, ct.to_physical([3, 5.5, 3.5]), atol=1e-9)
    edges = np.array([5, 6, 4]) * SPACING
    assert found.volume_ml == pytest.approx(edges.prod() / 1000)
    assert found.diameter_mm == pytest.approx(np.linalg.norm(edges))


def test_one_voxel_one_row_and_one_slice_have_diameters():
    ct = volume()
    for part, count in [((4, 5, 6), [1, 1, 1]), ((4, 5, slice(2, 9)), [7, 1, 1]), ((4, slice(1, 9), 3), [1, 8, 1])]:
        mask = np.zeros(ct.array.shape, bool)
        mask[part] = True
        assert tumour(mask, ct).diameter_mm == pytest.approx(np.linalg.norm(count * SPACING))


def test_a_sphere_has_its_centre_volume_and_diameter():
    ct = Volume(np.zeros((50, 110, 90), np.int16), ORIGIN, np.array([0.5, 0.4, 1.0]), rotation(30, 10, -20), "memory")
    centre, radius = ct.to_physical([44.3, 55.1, 24.8]), 18.0
    grid = np.stack(np.meshgrid(*map(np.arange, ct.array.shape), indexing="ij"), axis=-1)[..., ::-1]
    mask = np.linalg.norm(ct.to_physical(grid) - centre, axis=-1) <= radius
    found = tumour(mask, ct)
    np.testing.assert_allclose(found.centroid, centre, atol=0.02)
    assert found.volume_ml == pytest.approx(4 / 3 * np.pi * radius**3 / 1000, rel=0.002)
    assert 2 * radius - 0.5 < found.diameter_mm < 2 * radius + np.linalg.norm(ct.spacing)  # corners lie outside


def test_a_mask_of_another_grid_or_without_voxels_has_no_measures():
    ct = volume()
    for mask in (np.ones((2, 3, 4), bool), np.zeros(ct.array.shape, bool)):
        with pytest.raises(ImageError, match="empty or on another grid"):
            tumour(mask, ct)


def test_frames_that_fill_whole_bytes_are_read_by_number(tmp_path):
    ct = volume((9, 16, 24), direction="oblique")
    slices = write_series(tmp_path / "ct", ct)
    masks = {"Tumour": blob(ct), "Kidney": blob(ct, (4, 0, 8), (9, 14, 20))}
    path = write_seg(tmp_path / "seg.dcm", slices, masks)
    read = read_ct(tmp_path / "ct")
    for number, label in enumerate(masks, start=1):
        np.testing.assert_array_equal(read_mask(path, read, number), masks[label])


def test_a_seg_with_coarser_pixels_or_slices_than_the_ct_is_refused(tmp_path):
    """Its marks would fall on every second pixel or slice, and the volume would be a fraction of the true one."""
    ct, frame = volume((12, 16, 24)), generate_uid()
    write_series(tmp_path / "ct", ct, frame=frame)
    read = read_ct(tmp_path / "ct")
    pixels = replace(ct, array=ct.array[:, ::2, ::2], spacing=ct.spacing * [2, 2, 1])
    thick = replace(ct, array=ct.array[::2], spacing=ct.spacing * [1, 1, 2])
    for name, coarse, message in [
        ("pixels", pixels, "its pixels are not those of"),
        ("thick", thick, "no two of them"),
    ]:
        slices = write_series(tmp_path / name, coarse, frame=frame)
        path = write_seg(tmp_path / f"{name}.dcm", slices, {"Tumour": blob(coarse)})
        with pytest.raises(ImageError, match=message):
            read_mask(path, read)


def test_contours_on_every_second_slice_and_open_ones_are_refused_and_points_are_nothing(tmp_path):
    ct = volume()
    frame = write_series(tmp_path / "ct", ct)[0].FrameOfReferenceUID
    read = read_ct(tmp_path / "ct")
    flat = [rectangle(ct, k, (1, 2), (12, 10)) for k in range(9)]
    regions = {"sparse": flat[1:8:2], "two": [flat[1], flat[6]], "point": [flat[3], flat[4][:1]]}
    path = write_rtstruct(tmp_path / "rt.dcm", frame, regions)
    with pytest.raises(ImageError, match="marks 4 slices, no two of them neighbours"):
        read_mask(path, read, "sparse")
    assert np.flatnonzero(read_mask(path, read, "two").any(axis=(1, 2))).tolist() == [1, 6]
    assert read_mask(path, read, "point").sum() == 11 * 8
    dataset = pydicom.dcmread(path)
    dataset.ROIContourSequence[1].ContourSequence[0].ContourGeometricType = "OPEN_PLANAR"
    dataset.save_as(path)
    with pytest.raises(ImageError, match="a contour is OPEN_PLANAR, not closed"):
        read_mask(path, read, "two")


def test_a_mask_with_nan_is_refused(tmp_path):
    ct = volume()
    values = blob(ct).astype(np.float32)
    values[0, 0, 0] = np.nan
    with pytest.raises(ImageError, match=r"mask\.nii\.gz: NaN voxels"):
        read_mask(write_image(tmp_path / "mask.nii.gz", replace(ct, array=values)), ct)
