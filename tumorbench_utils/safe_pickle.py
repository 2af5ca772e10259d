"""Read released feature pickles without running anything they contain.

A pickle is a program: it can name any importable function and have it called. Feature pickles need few
names. The unpickler knows those in ``_READERS`` and gives each an inert stand-in that notes its arguments:
nothing of numpy, pandas or pyarrow is called while the file is in control. ``_Reader`` then builds arrays and
dicts from the stand-ins, checking every argument. Rows of pandas 1.5 to 3.x read the same under any pandas.
Not covered: a hostile file can waste memory (by a huge memo index, or one buffer that many arrays share).
"""

import copyreg
import datetime
import math
import pickle
import re
from pathlib import Path

import numpy as np

_SCALARS = frozenset({type(None), bool, int, float, str, bytes, bytearray})
_DTYPE = re.compile(r"[biufc][1248]|c16|O8?|[SU][1-9]\d{0,5}")  # no records, subarrays or metadata


class UnsafePickleError(ValueError):
    """The file asks for something that a feature pickle has no need of. Nothing in it was run."""


class _Inert(type):
    """Metaclass of the stand-ins. BUILD on a stand-in class would set attributes that outlive the load."""

    @property
    def __setstate__(cls):
        raise UnsafePickleError(f"a change to {cls.origin}")


class _StandIn(metaclass=_Inert):
    """What the file wanted called or created: ``origin``, with these arguments and this state."""

    __slots__ = ("args", "state")

    def __new__(cls, *args):
        self = object.__new__(cls)
        self.args, self.state = args, None
        return self

    def __setstate__(self, state):
        self.state = state


def _check(condition, what):
    if not condition:
        raise ValueError(what)


