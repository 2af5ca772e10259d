"""Parameters of a notebook: unknown names and wrong types are errors, which papermill alone does not make them."""

from __future__ import annotations

import ast
from collections.abc import Mapping

INJECTED = "# Parameters"  # first line of the cell that papermill adds


class ParameterError(TypeError):
    """A notebook was given a parameter that it does not have, or one of the wrong type."""


def check(
    namespace: Mapping,
    may_be_zero: tuple[str, ...] = (),
    may_be_minus_one: tuple[str, ...] = (),
    **kinds: type | tuple[type, ...],
) -> None:
    """Check the parameters of the notebook whose ``globals()`` are given.

    ``kinds`` names every parameter with its type; whole numbers are at least 1, those that ``may_be_zero`` at least 0,
    those that ``may_be_minus_one`` ("all there are") at least -1.
    Names that papermill injected are read from the injected cell itself, so variables of a notebook in use are not
    mistaken for parameters.
    """
    unknown = injected_names(namespace.get("In", ())) - set(kinds)
    if unknown:
        raise ParameterError(f"unknown parameter {', '.join(sorted(unknown))}. Known: {', '.join(kinds)}")
    for name in kinds:
        least = -1 if name in may_be_minus_one else 0 if name in may_be_zero else 1
        if type(namespace[name]) is int and namespace[name] < least:
            raise ParameterError(f"parameter {name} must be at least {least}, not {namespace[name]}")
    for name, kind in kinds.items():
        allowed, value = kind if isinstance(kind, tuple) else (kind,), namespace[name]
        if not isinstance(value, allowed) or (isinstance(value, bool) and bool not in allowed):  # True is an int too
            wanted = " or ".join(each.__name__ for each in allowed)
            raise ParameterError(f"parameter {name} must be {wanted}, not {value!r}")


def injected_names(cells: list[str] | tuple[str, ...]) -> set[str]:
    """Names assigned in the cells, of those executed, that papermill injected."""
    names = set()
    for source in cells:
        if source.lstrip().split("\n", 1)[0].rstrip() == INJECTED:
            for statement in ast.parse(source).body:
                targets = getattr(statement, "targets", [])
                names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names
