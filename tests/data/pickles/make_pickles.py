"""Write one small feature pickle per protocol, in the way of the released extractor: python make_pickles.py

Run in environments with pandas 1.5.3 + numpy 1.26, pandas 2.2 + numpy 2, pandas 3 + numpy 2.4 (with and
without pyarrow, which changes how pandas 3 stores strings). Every file holds what expected.json says; that
file is written by hand, so that a mistake here and one in the reader cannot cancel out.
"""

import importlib.util
import io
import pickle
from pathlib import Path

import numpy as np
import pandas as pd

MIXED = """\
PatientID,slices,age,dead,note
LUNG-001,134,61.5,True,
LUNG-002,98,,False,"naïve, left"
LUNG-003,120,70.25,True,right
"""
FLOATS = "coordX,coordY,coordZ\n-21.86,-120.54,\n52.61,-95.87,-256.5\n"  # a row is a view into the frame
WORDS = "PatientID,image_path\nR01-001,ct/1.nii.gz\nR01-002,\n"  # only strings: pandas 3 may use Arrow
COUNTS = "patient,Malignant_lbl\n7,1\n8,0\n"


def samples(csv, features, **extra):
    """One sample a row, with the columns in ``extra`` set on the row as the DLCS extractor sets the path."""
    listed = []
    for i, (_, row) in enumerate(pd.read_csv(io.StringIO(csv)).iterrows()):
        for column, values in extra.items():
            row[column] = values[i]
        listed.append({"feature": features[i], "row": row})
    return listed


def ramp(shape, dtype, order="C"):
    return (np.arange(np.prod(shape)) / 8).reshape(shape, order=order).astype(dtype, order="K")


def content():
    mixed = samples(
        MIXED,
        [ramp((1, 6), "float32"), ramp((6,), "float32"), ramp((1, 6), "float64")],
        image_path=["ct/1.nii.gz", "ct/2.nii.gz", "ct/3.nii.gz"],
        comment=[None, "read twice", None],
        seed_x=[np.float32(1.5), np.float64(-2.25), np.int64(3)],
        acquired=[pd.Timestamp("2014-03-01 12:30:00.000001"), pd.NaT, pd.Timestamp("2015-01-02")],
    )
    return {
        "FMCIBExtractor": {
            "train": mixed,
            "val": samples(FLOATS, [ramp((2, 1, 3, 2, 2), "float16"), ramp((1, 3, 2, 2, 2), "float32")]),
            "test": samples(WORDS, [ramp((3, 4), "float64", order="F"), np.zeros((1, 0), "float32")]),
        },
        "MedImageInsightExtractor": {
            "train": samples(MIXED, [ramp((4, 8), "float32")] * 3),
            "val": samples(COUNTS, [ramp((1, 4), "float32")[:, ::2], ramp((1, 4), ">f4")]),
            "test": [],
        },
    }


if __name__ == "__main__":
    arrow = "_pyarrow" if pd.__version__ >= "3" and importlib.util.find_spec("pyarrow") else ""
    for protocol in (2, 4, 5):
        name = f"pandas{pd.__version__}_numpy{np.__version__}{arrow}_protocol{protocol}.pkl"
        with (Path(__file__).parent / name).open("wb") as stream:
            pickle.dump(content(), stream, protocol=protocol)
