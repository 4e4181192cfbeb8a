"""The process is killed at each step of a change of versions: what was answered holds, and what is listed can be read."""

import signal

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from alluvium_server import Server

BUCKET, KEY = "versions", "k"
POINTS = ("object-file-synced", "object-before-index", "object-after-index", "version-before-removal",
          "version-after-removal", "object-before-unlink")


@pytest.fixture
def lake(tmp_path):
    server = Server(tmp_path / "data")
    yield server
    server.kill()


def change(s3, kept, gone):
    """Puts, deletes, restores and removes, and notes what was answered: ids to bytes, and ids that are gone."""
    for n in range(4):
        body = b"%d" % len(kept)
        kept[s3.put_object(Bucket=BUCKET, Key=KEY, Body=body)["VersionId"]] = body
        if n % 2:
            marker = s3.delete_object(Bucket=BUCKET, Key=KEY)["VersionId"]
            s3.delete_object(Bucket=BUCKET, Key=KEY, VersionId=marker)
            gone.add(marker)
        oldest = next(iter(kept))
        if n == 3:
            # Its outcome is open until it is answered.
            kept.pop(oldest)
            s3.delete_object(Bucket=BUCKET, Key=KEY, VersionId=oldest)
            gone.add(oldest)


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_any_step_leaves_a_right_state(lake, point):
    kept, gone = {}, set()
    lake.start()
    s3 = lake.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    lake.stop()
    killed = 0
    for nth in (1, 2, 3):
        lake.env["ALLUVIUM_KILL_POINT"] = f"{point}:{nth}"
        lake.start()
        s3 = lake.client("s3", retries={"total_max_attempts": 1}, read_timeout=20)
        try:
            change(s3, kept, gone)
        except (ClientError, BotoCoreError, OSError):
            assert lake.wait() == -signal.SIGABRT
            killed += 1
        del lake.env["ALLUVIUM_KILL_POINT"]
        lake.kill()
        lake.start()
        check(lake.client("s3"), kept, gone)
        lake.kill()
    assert killed, f"{point} was never reached"


def check(s3, kept, gone):
    listed = s3.list_object_versions(Bucket=BUCKET)
    versions = {v["VersionId"]: v for v in listed.get("Versions", []) + listed.get("DeleteMarkers", [])}
    assert set(kept) <= set(versions), "an answered put is lost"
    assert not gone & set(versions), "an answered removal is undone"
    assert sum(v["IsLatest"] for v in versions.values()) == (1 if versions else 0)
    for version in listed.get("Versions", []):
        body = s3.get_object(Bucket=BUCKET, Key=KEY, VersionId=version["VersionId"])["Body"].read()
        assert body == kept.get(version["VersionId"], body)
