"""Kinesis through boto3: streams and their settings, records in and out, reshards."""

import hashlib
import json
import subprocess
import time

import botocore.exceptions
import pytest

SPACE = 1 << 128


@pytest.fixture(scope="session")
def kinesis(lake_server):
    return lake_server.client("kinesis", parameter_validation=False)


@pytest.fixture
def stream(kinesis, unique):
    """Makes a stream and waits for it as SDKs do; deleted afterwards."""
    made = []

    def make(shards=1, **more):
        name = unique("data")
        if shards:
            more["ShardCount"] = shards
        kinesis.create_stream(StreamName=name, **more)
        kinesis.get_waiter("stream_exists").wait(StreamName=name)
        made.append(name)
        return name

    yield make
    for name in made:
        try:
            kinesis.delete_stream(StreamName=name, EnforceConsumerDeletion=True)
        except kinesis.exceptions.ResourceNotFoundException:
            pass


def refused(call, **parameters):
    """The code and message of a refusal."""
    with pytest.raises(botocore.exceptions.ClientError) as error:
        call(**parameters)
    found = error.value.response
    assert found["ResponseMetadata"]["RequestId"]
    return found["Error"]["Code"], found["Error"]["Message"]


def hash_of(key):
    return int.from_bytes(hashlib.md5(key.encode()).digest(), "big")


def shards_of(kinesis, name, **more):
    return kinesis.list_shards(StreamName=name, **more)["Shards"]


def is_open(shard):
    return "EndingSequenceNumber" not in shard["SequenceNumberRange"]


def drain(kinesis, name, shard, **position):
    """Every record of a shard from a position, to its end or to its tip; and its children."""
    position = position or {"ShardIteratorType": "TRIM_HORIZON"}
    iterator = kinesis.get_shard_iterator(StreamName=name, ShardId=shard, **position)["ShardIterator"]
    records = []
    while True:
        page = kinesis.get_records(ShardIterator=iterator)
        records += page["Records"]
        iterator = page.get("NextShardIterator")
        if iterator is None:
            return records, page.get("ChildShards", [])
        if not page["Records"] and page["MillisBehindLatest"] == 0:
            return records, []


def test_a_stream_is_described_listed_and_deleted(kinesis, stream):
    name = stream(3, Tags={"a": "1"}, MaxRecordSizeInKiB=2048)
    full = kinesis.describe_stream(StreamName=name)["StreamDescription"]
    arn = full["StreamARN"]
    assert arn.endswith(f":stream/{name}") and full["StreamStatus"] == "ACTIVE"
    assert full["RetentionPeriodHours"] == 24 and full["EncryptionType"] == "NONE"
    assert full["StreamModeDetails"] == {"StreamMode": "PROVISIONED"} and not full["HasMoreShards"]
    starts = [int(shard["HashKeyRange"]["StartingHashKey"]) for shard in full["Shards"]]
    ends = [int(shard["HashKeyRange"]["EndingHashKey"]) for shard in full["Shards"]]
    assert [shard["ShardId"] for shard in full["Shards"]] == [f"shardId-{n:012}" for n in range(3)]
    assert starts[0] == 0 and ends[-1] == SPACE - 1
    assert [end + 1 for end in ends[:-1]] == starts[1:], "no gaps, no overlaps"
    summary = kinesis.describe_stream_summary(StreamARN=arn)["StreamDescriptionSummary"]
    assert summary["OpenShardCount"] == 3 and summary["ConsumerCount"] == 0
    assert summary["MaxRecordSizeInKiB"] == 2048
    assert abs(summary["StreamCreationTimestamp"].timestamp() - time.time()) < 120
    listed = kinesis.list_streams(Limit=1, ExclusiveStartStreamName=name[:-1])
    assert listed["StreamNames"] == [name]
    assert listed["StreamSummaries"][0]["StreamARN"] == arn
    assert kinesis.list_tags_for_stream(StreamName=name)["Tags"] == [{"Key": "a", "Value": "1"}]
    kinesis.delete_stream(StreamName=name)
    code, message = refused(kinesis.describe_stream, StreamName=name)
    assert code == "ResourceNotFoundException" and name in message


