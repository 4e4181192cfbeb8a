"""Upkeep at its most aggressive beside delivery, and the process killed or the power cut at any time: nothing is lost,
doubled or revived.

The server looks at its tables as often as it can; meanwhile a client compacts them and lets go of all but the newest
snapshot and its files, by hand, as fast as the calls return. One stream inserts, another one's updates and deletes leave
the last word on each key.
"""

import json
import os
import random
import signal
import threading
import time

import pytest
from botocore.exceptions import BotoCoreError, ClientError

import pipeline
from alluvium_server import Server, wait_until
from ledger import Ledger, Load

ROUNDS = int(os.environ.get("ALLUVIUM_CRASH_ROUNDS", "12"))
SEED = int(os.environ.get("ALLUVIUM_CRASH_SEED", random.SystemRandom().randrange(2**32)))
CATALOG, KEYED, KEYS = f"s3tablescatalog/{pipeline.BUCKET}", "keyed", 25
QUERY = f'{{destinationDatabaseName:"{pipeline.NAMESPACE}",destinationTableName:"{KEYED}",operation:.op}}'
# A table whose files are all too small, whose deletes are all too many and whose snapshots are all too old.
PROPERTIES = {
    "table_type": "iceberg",
    "optimize_rewrite_data_file_threshold": "2",
    "optimize_rewrite_delete_file_threshold": "1",
    "vacuum_max_snapshot_age_seconds": "1",
    "vacuum_max_metadata_files_to_keep": "1",
}
CUTS = int(os.environ.get("ALLUVIUM_POWER_CUTS", "4"))


@pytest.fixture
def lake(tmp_path):
    server = Server(tmp_path / "data", *pipeline.FLAGS)
    yield server
    server.kill()


def execute(client, sql):
    """Runs a statement: how it ended, or that the server went away."""
    try:
        context = {"Catalog": CATALOG, "Database": pipeline.NAMESPACE}
        started = client.start_query_execution(QueryString=sql, QueryExecutionContext=context)["QueryExecutionId"]
        while True:
            found = client.get_query_execution(QueryExecutionId=started)["QueryExecution"]["Status"]
            if found["State"] in ("SUCCEEDED", "FAILED", "CANCELLED"):
                return found
            time.sleep(0.01)  # upkeep has the lowest priority: who asks all the time takes its time
    except (ClientError, BotoCoreError, OSError) as problem:
        return {"State": "GONE", "StateChangeReason": str(problem)}


def create(server):
    """Two tables with the properties, and a stream into each."""
    pipeline.create(server)
    client = server.client("athena")
    said = ", ".join(f"'{key}'='{value}'" for key, value in PROPERTIES.items())
    columns = "id bigint, value bigint, op string"
    done = execute(client, f"CREATE TABLE {KEYED} ({columns}) TBLPROPERTIES ({said})")
    assert done["State"] == "SUCCEEDED", done
    set_properties(server)
    arn = server.client("s3tables").list_table_buckets()["tableBuckets"][0]["arn"]
    region, account = arn.split(":")[3:5]
    role = f"arn:aws:iam::{account}:role/firehose"
    listed = [{"ParameterName": "MetadataExtractionQuery", "ParameterValue": QUERY},
              {"ParameterName": "JsonParsingEngine", "ParameterValue": "JQ-1.6"}]
    target = {"DestinationDatabaseName": pipeline.NAMESPACE, "DestinationTableName": KEYED, "UniqueKeys": ["id"]}
    firehose = server.client("firehose")
    firehose.create_delivery_stream(
        DeliveryStreamName=KEYED,
        DeliveryStreamType="DirectPut",
        IcebergDestinationConfiguration={
            "RoleARN": role,
            "CatalogConfiguration": {"CatalogARN": f"arn:aws:glue:{region}:{account}:catalog/{CATALOG}"},
            "DestinationTableConfigurationList": [target],
            "BufferingHints": {"IntervalInSeconds": 0, "SizeInMBs": 1},
            "S3Configuration": {"RoleARN": role, "BucketARN": f"arn:aws:s3:::{pipeline.ERRORS}", "ErrorOutputPrefix": "errors/"},
            "ProcessingConfiguration": {"Enabled": True, "Processors": [{"Type": "MetadataExtraction", "Parameters": listed}]},
        },
    )
    wait_until(lambda: pipeline.status(firehose, KEYED) == "ACTIVE", what="the keyed stream active")