class _Reader(dict):
    """Turns stand-ins into plain objects. Holds id -> result: what is shared is built once, stays shared."""

    def plain(self, obj):
        if type(obj) in _SCALARS:
            return obj
        if id(obj) not in self:
            self[id(obj)] = self.build(obj, type(obj))
        return self[id(obj)]

    def build(self, obj, kind):
        if kind is dict:
            return {self.plain(key): self.plain(value) for key, value in obj.items()}
        if kind in (list, tuple):
            return kind(map(self.plain, obj))
        if not (isinstance(obj, _StandIn) and obj.read):  # a class, or a stand-in read by the one around it
            raise UnsafePickleError(f"{getattr(obj, 'origin', kind.__name__)} out of place")
        try:
            return kind.read(self, obj, *obj.args)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise UnsafePickleError(f"{kind.origin} with unexpected arguments ({error})") from error

    def bytes(self, data):
        data = self.plain(data)
        _check(type(data) in (bytes, bytearray), "not bytes")  # bytes(10**12) would reserve a terabyte
        return bytes(data)

    def elements(self, values):
        values = self.plain(values)
        _check(type(values) is list or values.ndim == 1, "not one-dimensional")
        return values if type(values) is list else values.tolist()

    def array(self, data, dtype, shape, order):
        """A new, writable array. It is made from its data, so a shape that lies cannot ask for memory."""
        dtype = self.plain(dtype)
        _check(min(shape, default=0) >= 0, "a negative shape")  # reshape would take -1 for what fits
        if dtype.hasobject:  # numpy lists objects in C order, whatever the order of the array
            return np.fromiter(self.plain(data), dtype).reshape(shape)
        return np.frombuffer(self.bytes(data), dtype).copy().reshape(shape, order=order)

    def encode(self, _obj, text, codec):
        _check(codec == "latin1", "a codec other than latin1")  # protocol 2 spells bytes so
        return text.encode("latin1")

    def timestamp(self, _obj, value, freq, zone, unit=10):
        _check(type(value) is int and freq is None and zone is None, "only times without a zone are read")
        return np.datetime64(value, {7: "s", 8: "ms", 9: "us", 10: "ns"}[unit])  # NPY_DATETIMEUNIT

    def dtype(self, obj, code, _align, _copy):
        _, byte_order, *structure = obj.state[:5]
        _check(_DTYPE.fullmatch(code) and structure == [None, None, None], "not a plain dtype")
        return np.dtype(code).newbyteorder(byte_order)

    def reconstruct(self, obj, kind, shape, _code):
        _check(kind is _STAND_INS["numpy.ndarray"] and shape == (0,), "not numpy.ndarray")
        _, shape, dtype, fortran, data = obj.state
        return self.array(data, dtype, shape, "F" if fortran else "C")

    def frombuffer(self, _obj, data, dtype, shape, order, axes=None):
        array = self.array(data, dtype, shape, "C" if axes else order)
        return array.transpose(axes) if axes else array

    def series(self, obj):
        manager = obj.state["_mgr"].state[3]["0.14.1"]  # the layout that pandas 0.14 to 3.x write
        labels, values = self.plain(manager["axes"][0]), self.elements(manager["blocks"][0]["values"])
        row = dict(zip(labels, values, strict=True))
        _check(len(row) == len(labels), "a repeated column name")
        return row

    def arrow(self, _obj, parts):
        """Arrow's strings: validity bits (or none), where each string starts and the last ends, UTF-8."""
        alias, length, _, first, (valid, bounds, text), *_ = parts
        integer, end = {"string": "<i4", "large_string": "<i8"}[alias.args[0]], first + length
        bounds, text = np.frombuffer(self.bytes(bounds), integer)[first : end + 1].tolist(), self.bytes(text)
        fits = len(bounds) == length + 1 and bounds[0] >= 0 and bounds[-1] <= len(text)
        _check(fits and bounds == sorted(bounds), "strings out of bounds")
        bits = np.frombuffer(self.bytes(valid) if valid else b"\xff" * (end // 8 + 1), np.uint8)
        spans = zip(np.unpackbits(bits, bitorder="little")[first:end], bounds[:-1], bounds[1:], strict=True)
        return [text[start:stop].decode() if bit else math.nan for bit, start, stop in spans]


_READERS = {  # every name a file may use; None: read by the stand-in around it, or not needed
    **dict.fromkeys(("builtins.slice", "numpy.ndarray", "pandas.Index", "pandas.core.indexes.base.Index")),
    **dict.fromkeys(("pandas.core.internals.managers.SingleBlockManager", "pyarrow.lib.type_for_alias")),
    **dict.fromkeys(("pandas.StringDtype", "pandas.arrays.StringArray")),
    "_codecs.encode": _Reader.encode,
    "builtins.bytearray": lambda read, _, data=b"": read.bytes(data),
    "builtins.bytes": lambda *_: b"",  # how protocol 2 spells no bytes
    "datetime.datetime": lambda read, _, data: datetime.datetime(read.bytes(data)),
    "numpy.dtype": _Reader.dtype,
    "numpy._core.multiarray._reconstruct": _Reader.reconstruct,
    "numpy._core.multiarray.scalar": lambda read, _, dtype, data: read.array(data, dtype, (), "C").item(),
    "numpy._core.numeric._frombuffer": _Reader.frombuffer,
    "pandas.Series": _Reader.series,
    "pandas.core.series.Series": _Reader.series,
    "pandas.core.indexes.base._new_Index": lambda read, _, kind, state: read.elements(state["data"]),
    "pandas.arrays.ArrowStringArray": lambda read, obj: read.plain(obj.state["_pa_array"]),
    "pandas._libs.arrays.__pyx_unpickle_NDArrayBacked": lambda read, obj, *_: read.plain(obj.state[1]),
    "pandas._libs.tslibs.nattype._nat_unpickle": lambda *_: np.datetime64("NaT", "ns"),
    "pandas._libs.tslibs.nattype.__nat_unpickle": lambda *_: np.datetime64("NaT", "ns"),
    "pandas._libs.tslibs.timestamps._unpickle_timestamp": _Reader.timestamp,
    "pyarrow.lib._restore_array": _Reader.arrow,
    "pyarrow.lib.py_buffer": lambda read, _, data: read.bytes(data),
}
_STAND_INS = {
    origin: _Inert(origin, (_StandIn,), {"__slots__": (), "origin": origin, "read": reader})
    for origin, reader in _READERS.items()
}
_STAND_INS["collections.OrderedDict"] = {}.copy  # makes an empty dict, and has no attribute to set


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        now = module.replace("__builtin__", "builtins").replace("numpy.core", "numpy._core")  # older names
        if f"{now}.{name}" not in _STAND_INS:
            raise UnsafePickleError(f"{module}.{name}")
        return _STAND_INS[f"{now}.{name}"]

    def persistent_load(self, pid):
        raise UnsafePickleError("a persistent id")


def load(path):
    """Read ``{model: {split: [{"feature": ndarray, "row": pandas.Series}, ...]}}``, or a pickle of its parts.

    Arrays are new and writable; a Series becomes a dict {column: python scalar} in the order of the file,
    with NaN or None as stored and numpy.datetime64 for times. Raises UnsafePickleError, naming file and
    global, where the file asks for anything else; ValueError, naming the file, where it is damaged.
    """
    copyreg.clear_extension_cache()  # a code that somebody else's pickle resolved would bypass find_class
    try:
        with Path(path).open("rb") as stream:
            stream.seek(max(stream.seek(0, 2) - 1, 0))
            _check(stream.read() == b".", "no end mark")
            stream.seek(0)
            return _Reader().plain(_Unpickler(stream).load())
    except OSError:
        raise
    except Exception as error:  # a damaged stream raises nearly anything
        if isinstance(error, UnsafePickleError) or "extension code" in str(error):  # the latter: EXT1/2/4
            raise UnsafePickleError(f"{path}: refused {error}. Nothing was run: do not trust it") from None
        raise ValueError(f"{path}: truncated or corrupt ({type(error).__name__}: {error})") from error
    finally:
        copyreg.clear_extension_cache()  # and ours must not reach theirs
