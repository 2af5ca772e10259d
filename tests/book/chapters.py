"""The pages of the quick book, in the order of its contents."""

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
QUICK = yaml.safe_load((ROOT / "workflow" / "config" / "quick.yaml").read_text(encoding="utf-8"))["pages"]
STAGES = {stage: [f"notebooks/{stage}/{page}.html" for page in given] for stage, given in QUICK.items()}


def pages():
    """Pages of the quick book, the first page first."""
    contents = yaml.safe_load((ROOT / "book" / "_toc.yml").read_text(encoding="utf-8"))
    chapters = [chapter["file"] for part in contents["parts"] for chapter in part["chapters"]]
    return [f"{page}.html" for page in (contents["root"], *chapters)] + [
        page for some in STAGES.values() for page in some
    ]