def test_streams_are_listed_in_pages(kinesis, stream):
    names = sorted(stream() for _ in range(3))
    found = [
        name
        for page in kinesis.get_paginator("list_streams").paginate(PaginationConfig={"PageSize": 1})
        for name in page["StreamNames"]
    ]
    assert found == sorted(found) and set(names) <= set(found)
    first = kinesis.list_streams(Limit=1)
    assert first["HasMoreStreams"]
    second = kinesis.list_streams(Limit=1, NextToken=first["NextToken"])
    assert second["StreamNames"] != first["StreamNames"]
    assert refused(kinesis.list_streams, NextToken="x")[0] in {
        "InvalidArgumentException",
        "ExpiredNextTokenException",
    }


def test_names_arns_and_both_mean_the_same_stream(kinesis, stream):
    name, other = stream(), stream()
    arn = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"]
    both = kinesis.describe_stream_summary(StreamName=name, StreamARN=arn)
    assert both["StreamDescriptionSummary"]["StreamName"] == name
    assert refused(kinesis.describe_stream_summary, StreamName=other, StreamARN=arn)[0] == "InvalidArgumentException"
    assert refused(kinesis.describe_stream_summary)[0] == "InvalidArgumentException"
    elsewhere = arn.replace("us-east-1", "eu-west-1")
    assert refused(kinesis.describe_stream_summary, StreamARN=elsewhere)[0] == "ResourceNotFoundException"
    foreign = arn.replace("000000000000", "111111111111")
    assert refused(kinesis.describe_stream_summary, StreamARN=foreign)[0] == "ResourceNotFoundException"


def test_on_demand_streams_begin_with_four_shards_and_modes_change(kinesis, stream):
    name = stream(0, StreamModeDetails={"StreamMode": "ON_DEMAND"}, WarmThroughputMiBps=10)
    summary = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
    assert summary["OpenShardCount"] == 4
    assert summary["StreamModeDetails"] == {"StreamMode": "ON_DEMAND"}
    assert summary["WarmThroughput"] == {"TargetMiBps": 10, "CurrentMiBps": 10}
    arn = summary["StreamARN"]
    warm = kinesis.update_stream_warm_throughput(StreamARN=arn, WarmThroughputMiBps=20)
    assert warm["WarmThroughput"]["TargetMiBps"] == 20
    code, _ = refused(kinesis.update_shard_count, StreamName=name, TargetShardCount=5, ScalingType="UNIFORM_SCALING")
    assert code in {"ValidationException", "InvalidArgumentException"}
    kinesis.update_stream_mode(StreamARN=arn, StreamModeDetails={"StreamMode": "PROVISIONED"})
    summary = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
    assert summary["StreamModeDetails"] == {"StreamMode": "PROVISIONED"}


def test_retention_grows_and_shrinks_within_its_limits(kinesis, stream):
    name = stream()

    def hours():
        return kinesis.describe_stream(StreamName=name)["StreamDescription"]["RetentionPeriodHours"]

    kinesis.increase_stream_retention_period(StreamName=name, RetentionPeriodHours=8760)
    assert hours() == 8760
    kinesis.decrease_stream_retention_period(StreamName=name, RetentionPeriodHours=24)
    assert hours() == 24
    for call, value in [
        (kinesis.increase_stream_retention_period, 8761),
        (kinesis.increase_stream_retention_period, -1),
        (kinesis.decrease_stream_retention_period, 23),
        (kinesis.decrease_stream_retention_period, 48),
    ]:
        assert refused(call, StreamName=name, RetentionPeriodHours=value)[0] == "InvalidArgumentException"
    assert hours() == 24


def test_enhanced_monitoring_is_kept(kinesis, stream):
    name = stream()
    on = kinesis.enable_enhanced_monitoring(StreamName=name, ShardLevelMetrics=["IncomingBytes"])
    assert on["CurrentShardLevelMetrics"] == [] and on["DesiredShardLevelMetrics"] == ["IncomingBytes"]
    every = kinesis.enable_enhanced_monitoring(StreamName=name, ShardLevelMetrics=["ALL"])
    assert len(every["DesiredShardLevelMetrics"]) == 7
    off = kinesis.disable_enhanced_monitoring(StreamName=name, ShardLevelMetrics=["OutgoingBytes"])
    assert "OutgoingBytes" not in off["DesiredShardLevelMetrics"]
    shown = kinesis.describe_stream(StreamName=name)["StreamDescription"]["EnhancedMonitoring"]
    assert sorted(shown[0]["ShardLevelMetrics"]) == sorted(off["DesiredShardLevelMetrics"])
    assert refused(kinesis.enable_enhanced_monitoring, StreamName=name, ShardLevelMetrics=["Odd"])[0] == "ValidationException"


