"""What an embedding looks at: maps over the voxels of a patch, and whether they lie on the tumour.

``occlusion`` and ``gradients`` make maps, ``focus`` holds a map against mask and HU, ``deletion`` and ``sanity`` test
whether a map can be believed. Encoders come in as callables; arrays and tables go out. All failures are
:class:`SaliencyError`, whose message is a reason that a page can list.
"""

from .base import SaliencyError
from .deletion import Deletion, deletion
from .focus import BLIND, BLIND_MEASURES, BRIGHT_HU, FEWEST, HELD_AGAINST, MEASURES, FocusError, blind, focus, summarise
from .gradients import Gradients, integrated
from .occlusion import FILLS, Occlusion, occlude
from .sanity import alike

__all__ = [
    "BLIND",
    "BLIND_MEASURES",
    "BRIGHT_HU",
    "FEWEST",
    "FILLS",
    "HELD_AGAINST",
    "MEASURES",
    "Deletion",
    "FocusError",
    "Gradients",
    "Occlusion",
    "SaliencyError",
    "alike",
    "blind",
    "deletion",
    "focus",
    "integrated",
    "occlude",
    "summarise",
]
