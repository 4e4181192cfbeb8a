"""Cuts the power: only what was synced to the device survives.

The data directory lies on ext4 on a loop device, mounted with `commit=300`, so that the kernel writes
nothing by itself during the test. The process is stopped, the backing file is copied, and a new server
starts on the copy: what no `fsync` reached is not in it. (A kill cannot show this: the page cache
survives a kill.)
"""

import os
import random
import signal

import pipeline
from alluvium_server import Server
from ledger import Ledger, Load

CUTS = int(os.environ.get("ALLUVIUM_POWER_CUTS", "8"))
SEED = int(os.environ.get("ALLUVIUM_CRASH_SEED", random.SystemRandom().randrange(2**32)))


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
