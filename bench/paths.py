"""The parts of `bench/run` for Kinesis, routing, updates, S3 and many streams: each against the plain way, in one run."""

import contextlib
import datetime
import json
import subprocess
import tempfile
import time

from rig import (
    ERRORS, NAMESPACE, STREAM, TABLE, cpu_s, create_stream, create_table, fresh, generator, lake, load, metrics, quantile,
    role_of, say, summary_of,
)

KEYS = 99_999
ROUTES = 10


def compared(results, base):
    """CPU time per record against that of `base`."""
    cost = {name: figures["cpu_s_per_million"] for name, figures in results.items()}
    return {name: round(value / cost[base], 2) for name, value in cost.items() if name != base and cost[base]}


def warm(server, options, *args, **more):
    load(server, options, *args, "--records", "50000", "--rate", "max", seconds=30, **more)


def best(server, options, *args, **more):
    """The round with the least CPU time per record, after a warm-up."""
    warm(server, options, *args, **more)
    full = ("--rate", "max", "--connections", str(options.connections), "--for", f"{options.seconds}s")
    rounds = [load(server, options, *args, *full, seconds=options.seconds, **more)[1] for _ in range(options.rounds)]
    found = min(rounds, key=lambda figures: figures["cpu_s_per_million"])
    return {**found, "cpu_s_per_million_all": [figures["cpu_s_per_million"] for figures in rounds]}


def put_only(server, options, *args):
    """CPU time of acknowledged calls alone: fewer bytes than a buffer holds, so that nothing is delivered meanwhile."""
    summary_of(generator(server, *args, "--records", "50000", "--rate", "max"), 60)
    before = cpu_s(server.process.pid)
    full = ("--rate", "max", "--connections", str(options.connections), "--records", "700000")
    summary = summary_of(generator(server, *args, *full), 60)
    cost = (cpu_s(server.process.pid) - before) / summary["records"] * 1e6
    return {"cpu_s_per_million": round(cost, 3), "acknowledged_per_s": summary["records_per_s"], "failed": summary["failed"]}


def kinesis(options, _results):
    """Direct PUT against Kinesis: acknowledged only, and all the way into a table."""
    found, rows = {}, {}
    with fresh(options) as server:
        arn = lake(server)
        create_table(server, arn, TABLE)
        create_stream(server.client("firehose"), arn, STREAM, TABLE, 900, 128)
        found["direct_put"] = put_only(server, options, "--stream", STREAM, "--sensors", str(KEYS))
    with fresh(options) as server:
        server.client("kinesis").create_stream(StreamName=STREAM, ShardCount=options.shards)
        found["kinesis_put"] = put_only(server, options, "--stream", STREAM, "--to", "kinesis", "--sensors", str(KEYS))
    with fresh(options) as server:
        arn = lake(server)
        create_table(server, arn, TABLE)
        create_stream(server.client("firehose"), arn, STREAM, TABLE, 1, 64)
        rows["direct_to_iceberg"] = best(server, options, "--stream", STREAM, "--sensors", str(KEYS))
    rows["kinesis_to_iceberg"] = kinesis_to_iceberg(options)
    # With a log so small that nearly all records are moved to lane segments meanwhile, as they are in the long run.
    rows["kinesis_to_iceberg_moving"] = kinesis_to_iceberg(options, "--log-budget", "512MiB")
    return {**found, **rows, "cpu_ratio": {**compared(found, "direct_put"), **compared(rows, "direct_to_iceberg")}}


def kinesis_to_iceberg(options, *server_args):
    with fresh(options, *server_args) as server:
        arn, client = lake(server), server.client("kinesis")
        client.create_stream(StreamName=STREAM, ShardCount=options.shards)
        client.get_waiter("stream_exists").wait(StreamName=STREAM)
        stream_arn = client.describe_stream_summary(StreamName=STREAM)["StreamDescriptionSummary"]["StreamARN"]
        source = {
            "DeliveryStreamType": "KinesisStreamAsSource",
            "KinesisStreamSourceConfiguration": {"KinesisStreamARN": stream_arn, "RoleARN": role_of(arn)},
        }
        create_table(server, arn, TABLE)
        create_stream(server.client("firehose"), arn, STREAM, TABLE, 1, 64, source=source)
        measured = best(server, options, "--stream", STREAM, "--to", "kinesis", "--sensors", str(KEYS))
        names = {"moved_bytes": "alluvium_log_moved_bytes_total", "journal_bytes": "alluvium_log_size_bytes"}
        return {**measured, **{name: int(metrics(server).get(metric, 0)) for name, metric in names.items()}}


