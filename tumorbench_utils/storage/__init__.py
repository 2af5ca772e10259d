"""A run's tables and patch banks on object storage: pushed, pulled, or read where they lie.

``python -m tumorbench_utils.storage push runs/mine s3://bucket/mine`` and ``pull s3://bucket/mine runs/mine``. Any
storage that fsspec knows by URL may do; S3 is the one tested. Credentials come from where s3fs takes them (environment,
``~/.aws``), the endpoint from ``AWS_ENDPOINT_URL``. Beside the files of each cohort lies a manifest with the size and
SHA-256 of each, ``patches/<cohort>.manifest.json``: it lists no file before it is whole.
"""

from .base import StorageError, check, explained, opened, place, store
from .moving import KINDS, Report, pull, push

__all__ = ["KINDS", "Report", "StorageError", "check", "explained", "opened", "place", "pull", "push", "store"]
