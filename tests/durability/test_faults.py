"""Kills beside other writers and over many streams, full disks and logs, drains, damage: nothing is lost."""

import os
import re
import shutil
import signal
import subprocess
import threading
import urllib.error
import urllib.request

import pytest
from botocore.exceptions import BotoCoreError, ClientError

import pipeline
from alluvium_server import Server, binary, wait_until
from ledger import Ledger, Load, record

STREAMS = 20


@pytest.fixture
def lake(tmp_path):
    server = Server(tmp_path / "data", "--table-commit-interval-ms", "0")
    yield server
    server.kill()


def load(server, ledgers, seed):
    """One loader a ledger, each on its own stream."""
    client = server.client("firehose", retries={"total_max_attempts": 1}, read_timeout=20)
    loaders = [
        Load(client, pipeline.name_of(pipeline.STREAM, index), ledger, seed + index, batch_max=50)
        for index, ledger in enumerate(ledgers)
    ]
    for loader in loaders:
        loader.start()
    return loaders


def stop(loaders):
    for loader in loaders:
        loader.stopping.set()
    for loader in loaders:
        loader.stop()


def settle(server, ledgers):
    for index, ledger in enumerate(ledgers):
        pipeline.settled(server, ledger, index)
    assert pipeline.errors(server) == {}


def test_kills_under_many_streams_lose_and_double_nothing(lake):
    ledgers = [Ledger() for _ in range(STREAMS)]
    lake.start()
    pipeline.create(lake, streams=STREAMS)
    for turn in range(3):
        loaders = load(lake, ledgers, turn * 100)
        for ledger in ledgers:
            assert ledger.wait_for(10), "one stream starves"
        lake.kill()
        stop(loaders)
        lake.start()
    settle(lake, ledgers)
    print(f"{sum(len(ledger.acknowledged) for ledger in ledgers)} records over {STREAMS} streams")


def test_kills_while_another_writer_commits_to_the_same_table(lake):
    """PyIceberg's acknowledged appends are in the table once too, beside the stream's."""
    import pyarrow

    ledger, theirs, tried = Ledger(), set(), iter(range(10**9, 2 * 10**9))
    # PyIceberg takes a second to prepare a commit; a stream that commits without a pause always wins.
    lake.args[-1] = "8000"
    lake.start()
    pipeline.create(lake)
    for turn in range(3):
        loaders = load(lake, [ledger], turn)
        table = pipeline.catalog(lake).load_table((pipeline.NAMESPACE, pipeline.TABLE))
        done = threading.Event()

        def write():
            for number in tried:
                rows = pyarrow.table({"id": [number], "name": ["theirs"], "value": [1]}, table.schema().as_arrow())
                try:
                    table.refresh()
                    table.append(rows)
                except Exception as problem:  # noqa: BLE001
                    if "Commit" in type(problem).__name__:
                        continue  # a lost race, or an outcome that the client was told is unknown
                    return
                theirs.add(number)
                if len(theirs) % 2 == 0:
                    done.set()

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        assert done.wait(180), "the other writer commits nothing beside the stream"
        assert ledger.wait_for(50)
        lake.kill()
        stop(loaders)
        writer.join(60)
        lake.start()
    wait_until(
        lambda: ledger.acknowledged | theirs <= set(pipeline.ids(lake)), timeout_s=300, what="everybody's rows"
    )
    found = pipeline.ids(lake)
    ledger.compare([n for n in found if n < 10**9])
    assert len(found) == len(set(found))


def test_sigterm_under_load_exits_0_and_loses_nothing(lake):
    ledger = Ledger()
    lake.start()
    pipeline.create(lake, interval_s=900, size_mib=128)
    loaders = load(lake, [ledger], 3)
    assert ledger.wait_for(500)
    assert lake.stop() == 0
    stop(loaders)
    assert "SIGTERM" in lake.log_tail()
    lake.start()
    deliver_at_once(lake)
    settle(lake, [ledger])