def processing(query):
    parameters = {"MetadataExtractionQuery": query, "JsonParsingEngine": "JQ-1.6"}
    listed = [{"ParameterName": name, "ParameterValue": value} for name, value in parameters.items()]
    return {"Enabled": True, "Processors": [{"Type": "MetadataExtraction", "Parameters": listed}]}


def routing(options, _results):
    """One table without a query, against ten tables chosen by each record, by our fast way and by jaq."""
    plain = f'{{destinationDatabaseName:"{NAMESPACE}",destinationTableName:.route,operation:"insert"}}'
    other = f'{{destinationDatabaseName:"{NAMESPACE}",destinationTableName:(.route|ascii_downcase),operation:"insert"}}'
    found = {}
    for name, query in (("none", None), ("ten_tables", plain), ("ten_tables_jaq", other)):
        with fresh(options) as server:
            arn = lake(server)
            for table in [TABLE, *(f"route_{number}" for number in range(ROUTES))]:
                create_table(server, arn, table)
            more = {"ProcessingConfiguration": processing(query)} if query else {}
            create_stream(server.client("firehose"), arn, STREAM, TABLE, 1, 64, **more)
            found[name] = best(server, options, "--stream", STREAM, "--routes", str(ROUTES), wait_s=300)
            say(f"routing, {name}: {found[name]}")
    return {**found, "cpu_ratio": compared(found, "none")}


def upserts(options, _results):
    """Inserts against updates of as many keys, in the same table."""
    found = {}
    for name in ("insert", "update"):
        with fresh(options) as server:
            arn = lake(server)
            create_table(server, arn, TABLE)
            target = {"DestinationDatabaseName": NAMESPACE, "DestinationTableName": TABLE, "UniqueKeys": ["sensor_id"]}
            query = f'{{destinationDatabaseName:"{NAMESPACE}",destinationTableName:"{TABLE}",operation:"{name}"}}'
            more = {"DestinationTableConfigurationList": [target], "ProcessingConfiguration": processing(query)}
            create_stream(server.client("firehose"), arn, STREAM, TABLE, 1, 64, **more)

            args = ("--stream", STREAM, "--sensors", str(KEYS))
            found[name] = best(server, options, *args, rows_only=False, wait_s=300)
            say(f"upserts, {name}: {found[name]}")
    return {**found, "keys": KEYS, "cpu_ratio": compared(found, "insert")}


def s3(options, _results):
    """Objects as they are, against GZIP: what compressing adds, and what the same compressor takes alone for an object
    of the first, in one thread."""
    found = {}
    for compression in ("UNCOMPRESSED", "GZIP"):
        with fresh(options) as server:
            server.client("s3").create_bucket(Bucket=ERRORS)
            role = "arn:aws:iam::000000000000:role/firehose"
            server.client("firehose").create_delivery_stream(
                DeliveryStreamName=STREAM,
                DeliveryStreamType="DirectPut",
                ExtendedS3DestinationConfiguration={
                    "RoleARN": role,
                    "BucketARN": f"arn:aws:s3:::{ERRORS}",
                    "BufferingHints": {"IntervalInSeconds": 1, "SizeInMBs": 64},
                    "CompressionFormat": compression,
                },
            )

            found[compression.lower()] = best(server, options, "--stream", STREAM, rows_only=False)
            say(f"s3, {compression}: {found[compression.lower()]}")
            if compression == "UNCOMPRESSED":
                found_alone = compressor_alone(server, options)
    added = found["gzip"]["cpu_s_per_million"] - found["uncompressed"]["cpu_s_per_million"]
    alone = found_alone["cpu_s_per_million"]
    ratios = {**compared(found, "uncompressed"), "added_to_compressor_alone": round(added / alone, 2)}
    return {**found, "compressor_alone": found_alone, "added_cpu_s_per_million": round(added, 3), "cpu_ratio": ratios}


