"""What happens to a record on its way, through boto3: taken apart, decompressed, routed, and replayed when it failed."""

import base64
import gzip
import json
import re
import subprocess
import urllib.error
import urllib.request

import botocore.exceptions
import pytest
import queries
from alluvium_server import Server, binary, wait_until
from aws_kinesis_agg import aggregator
from test_firehose import destination

FIELDS = [{"name": "id", "type": "long"}, {"name": "kind", "type": "string"}]
JSON_PARTS = {"Type": "RecordDeAggregation", "Parameters": [{"ParameterName": "SubRecordType", "ParameterValue": "JSON"}]}
ROUTE = '{destinationDatabaseName:"sensors",destinationTableName:.kind}'


def processing(*processors):
    return {"ProcessingConfiguration": {"Enabled": True, "Processors": list(processors)}}


def processor(kind, **parameters):
    listed = [{"ParameterName": name, "ParameterValue": value} for name, value in parameters.items()]
    return {"Type": kind, "Parameters": listed}


def query(text):
    return processor("MetadataExtraction", MetadataExtractionQuery=text, JsonParsingEngine="JQ-1.6")


def envelope(*messages, kind="DATA_MESSAGE"):
    events = [{"id": str(at), "timestamp": at, "message": text} for at, text in enumerate(messages)]
    return gzip.compress(json.dumps({"messageType": kind, "owner": "o", "logEvents": events}).encode())


@pytest.fixture
def stream(lake_server, make_table, unique):
    """Makes a table and a stream into it: `stream(*processors)` answers both."""

    def make(*processors, evolves=False, **more):
        place, bucket, name = make_table(FIELDS), unique("errors"), unique("stream")
        lake_server.client("s3").create_bucket(Bucket=bucket)
        extra = {"SchemaEvolutionConfiguration": {"Enabled": True}} if evolves else {}
        extra |= processing(*processors) if processors else {}
        configuration = destination(place, bucket, RetryOptions={"DurationInSeconds": 0}, **extra)
        lake_server.client("firehose").create_delivery_stream(
            DeliveryStreamName=name,
            **{"DeliveryStreamType": "DirectPut", **more},
            IcebergDestinationConfiguration=configuration,
        )
        return {**place, "stream": name, "errors": bucket}

    return make


def put(server, name, *records):
    entries = [{"Data": record} for record in records]
    answer = server.client("firehose").put_record_batch(DeliveryStreamName=name, Records=entries)
    assert answer["FailedPutCount"] == 0


def ids(server, place, table=None):
    sql = f"SELECT id FROM {table or place['table']}"
    _, rows = queries.athena(server, sql, place["catalog"], place["namespace"])
    return sorted(int(row[0]) for row in rows)


def errors(server, bucket):
    s3 = server.client("s3")
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
    bodies = [(key, s3.get_object(Bucket=bucket, Key=key)["Body"].read()) for key in keys]
    return [(key, json.loads(line)) for key, body in bodies for line in body.splitlines()]


def test_a_record_of_many_objects_becomes_many_rows(lake_server, stream):
    place = stream(JSON_PARTS)
    put(lake_server, place["stream"], b'{"id":1}{"id":2}\n{"id":3}', b'{"id":4}\nnot json\n{"id":5}', b"[6]")
    wait_until(lambda: len(ids(lake_server, place)) == 5, what="five rows")
    assert ids(lake_server, place) == [1, 2, 3, 4, 5]
    lines = wait_until(lambda: errors(lake_server, place["errors"]), what="error lines")
    assert {base64.b64decode(line["rawData"]) for _, line in lines} == {b"not json", b"[6]"}
    assert {line["errorCode"] for _, line in lines} == {"RecordDeAggregation.InvalidJson"}
    assert all("/processing-failed/" in key for key, _ in lines)


