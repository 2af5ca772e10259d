"""The patch bank of a cohort: every geometry and every jittered seed, sampled from one read of each CT and its mask.

One Zarr group a geometry, ``patches/<cohort>/<geometry>.zarr``: the array ``regions`` (int16 HU, axes R, A, S, one
chunk a region), the array ``masks`` (booleans on the same voxels) if masks were given, and the table ``rows.parquet``,
one row a seed point, which says where in its region a patch lies. Jittered seeds of one sample share its region, since
the released pipeline samples them all from one grid: fifty seeds cost a few times the room of one. Exact patches have
a region each. After this neither the CTs nor the masks are needed.

A million rows need no other design: entries are in the order of the cases, so ``shards=(n, ...)`` of the arrays and
n cases a job instead of one keep every shard with one writer, and files few.
"""

from .building import Built, build
from .plans import ROWS, path_of
from .reading import Bank
from .seeds import NO_MASK, NO_PATCH, NO_SEED, BankError, seed_points

__all__ = ["NO_MASK", "NO_PATCH", "NO_SEED", "ROWS", "Bank", "BankError", "Built", "build", "path_of", "seed_points"]
