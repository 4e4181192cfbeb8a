"""The part of `bench/run` for upkeep: what it leaves to readers and writers, and what it costs, each against the plain way in one run.

`--scale` shrinks commits, files and windows for a look at whether it works; figures are those of 1.
"""

import json
import os
import pathlib
import statistics
import subprocess
import threading
import time

import alluvium_server
from rig import NAMESPACE, STREAM, TABLE, athena, create_stream, fresh, generator, lake, load, metrics, quantile, rows_in_tables, say

KEYS = 99_999
COLUMNS = "sensor_id string, timestamp bigint, location string, temperature double, humidity double, pressure double"
# All rows and all columns, and an answer of one line.
SCAN = ("SELECT count(*), count(sensor_id), sum(timestamp), count(location), sum(temperature), sum(humidity), "
        "sum(pressure) FROM \"{}\"")
# Each run takes up every file: none may be as large as a byte.
ALWAYS = {"optimize_rewrite_max_data_file_size_bytes": "1"}
# Everything that is not needed now goes at once.
AT_ONCE = {"vacuum_max_snapshot_age_seconds": "1", "vacuum_max_metadata_files_to_keep": "1"}


def upkeep(options, _results):
    """Four comparisons; what one of them lacks is told in its place."""
    found = {}
    for name, work in (("commits", commits), ("disk", disk), ("compaction", compaction), ("beside", beside)):
        begun = time.monotonic()
        found[name] = work(options)
        say(f"upkeep, {name}: {time.monotonic() - begun:.0f} s {found[name]}")
    return found


def scaled(options, number, least=1):
    return max(least, round(number * options.scale))


def create_table(server, name, properties):
    """A table of readings with properties."""
    said = ", ".join(f"'{key}'='{value}'" for key, value in {"table_type": "iceberg", **properties}.items())
    athena(server.client("athena"), f"CREATE TABLE {name} ({COLUMNS}) TBLPROPERTIES ({said})")


def inspected(server, table):
    command = [alluvium_server.binary(), "table", "inspect", "--json", f"{NAMESPACE}.{table}", "--data-dir", str(server.data_dir)]
    return json.loads(subprocess.run(command, env=server.env, capture_output=True, text=True, check=True).stdout)


# --- many commits ------------------------------------------------------------------------------


def commits(options):
    """Commits of a second's size, with upkeep beside them; then the table they leave against the same rows written once."""
    asked = scaled(options, options.upkeep_commits, 100)
    args = ("--table-commit-interval-ms", "0", "--upkeep-interval-ms", "1000")
    with fresh(options, *args) as server:
        arn = lake(server)
        create_table(server, TABLE, AT_ONCE)
        create_stream(server.client("firehose"), arn, STREAM, TABLE, 0, 1)
        points, took = committed(server, options, asked)
        settle(server)
        scans = scan(server, options)
        looked = inspected(server, TABLE)
        samples = metrics(server)
    first, last = slope(points, 1, 100), slope(points, points[-1][0] - 200, points[-1][0])
    return {
        "asked": asked,
        "done": int(points[-1][0]),
        "seconds": round(took, 1),
        "commit_first_ms": first,
        "commit_last_ms": last,
        "commit_last_to_first": round(last / first, 2) if first and last else None,
        "compaction_runs": int(samples.get("alluvium_upkeep_runs_total", 0)),
        "snapshots": looked["snapshots"]["count"],
        **scans,
    }


def committed(server, options, asked):
    """(commits, their seconds) as they went on, and how long all took."""
    limit_s = options.commits_s
    args = ("--sensors", str(KEYS), "--rate", "max", "--batch", str(options.upkeep_batch), "--connections", "1", "--for", f"{limit_s}s")
    beside = generator(server, "--stream", STREAM, *args)
    points, begun = [], time.monotonic()
    try:
        while time.monotonic() - begun < limit_s:
            now = metrics(server)
            points.append((now.get("alluvium_commit_seconds_count", 0), now.get("alluvium_commit_seconds_sum", 0.0)))
            if points[-1][0] >= asked:
                break
            time.sleep(0.02)
    finally:
        beside.kill()
        beside.communicate()
    return points, time.monotonic() - begun


