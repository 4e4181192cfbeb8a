"""Enhanced fan-out: consumers, and `SubscribeToShard` as boto3 reads it over HTTP/1.1."""

import time

import pytest

from alluvium_server import Server, wait_until
from test_kinesis import SPACE, drain, kinesis, refused, shards_of, stream  # noqa: F401


@pytest.fixture
def consumer(kinesis, stream):  # noqa: F811
    """Makes a stream of so many shards and a consumer of it: its name, its ARN, the consumer's ARN."""

    def make(shards=1):
        name = stream(shards)
        arn = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"]
        made = kinesis.register_stream_consumer(StreamARN=arn, ConsumerName="reader")["Consumer"]
        return name, arn, made["ConsumerARN"]

    return make


def subscribe(client, consumer_arn, shard="shardId-000000000000", **position):
    position = position or {"Type": "TRIM_HORIZON"}
    return client.subscribe_to_shard(ConsumerARN=consumer_arn, ShardId=shard, StartingPosition=position)["EventStream"]


def events(stream_of_events):
    for event in stream_of_events:
        yield event["SubscribeToShardEvent"]


def test_consumers_are_registered_described_listed_and_deregistered(kinesis, stream):  # noqa: F811
    name = stream()
    arn = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["StreamARN"]
    made = [kinesis.register_stream_consumer(StreamARN=arn, ConsumerName=f"c{n:02}")["Consumer"] for n in range(20)]
    assert made[0]["ConsumerStatus"] == "ACTIVE" and f"{arn}/consumer/c00:" in made[0]["ConsumerARN"]
    assert refused(kinesis.register_stream_consumer, StreamARN=arn, ConsumerName="c20")[0] == "LimitExceededException"
    assert refused(kinesis.register_stream_consumer, StreamARN=arn, ConsumerName="c00")[0] in {
        "ResourceInUseException",
        "LimitExceededException",
    }
    pages = kinesis.get_paginator("list_stream_consumers").paginate(StreamARN=arn, PaginationConfig={"PageSize": 7})
    assert [c["ConsumerName"] for page in pages for c in page["Consumers"]] == [f"c{n:02}" for n in range(20)]
    by_arn = kinesis.describe_stream_consumer(ConsumerARN=made[3]["ConsumerARN"])["ConsumerDescription"]
    by_name = kinesis.describe_stream_consumer(StreamARN=arn, ConsumerName="c03")["ConsumerDescription"]
    assert by_arn == by_name and by_arn["StreamARN"] == arn
    conflict = dict(ConsumerARN=made[3]["ConsumerARN"], ConsumerName="c04", StreamARN=arn)
    assert refused(kinesis.describe_stream_consumer, **conflict)[0] == "InvalidArgumentException"
    assert refused(kinesis.describe_stream_consumer, ConsumerName="c03")[0] == "InvalidArgumentException"
    assert refused(kinesis.delete_stream, StreamName=name)[0] == "ResourceInUseException"
    kinesis.deregister_stream_consumer(ConsumerARN=made[3]["ConsumerARN"])
    assert refused(kinesis.describe_stream_consumer, StreamARN=arn, ConsumerName="c03")[0] == "ResourceNotFoundException"
    assert kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["ConsumerCount"] == 19