def test_tags_of_streams_and_consumers(kinesis, stream):
    name = stream()
    arn = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"]
    kinesis.add_tags_to_stream(StreamName=name, Tags={f"k{n}": str(n) for n in range(4)})
    page = kinesis.list_tags_for_stream(StreamName=name, Limit=2)
    assert [tag["Key"] for tag in page["Tags"]] == ["k0", "k1"] and page["HasMoreTags"]
    rest = kinesis.list_tags_for_stream(StreamName=name, ExclusiveStartTagKey="k1")
    assert [tag["Key"] for tag in rest["Tags"]] == ["k2", "k3"] and not rest["HasMoreTags"]
    kinesis.remove_tags_from_stream(StreamName=name, TagKeys=["k0", "k1", "absent"])
    kinesis.tag_resource(ResourceARN=arn, Tags={"more": "é"})
    kinesis.untag_resource(ResourceARN=arn, TagKeys=["k2"])
    tags = kinesis.list_tags_for_resource(ResourceARN=arn)["Tags"]
    assert tags == [{"Key": "k3", "Value": "3"}, {"Key": "more", "Value": "é"}]
    many = {f"t{n}": "" for n in range(49)}
    assert refused(kinesis.add_tags_to_stream, StreamName=name, Tags=many)[0] in {
        "InvalidArgumentException",
        "LimitExceededException",
    }
    assert refused(kinesis.tag_resource, ResourceARN=arn, Tags={"aws:x": ""})[0] == "InvalidArgumentException"
    consumer = kinesis.register_stream_consumer(StreamARN=arn, ConsumerName="c", Tags={"of": "c"})["Consumer"]
    assert kinesis.list_tags_for_resource(ResourceARN=consumer["ConsumerARN"])["Tags"] == [{"Key": "of", "Value": "c"}]


def test_policies_are_kept_and_a_deny_is_refused(kinesis, stream):
    name = stream()
    arn = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"]
    statement = {"Sid": "s", "Effect": "Allow", "Principal": "*", "Action": "kinesis:*", "Resource": arn}
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    assert refused(kinesis.get_resource_policy, ResourceARN=arn)[0] == "ResourceNotFoundException"
    kinesis.put_resource_policy(ResourceARN=arn, Policy=policy)
    assert json.loads(kinesis.get_resource_policy(ResourceARN=arn)["Policy"]) == json.loads(policy)
    deny = policy.replace("Allow", "Deny")
    code, message = refused(kinesis.put_resource_policy, ResourceARN=arn, Policy=deny)
    assert code == "InvalidArgumentException" and "Deny" in message
    assert refused(kinesis.put_resource_policy, ResourceARN=arn, Policy="{")[0] == "InvalidArgumentException"
    kinesis.delete_resource_policy(ResourceARN=arn)
    assert refused(kinesis.get_resource_policy, ResourceARN=arn)[0] == "ResourceNotFoundException"


def test_limits_and_account_settings(kinesis, stream):
    before = kinesis.describe_limits()
    stream(2)
    after = kinesis.describe_limits()
    assert after["OpenShardCount"] == before["OpenShardCount"] + 2
    assert after["ShardLimit"] >= after["OpenShardCount"] and after["OnDemandStreamCountLimit"] > 0
    settings = kinesis.describe_account_settings()
    assert settings["MinimumThroughputBillingCommitment"]["Status"] == "DISABLED"
    kinesis.update_account_settings(MinimumThroughputBillingCommitment={"Status": "DISABLED"})
    code, message = refused(kinesis.update_account_settings, MinimumThroughputBillingCommitment={"Status": "ENABLED"})
    assert code == "InvalidArgumentException" and "MinimumThroughputBillingCommitment" in message


