"""Phantom cohort: seeded CT-like thoraces with one lung nodule each, as DICOM CT and DICOM SEG.

For testing the machinery and for learning it, never for a finding. A latent severity makes a nodule larger, more
spiculated and less even, and shortens survival; all else (size, posture, place, contrast medium, noise) is nuisance.
"""

from .cases import SITES, Case, PhantomError, Site, case, parameters
from .cohort import make
from .image import Scan, scan

__all__ = ["SITES", "Case", "PhantomError", "Scan", "Site", "case", "make", "parameters", "scan"]