def set_properties(server):
    """The inserts' table is made by S3 Tables' call, which takes no properties."""
    table = pipeline.catalog(server).load_table((pipeline.NAMESPACE, pipeline.TABLE))
    with table.transaction() as transaction:
        transaction.set_properties({name: value for name, value in PROPERTIES.items() if name != "table_type"})


class Words(threading.Thread):
    """Updates and deletes of keys, one call at a time, and what may be the last word on each of them."""

    def __init__(self, seed):
        super().__init__(daemon=True)
        self.random = random.Random(seed)
        self.number, self.acknowledged = 0, 0
        # By key: words in the order in which they were sent, from the last acknowledged one on.
        self.open = {key: [None] for key in range(KEYS)}
        self.client, self.stopping = None, threading.Event()

    def on(self, client):
        """The same words to come, to another process."""
        other = Words(0)
        other.random, other.number, other.acknowledged, other.open = self.random, self.number, self.acknowledged, self.open
        other.client = client
        return other

    def run(self):
        while not self.stopping.is_set():
            key = self.random.randrange(KEYS)
            self.number += 1
            delete = self.random.random() < 0.3
            word = None if delete else self.number
            record = {"id": key, "op": "delete"} if delete else {"id": key, "value": self.number, "op": "update"}
            self.open[key].append(word)
            try:
                self.client.put_record(DeliveryStreamName=KEYED, Record={"Data": json.dumps(record).encode()})
            except (ClientError, BotoCoreError, OSError):
                self.stopping.wait(0.02)
                continue
            self.open[key] = [word]
            self.acknowledged += 1

    def stop(self):
        self.stopping.set()
        self.join()

    def agree(self, rows):
        """Whether each key has one row, or none, by a word that may be its last."""
        found = {}
        for key, value in rows:
            assert key not in found, f"key {key} has two rows: {value} and {found[key]}"
            found[key] = value
        strange = {key: (found.get(key), words) for key, words in self.open.items() if found.get(key) not in words}
        return not strange, strange


class ByHand(threading.Thread):
    """Compacts a table and lets go of what it can, over and over, until stopped."""

    def __init__(self, server, table):
        super().__init__(daemon=True)
        self.table = table
        self.client = server.client("athena", retries={"total_max_attempts": 1}, read_timeout=20)
        self.stopping, self.done, self.failed = threading.Event(), 0, []
        self.progress = threading.Condition()

    def run(self):
        while not self.stopping.is_set():
            for sql in (f"OPTIMIZE {self.table} REWRITE DATA USING BIN_PACK", f"VACUUM {self.table}"):
                ended = execute(self.client, sql)
                if ended["State"] == "SUCCEEDED":
                    with self.progress:
                        self.done += 1
                        self.progress.notify_all()
                elif ended["State"] != "GONE":
                    self.failed.append((sql, ended.get("StateChangeReason", "")))
                else:
                    self.stopping.wait(0.05)

    def wait_for(self, count):
        """Waits until it has done so many statements."""
        with self.progress:
            return self.progress.wait_for(lambda: self.done >= count, timeout=240)

    def stop(self):
        self.stopping.set()
        self.join()


def start(server, ledger, words, seed, loads=2):
    once = {"retries": {"total_max_attempts": 1}, "read_timeout": 20}
    loads = [Load(server.client("firehose", **once), pipeline.STREAM, ledger, seed + n, batch_max=40) for n in range(loads)]
    work = [*loads, words.on(server.client("firehose", **once)), ByHand(server, KEYED), ByHand(server, pipeline.TABLE)]
    for each in work:
        each.start()
    return work


