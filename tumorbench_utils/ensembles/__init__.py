"""Several embeddings of the same samples as one classifier: do ensembles beat the best single model?

Every single model and every ensemble is tested on the same patient-grouped splits, and whatever is chosen or fitted
(models, k, weights, coefficients) comes from the training and validation parts of a split alone. The reference is the
single model that validation would have chosen; the one that the test parts would choose is shown as what it is.
"""

from .evaluating import ENSEMBLES, ORACLE, REFERENCE, EnsembleError, Tested, compared, evaluate
from .neighbours import Limits, nearest
from .rules import alignment_weights, greedy, stacking, stacking_as_released, stacking_nested

__all__ = [
    "ENSEMBLES",
    "ORACLE",
    "REFERENCE",
    "EnsembleError",
    "Limits",
    "Tested",
    "alignment_weights",
    "compared",
    "evaluate",
    "greedy",
    "nearest",
    "stacking",
    "stacking_as_released",
    "stacking_nested",
]
