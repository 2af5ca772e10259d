"""Results that travel: records in JSON, collected from a run, checked on the way in, merged without a lost conflict.

``base`` says what a record is, ``collecting`` makes records of a run's results, ``merging`` keeps folders of them.
``python -m tumorbench_utils.exchange`` checks and merges from the command line.
"""

from .base import FORMAT, VERSION, ConflictError, ExchangeError, canonical, check, key, place, text_of
from .collecting import collect, content
from .merging import load, merge, read, write

__all__ = [
    "FORMAT",
    "VERSION",
    "ConflictError",
    "ExchangeError",
    "canonical",
    "check",
    "collect",
    "content",
    "key",
    "load",
    "merge",
    "place",
    "read",
    "text_of",
    "write",
]
