"""A disk that fails under the real process: no room, failed syncs, of the records, the objects and the log.

What was answered stays true, what was refused was not done, and the process goes on or ends as it says.
"""

import contextlib
import errno

import pytest
from botocore.exceptions import BotoCoreError, ClientError

import pipeline
from alluvium_server import Server, wait_until
from disk import failing_disk
from ledger import Ledger, Load

RECORDS, OBJECTS, LOG = "records.sqlite-wal", "/objects/", "/log/"


class Faulty:
    """A server on a disk whose faults are switched on and off."""

    def __init__(self, tmp_path):
        self.control = tmp_path / "faults"
        env = {"LD_PRELOAD": str(failing_disk(tmp_path)), "DISK_FAULTS": str(self.control)}
        self.server = Server(tmp_path / "data", "--table-commit-interval-ms", "0", env=env)
        self.ledger = Ledger()
        self.loaders = []

    @contextlib.contextmanager
    def fault(self, operation, word, code):
        whole = self.control.with_suffix(".new")
        whole.write_text(f"{operation} {word} {code}\n")
        whole.rename(self.control)
        try:
            yield
        finally:
            self.control.unlink()

    def load(self):
        client = self.server.client("firehose", retries={"total_max_attempts": 1}, read_timeout=20)
        self.loaders = [Load(client, pipeline.STREAM, self.ledger, seed) for seed in range(2)]
        for loader in self.loaders:
            loader.start()

    def unload(self):
        for loader in self.loaders:
            loader.stop()

    def settle(self):
        pipeline.wait_for_rows(self.server, len(self.ledger.acknowledged))
        found = self.ledger.compare(pipeline.ids(self.server))
        assert pipeline.count(self.server) == found == pipeline.athena_count(self.server)
        assert pipeline.errors(self.server) == {}


@pytest.fixture
def lake(tmp_path):
    faulty = Faulty(tmp_path)
    faulty.server.start()
    pipeline.create(faulty.server)
    yield faulty
    faulty.unload()
    faulty.server.kill()


def namespaces(server):
    s3tables = server.client("s3tables")
    arn = s3tables.list_table_buckets()["tableBuckets"][0]["arn"]
    return {each["namespace"][0] for each in s3tables.list_namespaces(tableBucketARN=arn)["namespaces"]}


def make_namespaces(server, stem):
    """Tries a few; those that were said to be made, and those that were refused."""
    s3tables = server.client("s3tables", retries={"total_max_attempts": 1}, read_timeout=20)
    made, refused = set(), set()
    arn = f"arn:aws:s3tables:us-east-1:000000000000:bucket/{pipeline.BUCKET}"
    for index in range(5):
        name = f"{stem}_{index}"
        try:
            s3tables.create_namespace(tableBucketARN=arn, namespace=[name])
            made.add(name)
        except (ClientError, BotoCoreError) as refusal:
            print(refusal)
            refused.add(name)
    return made, refused


@pytest.mark.parametrize(
    ("operation", "word", "code"),
    [("write", RECORDS, errno.ENOSPC), ("sync", RECORDS, errno.EIO), ("write", OBJECTS, errno.ENOSPC),
     ("sync", OBJECTS, errno.EIO)],
    ids=["records-full", "records-sync-fails", "objects-full", "objects-sync-fails"],
)
def test_a_failing_disk_is_outlived_and_what_was_answered_stays_true(lake, operation, word, code):
    made, refused = set(), set()
    lake.load()
    for turn in range(3):
        assert lake.ledger.wait_for(100), "no progress"
        with lake.fault(operation, word, code):
            new, not_made = make_namespaces(lake.server, f"{word.strip('/').split('.')[0]}_{turn}")
            made, refused = made | new, refused | not_made
            lake.ledger.wait_for(50, timeout_s=1)  # puts need the log only, until delivery is stuck
        wait_until(lambda: make_namespaces(lake.server, f"after_{turn}")[0], what="it recovers by itself")
        assert lake.server.process.poll() is None, lake.server.log_tail()
        if turn == 1:  # with whatever the failures left in the files
            lake.server.kill()
            lake.unload()
            lake.server.start()
            lake.load()
    lake.unload()
    lake.settle()
    if word == RECORDS:
        assert refused, "the fault was not felt"
    there = namespaces(lake.server)
    assert made <= there, "said to be made and is not there"
    if code == errno.ENOSPC:
        assert not refused & there, "refused for want of room and is there"
    lake.server.kill()
    lake.server.start()
    assert namespaces(lake.server) == there, "what is read lasts"
    lake.settle()


def test_a_failed_sync_of_the_log_ends_the_process_and_loses_nothing(lake):
    lake.load()
    assert lake.ledger.wait_for(100), "no progress"
    with lake.fault("sync", LOG, errno.EIO):
        assert lake.server.wait(timeout_s=60) == 1, "a failed sync is final"
    lake.unload()
    assert "the log failed" in lake.server.log_tail()
    lake.server.start()
    lake.load()
    assert lake.ledger.wait_for(100), "no progress after the failure"
    lake.unload()
    lake.settle()
