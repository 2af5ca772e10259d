"""Where a cohort comes from: series of the Imaging Data Commons, files of a Zenodo record, clinical tables.

A query gives a manifest, one row a series, which :mod:`buckets` downloads.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import requests
from filelock import FileLock
from requests.adapters import HTTPAdapter, Retry

from . import artefacts

ZENODO = "https://zenodo.org/api"
BY_HAND = "Without a network, give the table as a CSV file (read_clinical)"
SHOWN = 5  # names listed in a message; the rest are counted
INDEX = {
    "patient_id": "PatientID",
    "study_uid": "StudyInstanceUID",
    "series_uid": "SeriesInstanceUID",
    "modality": "Modality",
    "description": "SeriesDescription",
    "instances": "instanceCount",
    "bytes": "CAST(round(series_size_MB * 1e6) AS BIGINT)",
    "url": "rtrim(series_aws_url, '*')",
    "licence": "license_short_name",
    "source_doi": "source_DOI",
}
MANIFEST = ["case_id", "patient_id", "study_uid", "role", "series_uid", "candidates", *list(INDEX)[3:]]
MANIFEST += ["licence_url", "index_version"]


class SourceError(artefacts.ArtefactError):
    """A source that does not give what was asked of it; the message says which and what to do."""


class _Unclear(Exception):
    """A mask that does not say which CT it was drawn on."""


class Chosen(NamedTuple):
    """A manifest with one CT per case, and ``reasons`` why cases were left out of it, by case."""

    table: pd.DataFrame
    reasons: dict[str, str]


@dataclass(frozen=True)
class Expected:
    """What a query should find: cases, series and GB (10^9 bytes); ``open_cases`` have several CTs to choose from."""

    cases: int
    ct: int
    ct_gb: float
    mask: int = 0
    mask_gb: float = 0.0
    open_cases: int = 0


@dataclass(frozen=True)
class Idc:
    """Series of an IDC collection. ``ct`` and ``mask`` are SQL conditions on the columns of idc-index's ``index``.

    A CT belongs to a mask if both are of one study; without ``mask`` every CT counts. ``case`` is the SQL expression
    that names a case from its mask's row (or its CT's). ``note`` says what the conditions leave out, and why.
    """

    collection: str
    expected: Expected
    ct: str = "Modality = 'CT'"
    mask: str | None = "Modality = 'SEG' AND analysis_result_id IS NULL"  # the collection's own, not a later analysis
    case: str = "PatientID"
    note: str = ""


@dataclass(frozen=True)
class Zenodo:
    """Files of a Zenodo record whose names match ``files`` (shell patterns)."""

    record: str
    files: Sequence[str] = ("*.csv",)


def index_version() -> str:
    """Version of the series index; its first number is the IDC release."""
    try:
        return metadata.version("idc-index-data")
    except metadata.PackageNotFoundError as error:
        raise SourceError("the IDC series index is not installed: pip install idc-index") from error


def manifest(source: Idc, series: Iterable[str] | None = None) -> pd.DataFrame:
    """The series of a source, one row each, by case; no network is needed.

    Columns: case_id, patient_id, study_uid, role (``ct`` or ``mask``), series_uid, candidates (CTs of the study: of
    several, the mask's own reference says which is meant, :func:`choose`), modality, description, instances, bytes,
    url (``s3://bucket/folder/``), licence, source_doi, licence_url, index_version. A CT that may serve several cases
    has all their names, joined by "/". ``series`` narrows the CTs to these UIDs; one that the source lacks is a
    :class:`SourceError`.
    """
    index_version()  # an error of its own if there is none
    import duckdb
    import idc_index_data

    columns = ", ".join(f"{theirs} AS {ours}" for ours, theirs in INDEX.items())
    query = f"SELECT {source.case} AS case_id, {columns} FROM read_parquet($file) WHERE collection_id = $collection"
    given = {"file": str(idc_index_data.IDC_INDEX_PARQUET_FILEPATH), "collection": source.collection}
    with duckdb.connect() as database:
        parts = {
            role: database.execute(f"{query} AND ({condition})", given).df().assign(role=role)
            for role, condition in (("ct", source.ct), ("mask", source.mask or "false"))
        }
    ct, mask = parts["ct"], parts["mask"]
    if source.mask:
        names = mask.groupby("study_uid")["case_id"].agg(lambda cases: "/".join(sorted(cases)))
        ct = ct[ct["study_uid"].isin(names.index)].assign(case_id=ct["study_uid"].map(names))
    if series is not None:
        ct = _narrow(ct, list(series), source.collection)
        mask = mask[mask["study_uid"].isin(ct["study_uid"])]
    table = pd.concat([ct, mask])
    found = ct.groupby("study_uid").size() if source.mask else pd.Series(1, index=ct["study_uid"].unique())
    table["candidates"] = table["study_uid"].map(found).fillna(0).astype(int)
    table["description"] = table["description"].fillna("")
    table = table.assign(licence_url=table["licence"].map(licence_url), index_version=index_version())
    return table.sort_values(["case_id", "role", "series_uid"], ignore_index=True)[MANIFEST]


def _narrow(ct: pd.DataFrame, series: list[str], origin: str) -> pd.DataFrame:
    missing = [uid for uid in series if uid not in set(ct["series_uid"])]
    if missing:
        raise SourceError(f"{origin}: series that the query does not find in index {index_version()}: {_some(missing)}")
    return ct[ct["series_uid"].isin(series)]


def _some(names: Sequence[object]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(str, names[:SHOWN])) + more


def licence_url(name: str) -> str:
    """Address of the text of a Creative Commons licence ("CC BY-NC 3.0"); empty for any other."""
    found = re.fullmatch(r"CC (BY[A-Z-]*) (\d\.\d)", name or "")
    return f"https://creativecommons.org/licenses/{found[1].lower()}/{found[2]}/" if found else ""


def compare(table: pd.DataFrame, expected: Expected) -> pd.DataFrame:
    """What a manifest should hold, before :func:`choose`, and holds: quantity, expected, found, difference."""
    ct, mask = (table[table["role"] == role] for role in ("ct", "mask"))
    cases = mask if expected.mask else ct
    rows = [
        ("cases", expected.cases, cases["case_id"].nunique()),
        ("cases with a choice of CT", expected.open_cases, cases.loc[cases["candidates"] > 1, "case_id"].nunique()),
        ("CT series", expected.ct, len(ct)),
        ("mask series", expected.mask, len(mask)),
        ("CT, GB", expected.ct_gb, round(ct["bytes"].sum() / 1e9, 1)),
        ("masks, GB", expected.mask_gb, round(mask["bytes"].sum() / 1e9, 1)),
    ]
    rows = [(quantity, wanted, found, round(found - wanted, 1)) for quantity, wanted, found in rows]
    columns = ["quantity", "expected", "found", "difference"]
    return pd.DataFrame(rows, columns=columns, dtype=object)  # so that counts stay whole numbers


def referenced_series(path: str | Path) -> list[str]:
    """UIDs of the series that a DICOM SEG or RTSTRUCT file was drawn on; :class:`SourceError` if it names none."""
    import pydicom

    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
    except (OSError, pydicom.errors.InvalidDicomError) as error:
        raise SourceError(f"{path}: not a readable DICOM file ({error})") from error
    series = list(header.get("ReferencedSeriesSequence", []))  # SEG
    for frame in header.get("ReferencedFrameOfReferenceSequence", []):  # RTSTRUCT
        for study in frame.get("RTReferencedStudySequence", []):
            series += study.get("RTReferencedSeriesSequence", [])
    found = [str(item.SeriesInstanceUID) for item in series if item.get("SeriesInstanceUID")]
    if not found:
        raise SourceError(f"{path}: this {header.get('Modality', 'file')} names no series that it refers to")
    return list(dict.fromkeys(found))


def choose(table: pd.DataFrame, folder: str | Path) -> Chosen:
    """The manifest with one CT per case, where there was a choice: the one that the case's mask refers to.

    ``folder`` is where :func:`buckets.download` put the masks; one that is not there is a :class:`SourceError`. CTs
    that no mask refers to are left out. A case whose mask cannot be read, or does not refer to one CT of its study that
    no other mask refers to, is left out with its reason.
    """
    several = table["candidates"] > 1
    ct = table[several & (table["role"] == "ct")].set_index("series_uid")["study_uid"]
    reasons: dict[str, str] = {}
    claims: dict[str, list[str]] = {}  # case of each mask, by the CT that it refers to
    for mask in table[several & (table["role"] == "mask")].itertuples():
        try:
            meant = _referred(mask, set(ct.index[ct == mask.study_uid]), Path(folder))
        except _Unclear as error:
            reasons[mask.case_id] = str(error).replace(str(Path(folder, "_"))[:-1], "")
        else:
            claims.setdefault(meant, []).append(mask.case_id)
    for uid, rivals in claims.items():
        if len(rivals) > 1:  # whichever comes first has no better claim
            reasons |= dict.fromkeys(rivals, f"{len(rivals)} masks refer to the CT {uid}, of {_some(rivals)}")
    case_of = {uid: names[0] for uid, names in claims.items() if names[0] not in reasons}
    wanted = ~several | (table["role"] == "mask") | table["series_uid"].isin(case_of)
    kept = table[wanted & ~table["case_id"].isin(reasons)].copy()
    kept["case_id"] = [case_of.get(row.series_uid, row.case_id) for row in kept.itertuples()]
    return Chosen(kept.assign(candidates=kept["candidates"].clip(upper=1)).reset_index(drop=True), reasons)


def _referred(mask: NamedTuple, own: set[str], folder: Path) -> str:
    """The one CT of ``own``, those of its study, that a mask refers to."""
    files = sorted(path for path in (folder / mask.series_uid).glob("*") if path.is_file())
    if not files:
        raise SourceError(f"{mask.case_id}: its mask {mask.series_uid} is not in {folder}; download the masks first")
    try:
        referred = own.intersection(*map(referenced_series, files))
    except SourceError as error:
        raise _Unclear(error) from error
    if len(referred) != 1:
        raise _Unclear(f"its mask {mask.series_uid} refers to {len(referred)} of the {len(own)} CTs of its study")
    return referred.pop()


def cases(table: pd.DataFrame, role: str) -> pd.DataFrame:
    """sample_id, patient_id and ``role``, the series of each case of a manifest; one CT may serve several cases."""
    rows = table[table["role"] == role]
    rows = rows.assign(sample_id=rows["case_id"].str.split("/")).explode("sample_id")
    return rows[["sample_id", "patient_id", "series_uid"]].rename(columns={"series_uid": role})


def by_case(table: pd.DataFrame, failed: Mapping[str, str]) -> dict[str, str]:
    """Reasons against series of a manifest, by the cases that these serve."""
    lost = table[table["series_uid"].isin(failed)].itertuples()
    return {case: f"{row.series_uid}: {failed[row.series_uid]}" for row in lost for case in row.case_id.split("/")}


def without(table: pd.DataFrame, left_out: Collection[str]) -> pd.DataFrame:
    """The series of a manifest that serve some other case than those left out."""
    return table[[not set(names.split("/")) <= set(left_out) for names in table["case_id"]]]


def record_files(source: Zenodo, files: Sequence[str] | None = None, *, api: str = ZENODO) -> pd.DataFrame:
    """The files of a record that match ``files`` (default: the source's own patterns): name, bytes, md5, url, licence.

    Read from the record itself; a pattern that matches none of its files is a :class:`SourceError` that lists them.
    """
    url = f"{api}/records/{source.record}"
    again = HTTPAdapter(max_retries=Retry(3, backoff_factor=0.5, status_forcelist=[429, 500, 502, 503, 504]))
    with requests.Session() as session:
        session.mount(api, again)
        try:
            answer = session.get(url, timeout=artefacts.TIMEOUT)
            answer.raise_for_status()
            record = answer.json()
        except requests.RequestException as error:
            raise SourceError(f"could not read the Zenodo record {url} ({error})") from error
    licence = record.get("metadata", {}).get("license", {}).get("id", "")
    rows = [
        (item["key"], item["size"], item["checksum"].removeprefix("md5:"), item["links"]["self"], licence)
        for item in record.get("files", [])
    ]
    table = pd.DataFrame(rows, columns=["name", "bytes", "md5", "url", "licence"]).sort_values(
        "name", ignore_index=True
    )
    matches = {
        pattern: table["name"].map(lambda name, p=pattern: fnmatch(name, p)) for pattern in files or source.files
    }
    for pattern, found in matches.items():
        if not found.any():
            raise SourceError(
                f"Zenodo record {source.record} has no file '{pattern}'. It has: {', '.join(table['name'])}"
            )
    return table[pd.concat(matches, axis=1).any(axis=1)].reset_index(drop=True)


def fetch_files(
    source: Zenodo, folder: str | Path, files: Sequence[str] | None = None, *, api: str = ZENODO, pause: float = 1.0
) -> pd.DataFrame:
    """:func:`record_files`, fetched into ``folder``, with the path of each; a file is there only if its MD5 is right.

    An interrupted transfer goes on where it stopped, ``pause`` seconds later (five times, waiting longer each time)
    or by the next call.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    table = record_files(source, files, api=api)
    table["path"] = [folder / name for name in table["name"]]
    need = sum(row.bytes for row in table.itertuples() if not row.path.exists())
    if need > (free := shutil.disk_usage(folder).free):
        raise SourceError(f"{folder}: {need / 1e9:.2f} GB are to be fetched, {free / 1e9:.2f} GB are free")
    for row in table.itertuples():
        with FileLock(f"{row.path}.lock"):
            if not (row.path.exists() and _md5(row.path) == row.md5):
                _fetch_file(row, pause)
    artefacts.write_csv(
        folder / "files.csv", table.drop(columns="path"), artefacts.provenance({"record": source.record})
    )
    return table


def _fetch_file(row: NamedTuple, pause: float) -> None:
    partial = row.path.with_name(row.name + ".part")
    for _ in range(2 if partial.exists() else 1):  # what an earlier call left may be of another file: then from nothing
        artefacts._download(row.url, partial, 5, pause)
        found = _md5(partial)
        if found == row.md5:
            partial.replace(row.path)
            return
        partial.unlink()
    raise SourceError(
        f"{row.url}: MD5 is {found}, the record says {row.md5}. The file was not used and has been removed"
    )


def _md5(path: Path) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def clinical(table: str, columns: Sequence[str] = (), patient: str = "dicom_patient_id") -> pd.DataFrame:
    """A clinical table of the IDC ("c4kc_kits_clinical"), checked as by :func:`read_clinical`; needs the network."""
    index_version()
    from idc_index import IDCClient

    try:
        client = IDCClient()
        client.fetch_index("clinical_index")  # and all clinical tables, about 2 MB
        rows = client.get_clinical_table(table)
    except Exception as error:  # whatever it may raise: idc-index documents nothing
        raise SourceError(f"could not fetch {table} ({error}). {BY_HAND}") from error
    if rows is None:
        raise SourceError(f"idc-index gave no table {table}. {BY_HAND}")
    return _clinical(rows, columns, patient, table)


def read_clinical(path: str | Path, columns: Sequence[str], patient: str) -> pd.DataFrame:
    """A clinical table from a CSV file (comma or semicolon, UTF-8), one row a patient, by column ``patient`` (text).

    All its columns are kept. :class:`SourceError` names columns that are missing, rows without a patient, and
    patients that have several rows.
    """
    try:
        with open(path, encoding="utf-8-sig") as stream:
            header = stream.readline()
        separator = ";" if header.count(";") > header.count(",") else ","
        rows = pd.read_csv(path, sep=separator, dtype={patient: str}, encoding="utf-8-sig")
    except (OSError, ValueError) as error:  # pandas' own errors and undecodable bytes are ValueErrors
        raise SourceError(f"{path}: not a readable CSV file ({error}). Save a spreadsheet as CSV in UTF-8") from error
    return _clinical(rows, columns, patient, str(path))


def _clinical(rows: pd.DataFrame, columns: Sequence[str], patient: str, origin: str) -> pd.DataFrame:
    ours = {str(name).strip().lower(): str(name) for name in rows.columns}
    missing = [name for name in dict.fromkeys([patient, *columns]) if name not in rows.columns]
    if missing:
        close = {name: get_close_matches(name.strip().lower(), ours, n=1) for name in missing}
        hints = [f"{name}" + (f" (did you mean '{ours[close[name][0]]}'?)" if close[name] else "") for name in missing]
        raise SourceError(f"{origin}: no column {', '.join(hints)}. It has: {', '.join(map(str, rows.columns))}")
    rows = rows.dropna(how="all").assign(**{patient: lambda rows: rows[patient].astype("string").str.strip()})
    nameless = rows.index[rows[patient].isna() | (rows[patient] == "")]
    if len(nameless):
        raise SourceError(f"{origin}: no {patient} in row {_some(list(nameless + 2))} (the header is row 1)")
    twice = rows.loc[rows[patient].duplicated(), patient].unique()
    if len(twice):
        raise SourceError(f"{origin}: more than one row of {patient} {_some(list(twice))}")
    return rows.astype({patient: str}).reset_index(drop=True)