def deliver_at_once(server):
    firehose = server.client("firehose")
    described = firehose.describe_delivery_stream(DeliveryStreamName=pipeline.STREAM)["DeliveryStreamDescription"]
    firehose.update_destination(
        DeliveryStreamName=pipeline.STREAM,
        CurrentDeliveryStreamVersionId=described["VersionId"],
        DestinationId=described["Destinations"][0]["DestinationId"],
        IcebergDestinationUpdate={"BufferingHints": {"IntervalInSeconds": 0, "SizeInMBs": 1}},
    )


def test_a_full_disk_refuses_puts_and_recovers_when_room_is_made(disks):
    disk = disks("full").create(size_mib=1024).attach()
    server = Server(disk.mount / "data", "--table-commit-interval-ms", "0", log=disk.image.with_suffix(".log"))
    ledger = Ledger()
    try:
        server.start()
        pipeline.create(server)
        client = server.client("firehose", retries={"total_max_attempts": 1})
        loader = Load(client, pipeline.STREAM, ledger, 5)
        loader.send(list(ledger.take(100)))
        filler = disk.mount / "filler"
        subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=1M"], capture_output=True, check=False)
        refused = put_until_refused(client, ledger)
        assert refused["ResponseMetadata"]["HTTPStatusCode"] == 503, refused
        assert refused["Error"]["Code"] == "ServiceUnavailableException"
        filler.unlink()

        def taken_again():
            try:
                loader.send(list(ledger.take(1)))
            except ClientError:
                return False
            return True

        wait_until(taken_again, what="puts are taken again")
        assert server.process.poll() is None, "the server outlives a full disk"
        settle(server, [ledger])
    finally:
        server.kill()


def test_a_log_at_its_budget_refuses_puts_keeps_all_and_recovers(tmp_path):
    """Without its table a stream keeps its records in the log; once the table is back, they are in it."""
    server = Server(tmp_path / "data", "--table-commit-interval-ms", "0", "--log-budget", "256MiB")
    ledger = Ledger()
    try:
        server.start()
        pipeline.create(server)
        s3tables = server.client("s3tables")
        arn = s3tables.list_table_buckets()["tableBuckets"][0]["arn"]
        s3tables.delete_table(tableBucketARN=arn, namespace=pipeline.NAMESPACE, name=pipeline.TABLE)
        client = server.client("firehose", retries={"total_max_attempts": 1})
        refused = put_until_refused(client, ledger)
        assert refused["Error"]["Code"] == "ServiceUnavailableException", refused
        server.kill()
        server.start()  # with as much in the log as it may hold
        pipeline.create_table(server, pipeline.TABLE, arn)
        settle(server, [ledger])
        loader = Load(server.client("firehose", retries={"total_max_attempts": 1}), pipeline.STREAM, ledger, 5)
        loader.send(list(ledger.take(1)))
        settle(server, [ledger])
    finally:
        server.kill()


def test_a_low_disk_refuses_puts_while_delivery_still_has_room(disks):
    """Between the two lines clients are refused and what was acknowledged is delivered all the same."""
    disk = disks("low").create(size_mib=2048).attach()
    server = Server(disk.mount / "data", "--table-commit-interval-ms", "0", log=disk.image.with_suffix(".log"))
    ledger = Ledger()
    try:
        server.start()
        pipeline.create(server, interval_s=900, size_mib=128)
        client = server.client("firehose", retries={"total_max_attempts": 1})
        loader = Load(client, pipeline.STREAM, ledger, 5)
        loader.send(list(ledger.take(100)))
        # The log makes its next segment meanwhile; what that takes must not be counted as free.
        log = server.data_dir / "log"
        wait_until(lambda: list(log.glob("*.free")) and not list(log.glob("*.tmp")), what="the next segment is made")
        free = shutil.disk_usage(disk.mount).free
        filler = disk.mount / "filler"
        with open(filler, "wb") as file:
            # A twentieth of 2 GiB is 102 MiB, an eightieth 25 MiB.
            os.posix_fallocate(file.fileno(), 0, free - 60 * 2**20)

        def refused():
            try:
                loader.send(list(ledger.take(1)))
            except ClientError as refusal:
                return refusal.response
            return None

        answer = wait_until(refused, what="a put is refused")
        assert answer["Error"]["Code"] == "ServiceUnavailableException", answer
        assert "nearly full" in answer["Error"]["Message"], answer
        deliver_at_once(server)
        # Not by a query: its result is an object of the client's, and refused too.
        pipeline.wait_for_rows(server, len(ledger.acknowledged))
        ledger.compare(pipeline.ids(server))
        assert refused(), "the disk is still low"
        filler.unlink()
        wait_until(lambda: not refused(), what="puts are taken again")
        settle(server, [ledger])
    finally:
        server.kill()