def test_encryption_is_refused_by_its_name(kinesis, stream):
    name = stream()
    for operation, call in [
        ("StartStreamEncryption", kinesis.start_stream_encryption),
        ("StopStreamEncryption", kinesis.stop_stream_encryption),
    ]:
        code, message = refused(call, StreamName=name, EncryptionType="KMS", KeyId="alias/aws/kinesis")
        assert code == "InvalidArgumentException" and operation in message


def test_records_go_to_the_shard_of_their_hash_and_come_back_in_order(kinesis, stream):
    name = stream(4)
    shards = shards_of(kinesis, name)
    sent = [{"Data": f"{n}".encode(), "PartitionKey": f"key é {n % 17}"} for n in range(500)]
    answer = kinesis.put_records(StreamName=name, Records=sent)
    assert answer["FailedRecordCount"] == 0 and len(answer["Records"]) == 500
    by_shard = {}
    for record, result in zip(sent, answer["Records"]):
        point = hash_of(record["PartitionKey"])
        owner = next(s for s in shards if point <= int(s["HashKeyRange"]["EndingHashKey"]))
        assert result["ShardId"] == owner["ShardId"]
        by_shard.setdefault(result["ShardId"], []).append((result["SequenceNumber"], record["Data"]))
    for shard, expected in by_shard.items():
        numbers = [int(sequence) for sequence, _ in expected]
        assert numbers == sorted(set(numbers)), "sequence numbers grow within a shard"
        assert all(len(sequence) == 56 for sequence, _ in expected)
        records, _ = drain(kinesis, name, shard)
        assert [(r["SequenceNumber"], r["Data"]) for r in records] == expected
        assert all(abs(r["ApproximateArrivalTimestamp"].timestamp() - time.time()) < 120 for r in records)


