"""Feature pickles of every pandas read alike, and a hostile or damaged one is refused without being run."""

import copyreg
import json
import math
import os
import pickle
import re
import subprocess
import sys
from collections import OrderedDict
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tumorbench_utils import safe_pickle
from tumorbench_utils.safe_pickle import UnsafePickleError, load

PICKLES = Path(__file__).parent / "data" / "pickles"
FIXTURES = sorted(PICKLES.glob("*.pkl"))


def same_value(read, wanted):
    if isinstance(wanted, dict):
        time = np.datetime64(wanted["time"], "ns")
        return type(read) is np.datetime64 and (read == time or (np.isnat(read) and np.isnat(time)))
    if isinstance(wanted, float) and math.isnan(wanted):
        return type(read) is float and math.isnan(read)
    return type(read) is type(wanted) and read == wanted


def assert_same_row(read, wanted):
    assert type(read) is dict
    assert list(read) == list(wanted)
    for column, value in wanted.items():
        assert same_value(read[column], value), (column, read[column], value)


def assert_same_array(read, wanted):
    assert type(read) is np.ndarray
    assert (read.dtype, read.shape) == (wanted.dtype, wanted.shape)
    assert read.flags.f_contiguous == wanted.flags.f_contiguous
    assert read.flags.writeable
    np.testing.assert_array_equal(read, wanted)


def expected():
    """The content of every fixture, with the features as arrays."""
    content = json.loads((PICKLES / "expected.json").read_text(encoding="utf-8"))
    for samples in (samples for splits in content.values() for samples in splits.values()):
        for sample in samples:
            f = sample["feature"]
            sample["feature"] = np.array(f["values"], f["dtype"]).reshape(f["shape"], order=f["order"])
    return content


def assert_as_expected(content):
    wanted = expected()
    assert list(content) == list(wanted)
    for model, splits in wanted.items():
        assert list(content[model]) == list(splits)
        for split, samples in splits.items():
            for sample, wanted_sample in zip(content[model][split], samples, strict=True):
                assert list(sample) == ["feature", "row"]
                assert_same_array(sample["feature"], wanted_sample["feature"])
                assert_same_row(sample["row"], wanted_sample["row"])


def test_fixtures_cover_three_pandas_and_three_protocols():
    names = [path.stem for path in FIXTURES]
    for version in ("pandas1.5", "pandas2.2", "pandas3.0", "pandas3.0.0_numpy2.4.0_pyarrow"):
        protocols = {name[-1] for name in names if name.startswith(version)}
        assert protocols == {"2", "4", "5"}, version


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_every_pandas_reads_the_same(path):
    assert_as_expected(load(path))