def test_records_are_pushed_as_they_come(kinesis, consumer):  # noqa: F811
    name, _, arn = consumer()
    put = lambda n: kinesis.put_record(StreamName=name, Data=str(n).encode(), PartitionKey="k é")  # noqa: E731
    first = put(0)
    flow = subscribe(kinesis, arn)
    coming = events(flow)
    event = next(coming)
    assert [record["Data"] for record in event["Records"]] == [b"0"]
    assert event["Records"][0]["SequenceNumber"] == first["SequenceNumber"]
    assert event["Records"][0]["PartitionKey"] == "k é"
    assert abs(event["Records"][0]["ApproximateArrivalTimestamp"].timestamp() - time.time()) < 120
    assert event["MillisBehindLatest"] == 0
    for n in range(1, 4):
        put(n)
        while not (event := next(coming))["Records"]:
            pass  # a heartbeat
        assert [record["Data"] for record in event["Records"]] == [str(n).encode()]
    flow.close()
    put(4)
    later = kinesis.register_stream_consumer(
        StreamARN=arn.split("/consumer/")[0], ConsumerName="later"
    )["Consumer"]["ConsumerARN"]
    after = {"Type": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": event["ContinuationSequenceNumber"]}
    flow = subscribe(kinesis, later, **after)
    assert [record["Data"] for record in next(events(flow))["Records"]] == [b"4"]
    flow.close()


def test_a_shard_that_is_split_ends_its_subscription_with_its_children(kinesis, consumer):  # noqa: F811
    name, _, arn = consumer()
    kinesis.put_record(StreamName=name, Data=b"0", PartitionKey="k")
    coming = events(subscribe(kinesis, arn))
    assert next(coming)["Records"]
    kinesis.put_record(StreamName=name, Data=b"1", PartitionKey="k")
    kinesis.split_shard(StreamName=name, ShardToSplit="shardId-000000000000", NewStartingHashKey=str(SPACE // 2))
    rest = list(coming)
    assert [record["Data"] for event in rest for record in event["Records"]] == [b"1"]
    children = rest[-1]["ChildShards"]
    assert [child["ShardId"][-1] for child in children] == ["1", "2"]
    assert all(child["ParentShards"] == ["shardId-000000000000"] for child in children)
    for child in children:
        assert drain(kinesis, name, child["ShardId"]) == ([], [])


def test_a_second_subscription_waits_five_seconds_and_then_takes_over(kinesis, consumer, lake_server):  # noqa: F811
    name, _, arn = consumer()
    began = time.monotonic()
    first = events(subscribe(kinesis, arn, Type="LATEST"))
    next(first)
    other = lake_server.client("kinesis")
    asked, refusals = time.monotonic(), []

    def take_over():
        try:
            return subscribe(other, arn, Type="LATEST")
        except other.exceptions.ResourceInUseException as refusal:
            refusals.append(refusal)
            return None

    second = wait_until(take_over, what="the second subscription")
    # The first began after `began`, so nothing may be taken over until five seconds later.
    assert time.monotonic() - began >= 5
    assert refusals or asked - began >= 5, "a second one within five seconds is refused"
    from botocore.exceptions import EventStreamError

    with pytest.raises(EventStreamError) as error:
        list(first)
    assert error.value.response["Error"]["Code"] == "ResourceInUseException"
    kinesis.put_record(StreamName=name, Data=b"x", PartitionKey="k")
    found = next(event["Records"] for event in events(second) if event["Records"])
    assert found[0]["Data"] == b"x"
    second.close()


def test_what_cannot_be_subscribed_is_refused_before_any_event(kinesis, consumer):  # noqa: F811
    _, stream_arn, arn = consumer()
    start = {"Type": "LATEST"}

    def refusal(**more):
        return refused(
            kinesis.subscribe_to_shard,
            **{"ConsumerARN": arn, "ShardId": "shardId-000000000000", "StartingPosition": start, **more},
        )[0]

    assert refusal(ShardId="shardId-000000000009") == "ResourceNotFoundException"
    assert refusal(ConsumerARN=arn + "1") == "ResourceNotFoundException"
    assert refusal(ConsumerARN=stream_arn) == "ValidationException"
    assert refusal(StartingPosition={"Type": "AT_SEQUENCE_NUMBER"}) == "InvalidArgumentException"
    assert refusal(StartingPosition={"Type": "AT_SEQUENCE_NUMBER", "SequenceNumber": "123"}) == "InvalidArgumentException"
    assert refusal(StartingPosition={"Type": "ODD"}) == "ValidationException"


def test_deregistering_ends_a_subscription(kinesis, consumer):  # noqa: F811
    from botocore.exceptions import EventStreamError

    _, _, arn = consumer()
    coming = events(subscribe(kinesis, arn))
    next(coming)
    kinesis.deregister_stream_consumer(ConsumerARN=arn)
    with pytest.raises(EventStreamError) as error:
        list(coming)
    assert error.value.response["Error"]["Code"] == "ResourceNotFoundException"


def test_a_quiet_subscription_outlives_the_servers_timeouts_and_ends_with_the_server(tmp_path):
    server = Server(tmp_path / "data", "--head-timeout-ms", "1000", "--body-timeout-ms", "1000")
    try:
        server.start()
        client = server.client("kinesis")
        client.create_stream(StreamName="quiet", ShardCount=1)
        arn = client.describe_stream_summary(StreamName="quiet")["StreamDescriptionSummary"]["StreamARN"]
        reader = client.register_stream_consumer(StreamARN=arn, ConsumerName="reader")["Consumer"]["ConsumerARN"]
        coming = events(subscribe(client, reader))
        assert next(coming)["Records"] == []
        assert next(coming)["Records"] == [], "a heartbeat, seconds later"
        server.client("kinesis").put_record(StreamName="quiet", Data=b"x", PartitionKey="k")
        while not (event := next(coming))["Records"]:
            pass
        assert event["Records"][0]["Data"] == b"x"
        assert server.stop(timeout_s=60) == 0, "a subscription does not hold up the end"
        assert all(not event["Records"] for event in coming), "it ended cleanly"
    finally:
        server.kill()


def test_a_reader_goes_on_by_its_checkpoint_after_a_restart(tmp_path):
    server = Server(tmp_path / "data")
    try:
        server.start()
        client = server.client("kinesis")
        client.create_stream(StreamName="kept", ShardCount=1)
        put = lambda n: client.put_record(StreamName="kept", Data=str(n).encode(), PartitionKey="k")["SequenceNumber"]  # noqa: E731
        numbers = [put(n) for n in range(5)]
        iterator = client.get_shard_iterator(StreamName="kept", ShardId="shardId-000000000000", ShardIteratorType="LATEST")
        server.kill()
        server.start()
        client = server.client("kinesis")
        numbers.append(put(5))
        assert [int(number) for number in numbers] == sorted({int(number) for number in numbers})
        position = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": numbers[2]}
        records, _ = drain(client, "kept", "shardId-000000000000", **position)
        assert [record["Data"] for record in records] == [b"3", b"4", b"5"]
        assert [record["SequenceNumber"] for record in records] == numbers[3:]
        page = client.get_records(ShardIterator=iterator["ShardIterator"])
        assert [record["Data"] for record in page["Records"]] == [b"5"], "iterators outlive a restart"
        before = shards_of(client, "kept")
        assert before[0]["SequenceNumberRange"]["StartingSequenceNumber"] < numbers[0]
    finally:
        server.kill()