def test_an_explicit_hash_key_decides(kinesis, stream):
    name = stream(2)
    first, second = (shard["ShardId"] for shard in shards_of(kinesis, name))
    for key, shard in [("0", first), (str(SPACE // 2 - 1), first), (str(SPACE // 2), second), (str(SPACE - 1), second)]:
        put = kinesis.put_record(StreamName=name, Data=b"x", PartitionKey="same", ExplicitHashKey=key)
        assert put["ShardId"] == shard, key
    one = kinesis.put_record(
        StreamName=name, Data=b"x", PartitionKey="same", SequenceNumberForOrdering=put["SequenceNumber"]
    )
    assert one["SequenceNumber"]
    for key, code in [(str(SPACE), "InvalidArgumentException"), ("01", "ValidationException"), ("-1", "ValidationException")]:
        assert refused(kinesis.put_record, StreamName=name, Data=b"x", PartitionKey="k", ExplicitHashKey=key)[0] == code
    forged = str(int(put["SequenceNumber"]) + 1)
    assert (
        refused(kinesis.put_record, StreamName=name, Data=b"x", PartitionKey="k", SequenceNumberForOrdering=forged)[0]
        == "InvalidArgumentException"
    )


def test_every_iterator_begins_where_it_says(kinesis, stream):
    name = stream()
    shard = shards_of(kinesis, name)[0]["ShardId"]
    put = lambda data: kinesis.put_record(StreamName=name, Data=data, PartitionKey="k")["SequenceNumber"]  # noqa: E731
    numbers = [put(b"0"), put(b"1"), put(b"2")]

    def read(**position):
        iterator = kinesis.get_shard_iterator(StreamName=name, ShardId=shard, **position)["ShardIterator"]
        return [record["Data"] for record in kinesis.get_records(ShardIterator=iterator)["Records"]]

    assert read(ShardIteratorType="TRIM_HORIZON") == [b"0", b"1", b"2"]
    assert read(ShardIteratorType="AT_SEQUENCE_NUMBER", StartingSequenceNumber=numbers[1]) == [b"1", b"2"]
    assert read(ShardIteratorType="AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=numbers[1]) == [b"2"]
    assert read(ShardIteratorType="AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=numbers[2]) == []
    assert read(ShardIteratorType="LATEST") == []
    start = shards_of(kinesis, name)[0]["SequenceNumberRange"]["StartingSequenceNumber"]
    assert read(ShardIteratorType="AT_SEQUENCE_NUMBER", StartingSequenceNumber=start) == [b"0", b"1", b"2"]
    assert read(ShardIteratorType="AT_TIMESTAMP", Timestamp=0) == [b"0", b"1", b"2"]
    latest = kinesis.get_shard_iterator(StreamName=name, ShardId=shard, ShardIteratorType="LATEST")["ShardIterator"]
    put(b"3")
    page = kinesis.get_records(ShardIterator=latest, Limit=1)
    assert [record["Data"] for record in page["Records"]] == [b"3"] and page["MillisBehindLatest"] == 0
    again = kinesis.get_records(ShardIterator=latest)
    assert [record["Data"] for record in again["Records"]] == [b"3"], "an iterator can be used again"


def test_positions_that_are_wrong_are_refused(kinesis, stream):
    name, other = stream(2), stream()
    shards = [shard["ShardId"] for shard in shards_of(kinesis, name)]
    mine = kinesis.put_record(StreamName=name, Data=b"x", PartitionKey="k", ExplicitHashKey="0")["SequenceNumber"]
    foreign = kinesis.put_record(StreamName=other, Data=b"x", PartitionKey="k")["SequenceNumber"]

    def iterator(**more):
        return refused(kinesis.get_shard_iterator, **{"StreamName": name, "ShardId": shards[0], **more})[0]

    at = {"ShardIteratorType": "AT_SEQUENCE_NUMBER"}
    assert iterator(**at, StartingSequenceNumber=foreign) == "InvalidArgumentException"
    assert iterator(**at, StartingSequenceNumber=str(int(mine) + 1)) == "InvalidArgumentException"
    assert iterator(**at, StartingSequenceNumber=mine, ShardId=shards[1]) == "InvalidArgumentException"
    assert iterator(**at) == "InvalidArgumentException"
    assert iterator(**at, StartingSequenceNumber="x") == "ValidationException"
    assert iterator(ShardIteratorType="AT_TIMESTAMP") == "InvalidArgumentException"
    assert iterator(ShardIteratorType="AT_TIMESTAMP", Timestamp=time.time() + 3600) == "InvalidArgumentException"
    assert iterator(ShardIteratorType="ODD") == "ValidationException"
    assert iterator(ShardIteratorType="LATEST", ShardId="shardId-000000000099") == "ResourceNotFoundException"
    assert iterator(ShardIteratorType="LATEST", ShardId="odd") == "ResourceNotFoundException"
    assert iterator(ShardIteratorType="LATEST", StreamName="absent") == "ResourceNotFoundException"


def test_iterators_that_are_forged_or_foreign_are_refused(kinesis, stream, lake_server):
    name, other = stream(), stream()
    shard = shards_of(kinesis, name)[0]["ShardId"]
    latest = {"ShardId": shard, "ShardIteratorType": "LATEST"}
    iterator = kinesis.get_shard_iterator(StreamName=name, **latest)["ShardIterator"]
    assert len(iterator) <= 512
    for forged in ["x", "A" * 100, iterator[:-1] + ("A" if iterator[-1] != "A" else "B"), iterator[4:] + iterator[:4]]:
        assert refused(kinesis.get_records, ShardIterator=forged)[0] == "InvalidArgumentException"
    arn = kinesis.describe_stream_summary(StreamName=other)["StreamDescriptionSummary"]["StreamARN"]
    assert refused(kinesis.get_records, ShardIterator=iterator, StreamARN=arn)[0] == "InvalidArgumentException"
    elsewhere = lake_server.client("kinesis", region="eu-west-1")
    assert refused(elsewhere.get_records, ShardIterator=iterator)[0] in {
        "InvalidArgumentException",
        "ResourceNotFoundException",
    }
    kinesis.delete_stream(StreamName=name)
    assert refused(kinesis.get_records, ShardIterator=iterator)[0] == "ResourceNotFoundException"


def test_pages_have_at_most_ten_mebibytes_and_so_many_records(kinesis, stream):
    name = stream()
    for n in range(4):
        records = [{"Data": bytes([n]) * 1_000_000, "PartitionKey": "k"} for _ in range(6)]
        assert kinesis.put_records(StreamName=name, Records=records)["FailedRecordCount"] == 0
    shard = shards_of(kinesis, name)[0]["ShardId"]
    start = {"ShardId": shard, "ShardIteratorType": "TRIM_HORIZON"}
    iterator = kinesis.get_shard_iterator(StreamName=name, **start)["ShardIterator"]
    seen, behind = [], []
    while len(seen) < 24:
        page = kinesis.get_records(ShardIterator=iterator)
        assert 0 < len(page["Records"]) <= 10, "ten of them are under 10 MiB, eleven are not"
        seen += [record["Data"][0] for record in page["Records"]]
        behind.append(page["MillisBehindLatest"])
        iterator = page["NextShardIterator"]
    assert seen == [n for n in range(4) for _ in range(6)]
    assert behind[-1] == 0 and all(ms >= 0 for ms in behind)
    iterator = kinesis.get_shard_iterator(StreamName=name, **start)["ShardIterator"]
    assert len(kinesis.get_records(ShardIterator=iterator, Limit=3)["Records"]) == 3
    for limit in [0, 10_001]:
        assert refused_unchecked(kinesis, iterator, limit) == "ValidationException"


def refused_unchecked(kinesis, iterator, limit):
    return refused(kinesis.get_records, ShardIterator=iterator, Limit=limit)[0]


def test_a_reader_goes_from_parents_to_children(kinesis, stream):
    """As the Kinesis Client Library does: shards by their parents, a checkpoint of each by sequence."""
    name = stream(2)
    order, sent = {}, 0

    def put(count):
        nonlocal sent
        records = [{"Data": str(sent + n).encode(), "PartitionKey": f"k{(sent + n) % 7}"} for n in range(count)]
        assert kinesis.put_records(StreamName=name, Records=records)["FailedRecordCount"] == 0
        for n in range(sent, sent + count):
            order.setdefault(f"k{n % 7}", []).append(n)
        sent += count

    put(100)
    first, second = (shard["ShardId"] for shard in shards_of(kinesis, name))
    kinesis.split_shard(StreamName=name, ShardToSplit=first, NewStartingHashKey=str(SPACE // 5))
    put(100)
    kinesis.update_shard_count(StreamName=name, TargetShardCount=2, ScalingType="UNIFORM_SCALING")
    put(100)
    shards = {shard["ShardId"]: shard for shard in shards_of(kinesis, name)}
    open_now = sorted((s for s in shards.values() if is_open(s)), key=lambda s: int(s["HashKeyRange"]["StartingHashKey"]))
    assert [int(s["HashKeyRange"]["StartingHashKey"]) for s in open_now] == [0, SPACE // 2]
    merged = [s for s in shards.values() if "AdjacentParentShardId" in s]
    assert merged, "scaling down merges"
    seen, done, last = {}, set(), {}
    waiting = [s for s in shards.values() if s.get("ParentShardId") not in shards]
    while waiting:
        shard = waiting.pop(0)
        parents = {shard.get("ParentShardId"), shard.get("AdjacentParentShardId")} - {None}
        assert parents <= done
        records, children = drain(kinesis, name, shard["ShardId"])
        for record in records:
            seen.setdefault(record["PartitionKey"], []).append(int(record["Data"]))
            sequence = int(record["SequenceNumber"])
            assert sequence > last.get(record["PartitionKey"], 0), "they grow over reshards too"
            last[record["PartitionKey"]] = sequence
            if not is_open(shard):
                assert sequence <= int(shard["SequenceNumberRange"]["EndingSequenceNumber"])
        done.add(shard["ShardId"])
        if not is_open(shard):
            assert children, "the end of a closed shard names its children"
        for child in children:
            ready = set(child["ParentShards"]) <= done
            if ready and child["ShardId"] not in done:
                waiting.append(shards[child["ShardId"]])
    assert done == set(shards)
    assert seen == order


def test_reshards_that_cannot_be_are_refused(kinesis, stream):
    name = stream(2)
    first, second = shards_of(kinesis, name)
    middle = str(SPACE // 4)
    split = lambda **more: refused(kinesis.split_shard, **{"StreamName": name, "ShardToSplit": first["ShardId"], "NewStartingHashKey": middle, **more})[0]  # noqa: E731, E501
    merge = lambda a, b: refused(kinesis.merge_shards, StreamName=name, ShardToMerge=a, AdjacentShardToMerge=b)[0]  # noqa: E731
    assert split(NewStartingHashKey="0") == "InvalidArgumentException"
    assert split(NewStartingHashKey=str(SPACE // 2)) == "InvalidArgumentException"
    assert split(NewStartingHashKey=str(SPACE)) == "InvalidArgumentException"
    assert split(NewStartingHashKey="x") == "ValidationException"
    assert split(ShardToSplit="shardId-000000000077") == "ResourceNotFoundException"
    assert merge(first["ShardId"], first["ShardId"]) == "InvalidArgumentException"
    kinesis.split_shard(StreamName=name, ShardToSplit=first["ShardId"], NewStartingHashKey=middle)
    assert split() in {"InvalidArgumentException", "ResourceInUseException"}, "it is closed"
    low = next(s for s in shards_of(kinesis, name) if s.get("ParentShardId") and s["HashKeyRange"]["StartingHashKey"] == "0")
    assert merge(low["ShardId"], second["ShardId"]) == "InvalidArgumentException", "not adjacent"
    assert merge(first["ShardId"], second["ShardId"]) in {"InvalidArgumentException", "ResourceInUseException"}
    for target, codes in [
        (7, {"InvalidArgumentException", "LimitExceededException", "ValidationException"}),
        (1, {"InvalidArgumentException", "LimitExceededException", "ValidationException"}),
    ]:
        code, _ = refused(kinesis.update_shard_count, StreamName=name, TargetShardCount=target, ScalingType="UNIFORM_SCALING")
        assert code in codes, "more than double, or less than half"


def test_shards_are_listed_by_filter_and_in_pages(kinesis, stream):
    name = stream(2)
    first = shards_of(kinesis, name)[0]["ShardId"]
    kinesis.split_shard(StreamName=name, ShardToSplit=first, NewStartingHashKey=str(SPACE // 4))
    ids = lambda **more: [s["ShardId"][-1] for s in shards_of(kinesis, name, **more)]  # noqa: E731
    assert ids() == ["0", "1", "2", "3"]
    assert ids(ShardFilter={"Type": "FROM_TRIM_HORIZON"}) == ["0", "1", "2", "3"]
    assert ids(ShardFilter={"Type": "AT_LATEST"}) == ["1", "2", "3"]
    assert ids(ShardFilter={"Type": "AT_TRIM_HORIZON"}) == ["0", "1"]
    assert ids(ShardFilter={"Type": "AFTER_SHARD_ID", "ShardId": "shardId-000000000001"}) == ["2", "3"]
    assert ids(ExclusiveStartShardId="shardId-000000000002") == ["3"]
    assert ids(ShardFilter={"Type": "FROM_TIMESTAMP", "Timestamp": time.time() + 60}) == ["1", "2", "3"]
    page = kinesis.list_shards(StreamName=name, MaxResults=3)
    rest = kinesis.list_shards(NextToken=page["NextToken"])
    assert len(page["Shards"]) == 3 and len(rest["Shards"]) == 1 and "NextToken" not in rest
    code, message = refused(kinesis.list_shards, NextToken=page["NextToken"], StreamName=name)
    assert code == "InvalidArgumentException" and "NextToken" in message
    assert refused(kinesis.list_shards, StreamName=name, ShardFilter={"Type": "AT_TIMESTAMP"})[0] == "InvalidArgumentException"
    assert refused(kinesis.list_shards, StreamName=name, StreamCreationTimestamp=1)[0] == "ResourceNotFoundException"
    described = kinesis.describe_stream(StreamName=name, Limit=1, ExclusiveStartShardId=first)["StreamDescription"]
    assert described["HasMoreShards"] and len(described["Shards"]) == 1


def test_the_command_line_puts_and_reads(lake_server, stream):
    name = stream()
    run = lambda *words: json.loads(  # noqa: E731
        subprocess.run(
            ["aws", "kinesis", *words, "--output", "json"],
            env=lake_server.client_env(),
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    )
    put = run("put-record", "--stream-name", name, "--partition-key", "k", "--data", "hello")
    iterator = run(
        "get-shard-iterator", "--stream-name", name, "--shard-id", put["ShardId"], "--shard-iterator-type", "TRIM_HORIZON"
    )["ShardIterator"]
    records = run("get-records", "--shard-iterator", iterator)["Records"]
    assert [(record["Data"], record["PartitionKey"]) for record in records] == [("aGVsbG8=", "k")]
    assert run("describe-stream-summary", "--stream-name", name)["StreamDescriptionSummary"]["OpenShardCount"] == 1
