"""Records from the command line: ``python -m tumorbench_utils.exchange check FILE...`` and ``merge A B --into C``."""

from __future__ import annotations

import argparse
from pathlib import Path

from .base import ExchangeError, check, place
from .collecting import collect
from .merging import load, merge, write


def main() -> None:
    """Check files, merge folders, or collect the records of a run; the exit status is 1 for what is not well."""
    parser = argparse.ArgumentParser(prog="python -m tumorbench_utils.exchange", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check", help="say of every file whether it is a record")
    checking.add_argument("files", nargs="+", type=Path)
    merging = commands.add_parser("merge", help="merge folders of records; a conflict is an error, nothing is written")
    merging.add_argument("folders", nargs="+", type=Path)
    merging.add_argument("--into", required=True, type=Path, help="folder to write; what it holds takes part")
    collecting = commands.add_parser("collect", help="the records of a run, to be sent to others")
    collecting.add_argument("run", type=Path)
    collecting.add_argument("--into", required=True, type=Path)
    collecting.add_argument("--contributor", default="", help="who made them")
    chosen = parser.parse_args()
    try:
        if chosen.command == "check":
            wrong = [fault for fault in map(_fault, chosen.files) if fault]
            if wrong:
                parser.exit(1, "".join(f"error: {fault}\n" for fault in wrong))
        elif chosen.command == "merge":
            there = [chosen.into] if chosen.into.is_dir() else []
            records, report = merge([*there, *chosen.folders])
            write(records, chosen.into)
            print(report["outcome"].value_counts().to_string() if len(report) else "no records")
        else:
            for path in write(collect(chosen.run, chosen.contributor), chosen.into):
                print(path)
    except (ExchangeError, OSError) as error:
        parser.exit(1, f"error: {error}\n")


def _fault(path: Path) -> str:
    """What is wrong with a file, empty if it is a record; says so if it is."""
    try:
        record = check(load(path), str(path))
    except ExchangeError as error:
        return str(error)
    print(f"{path}: a record, of {place(record)}, {len(record['measures'])} measures")
    return ""


if __name__ == "__main__":
    main()