def test_neither_pandas_nor_pyarrow_is_needed():
    code = (
        "import sys; sys.modules.update(pandas=None, pyarrow=None)\n"  # importing them now raises
        "from tumorbench_utils.safe_pickle import load\n"
        "for path in sys.argv[1:]: print(len(load(path)))"
    )
    root = Path(safe_pickle.__file__).parents[1]
    command = [sys.executable, "-c", code, *map(str, FIXTURES)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2"] * len(FIXTURES)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_round_trip_of_the_installed_pandas(tmp_path, protocol):
    columns = {"id": ["a", "ö", "c"], "n": [1, 2, 3], "x": [0.5, np.nan, -1.0], "y": [True, False, True]}
    frame = pd.DataFrame(columns)
    frames = [frame, frame.set_index("id"), *(frame[[column]] for column in columns)]
    rows = [row for table in frames for _, row in table.iterrows()]
    cube = np.arange(24, dtype="f4").reshape(2, 3, 4)
    arrays = [cube, cube.transpose(1, 0, 2), np.asfortranarray(cube), cube[:, ::2], cube.astype(">f8")]
    arrays += [np.array(2.5), np.zeros((0, 3)), np.array(["a", "bcd"]), np.array([True]), np.array([1 + 2j])]
    scalars = [np.bool_(True), np.float32(0.5), np.str_("a")]
    others = [(1, (b"", b"b\xff"), bytearray(b"c")), 2**80, datetime(2015, 1, 2, 3)]
    path = tmp_path / "installed.pkl"
    path.write_bytes(pickle.dumps([rows, arrays, scalars, others], protocol))
    read_rows, read_arrays, read_scalars, read_others = load(path)
    for got, row in zip(read_rows, rows, strict=True):
        assert_same_row(got, row.to_dict())
    for got, array in zip(read_arrays, arrays, strict=True):
        assert_same_array(got, array)
    assert [(type(got), got) for got in read_scalars] == [(bool, True), (float, 0.5), (str, "a")]
    assert read_others == others


def test_object_array_keeps_its_shape_and_shared_objects_stay_shared(tmp_path):
    shared = [1, [2, None]]
    array = np.empty((2, 2), object)
    array[0, 0], array[0, 1], array[1, 0], array[1, 1] = shared, "a", np.float32(1.5), shared
    (tmp_path / "objects.pkl").write_bytes(pickle.dumps([array, np.asfortranarray(array), shared]))
    read, fortran, list_read = load(tmp_path / "objects.pkl")
    assert read.tolist() == fortran.tolist() == [[shared, "a"], [1.5, shared]]
    assert read[0, 0] is read[1, 1] is fortran[0, 0] is list_read


def test_repeated_column_is_not_lost_in_silence(tmp_path):
    (tmp_path / "twice.pkl").write_bytes(pickle.dumps(pd.Series([1, 2], index=["a", "a"])))
    with pytest.raises(ValueError, match="a repeated column name"):
        load(tmp_path / "twice.pkl")


# Hostile files, made of opcodes. A control shows that pickle.loads runs those that leave a trace.

OS_SYSTEM = f"{os.system.__module__}.system"  # posix.system or nt.system: what pickle.dumps writes
RECONSTRUCT = "numpy._core.multiarray._reconstruct"


def glob(module, name):
    return f"c{module}\n{name}\n".encode()


def value(obj):
    """The opcodes that leave ``obj`` on the stack."""
    return pickle.dumps(obj, 2)[2:-1]


def call(function, *arguments):
    return function + b"(" + b"".join(arguments) + b"tR"


class Runs:
    """Pickles as the command that leaves ``trace``, the way hostile objects are usually written."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return os.system, (shell(self.trace),)


def shell(trace):
    return f'echo x > "{trace}"'


def hostile_npy(trace):
    path = trace.with_suffix(".npy")
    np.save(path, np.array([Runs(trace)], object), allow_pickle=True)
    return str(path)


def in_a_row(trace):
    row = pd.Series(["a", 1, Runs(trace)], index=["x", "y", "z"])
    return value({"FMCIBExtractor": {"train": [{"feature": np.zeros((1, 2), "f4"), "row": row}]}})


LEAVES_TRACE = {  # (opcodes, given where to leave the trace; the global that must be named)
    "os.system": (lambda t: call(glob("os", "system"), value(shell(t))), "os.system"),
    "reduce": (lambda t: value({"feature": Runs(t)}), OS_SYSTEM),
    "eval": (lambda t: call(glob("builtins", "eval"), value(f"open(r'{t}', 'w')")), "builtins.eval"),
    "eval, Python 2": (
        lambda t: call(glob("__builtin__", "eval"), value(f"open(r'{t}', 'w')")),
        "__builtin__.eval",
    ),
    "INST": (lambda t: b"(" + value(shell(t)) + b"ios\nsystem\n", "os.system"),
    "dotted name": (
        lambda t: b"\x80\x04" + value("os") + value("path.os.system") + b"\x93" + value((shell(t),)) + b"R",
        "os.path.os.system",
    ),
    "numpy.load": (lambda t: call(glob("numpy", "load"), value(hostile_npy(t)), b"N", b"\x88"), "numpy.load"),
    "partial": (
        lambda t: call(call(glob("functools", "partial"), glob("os", "system"), value(shell(t)))),
        "functools.partial",
    ),
    "object array": (lambda t: value(np.array([1, Runs(t)], object)), OS_SYSTEM),
    "in a row": (in_a_row, OS_SYSTEM),
}


def array(shape, dtype, data, kind=("numpy", "ndarray")):
    made = call(glob("numpy.core.multiarray", "_reconstruct"), glob(*kind), value((0,)), value(b"b"))
    return made + value((1, shape, np.dtype(dtype), False, data)) + b"b"


def frombuffer(shape):
    arguments = value(b"abcd"), value(np.dtype("f4")), value(shape), value("C")
    return call(glob("numpy._core.numeric", "_frombuffer"), *arguments)


def arrow(bounds, length=1):
    kind = call(glob("pyarrow.lib", "type_for_alias"), value("large_string"))
    buffers = b"(N" + value(np.array(bounds, "<i8").tobytes()) + value(b"text") + b"t"
    parts = b"(" + kind + value(length) + value(0) + value(0) + buffers + b"]Nt"
    return call(glob("pyarrow.lib", "_restore_array"), parts)


def change(function):
    """BUILD: set an attribute of the global itself, through its dict and through setattr."""
    return function + value((None, {"origin": "changed", "args": 1, "__call__": 2})) + b"b"


SCALAR = glob("numpy.core.multiarray", "scalar")
NEW_INDEX = glob("pandas.core.indexes.base", "_new_Index")
TIMESTAMP = glob("pandas._libs.tslibs.timestamps", "_unpickle_timestamp")
REFUSED = {  # (opcodes, what must be named)
    "pandas.eval": (call(glob("pandas", "eval"), value("1 + 1")), "pandas.eval"),
    "partial, not called": (call(glob("functools", "partial"), glob("numpy", "dtype")), "functools.partial"),
    "getattr": (call(glob("builtins", "getattr"), glob("numpy", "dtype"), value("mro")), "builtins.getattr"),
    "NEWOBJ": (glob("subprocess", "Popen") + value(("true",)) + b"\x81", "subprocess.Popen"),
    "old-style object": (glob("copyreg", "_reconstructor"), "copyreg._reconstructor"),
    "ndarray subclass": (array((1,), "u1", b"a", ("numpy", "matrix")), "numpy.matrix"),
    "not an ndarray": (array((1,), "u1", b"a", ("pandas", "Series")), RECONSTRUCT),
    "ndarray called": (call(glob("numpy", "ndarray"), value((2**50,))), "numpy.ndarray"),
    "huge shape": (array((2**45,), "f4", b"abcd"), RECONSTRUCT),
    "huge shape of objects": (array((2**45,), "O", [1]), RECONSTRUCT),
    "huge empty shape": (array((2**62, 2**62, 0), "f4", b""), RECONSTRUCT),
    "negative shape": (array((-1,), "f4", b"abcd"), RECONSTRUCT),
    "shape that is no int": (array((1.0,), "f4", b"abcd"), RECONSTRUCT),
    "objects from bytes": (array((1,), "O", b"12345678"), RECONSTRUCT),
    "huge shape, protocol 5": (frombuffer((2**45,)), "_frombuffer"),
    "pointer as a scalar": (call(SCALAR, value(np.dtype("O")), value(b"12345678")), "multiarray.scalar"),
    "dtype with fields": (array((1,), [("a", "u1")], b"a"), "numpy.dtype"),
    "void dtype": (array((1,), "V1", b"a"), "numpy.dtype"),
    "fields of a plain dtype": (
        call(glob("numpy", "dtype"), value("f4"), b"\x89", b"\x88")
        + value((3, "<", None, ("a",), {"a": 0}, 4, 1, 0))
        + b"b",
        "numpy.dtype",
    ),
    "index of two dimensions": (
        call(NEW_INDEX, glob("pandas", "Index"), b"}" + value("data") + array((2, 0), "f4", b"") + b"s"),
        "_new_Index",
    ),
    "time in a zone": (call(TIMESTAMP, value(0), b"N", value("UTC"), value(10)), "_unpickle_timestamp"),
    "time from text": (call(TIMESTAMP, value("2015"), b"N", b"N", value(10)), "_unpickle_timestamp"),
    "slice as a value": (call(glob("builtins", "slice"), value(0), value(1)), "builtins.slice out of place"),
    "codec": (call(glob("_codecs", "encode"), value("a"), value("rot13")), "_codecs.encode"),
    "codec, not text": (call(glob("_codecs", "encode"), value([1]), value("latin1")), "_codecs.encode"),
    "bytes by the terabyte": (call(glob("builtins", "bytearray"), value(2**45)), "builtins.bytearray"),
    "strings beyond their text": (arrow([0, 2**40]), "pyarrow.lib._restore_array"),
    "strings before their text": (arrow([-2, 1]), "pyarrow.lib._restore_array"),
    "strings that overlap": (arrow([0, 4, 0, 4], 3), "pyarrow.lib._restore_array"),
    "more strings than bounds": (arrow([0, 4], 2**40), "pyarrow.lib._restore_array"),
    "change to a class": (change(glob("numpy", "dtype")), "numpy.dtype"),
    "change to a function": (change(glob("numpy.core.multiarray", "_reconstruct")), RECONSTRUCT),
    "class as a value": (glob("pandas.core.series", "Series"), "pandas.core.series.Series"),
    "persistent id": (b"Pname\n", "persistent id"),
    "persistent id, binary": (value("name") + b"Q", "persistent id"),
    "extension code 1": (b"\x82\xf0", "extension code 240"),
    "extension code 4": (b"\x84\xf0\xff\xff\x00", "extension code"),
}


def assert_refused(path, named):
    with pytest.raises(UnsafePickleError) as caught:
        load(path)
    for part in (str(path), named, "Nothing was run: do not trust it"):
        assert part in str(caught.value)


@pytest.mark.parametrize(("opcodes", "named"), LEAVES_TRACE.values(), ids=LEAVES_TRACE)
def test_hostile_file_is_refused_and_not_run(tmp_path, opcodes, named):
    trace, path = tmp_path / "trace", tmp_path / "hostile.pkl"
    path.write_bytes(opcodes(trace) + b".")
    assert_refused(path, named)
    assert not trace.exists()
    with path.open("rb") as stream:  # the control: it would have run
        pickle.load(stream)
    assert trace.exists()


@pytest.mark.parametrize(("opcodes", "named"), REFUSED.values(), ids=REFUSED)
def test_odd_use_of_a_pickle_is_refused(tmp_path, opcodes, named):
    path = tmp_path / "odd.pkl"
    path.write_bytes(opcodes + b".")
    assert_refused(path, named)
    assert_as_expected(load(FIXTURES[0]))  # and nothing of it stays behind


def test_honest_counterparts_of_the_odd_files_read(tmp_path):
    """So that the files above are refused for the one thing that is odd about them."""
    parts = [array((1,), "f4", b"abcd"), array((1,), "O", [1]), frombuffer((1,))]
    parts += [arrow([0, 4]), arrow([0, 4, 4, 4], 3), call(SCALAR, value(np.dtype("u1")), value(b"a"))]
    parts += [call(glob("_codecs", "encode"), value("a"), value("latin1"))]
    (tmp_path / "honest.pkl").write_bytes(b"(" + b"".join(parts) + b"t.")
    floats, objects, buffer, text, texts, scalar, encoded = load(tmp_path / "honest.pkl")
    assert floats.tobytes() == buffer.tobytes() == b"abcd"
    assert (objects.tolist(), text, texts, scalar, encoded) == ([1], ["text"], ["text", "", ""], 97, b"a")


def test_extension_code_of_a_registered_function_is_refused(tmp_path):
    trace, path = tmp_path / "trace", tmp_path / "extension.pkl"
    path.write_bytes(call(b"\x82\xf0", value(shell(trace))) + b".")
    copyreg.add_extension("os", "system", 240)
    try:
        pickle.loads(path.read_bytes())  # runs, and leaves os.system where find_class is not asked again
        trace.unlink()
        assert_refused(path, "os.system")
        assert not trace.exists()
    finally:
        copyreg.remove_extension("os", "system", 240)
        copyreg.clear_extension_cache()


def test_stand_ins_do_not_reach_other_pickles(tmp_path):
    path = tmp_path / "extension.pkl"
    path.write_bytes(b"\x82\xf1.")
    copyreg.add_extension("numpy", "dtype", 241)
    try:
        assert_refused(path, "numpy.dtype")
        assert pickle.loads(path.read_bytes()) is np.dtype
    finally:
        copyreg.remove_extension("numpy", "dtype", 241)
        copyreg.clear_extension_cache()


def test_ordered_dict_reads_as_dict_and_cannot_be_changed(tmp_path):
    path = tmp_path / "ordered.pkl"
    path.write_bytes(pickle.dumps(OrderedDict(b=1, a=[2])))
    assert list(load(path).items()) == [("b", 1), ("a", [2])]
    path.write_bytes(change(glob("collections", "OrderedDict")) + b".")
    with pytest.raises(ValueError, match=re.escape(str(path))):
        load(path)


def test_nesting_that_would_never_end(tmp_path):
    endless, doubled = [], [1]
    endless.append(endless)
    for _ in range(200):  # 2**200 elements, if what is shared were built each time it is met
        doubled = [doubled, doubled]
    path = tmp_path / "nested.pkl"
    path.write_bytes(pickle.dumps(doubled))
    read = load(path)
    assert read[0] is read[1]
    for opcodes in (pickle.dumps(endless), b"]" * 10_000 + b"a" * 9_999 + b"."):
        path.write_bytes(opcodes)
        with pytest.raises(ValueError, match=re.escape(str(path))):
            load(path)


# Damaged files.


def assert_damaged(path):
    with pytest.raises(ValueError, match="truncated or corrupt") as caught:
        load(path)
    assert str(path) in str(caught.value)
    assert not isinstance(caught.value, UnsafePickleError)


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda path: path.stem)
def test_truncated_file(tmp_path, fixture):
    path, data = tmp_path / "cut.pkl", fixture.read_bytes()
    ends = {n for n in range(1, len(data)) if data[n - 1 : n] == b"."}  # look complete
    for size in sorted(ends | {*range(0, len(data), 97), len(data) - 1, len(data) - 2}):
        path.write_bytes(data[:size])
        assert_damaged(path)


NOT_PICKLES = {
    "empty": b"",
    "a full stop": b".",
    "csv": b"PatientID,label\nLUNG-001,1\n",
    "git-lfs pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:8bc8\nsize 45157835\n",
    "zip": b"PK\x03\x04" + bytes(64),
    "zeros": bytes(4096) + b".",
}


@pytest.mark.parametrize("data", NOT_PICKLES.values(), ids=NOT_PICKLES)
def test_not_a_pickle(tmp_path, data):
    (tmp_path / "other.pkl").write_bytes(data)
    assert_damaged(tmp_path / "other.pkl")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "missing.pkl")
