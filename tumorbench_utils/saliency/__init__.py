"""What an embedding looks at: maps over the voxels of a patch, and whether they lie on the tumour.

``occlusion`` and ``gradients`` make maps, ``focus`` holds a map against mask and HU, ``deletion`` and ``sanity`` test
whether a map can be believed. Encoders come in as callables; arrays and tables go out. All failures are
:class:`SaliencyError`, whose message is a reason that a page can list.
"""

from .base import SaliencyError
from .deletion import Deletion, deletion
from .focus import BRIGHT_HU, MEASURES, FocusError, focus, summarise
from .gradients import Gradients, integrated
from .occlusion import FILLS, Occlusion, occlude
from .sanity import alike

__all__ = [
    "BRIGHT_HU",
    "FILLS",
    "MEASURES",
    "Deletion",
    "FocusError",
    "Gradients",
    "Occlusion",
    "SaliencyError",
    "alike",
    "deletion",
    "focus",
    "integrated",
    "occlude",
    "summarise",
]