def keyed_rows(server):
    table = pipeline.catalog(server).load_table((pipeline.NAMESPACE, KEYED))
    rows = table.scan(selected_fields=("id", "value")).to_arrow().to_pylist() if table.current_snapshot() else []
    return [(row["id"], row["value"]) for row in rows]


def settle(server, ledger, words):
    pipeline.settled(server, ledger)
    wait_until(lambda: words.agree(keyed_rows(server))[0], timeout_s=120, what="the last word on each key", otherwise=True)
    agree, strange = words.agree(keyed_rows(server))
    assert agree, f"(the row, what it may be) by key: {strange}"
    pipeline.sound(server, KEYED, pipeline.TABLE)
    assert pipeline.errors(server) == {}


def test_upkeep_at_its_most_aggressive_and_kills_lose_double_and_revive_nothing(lake):
    print(f"seed {SEED}, {ROUNDS} rounds")
    chance = random.Random(SEED)
    ledger, words, by_hand = Ledger(), Words(SEED), 0
    lake.start()
    create(lake)
    failures = []
    for turn in range(ROUNDS):
        work = start(lake, ledger, words, SEED % 1000 + turn * 100)
        assert ledger.wait_for(chance.choice([20, 200, 800])), "no progress under load"
        # Somewhere within a statement, or between two of them.
        assert work[-1].wait_for(chance.choice([0, 1, 4])) and work[-2].wait_for(chance.choice([0, 2, 3])), work[-1].failed
        chance.choice([lambda: None, lambda: ledger.wait_for(chance.randrange(1, 100))])()
        lake.kill()
        for each in work:
            each.stop()
        words = work[-3]
        by_hand += sum(each.done for each in work[-2:])
        failures += [failure for each in work[-2:] for failure in each.failed]
        lake.start()
        if turn % 4 == 3:
            settle(lake, ledger, words)
    settle(lake, ledger, words)
    tell(ledger, words, by_hand, failures)
    assert lake.stop() == 0


def tell(ledger, words, by_hand, failures):
    print(f"{len(ledger.acknowledged)} rows, {words.acknowledged} words, {by_hand} statements of upkeep by hand; failed: {failures[:5]}")
    assert by_hand > 0, failures
    # A statement may lose a race with the background's rewrite; it may find nothing damaged, ever.
    assert not [failure for failure in failures if "damaged" in failure[1]], failures


def test_upkeep_at_its_most_aggressive_and_power_cuts_lose_double_and_revive_nothing(disks):
    """As above, but what was not synced to the device is gone (see test_power_cut.py)."""
    print(f"seed {SEED}, {CUTS} cuts")
    chance = random.Random(SEED)
    ledger, words, by_hand, failures = Ledger(), Words(SEED), 0, []
    disk = disks("upkeep-0").create().attach()
    server = Server(disk.mount / "data", *pipeline.FLAGS, log=disk.image.with_suffix(".log"))
    try:
        server.start()
        create(server)
        for cut in range(CUTS):
            work = start(server, ledger, words, SEED % 1000 + cut * 100, loads=1)
            assert ledger.wait_for(chance.choice([20, 200])), "no progress under load"
            assert work[-1].wait_for(chance.choice([1, 2, 3])) and work[-2].wait_for(chance.choice([0, 1, 3])), work[-1].failed
            chance.choice([lambda: None, lambda: ledger.wait_for(chance.randrange(1, 100))])()
            server.signal(signal.SIGSTOP)
            os.waitid(os.P_PID, server.process.pid, os.WSTOPPED | os.WNOWAIT)
            after = disks(f"upkeep-{cut + 1}")
            disk.image_of_what_was_synced(after)
            server.kill()
            for each in work:
                each.stop()
            words = work[-3]
            by_hand += sum(each.done for each in work[-2:])
            failures += [failure for each in work[-2:] for failure in each.failed]
            disk.detach()
            disk.image.unlink()
            disk = after.attach()
            server = Server(disk.mount / "data", *server.args, log=server.log_path)
            server.start()
            settle(server, ledger, words)
        tell(ledger, words, by_hand, failures)
    finally:
        server.kill()
