"""What is written is a CT slice that says it is synthetic, and comes back unchanged."""

from __future__ import annotations

import sys

import pytest
import torch

from vislm_tutorial.data.dicom import COMMENT, read_dicom, write_dicom
from vislm_tutorial.data.phantoms import Phantom, hounsfield

pydicom = pytest.importorskip("pydicom")


@pytest.fixture(scope="module")
def slice_hu() -> torch.Tensor:
    """(96, 64) in HU, from air to beyond bone, not square so that rows and columns differ."""
    hu = hounsfield([Phantom("middle", None, 3)], 96, noise=20.0)[0, :, :64].clone()
    hu[0, 0], hu[0, 1] = -1024.0, 3071.0
    return hu


@pytest.fixture
def written(slice_hu, tmp_path):
    return write_dicom(slice_hu, tmp_path / "a.dcm", pixel_mm=2.75, slice_thickness_mm=3)


def _change(path, **fields):
    """Rewrite a file with other values; None takes a field out."""
    file = pydicom.dcmread(path)
    for name, value in fields.items():
        if value is None:
            delattr(file, name)
        else:
            setattr(file, name, value)
    file.save_as(path)
    return path


def test_the_round_trip_is_exact_to_one_unit(slice_hu, written):
    again, pixel_mm = read_dicom(written)
    assert again.dtype == torch.float32 and again.shape == (96, 64)
    assert (again - slice_hu).abs().max() <= 0.501
    assert pixel_mm == 2.75


def test_a_second_round_trip_changes_nothing(written, tmp_path):
    once, pixel_mm = read_dicom(written)
    twice, _ = read_dicom(write_dicom(once, tmp_path / "b.dcm", pixel_mm=pixel_mm))
    assert torch.equal(once, twice)


def test_the_file_is_a_ct_image(written):
    assert written.read_bytes()[128:132] == b"DICM"
    file = pydicom.dcmread(written)  # without force: the file meta must be there
    assert file.SOPClassUID == file.file_meta.MediaStorageSOPClassUID == pydicom.uid.CTImageStorage
    assert file.SOPInstanceUID == file.file_meta.MediaStorageSOPInstanceUID
    uids = [file.SOPInstanceUID, file.StudyInstanceUID, file.SeriesInstanceUID]
    assert len(set(uids)) == 3 and all(pydicom.uid.UID(u).is_valid for u in uids)
    assert (file.Rows, file.Columns, file.BitsAllocated, file.PixelRepresentation) == (
        96,
        64,
        16,
        1,
    )
    assert (file.RescaleSlope, file.RescaleType, file.SliceThickness) == (1, "HU", 3)
    assert list(file.ImageOrientationPatient) == [1, 0, 0, 0, 1, 0], "columns run to the left side"
    x, y, _ = file.ImagePositionPatient
    assert (x, y) == (-31.5 * 2.75, -47.5 * 2.75)


def test_nobody_can_take_it_for_a_patient(written):
    file = pydicom.dcmread(written)
    assert file.PatientName == "SYNTHETIC^PHANTOM"
    assert list(file.ImageType[:2]) == ["DERIVED", "SECONDARY"]
    assert file.ImageComments == COMMENT and "NOT FOR DIAGNOSIS" in COMMENT


def test_equal_content_gives_an_equal_file(slice_hu, tmp_path):
    def save(name, hu, **options):
        return write_dicom(hu, tmp_path / name, **{"pixel_mm": 2.75} | options)

    first = save("a.dcm", slice_hu)
    assert save("b.dcm", slice_hu).read_bytes() == first.read_bytes()
    uid = pydicom.dcmread(first).SOPInstanceUID
    assert pydicom.dcmread(save("c.dcm", slice_hu + 1)).SOPInstanceUID != uid
    assert pydicom.dcmread(save("d.dcm", slice_hu, pixel_mm=2)).SOPInstanceUID != uid


def test_a_long_fraction_fits_the_field(slice_hu, tmp_path):
    path = write_dicom(slice_hu, tmp_path / "a.dcm", pixel_mm=352 / 123)
    assert read_dicom(path)[1] == pytest.approx(352 / 123, rel=1e-8)


def test_the_scanners_own_scale_and_padding_are_obeyed(written, slice_hu):
    stored = pydicom.dcmread(written).pixel_array
    file = pydicom.dcmread(_change(written, RescaleSlope=2, RescaleIntercept=-500))
    file.add_new("PixelPaddingValue", "SS", int(stored[0, 1]))
    file.save_as(written)
    again, _ = read_dicom(written)
    assert again[0, 1] == -1000
    assert again[5, 5] == 2 * int(stored[5, 5]) - 500


# --- errors ---


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"Modality": "MR"}, "'MR'"),
        ({"PixelSpacing": None}, "no PixelSpacing"),
        ({"PixelSpacing": [1, 2]}, r"1\.0 x 2\.0"),
        ({"PixelData": None}, "no PixelData"),
        ({"PixelData": b"\0" * 100}, "damaged"),
        ({"NumberOfFrames": 2, "Rows": 48}, r"\(2, 48, 64\)"),
    ],
)
def test_reading_names_what_is_wrong(written, change, named):
    with pytest.raises(ValueError, match=named):
        read_dicom(_change(written, **change))


def test_what_is_no_dicom_file_is_refused(tmp_path):
    path = tmp_path / "picture.dcm"
    path.write_bytes(b"\x89PNG" + bytes(500))
    with pytest.raises(ValueError, match="not a DICOM file"):
        read_dicom(path)
    with pytest.raises(FileNotFoundError):
        read_dicom(tmp_path / "missing.dcm")


def test_compression_without_a_decoder_names_it(written):
    file = pydicom.dcmread(written)
    file.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
    file.PixelData = pydicom.encaps.encapsulate([b"\0" * 64])
    file["PixelData"].is_undefined_length = True
    file.save_as(written)
    with pytest.raises(ValueError, match="JPEG 2000.*pylibjpeg"):
        read_dicom(written)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"pixel_mm": 0}, "pixel_mm is 0"),
        ({"slice_thickness_mm": -1}, "slice_thickness_mm is -1"),
        ({"description": "x" * 65}, "64 ASCII"),
        ({"description": "a\\b"}, "backslash"),
        ({"hounsfield": torch.zeros(1, 4, 4)}, r"\(1, 4, 4\)"),
        ({"hounsfield": torch.full((4, 4), float("nan"))}, "NaN"),
        ({"hounsfield": torch.full((4, 4), 40000.0)}, "40000"),
    ],
)
def test_writing_names_what_is_wrong(tmp_path, options, named):
    given = {"hounsfield": torch.zeros(4, 4), "pixel_mm": 1.0} | options
    with pytest.raises(ValueError, match=named):
        write_dicom(given.pop("hounsfield"), tmp_path / "a.dcm", **given)
    assert not (tmp_path / "a.dcm").exists()


def test_a_missing_package_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(ImportError, match="'medical'"):
        write_dicom(torch.zeros(4, 4), tmp_path / "a.dcm", pixel_mm=1.0)
    with pytest.raises(ImportError, match="'medical'"):
        read_dicom(tmp_path / "a.dcm")
