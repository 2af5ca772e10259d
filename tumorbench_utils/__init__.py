"""TumorBench: which CT foundation model can be trusted as a tumour biomarker, and how one knows.

A thin package: the story is in the notebooks, the arithmetic is here. A module imports only from the floors
below its own (see ``FLOORS`` in ``tests/test_architecture.py``).
"""

__version__ = "0.1.0"
