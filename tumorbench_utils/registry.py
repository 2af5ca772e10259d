"""A dictionary of named things that answers an unknown name with the names it knows."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from difflib import get_close_matches
from importlib import metadata
from typing import Generic, Protocol, TypeVar


class _Named(Protocol):
    @property
    def id(self) -> str: ...


Entry = TypeVar("Entry", bound=_Named)


class UnknownNameError(LookupError):
    """A cohort, model or other name that no registry entry carries."""


class Registry(Generic[Entry]):
    """Entries by ``id``, in the order in which they were registered.

    ``kind`` is the word used in messages ("cohort", "model").
    """

    def __init__(self, kind: str, entries: tuple[Entry, ...] = ()):
        self.kind = kind
        self._entries: dict[str, Entry] = {}
        for entry in entries:
            self.register(entry)

    def register(self, entry: Entry) -> Entry:
        """Add ``entry``; a second entry of the same id is an error, since results are filed under it."""
        if entry.id in self._entries:
            raise ValueError(f"{self.kind} '{entry.id}' is registered already")
        self._entries[entry.id] = entry
        return entry

    def register_installed(self, group: str) -> None:
        """Register what other installed packages offer as entry points of ``group``; one that cannot be registered is
        named in a warning and left out."""
        for point in metadata.entry_points(group=group):
            try:
                self.register(point.load())
            except Exception as error:  # of code that is not ours: the book goes on without it
                warnings.warn(f"{self.kind} '{point.name}' of {point.value} was left out: {error}", stacklevel=2)

    def get(self, name: str) -> Entry:
        """The entry called ``name``; :class:`UnknownNameError` lists what there is."""
        if name in self._entries:
            return self._entries[name]
        close = get_close_matches(str(name), self._entries, n=1)
        hint = f" Did you mean '{close[0]}'?" if close else ""
        raise UnknownNameError(f"unknown {self.kind} '{name}'.{hint} Known: {', '.join(self._entries)}")

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries
