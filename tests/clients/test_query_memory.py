"""The memory of a real server while queries ask for more than they may have (I8)."""

import pathlib
import re

import alluvium_server
import pytest
from test_athena import Athena

LIMIT_MIB = 128
# README: twice the queries' memory and 512 MiB, above what the server held before.
BOUND_MIB = 2 * LIMIT_MIB + 512
NUMBERS = "UNNEST(sequence(1, 10000)) AS {} ({})"


def chained(times):
    return " CROSS JOIN ".join(NUMBERS.format(f"t{n}", f"x{n}") for n in range(times))


def doubled(expression, start, levels):
    """Nested CTEs, each of which makes its value twice as large."""
    steps = [f"t{n} AS (SELECT {expression.format(f't{n - 1}.s')} AS s FROM t{n - 1})" for n in range(1, levels + 1)]
    return f"WITH t0 AS ({start}), {', '.join(steps)} SELECT max(cardinality(ARRAY[s])) FROM t{levels}"


def memory_mib(server, key):
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(rf"{key}:\s+(\d+) kB", status).group(1)) >> 10


@pytest.fixture(scope="module")
def small():
    with alluvium_server.running("--query-memory", f"{LIMIT_MIB}MiB") as server:
        yield server


@pytest.fixture
def client(small):
    return Athena(small, {"catalog": "AwsDataCatalog", "namespace": "default"})


MANY = "SELECT CAST(x AS varchar) AS s FROM " + NUMBERS.format("n", "x")
TOO_MUCH = {
    "an aggregation of chained sequences": f"SELECT cardinality(array_agg(x0 + x1)) FROM {chained(2)}",
    "a window over all rows": f"SELECT max(s) FROM (SELECT sum(x0 + x1) OVER () AS s FROM {chained(2)})",
    "text doubled by concatenation": doubled("{0} || {0}", MANY, 40),
    "text doubled by concat": doubled("concat({0}, {0})", MANY, 40),
    "text that replaces itself": doubled("replace({0}, '1', {0} || {0})", MANY, 12),
    "text that a pattern replaces": doubled("regexp_replace({0}, '.', rpad({0}, 100, 'x'))", MANY, 12),
    "arrays doubled": doubled("{0} || {0}", "SELECT sequence(1, x) AS s FROM " + NUMBERS.format("n", "x"), 40),
    "arrays of arrays": doubled("ARRAY[{0}, {0}]", "SELECT sequence(1, x) AS s FROM " + NUMBERS.format("n", "x"), 16),
    "one array of all text": f"SELECT length(array_join(array_agg(rpad('', 10000, 'x')), ',')) FROM {chained(2)}",
    "an array joined by a long text": "SELECT length(array_join(sequence(1, 10000), rpad('', 10000, 'x')))",
    "text of all rows": f"SELECT length(listagg(rpad('', 10000, 'x'), ',')) FROM {chained(2)}",
    "JSON of JSON": doubled("json_format(CAST(ARRAY[{0}, {0}] AS JSON))", MANY, 24),
    "a sort key per row": f"SELECT x0 FROM {chained(2)} ORDER BY rpad(CAST(x0 * x1 AS varchar), 10000, 'x') LIMIT 100000",
    "distinct wide text": f"SELECT count(DISTINCT rpad(CAST(x0 * 10000 + x1 AS varchar), 10000, 'x')) FROM {chained(2)}",
    "a join of wide rows": "SELECT max(a.s || b.s) FROM (SELECT x AS k, rpad(CAST(x AS varchar), 10000, 'x') AS s FROM "
    + NUMBERS.format("n", "x")
    + ") a JOIN (SELECT x AS k, rpad(CAST(x AS varchar), 10000, 'y') AS s FROM "
    + NUMBERS.format("m", "x")
    + ") b ON a.k <= b.k",
}
ENOUGH = {
    "chained sequences": (
        "SELECT count(*), sum(x0 - x1) FROM UNNEST(sequence(1, 10000)) AS a (x0) "
        "CROSS JOIN UNNEST(sequence(1, 10000, 10)) AS b (x1)",
        ["10000000", "45000000"],
    ),
    "long arrays, row by row": (
        "SELECT max(cardinality(s)), sum(s[1]) FROM (SELECT sequence(1, x) || sequence(1, x) AS s FROM "
        "UNNEST(sequence(1, 10000, 7)) AS t (x)) WHERE cardinality(s) > 0",
        ["19994", "1429"],
    ),
    "wide text, row by row": (
        f"SELECT max(length(s)) FROM (SELECT rpad(CAST(x0 + x1 AS varchar), 10000, 'x') AS s FROM "
        f"UNNEST(sequence(1, 10000)) AS a (x0) CROSS JOIN UNNEST(sequence(1, 20)) AS b (x1))",
        ["10000"],
    ),
    "a running window": (
        "SELECT max(s) FROM (SELECT sum(x1) OVER (ORDER BY x0, x1) AS s FROM UNNEST(sequence(1, 100)) AS a (x0) "
        "CROSS JOIN UNNEST(sequence(1, 2000)) AS b (x1))",
        ["200100000"],
    ),
    "an array beside its entries": (
        "SELECT sum(cardinality(xs)), count(*) FROM (SELECT sequence(1, 10000) AS xs) CROSS JOIN UNNEST(xs) AS u (x)",
        ["100000000", "10000"],
    ),
}


@pytest.mark.parametrize("name", TOO_MUCH)
def test_a_query_past_the_memory_fails_and_the_server_stays_within_its_bound(small, client, name):
    before = memory_mib(small, "VmRSS")
    pathlib.Path(f"/proc/{small.process.pid}/clear_refs").write_text("5")
    category, message = client.reason(TOO_MUCH[name])
    assert category == 2 and "EXCEEDED_RESOURCES" in message, message
    peak = memory_mib(small, "VmHWM")
    assert peak - before <= BOUND_MIB, f"{name}: {peak} MiB"
    assert client.rows("SELECT 1") == [["1"]]


@pytest.mark.parametrize("name", ENOUGH)
def test_a_query_that_needs_little_memory_at_a_time_is_answered(small, client, name):
    sql, row = ENOUGH[name]
    before = memory_mib(small, "VmRSS")
    pathlib.Path(f"/proc/{small.process.pid}/clear_refs").write_text("5")
    assert client.rows(sql) == [row]
    assert memory_mib(small, "VmHWM") - before <= BOUND_MIB
