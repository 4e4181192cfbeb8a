"""One ledger for every way that a record can take from a Kinesis stream, with reshards and kills among them.

Each record goes into a table, into one of several tables by jq, into a row by its key (the last writer's), into S3
with a backup of its source. What was acknowledged is in each of them once, and per key in order.
"""

import json
import os
import random
import signal
import threading

import pytest
from botocore.exceptions import BotoCoreError, ClientError

import pipeline
from alluvium_server import Server, wait_until
from ledger import FIELDS, Ledger

RESHARDS = int(os.environ.get("ALLUVIUM_RESHARDS", "50"))
KILL_EVERY = 5
SEED = int(os.environ.get("ALLUVIUM_CRASH_SEED", random.SystemRandom().randrange(2**32)))
STREAM, COPY, BACKUP = "paths", "paths-copy", "paths-backup"
ROUTES = [f"routed_{number}" for number in range(4)]
KEYED = "keyed"
LOADERS, KEYS, LARGE = 3, 40, 30_000
CUTS = int(os.environ.get("ALLUVIUM_POWER_CUTS", "4"))
MORE = [{"name": "key", "type": "string"}, {"name": "route", "type": "string"}]


class Keys:
    """What was sent for each key, in order, and the last number of it that was acknowledged."""

    def __init__(self):
        self.lock = threading.Lock()
        self.sent, self.acknowledged = {}, {}

    def send(self, key, number):
        with self.lock:
            self.sent.setdefault(key, []).append(number)

    def acknowledge(self, key, number):
        with self.lock:
            self.acknowledged[key] = number

    def agree(self, rows):
        """The row of each key is its last acknowledged one, or one after it that nobody was told of."""
        for key, last in self.acknowledged.items():
            assert rows.get(key, -1) >= last, f"key {key}: {rows.get(key)} is older than {last}"
        for key, number in rows.items():
            assert number in self.sent[key], f"key {key}: {number} was never sent"


class Load(threading.Thread):
    """Puts batches; a key belongs to one loader, which sends its numbers in order."""

    def __init__(self, client, ledger, keys, own, seed):
        super().__init__(daemon=True)
        self.client, self.ledger, self.keys, self.own = client, ledger, keys, own
        self.random = random.Random(seed)
        self.stopping = threading.Event()

    def run(self):
        while not self.stopping.is_set():
            numbers = list(self.ledger.take(self.random.choice([1, 3, 40])))
            named = [f"{self.own}-{self.random.randrange(KEYS)}" for _ in numbers]
            try:
                self.put(numbers, named)
            except (ClientError, BotoCoreError, OSError):
                self.stopping.wait(0.02)

    def put(self, numbers, named):
        records = []
        for number, key in zip(numbers, named):
            self.keys.send(key, number)
            # Now and then a large one, so that what shards hold leaves the journal.
            pad = self.random.choice((40, 40, 40, 40, 40, 40, 40, 40, 40, LARGE))
            row = {"id": number, "name": "n" * pad, "value": number % 1000, "key": key, "route": ROUTES[number % len(ROUTES)]}
            records.append({"Data": json.dumps(row).encode(), "PartitionKey": key})
        answer = self.client.put_records(StreamName=STREAM, Records=records)
        done = [number for number, each in zip(numbers, answer["Records"]) if "SequenceNumber" in each]
        for number, key, each in zip(numbers, named, answer["Records"]):
            if "SequenceNumber" in each:
                self.keys.acknowledge(key, number)
        self.ledger.acknowledge(done)

    def stop(self):
        self.stopping.set()
        self.join()


@pytest.fixture
def lake(tmp_path):
    server = Server(tmp_path / "data", *pipeline.FLAGS)
    yield server
    server.kill()


def processing(query=None, *more):
    jq = [("MetadataExtractionQuery", query), ("JsonParsingEngine", "JQ-1.6")]
    listed = [{"ParameterName": name, "ParameterValue": value} for name, value in jq]
    first = [{"Type": "MetadataExtraction", "Parameters": listed}] if query else []
    return {"ProcessingConfiguration": {"Enabled": True, "Processors": [*first, *more]}}