def put_until_refused(client, ledger):
    """Sends 4 MB calls until one is refused; the refusal."""
    for _ in range(400):
        numbers = ledger.take(4)
        records = [{"Data": record(n, pad=900_000)} for n in numbers]
        try:
            answer = client.put_record_batch(DeliveryStreamName=pipeline.STREAM, Records=records)
        except ClientError as refusal:
            return refusal.response
        codes = {each.get("ErrorCode") for each in answer["RequestResponses"]} - {None}
        ledger.acknowledge(n for n, each in zip(numbers, answer["RequestResponses"]) if "RecordId" in each)
        if codes:
            return {"Error": {"Code": codes.pop()}, "ResponseMetadata": {"HTTPStatusCode": 503}}
    raise AssertionError("nothing was refused in 1.4 GB")


def test_a_flipped_byte_in_the_log_is_told_and_never_skipped(lake):
    """Acknowledged records that cannot be read back are an error that explains itself, not silence. What an
    operator gives up is given up, its neighbours are delivered, and the stream goes on."""
    lake.start()
    pipeline.create(lake, interval_s=900, size_mib=128)
    client = lake.client("firehose")
    for first in range(3):
        client.put_record(DeliveryStreamName=pipeline.STREAM, Record={"Data": record(first)})
    lake.kill()
    flip(lake.data_dir / "log", record(1))
    check = subprocess.run(
        [binary(), "log", "check", "--data-dir", str(lake.data_dir)], capture_output=True, text=True, env=lake.env
    )
    print(check.stdout + check.stderr)
    assert check.returncode == 1
    lake.start()
    with pytest.raises(ClientError):
        lake.client("firehose").put_record(DeliveryStreamName=pipeline.STREAM, Record={"Data": b"{}"})
    assert "quarantined" in lake.log_tail()
    with pytest.raises(urllib.error.HTTPError, match="503"):
        urllib.request.urlopen(f"{lake.endpoint}/_alluvium/health")
    lake.kill()
    accepted = re.findall(r"--accept-damage (\S+)", check.stdout)
    repair = [binary(), "log", "repair", "--data-dir", str(lake.data_dir)]
    repair += [part for each in accepted for part in ("--accept-damage", each)]
    repaired = subprocess.run(repair, capture_output=True, text=True, env=lake.env)
    assert repaired.returncode == 0 and "sound" in repaired.stdout, repaired
    lake.start()
    urllib.request.urlopen(f"{lake.endpoint}/_alluvium/health").close()
    deliver_at_once(lake)
    lake.client("firehose").put_record(DeliveryStreamName=pipeline.STREAM, Record={"Data": record(3)})
    pipeline.wait_for_rows(lake, 3)
    assert sorted(pipeline.ids(lake)) == [0, 2, 3]


def flip(directory, wanted):
    for path in sorted(directory.iterdir()):
        content = bytearray(path.read_bytes())
        at = content.find(wanted)
        if at >= 0:
            content[at + 10] ^= 1
            path.write_bytes(content)
            return
    raise AssertionError("the record is not in the log")
