"""The extraction loop: patches of a bank through encoders and controls, into embedding tables.

All encoders of a geometry share one pass over its bank: a region is read once, a patch is cut once for all that are
fed alike, and the next grain is read while the encoders are at this one. A *grain* is what a killed run loses at most.
Its size hangs on the geometry alone, so a table does not depend on where a run was interrupted, on what other encoders
ran beside, or on workers: the bytes are the same.

The batch is another matter, since torch has other kernels for other batches. Measured on torch 2.13, cpu, fp32: for
batches of two and more the convolutional encoders tried (those of FMCIB, CT-FM and ModelsGenesis) give the same bits;
in batches of one they differ by up to 7e-7, relative to the length of the vector. VoCo's is the same for all. Layers
that multiply few rows may differ from batch to batch in the last bits. On cuda (torch 2.11, NVIDIA H200) it is the
other way round: eight of the ten gave the same bits in batches of 1, 2, 8 and 32, of which MedImageInsight takes its
patches one by one anyway; Merlin's differed by up to 1e-7, VoCo's by 9e-6. What batch is used by default hangs on
device and recipe alone, unless memory runs out.
"""

from .extracting import Extracted, extract
from .tasks import ExtractionError

__all__ = ["Extracted", "ExtractionError", "extract"]