def test_log_events_are_decompressed_and_extracted(lake_server, stream):
    place = stream(
        JSON_PARTS,
        processor("CloudWatchLogProcessing", DataMessageExtraction="true"),
        processor("Decompression", CompressionFormat="GZIP"),
    )
    put(
        lake_server,
        place["stream"],
        envelope('{"id":1}', '{"id":2}'),
        envelope("are you there?", kind="CONTROL_MESSAGE"),
        b"not compressed",
        gzip.compress(b"\0" * (40 << 20)),
    )
    wait_until(lambda: len(ids(lake_server, place)) == 2, what="two rows")
    lines = wait_until(lambda: errors(lake_server, place["errors"]), what="error lines")
    codes = sorted(line["errorCode"] for _, line in lines)
    assert codes == ["Decompression.InvalidGzip", "Decompression.TooLarge"]
    assert all("/decompression-failed/" in key for key, _ in lines)


def test_aggregates_of_the_kinesis_producer_library_are_unpacked(lake_server, stream, unique):
    kinesis, source = lake_server.client("kinesis"), unique("source")
    kinesis.create_stream(StreamName=source, ShardCount=1)
    kinesis.get_waiter("stream_exists").wait(StreamName=source)
    arn = kinesis.describe_stream_summary(StreamName=source)["StreamDescriptionSummary"]["StreamARN"]
    place = stream(
        DeliveryStreamType="KinesisStreamAsSource",
        KinesisStreamSourceConfiguration={"KinesisStreamARN": arn, "RoleARN": "arn:aws:iam::000000000000:role/firehose"},
    )
    packer = aggregator.RecordAggregator()
    for number in range(100):
        packer.add_user_record(f"key-{number % 7}", json.dumps({"id": number}), str(number) if number % 2 else None)
    key, _, packed = packer.clear_and_get().get_contents()
    damaged = packed[:-1] + bytes([packed[-1] ^ 1])
    for data in (packed, b'{"id":100}', damaged):
        kinesis.put_record(StreamName=source, PartitionKey=key, Data=data)
    wait_until(lambda: len(ids(lake_server, place)) >= 101, what="101 rows")
    assert ids(lake_server, place) == list(range(101))
    lines = wait_until(lambda: errors(lake_server, place["errors"]), what="the damaged aggregate")
    assert [base64.b64decode(line["rawData"]) for _, line in lines] == [damaged], "it is a plain record"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{a:[range(10)]}", "range"),
        ("{a:$ENV}", "ENV"),
        ("{a:(reduce .[] as $x (0; .+$x))}", "reduce"),
        ("def f: f; {a:f}", "def"),
        ("{a:halt}", "halt"),
        ("{a:", "too early"),
    ],
)
def test_filters_that_are_not_bounded_are_refused_by_name(stream, text, named):
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        stream(query(text))
    assert refused.value.response["Error"]["Code"] == "InvalidArgumentException"
    assert named in refused.value.response["Error"]["Message"]


def table_of(text):
    rows = [re.split(r"\s{2,}", line) for line in text.splitlines()[1:]]
    return {row[0]: [int(count) for count in row[1:]] for row in rows if len(row) == 5}


@pytest.fixture
def replayed(tmp_path):
    """A server whose stream routes by `kind`, with records of the table `later`, which is not there yet."""
    server = Server(tmp_path / "data", "--table-commit-interval-ms", "0").start()
    s3tables, firehose = server.client("s3tables"), server.client("firehose")
    arn = s3tables.create_table_bucket(name="replays")["arn"]
    s3tables.create_namespace(tableBucketARN=arn, namespace=["sensors"])
    region, account = arn.split(":")[3:5]
    place = {
        "arn": arn,
        "namespace": "sensors",
        "table": "now",
        "catalog_arn": f"arn:aws:glue:{region}:{account}:catalog/s3tablescatalog/replays",
        "catalog": "s3tablescatalog/replays",
    }
    table(server, place, "now")
    server.client("s3").create_bucket(Bucket="replay-errors")
    configuration = destination(
        place, "replay-errors", RetryOptions={"DurationInSeconds": 0}, **processing(JSON_PARTS, query(ROUTE))
    )
    firehose.create_delivery_stream(
        DeliveryStreamName="s", DeliveryStreamType="DirectPut", IcebergDestinationConfiguration=configuration
    )
    put(server, "s", b'{"id":1,"kind":"later"}{"id":2,"kind":"now"}', b'{"id":3,"kind":"later"}')
    wait_until(lambda: len(errors(server, "replay-errors")) == 2, what="two error lines")
    wait_until(lambda: ids(server, place, "now") == [2], what="a row")
    yield server, place
    server.kill()


