"""CT slices as DICOM files, so that a medical viewer opens what was drawn or generated.

The file is a valid CT Image Storage object (DICOM PS3.3, section A.3) that says in four places
that no patient was scanned. Needs pydicom, the extra `medical`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from pydicom import Dataset

PATIENT = "SYNTHETIC^PHANTOM"
COMMENT = "Synthetic image, no patient was scanned. NOT FOR DIAGNOSIS."
INTERCEPT = -1024  # HU of the stored value 0, as scanners have it
RANGE_HU = (-32768 + 1024, 32767 - 1024)  # what fits into 16 bits, whichever way it is shifted
LONGEST_DESCRIPTION = 64  # characters of a DICOM long string (LO)


def write_dicom(
    hounsfield: Tensor,
    path: str | Path,
    *,
    pixel_mm: float,
    slice_thickness_mm: float = 1.25,
    description: str = "Synthetic chest CT slice",
) -> Path:
    """Write one axial slice. Equal content gives an equal file, UIDs included.

    Args:
        hounsfield: (H, W) in HU; stored as whole numbers, so to within 0.5 HU.
        path: the file; its folder must exist.
        pixel_mm: side of a pixel.
        slice_thickness_mm: as it is written into the file.
        description: the series' description, at most 64 characters.

    Returns:
        The path.

    Raises:
        ImportError: without pydicom.
        ValueError: for another shape, values that are not finite or do not fit, a size that is not
            positive, and a description that DICOM cannot hold.
    """
    pydicom = _import_pydicom()
    _check(hounsfield, pixel_mm, slice_thickness_mm, description)
    path = Path(path)
    stored = hounsfield.detach().cpu().double().round().sub(INTERCEPT).numpy().astype("<i2")
    sizes = f"{stored.shape} {pixel_mm} {slice_thickness_mm} {description}"
    content = [sizes, stored.tobytes().hex()]

    def uid(of: str) -> str:
        return pydicom.uid.generate_uid(entropy_srcs=[of, *content])

    file = pydicom.Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = pydicom.uid.CTImageStorage
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID = uid("image")
    file.StudyInstanceUID, file.SeriesInstanceUID = uid("study"), uid("series")
    file.FrameOfReferenceUID = uid("frame of reference")
    _describe(file, description)
    _place(file, stored.shape, pixel_mm, slice_thickness_mm)
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 1
    file.RescaleIntercept, file.RescaleSlope, file.RescaleType = INTERCEPT, 1, "HU"
    file.WindowCenter, file.WindowWidth = -600, 1500  # the lung window
    file.PixelData = stored.tobytes()
    file["PixelData"].VR = "OW"
    file.save_as(path, enforce_file_format=True)
    return path


def read_dicom(path: str | Path) -> tuple[Tensor, float]:
    """Read one CT slice, a real one too.

    Returns:
        (H, W) float32 in HU, and the side of a pixel in mm. Padding around a scanner's field of
        view becomes air, -1000 HU.

    Raises:
        ImportError: without pydicom.
        FileNotFoundError: where there is no file.
        ValueError: for a file that is not DICOM or is damaged, another modality than CT, several
            frames, pixels of unknown size or not square, and compression without a decoder.
    """
    pydicom = _import_pydicom()
    path = Path(path)
    try:
        file = pydicom.dcmread(path)
    except pydicom.errors.InvalidDicomError as error:
        raise ValueError(f"{path} is not a DICOM file (no 'DICM' after 128 bytes).") from error
    modality = file.get("Modality")
    if modality != "CT":
        raise ValueError(f"{path} has modality {modality!r}; only 'CT' is in Hounsfield units.")
    spacing = file.get("PixelSpacing")
    if not spacing:
        raise ValueError(f"{path} has no PixelSpacing, so nothing in it can be measured in mm.")
    row_mm, column_mm = (float(s) for s in spacing)
    if abs(row_mm - column_mm) > 1e-3 * row_mm:
        raise ValueError(f"{path} has pixels of {row_mm} x {column_mm} mm; expected square ones.")
    pixels = _pixels(file, path)
    slope, intercept = (float(file.get(k, d)) for k, d in _RESCALE.items())
    values = pixels.astype(np.float64) * slope + intercept
    padding = file.get("PixelPaddingValue")
    if padding is not None:
        values[pixels == padding] = -1000.0
    return torch.from_numpy(values.astype(np.float32)), row_mm


_RESCALE = {"RescaleSlope": 1, "RescaleIntercept": 0}


def _pixels(file: Dataset, path: Path) -> np.ndarray:
    """(H, W) stored values of a data set."""
    if "PixelData" not in file:
        raise ValueError(f"{path} holds no picture (no PixelData).")
    syntax = file.file_meta.TransferSyntaxUID
    try:
        pixels = file.pixel_array
    except Exception as error:  # pydicom and its decoders raise a dozen kinds
        if syntax.is_compressed:
            raise ValueError(
                f"{path} is compressed ({syntax.name}) and could not be decoded: install pylibjpeg "
                "with pylibjpeg-openjpeg and pylibjpeg-libjpeg, or save it uncompressed."
            ) from error
        raise ValueError(f"{path} is damaged: {error}") from error
    if pixels.ndim != 2:
        raise ValueError(f"{path} holds an array of shape {pixels.shape}; expected one slice.")
    return pixels


def _check(hounsfield: Tensor, pixel_mm: float, thickness_mm: float, description: str) -> None:
    if hounsfield.ndim != 2 or 0 in hounsfield.shape:
        raise ValueError(f"hounsfield has shape {tuple(hounsfield.shape)}; expected (H, W).")
    if not torch.isfinite(hounsfield).all():
        raise ValueError("hounsfield holds NaN or infinite values; DICOM stores whole numbers.")
    low, high = float(hounsfield.min()), float(hounsfield.max())
    if low < RANGE_HU[0] or high > RANGE_HU[1]:
        raise ValueError(f"hounsfield reaches from {low} to {high}; 16 bits hold {RANGE_HU}.")
    for name, value in (("pixel_mm", pixel_mm), ("slice_thickness_mm", thickness_mm)):
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} is {value}; expected a length above 0 mm.")
    if len(description) > LONGEST_DESCRIPTION or not description.isascii() or "\\" in description:
        raise ValueError(
            f"description is {description!r}; expected at most {LONGEST_DESCRIPTION} ASCII "
            "characters without a backslash, which separates values in DICOM."
        )


def _describe(file: Dataset, description: str) -> None:
    """Who and what, all of it plainly synthetic; fields the standard asks for stay empty."""
    file.PatientName, file.PatientID, file.PatientBirthDate, file.PatientSex = PATIENT, "0", "", ""
    file.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    file.DerivationDescription = file.ImageComments = COMMENT
    file.BurnedInAnnotation = "NO"
    file.Modality, file.Manufacturer, file.ManufacturerModelName = "CT", "vislm-tutorial", "none"
    file.StudyDescription, file.SeriesDescription = "SYNTHETIC, NOT FOR DIAGNOSIS", description
    file.StudyID = file.AccessionNumber = file.ReferringPhysicianName = ""
    file.StudyDate = file.StudyTime = file.KVP = file.AcquisitionNumber = None
    file.PatientPosition, file.PositionReferenceIndicator = "HFS", ""  # on the back, head first
    file.SeriesNumber = file.InstanceNumber = 1


def _place(file: Dataset, shape: tuple[int, int], pixel_mm: float, thickness_mm: float) -> None:
    """Columns run to the patient's left and rows to the back, so the right is on the left."""
    file.Rows, file.Columns = shape
    row_mm, column_mm = ((1 - n) / 2 * pixel_mm for n in shape)  # centre of the first pixel
    file.PixelSpacing = [_decimal(pixel_mm)] * 2
    file.SliceThickness = _decimal(thickness_mm)
    file.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    file.ImagePositionPatient = [_decimal(column_mm), _decimal(row_mm), 0]


def _decimal(value: float) -> str:
    """A number as a DICOM decimal string, which may have 16 characters."""
    return f"{value:.10g}"[:16]


def _import_pydicom():
    try:
        import pydicom
    except ImportError as error:
        raise ImportError(
            "DICOM files need pydicom, not installed here (the extra 'medical'). "
            "Install with: pip install pydicom"
        ) from error
    return pydicom