def create(server):
    """The stream, its tables and buckets, and four deliveries from it."""
    s3tables, s3, kinesis, firehose = (server.client(name) for name in ("s3tables", "s3", "kinesis", "firehose"))
    arn = s3tables.create_table_bucket(name=pipeline.BUCKET)["arn"]
    region, account = arn.split(":")[3:5]
    s3tables.create_namespace(tableBucketARN=arn, namespace=[pipeline.NAMESPACE])
    for bucket in (pipeline.ERRORS, COPY, BACKUP):
        s3.create_bucket(Bucket=bucket)
    for table in (pipeline.TABLE, KEYED, *ROUTES):
        s3tables.create_table(
            tableBucketARN=arn, namespace=pipeline.NAMESPACE, name=table, format="ICEBERG",
            metadata={"iceberg": {"schema": {"fields": FIELDS + MORE}}},
        )
    kinesis.create_stream(StreamName=STREAM, ShardCount=2)
    wait_until(lambda: active(kinesis), what="the stream active")
    stream = kinesis.describe_stream_summary(StreamName=STREAM)["StreamDescriptionSummary"]["StreamARN"]
    role = f"arn:aws:iam::{account}:role/firehose"
    source = {
        "DeliveryStreamType": "KinesisStreamAsSource",
        "KinesisStreamSourceConfiguration": {"KinesisStreamARN": stream, "RoleARN": role},
    }

    def into_tables(name, tables, extra):
        listed = [{"DestinationDatabaseName": pipeline.NAMESPACE, **table} for table in tables]
        firehose.create_delivery_stream(
            DeliveryStreamName=name, **source,
            IcebergDestinationConfiguration={
                "RoleARN": role,
                "CatalogConfiguration": {
                    "CatalogARN": f"arn:aws:glue:{region}:{account}:catalog/s3tablescatalog/{pipeline.BUCKET}"
                },
                "BufferingHints": {"IntervalInSeconds": 0, "SizeInMBs": 1},
                "S3Configuration": {
                    "RoleARN": role, "BucketARN": f"arn:aws:s3:::{pipeline.ERRORS}",
                    "ErrorOutputPrefix": "errors/!{firehose:error-output-type}/",
                },
                **({"DestinationTableConfigurationList": listed} if listed else {}), **extra,
            },
        )

    into_tables("plain", [{"DestinationTableName": pipeline.TABLE}], {})
    route = f'{{destinationDatabaseName:"{pipeline.NAMESPACE}",destinationTableName:.route,operation:"insert"}}'
    into_tables("routed", [], processing(route))
    into_tables("keyed", [{"DestinationTableName": KEYED, "UniqueKeys": ["key"]}], processing('{operation:"update"}'))
    newline = {"Type": "AppendDelimiterToRecord", "Parameters": [{"ParameterName": "Delimiter", "ParameterValue": "\\n"}]}
    firehose.create_delivery_stream(
        DeliveryStreamName="copy", **source,
        ExtendedS3DestinationConfiguration={
            "RoleARN": role, "BucketARN": f"arn:aws:s3:::{COPY}", "Prefix": "copy/",
            "BufferingHints": {"IntervalInSeconds": 0, "SizeInMBs": 1},
            "S3BackupMode": "Enabled",
            "S3BackupConfiguration": {"RoleARN": role, "BucketARN": f"arn:aws:s3:::{BACKUP}", "Prefix": "backup/"},
            **processing(None, newline),
        },
    )


def active(kinesis):
    return kinesis.describe_stream_summary(StreamName=STREAM)["StreamDescriptionSummary"]["StreamStatus"] == "ACTIVE"


def shards(kinesis):
    found, more = [], {"StreamName": STREAM}
    while True:
        page = kinesis.list_shards(**more)
        found += page["Shards"]
        if "NextToken" not in page:
            return found
        more = {"NextToken": page["NextToken"]}


def reshard(kinesis, chance):
    """Splits a shard while there are few, merges neighbours while there are many."""
    is_open = [shard for shard in shards(kinesis) if "EndingSequenceNumber" not in shard["SequenceNumberRange"]]
    begin = lambda shard: int(shard["HashKeyRange"]["StartingHashKey"])  # noqa: E731
    end = lambda shard: int(shard["HashKeyRange"]["EndingHashKey"])  # noqa: E731
    is_open.sort(key=begin)
    if len(is_open) < 2 or (len(is_open) < 6 and chance.random() < 0.5):
        shard = chance.choice(is_open)
        middle = (begin(shard) + end(shard)) // 2 + 1
        kinesis.split_shard(StreamName=STREAM, ShardToSplit=shard["ShardId"], NewStartingHashKey=str(middle))
    else:
        at = chance.randrange(len(is_open) - 1)
        kinesis.merge_shards(
            StreamName=STREAM, ShardToMerge=is_open[at]["ShardId"], AdjacentShardToMerge=is_open[at + 1]["ShardId"]
        )
    wait_until(lambda: active(kinesis), what="the stream active again")


def read_by_shards(kinesis):
    """Every record in the order in which a consumer sees it: a shard after its parents."""
    left = {shard["ShardId"]: shard for shard in shards(kinesis)}
    is_read, found = set(), []
    while left:
        parents = lambda shard: {shard.get("ParentShardId"), shard.get("AdjacentParentShardId")} & (left.keys())  # noqa: E731
        for name in [name for name, shard in left.items() if not parents(shard)]:
            shard = left.pop(name)
            iterator = kinesis.get_shard_iterator(StreamName=STREAM, ShardId=name, ShardIteratorType="TRIM_HORIZON")
            iterator, before = iterator["ShardIterator"], -1
            while iterator:
                page = kinesis.get_records(ShardIterator=iterator)
                for record in page["Records"]:
                    assert int(record["SequenceNumber"]) > before, f"{name}: sequence numbers grow"
                    before = int(record["SequenceNumber"])
                    found.append(json.loads(record["Data"]))
                iterator = page.get("NextShardIterator")
                if page["MillisBehindLatest"] == 0 and not page["Records"]:
                    break
            is_read.add(shard["ShardId"])
    return found


