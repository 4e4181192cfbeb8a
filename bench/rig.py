"""What every part of the benchmark uses: the server as a process, its metrics, a pipeline, the load."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request

import alluvium_server
from alluvium_server import Server

BUCKET, NAMESPACE, TABLE, STREAM, ERRORS = "bench-lake", "sensors", "readings", "sensors", "bench-errors"
FIELDS = [
    {"name": "sensor_id", "type": "string"},
    {"name": "timestamp", "type": "long"},
    {"name": "location", "type": "string"},
    {"name": "temperature", "type": "double"},
    {"name": "humidity", "type": "double"},
    {"name": "pressure", "type": "double"},
]
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def quantile(values, part):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else None


# --- the process -------------------------------------------------------------------------------


def cpu_s(pid):
    """User and system time of the process and all of its threads, in seconds."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def memory_mb(pid):
    """Resident memory now and at its highest, and the part of it that is not backed by files."""
    pairs = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines())
    mb = {key: round(int(pairs[key].split()[0]) / 1024, 1) for key in ("VmRSS", "RssAnon", "VmHWM")}
    return {"rss": mb["VmRSS"], "anonymous": mb["RssAnon"], "peak": mb["VmHWM"]}


def metrics(server):
    """Every sample of the exporter, labels summed away, plus samples with labels by their full name."""
    with urllib.request.urlopen(f"{server.endpoint}/_alluvium/metrics", timeout=30) as answer:
        text = answer.read().decode()
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            plain = name.partition("{")[0]
            if not plain.endswith("_bucket"):
                found[plain] = found.get(plain, 0.0) + float(value)
    return found


def rows_in_tables(server):
    return int(metrics(server).get("alluvium_delivery_rows_total", 0))


@contextlib.contextmanager
def fresh(options, *args):
    root = pathlib.Path(tempfile.mkdtemp(prefix="alluvium-bench-", dir=options.dir))
    server = Server(root / "data", *args)
    try:
        yield server.start()
    finally:
        server.kill()
        if not options.keep:
            shutil.rmtree(root, ignore_errors=True)


# --- the pipeline ------------------------------------------------------------------------------


def lake(server):
    """A table bucket with a namespace, and a bucket for errors; the table bucket's ARN."""
    s3tables = server.client("s3tables")
    arn = s3tables.create_table_bucket(name=BUCKET)["arn"]
    s3tables.create_namespace(tableBucketARN=arn, namespace=[NAMESPACE])
    server.client("s3").create_bucket(Bucket=ERRORS)
    return arn


def create_table(server, arn, table):
    metadata = {"iceberg": {"schema": {"fields": FIELDS}}}
    s3tables = server.client("s3tables")
    s3tables.create_table(tableBucketARN=arn, namespace=NAMESPACE, name=table, format="ICEBERG", metadata=metadata)


def create(server, streams=1, interval_s=1, size_mib=64):
    """A lake, and delivery streams with a table each."""
    arn, firehose = lake(server), server.client("firehose")
    for index in range(streams):
        table = TABLE if streams == 1 else f"{TABLE}_{index:05}"
        stream = STREAM if streams == 1 else f"{STREAM}-{index:05}"
        create_table(server, arn, table)
        create_stream(firehose, arn, stream, table, interval_s, size_mib)
    return firehose


def role_of(arn):
    return f"arn:aws:iam::{arn.split(':')[4]}:role/firehose"


def create_stream(firehose, arn, stream, table, interval_s, size_mib, source=None, **more):
    """A delivery stream into one table; `more` goes into the destination, `source` beside it."""
    region, account = arn.split(":")[3:5]
    role = role_of(arn)
    catalog = f"arn:aws:glue:{region}:{account}:catalog/s3tablescatalog/{BUCKET}"
    firehose.create_delivery_stream(
        DeliveryStreamName=stream,
        **(source or {"DeliveryStreamType": "DirectPut"}),
        IcebergDestinationConfiguration={
            "RoleARN": role,
            "CatalogConfiguration": {"CatalogARN": catalog},
            "DestinationTableConfigurationList": [
                {"DestinationDatabaseName": NAMESPACE, "DestinationTableName": table}
            ],
            "BufferingHints": {"IntervalInSeconds": interval_s, "SizeInMBs": size_mib},
            "S3Configuration": {"RoleARN": role, "BucketARN": f"arn:aws:s3:::{ERRORS}"},
            **more,
        },
    )


def generator(server, *args):
    """The load generator beside the server; `.communicate()` yields its JSON line."""
    command = [alluvium_server.binary(), "generate", "sensors", "--quiet", "--data-dir", str(server.data_dir)]
    return subprocess.Popen([*command, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def summary_of(process, timeout_s):
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise RuntimeError("the generator did not end in time") from None
    if process.returncode != 0:
        raise RuntimeError(f"the generator failed: {err.strip()[-500:]}")
    return json.loads(out.strip().splitlines()[-1])


def nothing_waits(server):
    """Whether all that was put is delivered, wherever it went."""
    samples = metrics(server)
    return not (samples.get("alluvium_delivery_waiting_bytes") or samples.get("alluvium_delivery_lag_seconds"))


def load(server, options, *args, seconds, wait_s=120, rows_only=True, ask_s=0.1):
    """Loads the server and waits until every acknowledged record is a row (or, for records that end elsewhere,
    until nothing waits), asking each `ask_s`; figures of both."""
    pid = server.process.pid
    rows_before, cpu_before, begun = rows_in_tables(server), cpu_s(pid), time.monotonic()
    process = generator(server, *args)
    summary = summary_of(process, seconds + 60)
    acknowledged = summary["records"]

    def delivered():
        return rows_in_tables(server) - rows_before if rows_only else acknowledged * nothing_waits(server)

    deadline = time.monotonic() + wait_s
    while (rows := delivered()) < acknowledged and time.monotonic() < deadline:
        time.sleep(ask_s)  # asking costs the server CPU time, too
    took, cpu = time.monotonic() - begun, cpu_s(pid) - cpu_before
    if rows < acknowledged:
        raise RuntimeError(f"{rows} of {acknowledged} records were delivered after {wait_s} s more")
    return summary, {
        "records": acknowledged,
        "acknowledged_per_s": summary["records_per_s"],
        "to_table_per_s": round(acknowledged / took),
        "cpu_s_per_million": round(cpu / acknowledged * 1e6, 3),
        "server_cores_used": round(cpu / took, 2),
        "bytes_per_record": round(summary["bytes"] / max(1, acknowledged), 1),
        "failed": summary["failed"],
        "ack_ms": {key: summary[f"ack_ms_{key}"] for key in ("p50", "p99", "max")},
    }


def athena(client, sql):
    started = client.start_query_execution(
        QueryString=sql,
        QueryExecutionContext={"Catalog": f"s3tablescatalog/{BUCKET}", "Database": NAMESPACE},
    )["QueryExecutionId"]
    while True:
        status = client.get_query_execution(QueryExecutionId=started)["QueryExecution"]["Status"]
        if status["State"] == "SUCCEEDED":
            rows = client.get_query_results(QueryExecutionId=started)["ResultSet"]["Rows"]
            return [[cell.get("VarCharValue") for cell in row["Data"]] for row in rows[1:]]
        if status["State"] in ("FAILED", "CANCELLED"):
            raise RuntimeError(f"{sql}: {status}")
        time.sleep(0.002)
