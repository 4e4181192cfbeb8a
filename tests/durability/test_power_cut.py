"""Cuts the power: only what was synced to the device survives.

The data directory lies on ext4 on a loop device, mounted with `commit=300`, so that the kernel writes
nothing by itself during the test. The process is stopped, the backing file is copied, and a new server
starts on the copy: what no `fsync` reached is not in it. (A kill cannot show this: the page cache
survives a kill.)
"""

import os
import random
import shutil
import signal
import subprocess

import pytest

import pipeline
from alluvium_server import Server
from ledger import Ledger, Load

IMAGE_MIB = 1024
CUTS = int(os.environ.get("ALLUVIUM_POWER_CUTS", "8"))
SEED = int(os.environ.get("ALLUVIUM_CRASH_SEED", random.SystemRandom().randrange(2**32)))


def run(*command):
    subprocess.run(command, check=True, capture_output=True, text=True)


class Disk:
    """An ext4 file system in a file."""

    def __init__(self, root, name):
        self.image, self.mount = root / f"{name}.img", root / name

    def create(self):
        with open(self.image, "wb") as image:
            image.truncate(IMAGE_MIB * 2**20)
        run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(self.image))
        return self

    def attach(self):
        self.mount.mkdir(exist_ok=True)
        run("mount", "-o", "loop,commit=300", str(self.image), str(self.mount))
        return self

    def detach(self):
        subprocess.run(["umount", str(self.mount)], check=False, capture_output=True)

    def image_of_what_was_synced(self, into):
        run("cp", "--sparse=always", str(self.image), str(into.image))


@pytest.fixture
def disks(tmp_path):
    """A function that gives numbered disks; skipped, visibly, where file systems cannot be mounted."""
    made = []

    def disk(name):
        made.append(Disk(tmp_path, name))
        return made[-1]

    if os.geteuid() != 0 or not shutil.which("mkfs.ext4"):
        pytest.skip("the power-cut test needs root and mkfs.ext4")
    probe = disk("probe").create()
    try:
        probe.attach()
    except subprocess.CalledProcessError as problem:
        pytest.skip(f"this machine cannot mount a loop device: {problem.stderr}")
    probe.detach()
    yield disk
    for each in made:
        each.detach()


def test_what_was_acknowledged_survives_power_cuts(disks):
    print(f"seed {SEED}, {CUTS} cuts")
    chance = random.Random(SEED)
    ledger = Ledger()
    disk = disks("disk-0").create().attach()
    server = Server(disk.mount / "data", "--table-commit-interval-ms", "0", log=disk.image.with_suffix(".log"))
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
        pipeline.wait_for_rows(server, len(ledger.acknowledged))
        found = ledger.compare(pipeline.ids(server))
        assert pipeline.count(server) == found
        assert pipeline.errors(server) == {}
    finally:
        server.kill()