def table(server, place, name):
    server.client("s3tables").create_table(
        tableBucketARN=place["arn"],
        namespace="sensors",
        name=name,
        format="ICEBERG",
        metadata={"iceberg": {"schema": {"fields": FIELDS}}},
    )


def replay(server, *args):
    done = subprocess.run(
        [binary(), "replay", "--stream", "s", "--data-dir", str(server.data_dir), *args],
        env=server.env,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done
    return done.stdout


def test_a_running_server_replays_what_failed_once(replayed):
    server, place = replayed
    table(server, place, "later")
    assert table_of(replay(server, "--dry-run"))["Iceberg.NoSuchTable"] == [2, 0, 0, 0]
    assert table_of(replay(server, "--until", "2001-01-01T00:00:00Z"))["all"] == [0, 0, 2, 0]
    assert table_of(replay(server))["all"] == [2, 0, 0, 0]
    wait_until(lambda: len(ids(server, place, "later")) == 2, what="two rows")
    again = replay(server)
    assert table_of(again)["all"] == [0, 2, 0, 0] and "Nothing was sent" in again
    assert ids(server, place, "later") == [1, 3] and ids(server, place, "now") == [2]


@pytest.mark.parametrize("running", [True, False])
def test_what_failed_before_an_update_of_the_error_prefix_is_replayed_too(replayed, running):
    server, place = replayed
    firehose = server.client("firehose")
    server.client("s3").create_bucket(Bucket="moved-errors")
    described = firehose.describe_delivery_stream(DeliveryStreamName="s")["DeliveryStreamDescription"]
    role = described["Destinations"][0]["IcebergDestinationDescription"]["RoleARN"]
    moved = {"RoleARN": role, "BucketARN": "arn:aws:s3:::moved-errors", "ErrorOutputPrefix": "elsewhere/"}
    firehose.update_destination(
        DeliveryStreamName="s", CurrentDeliveryStreamVersionId="1", DestinationId="destinationId-000000000001",
        IcebergDestinationUpdate={"S3Configuration": moved},
    )
    put(server, "s", b'{"id":4,"kind":"later"}')
    wait_until(lambda: len(errors(server, "moved-errors")) == 1, what="an error line at the new place")
    table(server, place, "later")
    if not running:
        assert server.stop() == 0
    assert table_of(replay(server))["all"] == [3, 0, 0, 0]
    if not running:
        server.start()
    wait_until(lambda: len(ids(server, place, "later")) == 3, what="three rows")
    assert table_of(replay(server))["all"] == [0, 3, 0, 0]
    assert ids(server, place, "later") == [1, 3, 4]


def test_a_stopped_server_replays_at_its_next_start_also_after_a_kill(replayed):
    server, place = replayed
    table(server, place, "later")
    assert server.stop() == 0
    server.env["ALLUVIUM_KILL_POINT"] = "replay-recorded"
    killed = subprocess.run(
        [binary(), "replay", "--stream", "s", "--data-dir", str(server.data_dir)], env=server.env, capture_output=True
    )
    assert killed.returncode < 0
    del server.env["ALLUVIUM_KILL_POINT"]
    assert table_of(replay(server))["all"] == [0, 2, 0, 0]
    server.start()
    wait_until(lambda: len(ids(server, place, "later")) == 2, what="two rows")
    assert ids(server, place, "later") == [1, 3] and ids(server, place, "now") == [2]


def test_the_page_of_a_replay_wants_a_signature(replayed):
    server, _ = replayed
    request = urllib.request.Request(server.endpoint + "/_alluvium/replay", data=b"{}", method="POST")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 403