def slope(points, first, last):
    """The median of the mean times of a commit between two looks: a rewrite's commit among them is no commit of rows."""
    inside = [point for point in points if first <= point[0] <= last]
    means = [
        (after[1] - before[1]) / (after[0] - before[0])
        for before, after in zip(inside, inside[1:]) if after[0] > before[0]
    ]
    return round(statistics.median(means) * 1000, 2) if means else None


def settle(server):
    """All that was put is a row, and upkeep has nothing left to do at its next look."""
    deadline, last = time.monotonic() + 300, None
    while time.monotonic() < deadline:
        now = metrics(server)
        waits = now.get("alluvium_delivery_waiting_bytes") or now.get("alluvium_delivery_lag_seconds")
        state = (rows_in_tables(server), inspected(server, TABLE)["snapshots"]["count"], now.get("alluvium_upkeep_running", 0))
        if not waits and state == last and not state[2]:
            return
        last = state
        time.sleep(3)
    raise RuntimeError(f"upkeep did not come to rest in 300 s: {last}")


def scan(server, options):
    """The table as upkeep left it against the same rows in a table of one insert, in turns."""
    client = server.client("athena")
    create_table(server, "once", AT_ONCE)
    athena(client, f"INSERT INTO once SELECT * FROM {TABLE}")
    took = {TABLE: [], "once": []}
    answers = {}
    for _ in range(options.rounds * 3):
        for table in took:
            begun = time.monotonic()
            answers[table] = athena(client, SCAN.format(table))
            took[table].append(time.monotonic() - begun)
    counts = {table: answer[0][0] for table, answer in answers.items()}
    if len(set(counts.values())) != 1:
        raise RuntimeError(f"the tables have different rows: {answers}")
    kept, once = (quantile(took[table], 0.5) for table in (TABLE, "once"))
    files = {table: int(athena(client, f'SELECT count(*) FROM "{table}$files"')[0][0]) for table in took}
    return {
        "rows": int(counts["once"]),
        "files": files,
        "scan_ms": {"kept": round(kept * 1000, 1), "once": round(once * 1000, 1)},
        "scan_to_once": round(kept / once, 2),
    }


# --- what is left on disk ----------------------------------------------------------------------


# Fewer than the snapshots that a commit leaves alone, so that `VACUUM` lets go of all of them: the files of those that
# commits thin away wait for the days of `icebergUnreferencedFileRemoval`, which no bench has.
DISK_COMMITS = 190


def disk(options):
    """The bytes that are left of commits with upkeep beside them, after `OPTIMIZE` and `VACUUM`, against one compact copy."""
    args = ("--table-commit-interval-ms", "25", "--upkeep-interval-ms", "1000")
    with fresh(options, *args) as server:
        arn, client = lake(server), server.client("athena")
        create_table(server, TABLE, AT_ONCE)
        create_stream(server.client("firehose"), arn, STREAM, TABLE, 0, 1)
        points, _ = committed(server, options, DISK_COMMITS - 30)
        settle(server)
        written = inspected(server, TABLE)["storedBytes"]
        create_table(server, "once", AT_ONCE)
        athena(client, f"INSERT INTO once SELECT * FROM {TABLE}")
        athena(client, f"OPTIMIZE {TABLE} REWRITE DATA USING BIN_PACK")
        time.sleep(1.5)  # the age that snapshots may have
        for table in (TABLE, "once"):
            athena(client, f"VACUUM {table}")
        kept, once = (inspected(server, table) for table in (TABLE, "once"))
    return {
        "commits": int(points[-1][0]),
        "snapshots": kept["snapshots"]["count"],
        "written_bytes": written,
        "stored_bytes": {"kept": kept["storedBytes"], "once": once["storedBytes"]},
        "stored_files": {"kept": kept["storedFiles"], "once": once["storedFiles"]},
        "stored_to_once": round(kept["storedBytes"] / once["storedBytes"], 2),
    }


