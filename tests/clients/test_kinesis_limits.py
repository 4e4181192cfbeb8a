"""Kinesis's limits, each at its edge and one past it; AWS's quotas of a shard when they are asked for."""

import collections
import itertools
import time

import pytest

import alluvium_server
from alluvium_server import wait_until
from test_kinesis import SPACE, drain, kinesis, refused, shards_of, stream  # noqa: F401

MIB = 1 << 20


def test_a_call_has_five_hundred_records_and_ten_mebibytes_with_their_keys(kinesis, stream):  # noqa: F811
    name = stream()
    put = lambda records: kinesis.put_records(StreamName=name, Records=records)  # noqa: E731
    one = {"Data": b"x", "PartitionKey": "k"}
    assert put([one] * 500)["FailedRecordCount"] == 0
    assert refused(kinesis.put_records, StreamName=name, Records=[one] * 501)[0] == "ValidationException"
    assert refused(kinesis.put_records, StreamName=name, Records=[])[0] == "ValidationException"
    large = {"Data": b"x" * (MIB - 1), "PartitionKey": "k"}
    assert put([large] * 10)["FailedRecordCount"] == 0
    code, message = refused(kinesis.put_records, StreamName=name, Records=[large] * 10 + [one])
    assert code == "InvalidArgumentException" and str(10 * MIB) in message
    records, _ = drain(kinesis, name, "shardId-000000000000")
    assert len(records) == 510, "what is refused leaves nothing"


def test_a_record_is_as_large_as_its_stream_takes(kinesis, stream):  # noqa: F811
    name = stream()
    put = lambda size: dict(StreamName=name, Data=b"x" * size, PartitionKey="k")  # noqa: E731
    kinesis.put_record(**put(MIB - 1))
    code, message = refused(kinesis.put_record, **put(MIB + 1))
    assert code in {"InvalidArgumentException", "ValidationException"} and name in message
    whole = refused(kinesis.put_records, StreamName=name, Records=[{"Data": b"x" * (MIB + 1), "PartitionKey": "k"}])
    assert whole[0] in {"InvalidArgumentException", "ValidationException"}
    arn = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"]
    kinesis.update_max_record_size(StreamARN=arn, MaxRecordSizeInKiB=10_240)
    kinesis.put_record(**put(10 * MIB - 1))
    records, _ = drain(kinesis, name, "shardId-000000000000")
    assert [len(record["Data"]) for record in records] == [MIB - 1, 10 * MIB - 1]
    for kib in [1023, 10_241]:
        assert refused(kinesis.update_max_record_size, StreamARN=arn, MaxRecordSizeInKiB=kib)[0] == "ValidationException"


def test_keys_and_names_have_their_lengths(kinesis, stream, unique):  # noqa: F811
    name = stream()
    kinesis.put_record(StreamName=name, Data=b"", PartitionKey="é" * 256)
    for key in ["", "é" * 257]:
        assert refused(kinesis.put_record, StreamName=name, Data=b"x", PartitionKey=key)[0] == "ValidationException"
    longest = unique("n").ljust(128, "x")
    kinesis.create_stream(StreamName=longest, ShardCount=1)
    kinesis.delete_stream(StreamName=longest)
    for bad in ["", "a/b", "é", longest + "x"]:
        assert refused(kinesis.create_stream, StreamName=bad, ShardCount=1)[0] == "ValidationException", bad
    for more in [{}, {"ShardCount": 0}, {"ShardCount": 1, "StreamModeDetails": {"StreamMode": "ON_DEMAND"}}]:
        assert refused(kinesis.create_stream, StreamName=unique("bad"), **more)[0] == "ValidationException", more
    code, message = refused(kinesis.create_stream, StreamName=unique("bad"), ShardCount=1_000_000)
    assert code == "LimitExceededException"
    assert refused(kinesis.create_stream, StreamName=name, ShardCount=1)[0] == "ResourceInUseException"


def test_ten_scalings_a_day(kinesis, stream):  # noqa: F811
    name = stream(2)
    for turn in range(10):
        target = 3 if turn % 2 == 0 else 2
        kinesis.update_shard_count(StreamName=name, TargetShardCount=target, ScalingType="UNIFORM_SCALING")
        summary = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
        assert summary["OpenShardCount"] == target
    code, _ = refused(kinesis.update_shard_count, StreamName=name, TargetShardCount=3, ScalingType="UNIFORM_SCALING")
    assert code == "LimitExceededException"
    assert refused(kinesis.update_shard_count, StreamName=name, TargetShardCount=3, ScalingType="ODD")[0] == "ValidationException"