def column(server, table, *names):
    found = pipeline.catalog(server).load_table((pipeline.NAMESPACE, table))
    if found.current_snapshot() is None:
        return []
    rows = found.scan(selected_fields=names).to_arrow()
    return list(zip(*(rows[name].to_pylist() for name in names)))


def lines(server, bucket, concatenated=False):
    """Ids in all objects of a bucket; a backup has the source's records without anything between them."""
    s3, found = server.client("s3"), []
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket):
        for item in page.get("Contents", []):
            text = s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read().decode()
            parts = text.replace("}{", "}\n{") if concatenated else text
            found += [json.loads(line)["id"] for line in parts.splitlines()]
    return found


def settle(server, ledger, keys):
    """Every way has all that was acknowledged, once; rows by key are the last writer's."""
    wanted = ledger.acknowledged

    def everywhere():
        ways = {
            "plain": [row[0] for row in column(server, pipeline.TABLE, "id")],
            "routed": [row[0] for table in ROUTES for row in column(server, table, "id")],
            "copy": lines(server, COPY),
            "backup": lines(server, BACKUP, concatenated=True),
        }
        return ways if all(wanted <= set(ids) for ids in ways.values()) else None

    ways = wait_until(everywhere, timeout_s=300, what="every acknowledged record on every way")
    totals = {way: ledger.compare(ids) for way, ids in ways.items()}
    for table in ROUTES:
        assert all(route == table for (route,) in column(server, table, "route"))

    def by_key():
        rows = column(server, KEYED, "key", "id")
        assert len(rows) == len(dict(rows)), "a key has more than one row"
        rows = dict(rows)
        return rows if all(rows.get(key, -1) >= last for key, last in keys.acknowledged.items()) else None

    keys.agree(wait_until(by_key, timeout_s=300, what="the last row of every key"))
    assert pipeline.errors(server) == {}
    pipeline.sound(server, pipeline.TABLE, KEYED, *ROUTES)
    return totals


def loaders(server, ledger, keys, turn):
    client = server.client("kinesis", retries={"total_max_attempts": 1}, read_timeout=20)
    made = [Load(client, ledger, keys, own, SEED + turn * 10 + own) for own in range(LOADERS)]
    for loader in made:
        loader.start()
    return made


def test_reshards_and_kills_keep_every_way_exact_and_in_order(lake):
    print(f"seed {SEED}, {RESHARDS} reshards")
    chance, ledger, keys = random.Random(SEED), Ledger(), Keys()
    lake.start()
    create(lake)

    running, kinesis = loaders(lake, ledger, keys, 0), lake.client("kinesis")
    for turn in range(1, RESHARDS + 1):
        assert ledger.wait_for(chance.choice([1, 20, 100])), "no progress under load"
        reshard(kinesis, chance)
        if turn % KILL_EVERY == 0:
            lake.kill()
            for loader in running:
                loader.stop()
            lake.start()
            running, kinesis = loaders(lake, ledger, keys, turn), lake.client("kinesis")
    assert ledger.wait_for(100), "no progress after the last reshard"
    for loader in running:
        loader.stop()
    print(settle(lake, ledger, keys))
    in_order(kinesis, ledger)
    assert lake.stop() == 0


def in_order(kinesis, ledger):
    """A consumer finds every acknowledged record once, and those of a key in the order of their numbers."""
    seen = read_by_shards(kinesis)
    ledger.compare([row["id"] for row in seen])
    newest = {}
    for row in seen:
        assert row["id"] > newest.get(row["key"], -1), f"key {row['key']}: {row['id']} came too late"
        newest[row["key"]] = row["id"]


def test_power_cuts_keep_every_way_exact_and_in_order(disks):
    """As above, but what was not synced to the device is gone (see test_power_cut.py)."""
    print(f"seed {SEED}, {CUTS} cuts")
    chance, ledger, keys = random.Random(SEED), Ledger(), Keys()
    disk = disks("paths-0").create().attach()
    server = Server(disk.mount / "data", *pipeline.FLAGS, log=disk.image.with_suffix(".log"))
    try:
        server.start()
        create(server)
        for cut in range(CUTS):
            running = loaders(server, ledger, keys, cut)
            assert ledger.wait_for(chance.choice([50, 400])), "no progress under load"
            reshard(server.client("kinesis"), chance)
            assert ledger.wait_for(chance.choice([1, 100])), "no progress after the reshard"
            server.signal(signal.SIGSTOP)
            os.waitid(os.P_PID, server.process.pid, os.WSTOPPED | os.WNOWAIT)
            after = disks(f"paths-{cut + 1}")
            disk.image_of_what_was_synced(after)
            server.kill()
            for loader in running:
                loader.stop()
            disk.detach()
            disk.image.unlink()
            disk = after.attach()
            server = Server(disk.mount / "data", *server.args, log=server.log_path)
            server.start()
        print(settle(server, ledger, keys))
        in_order(server.client("kinesis"), ledger)
    finally:
        server.kill()