def compressor_alone(server, options):
    """The compressor's own CPU time for the largest object that was delivered as it is."""
    s3 = server.client("s3")
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=ERRORS)
    largest = max((found for page in pages for found in page.get("Contents", [])), key=lambda found: found["Size"])
    with tempfile.NamedTemporaryFile(dir=options.dir) as file:
        s3.download_fileobj(ERRORS, largest["Key"], file)
        file.flush()
        file.seek(0)
        records = file.read().count(b'"sensor_id"')
        out = subprocess.run([options.compressor, file.name], capture_output=True, text=True, check=True).stdout
    figures = json.loads(out)
    return {**figures, "records": records, "cpu_s_per_million": round(figures["cpu_seconds"] / records * 1e6, 3)}


def flat(options, _results):
    """The same rate into one delivery stream and into many, each with a table and a buffer of a minute; for whole
    minutes, so that every batch is of one, and for some, for in the first of them the log grows."""
    found = {}
    for count in (1, options.streams):
        with fresh(options) as server:
            arn, firehose = lake(server), server.client("firehose")
            for index in range(count):
                create_table(server, arn, f"{TABLE}_{index:05}")
                create_stream(firehose, arn, f"{STREAM}-{index:05}", f"{TABLE}_{index:05}", 60, 128)
            args = ("--stream", STREAM, "--streams", str(count), "--rate", str(options.flat_rate), "--for", f"{options.flat_s}s")
            # The page of metrics has some series of every stream: asked ten times a second, it would be measured, too.
            _, found[f"streams_{count}"] = load(
                server, options, *args, "--connections", str(options.connections), seconds=options.flat_s, wait_s=300, ask_s=1
            )
            say(f"flat, {count}: {found[f'streams_{count}']}")
    return {**found, "cpu_ratio": compared(found, "streams_1")}


def pages(options, _results):
    """`GetRecords` pages of 10 MB from one shard: from the call to the parsed answer, in Python."""
    with fresh(options) as server:
        client = server.client("kinesis")
        client.create_stream(StreamName=STREAM, ShardCount=1)
        client.get_waiter("stream_exists").wait(StreamName=STREAM)
        data = b"x" * 100_000
        for _ in range(15):
            client.put_records(StreamName=STREAM, Records=[{"Data": data, "PartitionKey": "k"}] * 100)
        first = client.get_shard_iterator(StreamName=STREAM, ShardId="shardId-000000000000", ShardIteratorType="TRIM_HORIZON")
        took, sizes = [], []
        for _ in range(options.pages):
            begun = time.monotonic()
            answer = client.get_records(ShardIterator=first["ShardIterator"], Limit=10_000)
            took.append(time.monotonic() - begun)
            sizes.append(sum(len(record["Data"]) for record in answer["Records"]))
    ms = [round(quantile(took, part) * 1000, 1) for part in (0.5, 0.99)]
    return {"pages": len(took), "bytes": sizes[0], "p50_ms": ms[0], "p99_ms": ms[1]}


def fanout(options, _results):
    """From a record's arrival to its event at a subscriber, beside a load on the same shard."""
    with fresh(options) as server:
        client = server.client("kinesis")
        client.create_stream(StreamName=STREAM, ShardCount=1)
        client.get_waiter("stream_exists").wait(StreamName=STREAM)
        arn = client.describe_stream_summary(StreamName=STREAM)["StreamDescriptionSummary"]["StreamARN"]
        consumer = client.register_stream_consumer(StreamARN=arn, ConsumerName="bench")["Consumer"]["ConsumerARN"]
        events = client.subscribe_to_shard(
            ConsumerARN=consumer, ShardId="shardId-000000000000", StartingPosition={"Type": "LATEST"}
        )["EventStream"]
        rate = str(options.fanout_rate)
        beside = generator(server, "--stream", STREAM, "--to", "kinesis", "--rate", rate, "--for", f"{options.seconds + 5}s")
        waits, until = [], time.monotonic() + options.seconds
        try:
            for event in events:
                now = datetime.datetime.now(datetime.UTC)
                records = event["SubscribeToShardEvent"]["Records"]
                waits.extend((now - record["ApproximateArrivalTimestamp"]).total_seconds() for record in records)
                if time.monotonic() > until:
                    break
        finally:
            with contextlib.suppress(Exception):
                events.close()
            beside.kill()
            beside.communicate()
    ms = [round(quantile(waits, part) * 1000, 1) for part in (0.5, 0.99)]
    return {"rate_per_s": options.fanout_rate, "records": len(waits), "p50_ms": ms[0], "p99_ms": ms[1], "max_ms": round(max(waits) * 1000, 1)}