@pytest.fixture(scope="module")
def strict():
    with alluvium_server.running("--enforce-quotas") as server:
        yield server


def test_quotas_are_kept_when_they_are_asked_for(strict, unique):
    kinesis = strict.client("kinesis", retries={"total_max_attempts": 1})  # noqa: F811
    name = unique("strict")
    kinesis.create_stream(StreamName=name, ShardCount=2)
    half = str(SPACE // 2)
    busy = [{"Data": b"x" * 300_000, "PartitionKey": "k", "ExplicitHashKey": "0"} for _ in range(8)]
    idle = [{"Data": b"y", "PartitionKey": "k", "ExplicitHashKey": half} for _ in range(3)]
    answer = kinesis.put_records(StreamName=name, Records=busy + idle)
    failed = [record for record in answer["Records"] if "ErrorCode" in record]
    assert answer["FailedRecordCount"] == len(failed) > 0
    assert {record["ErrorCode"] for record in failed} == {"ProvisionedThroughputExceededException"}
    assert failed[0]["ErrorMessage"] == f"Rate exceeded for shard shardId-000000000000 in stream {name} under account 000000000000."
    assert all("SequenceNumber" in record for record in answer["Records"][-3:]), "the other shard is not full"
    done = sum("SequenceNumber" in record for record in answer["Records"][:8])
    iterator = kinesis.get_shard_iterator(StreamName=name, ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON")
    page = kinesis.get_records(ShardIterator=iterator["ShardIterator"])
    assert len(page["Records"]) == done, "what failed was not written"


def test_five_reads_a_second_when_quotas_are_kept(strict, unique):
    kinesis = strict.client("kinesis", retries={"total_max_attempts": 1})  # noqa: F811
    name = unique("strict")
    kinesis.create_stream(StreamName=name, ShardCount=1)
    iterator = kinesis.get_shard_iterator(StreamName=name, ShardId="shardId-000000000000", ShardIteratorType="LATEST")
    refusals, began = 0, time.monotonic()
    for _ in range(30):
        try:
            kinesis.get_records(ShardIterator=iterator["ShardIterator"])
        except kinesis.exceptions.ProvisionedThroughputExceededException:
            refusals += 1
    allowed = 30 - refusals
    assert 5 <= allowed <= 5 + 5 * (time.monotonic() - began) + 1


def test_without_the_flag_there_are_no_quotas(kinesis, stream):  # noqa: F811
    name = stream()
    records = [{"Data": b"x" * 10_000, "PartitionKey": "k"}] * 500
    for _ in range(4):
        assert kinesis.put_records(StreamName=name, Records=records)["FailedRecordCount"] == 0
    iterator = kinesis.get_shard_iterator(StreamName=name, ShardId="shardId-000000000000", ShardIteratorType="LATEST")
    for _ in range(20):
        kinesis.get_records(ShardIterator=iterator["ShardIterator"])


def test_an_on_demand_stream_grows_with_what_is_put_and_each_key_keeps_its_order(strict, unique):
    kinesis, name = strict.client("kinesis"), unique("grows")
    kinesis.create_stream(StreamName=name, StreamModeDetails={"StreamMode": "ON_DEMAND"})
    put = collections.defaultdict(list)

    def grown():
        """Puts as much as the shards take, until there are more of them."""
        for _ in range(20):
            records = [{"Data": b"%d" % next(numbers), "PartitionKey": str(n % 40)} for n in range(500)]
            results = kinesis.put_records(StreamName=name, Records=records)["Records"]
            for record, result in zip(records, results):
                if "SequenceNumber" in result:
                    put[record["PartitionKey"]].append(record["Data"])
        return shard_count() > 4

    def shard_count():
        return kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["OpenShardCount"]

    numbers = itertools.count()
    assert shard_count() == 4
    wait_until(grown, what="more shards")
    assert shard_count() in (8, 16)
    found = collections.defaultdict(list)
    # In the order of their numbers, parents come before their children.
    for shard in kinesis.list_shards(StreamName=name)["Shards"]:
        iterator = kinesis.get_shard_iterator(
            StreamName=name, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")["ShardIterator"]
        while iterator:
            try:
                page = kinesis.get_records(ShardIterator=iterator)
            except kinesis.exceptions.ProvisionedThroughputExceededException:
                time.sleep(0.2)
                continue
            for record in page["Records"]:
                found[record["PartitionKey"]].append(record["Data"])
            iterator = page.get("NextShardIterator")
            if page["MillisBehindLatest"] == 0 and not page["Records"]:
                break
    assert found == put
