"""Kills the real process, at random moments and at every named point between two durable steps."""

import os
import pathlib
import random
import re
import signal

import pytest

import pipeline
from alluvium_server import REPO, Server
from ledger import Ledger, Load

ROUNDS = int(os.environ.get("ALLUVIUM_CRASH_ROUNDS", "50"))
SEED = int(os.environ.get("ALLUVIUM_CRASH_SEED", random.SystemRandom().randrange(2**32)))
LOADERS = 3


def kill_points():
    """The names in the source, so that a new durable step is tested the day it is written."""
    names = set()
    for path in sorted((REPO / "crates").rglob("*.rs")):
        if path.name != "kill_point.rs":
            names.update(re.findall(r'kill_point\("([a-z0-9-]+)"\)', path.read_text()))
    return sorted(names)


@pytest.fixture
def lake(tmp_path):
    server = Server(tmp_path / "data", "--table-commit-interval-ms", "0")
    yield server
    server.kill()


def start_loaders(server, ledger, seed):
    client = lambda: server.client("firehose", retries={"total_max_attempts": 1}, read_timeout=20)  # noqa: E731
    loaders = [Load(client(), pipeline.STREAM, ledger, seed + n) for n in range(LOADERS)]
    for loader in loaders:
        loader.start()
    return loaders


def settle(server, ledger):
    """Delivery has nothing left: every acknowledged record is in the table, and only once."""
    pipeline.wait_for_rows(server, len(ledger.acknowledged))
    found = ledger.compare(pipeline.ids(server))
    assert pipeline.count(server) == found, "Athena and PyIceberg disagree"
    assert pipeline.errors(server) == {}
    return found


def test_kills_at_random_moments_lose_and_double_nothing(lake):
    print(f"seed {SEED}, {ROUNDS} rounds")
    chance = random.Random(SEED)
    ledger = Ledger()
    lake.start()
    pipeline.create(lake)
    for turn in range(ROUNDS):
        loaders = start_loaders(lake, ledger, SEED + turn * 100)
        assert ledger.wait_for(chance.choice([1, 50, 400, 1500])), "no progress under load"
        chance.choice([lambda: None, lambda: ledger.wait_for(chance.randrange(1, 300))])()
        lake.kill()
        for loader in loaders:
            loader.stop()
        lake.start()
        if turn % 10 == 9:
            settle(lake, ledger)
    settle(lake, ledger)
    assert lake.stop() == 0


def test_kills_at_every_named_point_lose_and_double_nothing(lake):
    points = kill_points()
    assert points, "no kill points in the source"
    ledger = Ledger()
    lake.start()
    pipeline.create(lake)
    lake.kill()
    reached, missed = [], []
    for point in points:
        for nth in (1, 2):
            lake.env["ALLUVIUM_KILL_POINT"] = f"{point}:{nth}"
            (reached if run_until_killed(lake, ledger) else missed).append((point, nth))
    del lake.env["ALLUVIUM_KILL_POINT"]
    lake.start()
    settle(lake, ledger)
    print(f"reached {len(reached)}; not reached: {missed}")
    never = {p for p, _ in missed} - {p for p, _ in reached}
    assert never <= NOT_ON_THIS_PATH, f"kill points that no round reached: {sorted(never)}"


# Points of paths that this pipeline does not take; each is reached by a test of its own crate.
NOT_ON_THIS_PATH = set()


def run_until_killed(lake, ledger):
    """One start with a kill point armed, under load: whether the point ended the process."""
    try:
        lake.start()
    except RuntimeError:
        return lake.process.returncode == -signal.SIGABRT
    loaders = start_loaders(lake, ledger, 7)
    try:
        lake.wait(timeout_s=6)
    except Exception:  # noqa: BLE001 - not reached in this round
        lake.kill()
    for loader in loaders:
        loader.stop()
    return lake.process.returncode == -signal.SIGABRT


def test_the_list_of_kill_points_is_read_from_the_source():
    assert pathlib.Path(REPO / "crates/base/src/kill_point.rs").exists()