# --- what it costs -----------------------------------------------------------------------------


def compaction(options):
    """Compaction against reading and writing the same bytes with Arrow, on one thread each and on all."""
    example = pathlib.Path(os.environ["ALLUVIUM_BIN"]).parent / "examples/compaction_speed"
    if not example.exists():
        return {"skipped": f"{example} is not built: cargo build --release -p alluvium-upkeep --example compaction_speed"}
    found = {}
    for threads in sorted({1, os.cpu_count()}):
        args = [str(scaled(options, 60, 5)), str(scaled(options, 50_000, 1_000)), str(threads)]
        out = subprocess.run([str(example), *args], capture_output=True, text=True, check=True).stdout
        *runs, last = (json.loads(line) for line in out.splitlines() if line.startswith("{"))
        found[f"threads_{threads}"] = {
            "bytes": runs[0]["bytes"],
            "compaction_s": min(run["compaction_seconds"] for run in runs),
            "arrow_s": min(run["arrow_seconds"] for run in runs),
            "compaction_to_arrow": last["ratio"],
        }
    return found


class Repeated(threading.Thread):
    """A statement over and over, until stopped; the last run is waited for."""

    def __init__(self, server, sql, pause_s=0.0):
        super().__init__(daemon=True)
        self.client, self.sql, self.pause_s = server.client("athena"), sql, pause_s
        self.stopping, self.runs, self.error = threading.Event(), 0, None

    def run(self):
        try:
            while not self.stopping.is_set():
                athena(self.client, self.sql)
                self.runs += 1
                self.stopping.wait(self.pause_s)
        except Exception as error:
            self.error = error

    def stop(self):
        self.stopping.set()
        self.join()
        if self.error:
            raise self.error


def beside(options):
    """Delivery at full rate in windows of equal length, in turns with and without a compaction of another table."""
    window_s = options.seconds
    with fresh(options, "--upkeep", "off") as server:
        arn = lake(server)
        create_table(server, TABLE, {})
        create_stream(server.client("firehose"), arn, STREAM, TABLE, 1, 64)
        records = str(scaled(options, options.upkeep_rewritten, 10_000))
        load(server, options, "--stream", STREAM, "--sensors", str(KEYS), "--records", records, "--rate", "max", seconds=300)
        create_table(server, "rewritten", {**ALWAYS, **AT_ONCE})
        athena(server.client("athena"), f"INSERT INTO rewritten SELECT * FROM {TABLE}")
        args = ("--sensors", str(KEYS), "--rate", "max", "--connections", str(options.connections), "--for", "1h")
        loading = generator(server, "--stream", STREAM, *args)
        rates, runs = {"without": [], "with": []}, 0
        try:
            window(server, window_s)  # it warms up
            for turn in range(options.rounds * 2):
                for name in ("without", "with") if turn % 2 else ("with", "without"):
                    optimize = "OPTIMIZE rewritten REWRITE DATA USING BIN_PACK"
                    compacting = Repeated(server, optimize) if name == "with" else None
                    if compacting:
                        compacting.start()
                    rates[name].append(window(server, window_s))
                    if compacting:
                        compacting.stop()
                        runs += compacting.runs
        finally:
            loading.kill()
            loading.communicate()
    mean = {name: statistics.mean(found) for name, found in rates.items()}
    if not mean["without"]:
        raise RuntimeError(f"nothing was delivered: {rates}")
    return {
        "window_s": window_s,
        "rewrites": runs,
        "rows_per_s": {name: [round(rate) for rate in found] for name, found in rates.items()},
        "taken_from_delivery": round(1 - mean["with"] / mean["without"], 3),
    }


def window(server, seconds):
    """Rows a second that came into the table meanwhile."""
    rows, begun = rows_in_tables(server), time.monotonic()
    time.sleep(seconds)
    return (rows_in_tables(server) - rows) / (time.monotonic() - begun)

