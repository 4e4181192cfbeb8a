"""Cuts the power: only what was synced to the device survives.

The data directory lies on ext4 on a loop device, mounted with `commit=300`, so that the kernel writes
nothing by itself during the test. The process is stopped, the backing file is copied, and a new server
starts on the copy: what no `fsync` reached is not in it. (A kill cannot show this: the page cache
survives a kill.)
"""

import os
import random
import re
import signal
import subprocess

import pytest
from botocore.exceptions import BotoCoreError, ClientError

import pipeline
from alluvium_server import Server, binary
from disk import failing_disk
from ledger import Ledger, Load, record

CUTS = int(os.environ.get("ALLUVIUM_POWER_CUTS", "8"))
SEED = int(os.environ.get("ALLUVIUM_CRASH_SEED", random.SystemRandom().randrange(2**32)))


def test_what_was_acknowledged_survives_power_cuts(disks):
    print(f"seed {SEED}, {CUTS} cuts")
    chance = random.Random(SEED)
    ledger = Ledger()
    disk = disks("disk-0").create().attach()
    server = Server(disk.mount / "data", *pipeline.FLAGS, log=disk.image.with_suffix(".log"))
    try:
        server.start()
        pipeline.create(server)
        for cut in range(CUTS):
            loaders = [
                Load(server.client("firehose", retries={"total_max_attempts": 1}, read_timeout=5), pipeline.STREAM,
                     ledger, SEED + cut * 10 + n) for n in range(3)
            ]
            for loader in loaders:
                loader.start()
            assert ledger.wait_for(chance.choice([5, 200, 2000])), "no progress under load"
            server.signal(signal.SIGSTOP)
            os.waitid(os.P_PID, server.process.pid, os.WSTOPPED | os.WNOWAIT)
            acknowledged = set(ledger.acknowledged)
            after = disks(f"disk-{cut + 1}")
            disk.image_of_what_was_synced(after)
            server.kill()
            for loader in loaders:
                loader.stop()
            assert ledger.acknowledged >= acknowledged
            disk.detach()
            disk.image.unlink()
            disk = after.attach()
            server = Server(disk.mount / "data", *server.args, log=server.log_path)
            server.start()
        pipeline.settled(server, ledger)
        pipeline.sound(server, pipeline.TABLE)
        assert pipeline.errors(server) == {}
    finally:
        server.kill()


def test_a_cut_loses_nothing_that_was_synced(disks, tmp_path):
    assert left_after_a_cut(disks, tmp_path, "synced") == ALL


@pytest.mark.parametrize("forget", ["/log/", "records.sqlite-wal", "/objects/"])
def test_a_cut_shows_a_missing_sync(disks, tmp_path, forget):
    """The test of the test: where syncs of one kind of file do nothing, a cut loses what was acknowledged.

    The kernel may write pages by itself when memory is short: one try that loses something is proof.
    """
    tries = (left_after_a_cut(disks, tmp_path, f"forgotten-{n}", forget) for n in range(3))
    assert any(left != ALL for left in tries)


def left_after_a_cut(disks, tmp_path, name, forget=None):
    """How many of 20 acknowledged records the log still has after a cut, and whether an object is whole."""
    disk, after = disks(name).create().attach(), disks(f"{name}-after")
    server = Server(disk.mount / "data", log=tmp_path / f"{name}.log")
    try:
        server.start()
        pipeline.create(server, interval_s=900, size_mib=128)
        server.kill()
        if forget:
            server.env |= {"LD_PRELOAD": str(failing_disk(tmp_path)), "FORGET_SYNC": forget}
        server.start()
        client = server.client("firehose")
        for number in range(20):
            client.put_record(DeliveryStreamName=pipeline.STREAM, Record={"Data": record(number)})
        server.client("s3").put_object(Bucket=pipeline.ERRORS, Key="kept", Body=BODY)
        server.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, server.process.pid, os.WSTOPPED | os.WNOWAIT)
        disk.image_of_what_was_synced(after)
    finally:
        server.kill()
    disk.detach()
    after.attach()
    data_dir = after.mount / "data"
    return records_in_log(data_dir), has_object(data_dir, tmp_path)


ALL = (20, True)
BODY = bytes(range(256)) * 1024


def has_object(data_dir, tmp_path):
    server = Server(data_dir, log=tmp_path / "after.log")
    try:
        found = server.start().client("s3").get_object(Bucket=pipeline.ERRORS, Key="kept")["Body"].read()
    except (ClientError, BotoCoreError, RuntimeError) as problem:
        print(problem)
        return False
    finally:
        server.kill()
    return found == BODY


def records_in_log(data_dir):
    check = subprocess.run([binary(), "log", "check", "--data-dir", str(data_dir)], capture_output=True, text=True)
    print(check.stdout, check.stderr)
    return sum(int(found) for found in re.findall(r"^lane \d+: (\d+) records", check.stdout, re.M))
