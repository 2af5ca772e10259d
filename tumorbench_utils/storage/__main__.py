"""A run on object storage: ``python -m tumorbench_utils.storage push runs/mine s3://bucket/mine``, and ``pull``."""

from __future__ import annotations

import argparse

from ..artefacts import ArtefactError
from .moving import KINDS, WORKERS, pull, push


def main() -> None:
    """Push or pull; the exit status is 1 if something is not well."""
    parser = argparse.ArgumentParser(prog="python -m tumorbench_utils.storage", description=__doc__.splitlines()[0])
    parser.add_argument("command", choices=["push", "pull"])
    parser.add_argument("source", help="folder of a run to push, or URL to pull from")
    parser.add_argument("target", help="URL to push to, or folder of a run")
    parser.add_argument("--cohort", action="append", dest="cohorts", help="may be given several times; default: all")
    parser.add_argument("--what", nargs="+", default=KINDS, choices=KINDS, help="default: all three")
    parser.add_argument("--endpoint-url", help="an S3 service other than Amazon's; default: AWS_ENDPOINT_URL")
    parser.add_argument("--workers", type=int, default=WORKERS, help="transfers at a time")
    chosen = parser.parse_args()
    how = {"endpoint": chosen.endpoint_url, "workers": chosen.workers}
    try:
        move = {"push": push, "pull": pull}[chosen.command]
        report = move(chosen.source, chosen.target, chosen.cohorts, chosen.what, **how)
    except ArtefactError as error:
        parser.exit(1, f"error: {error}\n")
    print(f"{report.moved} files moved ({report.bytes / 1e6:.1f} MB), {report.kept} were there")


if __name__ == "__main__":
    main()
