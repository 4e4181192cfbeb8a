"""Athena's OPTIMIZE and VACUUM on tables of a table bucket, by their properties."""

import pytest

from alluvium_server import Server, wait_until
from queries import ENDED, athena, duckdb_lake, pyiceberg_table
from test_upkeep_table import report

CATALOG = "s3tablescatalog/lake"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server whose upkeep does nothing by itself."""
    directory = tmp_path_factory.mktemp("athena")
    server = Server(directory / "data", "--table-commit-interval-ms", "0", "--upkeep", "off").start()
    s3tables = server.client("s3tables")
    bucket = s3tables.create_table_bucket(name="lake")["arn"]
    s3tables.create_namespace(tableBucketARN=bucket, namespace=["ns"])
    server.bucket = bucket
    yield server
    server.kill()


@pytest.fixture
def table(server, unique):
    """Makes a table of regions with some properties, and a file a row."""

    def make(properties="", regions=("eu", "us"), each=5):
        name = unique("t").replace("-", "_")
        run(server, f"CREATE TABLE ns.{name} (id bigint, region string) PARTITIONED BY (region) "
                    f"TBLPROPERTIES ('table_type'='iceberg'{properties})")
        for number in range(each):
            for region in regions:
                run(server, f"INSERT INTO ns.{name} VALUES ({number}, '{region}')")
        return name

    return make


def run(server, sql):
    return athena(server, sql, CATALOG, "ns")[1]


def execution(server, sql):
    client = server.client("athena")
    started = client.start_query_execution(
        QueryString=sql, QueryExecutionContext={"Catalog": CATALOG, "Database": "ns"})

    def ended():
        found = client.get_query_execution(QueryExecutionId=started["QueryExecutionId"])["QueryExecution"]
        return found if found["Status"]["State"] in ENDED else None

    return wait_until(ended, what=sql)


def files(server, name):
    found = run(server, f'SELECT partition, count(*) FROM ns."{name}$files" GROUP BY 1 ORDER BY 1')
    return {partition: int(count) for partition, count in found}


def rows(server, name):
    seen = {"athena": sorted((int(i), region) for i, region in run(server, f"SELECT * FROM ns.{name}"))}
    found = pyiceberg_table(server, server.bucket, f"ns.{name}").scan().to_arrow().to_pylist()
    seen["pyiceberg"] = sorted((row["id"], row["region"]) for row in found)
    with duckdb_lake(server, server.bucket) as connection:
        seen["duckdb"] = sorted(connection.execute(f"SELECT * FROM lake.ns.{name}").fetchall())
    assert seen["athena"] == seen["pyiceberg"] == seen["duckdb"]
    return seen["athena"]


def test_optimize_rewrites_small_files_and_keeps_the_rows(server, table):
    name = table()
    before = rows(server, name)
    assert files(server, name) == {"region=eu": 5, "region=us": 5}
    done = execution(server, f"OPTIMIZE ns.{name} REWRITE DATA USING BIN_PACK")
    assert done["Status"]["State"] == "SUCCEEDED", done["Status"]
    assert done["StatementType"] == "DML" and done["Statistics"]["DataScannedInBytes"] > 0
    assert files(server, name) == {"region=eu": 1, "region=us": 1}
    assert rows(server, name) == before
    results = server.client("athena").get_query_results(QueryExecutionId=done["QueryExecutionId"])
    assert results["ResultSet"]["ResultSetMetadata"]["ColumnInfo"] == []
    snapshots = run(server, f'SELECT count(*) FROM ns."{name}$snapshots"')
    run(server, f"OPTIMIZE {name} REWRITE DATA USING BIN_PACK")
    assert run(server, f'SELECT count(*) FROM ns."{name}$snapshots"') == snapshots, "nothing was left to do"


def test_a_where_chooses_partitions(server, table):
    name = table()
    run(server, f"OPTIMIZE ns.{name} REWRITE DATA USING BIN_PACK WHERE region = 'eu'")
    assert files(server, name) == {"region=eu": 1, "region=us": 5}
    run(server, f"OPTIMIZE {name} REWRITE DATA USING BIN_PACK WHERE region IN ('us', 'xx') AND region > 'a'")
    assert files(server, name) == {"region=eu": 1, "region=us": 1}


@pytest.mark.parametrize("kind", ["timestamp", "timestamptz"])
def test_a_where_on_times_chooses_their_days(server, unique, kind):
    import datetime

    import pyarrow
    from pyiceberg.partitioning import PartitionField, PartitionSpec
    from pyiceberg.schema import Schema
    from pyiceberg.transforms import DayTransform
    from pyiceberg.types import NestedField, TimestampType, TimestamptzType
    from test_iceberg_rest import signed_catalog

    name, zone = unique("t").replace("-", "_"), datetime.timezone.utc if kind == "timestamptz" else None
    schema = Schema(NestedField(1, "ts", TimestamptzType() if zone else TimestampType()))
    spec = PartitionSpec(PartitionField(1, 1000, DayTransform(), "ts_day"))
    loaded = signed_catalog(server, server.bucket).create_table(f"ns.{name}", schema, partition_spec=spec)
    days = [{"ts": datetime.datetime(2024, 1, day, 5, tzinfo=zone)} for day in (1, 2, 3)]
    for _ in range(5):
        loaded.append(pyarrow.Table.from_pylist(days, schema=schema.as_arrow()))
    for where, left in [
        ("ts >= timestamp '2024-01-04 00:00:00'", 15),
        ("ts >= timestamp '2024-01-03 00:00:00'", 11),
        ("ts BETWEEN timestamp '2024-01-02 00:00:00' AND timestamp '2024-01-02 23:59:59'", 7),
        ("date(ts) < date '2024-01-02'", 3),
    ]:
        done = execution(server, f"OPTIMIZE ns.{name} REWRITE DATA USING BIN_PACK WHERE {where}")
        assert done["Status"]["State"] == "SUCCEEDED", done["Status"]
        assert sum(files(server, name).values()) == left, where


def test_a_where_on_other_columns_fails_as_on_athena(server, table):
    name = table(each=1)
    failed = execution(server, f"OPTIMIZE ns.{name} REWRITE DATA USING BIN_PACK WHERE id = 1")
    assert failed["Status"]["State"] == "FAILED"
    assert "partition columns" in failed["Status"]["StateChangeReason"], failed["Status"]
    missing = execution(server, f"OPTIMIZE ns.{name} REWRITE DATA USING BIN_PACK WHERE nothing = 1")
    assert missing["Status"]["State"] == "FAILED"
    nowhere = execution(server, "OPTIMIZE ns.nowhere REWRITE DATA USING BIN_PACK")
    assert "TABLE_NOT_FOUND" in nowhere["Status"]["StateChangeReason"], nowhere["Status"]


def test_properties_say_from_how_many_files_on(server, table):
    name = table(regions=["eu"], each=4)
    run(server, f"OPTIMIZE ns.{name} REWRITE DATA USING BIN_PACK")
    assert files(server, name) == {"region=eu": 4}, "fewer than five files are left alone"
    name = table(", 'optimize_rewrite_data_file_threshold'='2'", regions=["eu"], each=4)
    run(server, f"OPTIMIZE ns.{name} REWRITE DATA USING BIN_PACK")
    assert files(server, name) == {"region=eu": 1}
    # Another client may set what Athena would refuse.
    few = {"optimize_rewrite_data_file_threshold": "few"}
    name = table(regions=["eu"], each=1)
    with pyiceberg_table(server, server.bucket, f"ns.{name}").transaction() as change:
        change.set_properties(few)
    failed = execution(server, f"OPTIMIZE ns.{name} REWRITE DATA USING BIN_PACK")
    assert failed["Status"]["State"] == "FAILED"
    assert "optimize_rewrite_data_file_threshold" in failed["Status"]["StateChangeReason"]


def test_properties_are_set_and_unset_by_alter_table(server, table):
    name = table(regions=["eu"], each=4)
    done = execution(server, f"ALTER TABLE ns.{name} SET TBLPROPERTIES ('optimize_rewrite_data_file_threshold'='2', 'write_compression'='snappy')")
    assert done["Status"]["State"] == "SUCCEEDED" and done["StatementType"] == "DDL", done
    found = pyiceberg_table(server, server.bucket, f"ns.{name}").properties
    assert found["optimize_rewrite_data_file_threshold"] == "2"
    assert found["write.parquet.compression-codec"] == "snappy"
    run(server, f"OPTIMIZE ns.{name} REWRITE DATA USING BIN_PACK")
    assert files(server, name) == {"region=eu": 1}, "what was set takes effect"
    run(server, f"ALTER TABLE ns.{name} UNSET TBLPROPERTIES ('optimize_rewrite_data_file_threshold', 'write_compression')")
    found = pyiceberg_table(server, server.bucket, f"ns.{name}").properties
    assert not {"optimize_rewrite_data_file_threshold", "write.parquet.compression-codec"} & set(found)
    refused = execution(server, f"ALTER TABLE ns.{name} SET TBLPROPERTIES ('optimize_rewrite_data_file_threshold'='few')")
    assert refused["Status"]["State"] == "FAILED" and "few" in refused["Status"]["StateChangeReason"], refused
    refused = execution(server, f"ALTER TABLE ns.{name} SET TBLPROPERTIES ('pony'='yes')")
    assert refused["Status"]["State"] == "FAILED" and "pony" in refused["Status"]["StateChangeReason"], refused


def test_vacuum_lets_go_of_old_snapshots_and_their_files(server, table):
    name = table(", 'vacuum_max_snapshot_age_seconds'='1'")
    before = rows(server, name)
    run(server, f"OPTIMIZE ns.{name} REWRITE DATA USING BIN_PACK")
    stored = report(server, "inspect", f"lake/ns.{name}")[1]["storedFiles"]

    def vacuumed():
        done = execution(server, f"VACUUM ns.{name}")
        assert done["Status"]["State"] == "SUCCEEDED", done["Status"]
        assert done["StatementType"] == "DML"
        return run(server, f'SELECT count(*) FROM ns."{name}$snapshots"') == [["1"]]

    wait_until(vacuumed, what="one snapshot")
    assert rows(server, name) == before
    status, found = report(server, "check", f"lake/ns.{name}")
    assert status == 0 and found["snapshots"] == 1, found
    assert report(server, "inspect", f"lake/ns.{name}")[1]["storedFiles"] < stored


def test_vacuum_keeps_what_is_young_and_what_a_tag_names(server, table):
    name = table(regions=["eu"], each=3)
    run(server, f"VACUUM ns.{name}")
    assert run(server, f'SELECT count(*) FROM ns."{name}$snapshots"') == [["3"]], "five days by default"
    name = table(", 'vacuum_max_snapshot_age_seconds'='1'", regions=["eu"], each=3)
    loaded = pyiceberg_table(server, server.bucket, f"ns.{name}")
    first = min(loaded.snapshots(), key=lambda snapshot: snapshot.sequence_number).snapshot_id
    loaded.manage_snapshots().create_tag(first, "first").commit()

    def vacuumed():
        run(server, f"VACUUM ns.{name}")
        return run(server, f'SELECT count(*) FROM ns."{name}$snapshots"') == [["2"]]

    wait_until(vacuumed, what="the current snapshot and the tagged one")
    scan = pyiceberg_table(server, server.bucket, f"ns.{name}").scan(snapshot_id=first)
    assert scan.to_arrow().num_rows == 1


def test_files_without_field_ids_keep_their_values_when_their_columns_are_renamed(server, table):
    import io

    import pyarrow
    import pyarrow.parquet

    name = table(regions=[])
    loaded = pyiceberg_table(server, server.bucket, f"ns.{name}")
    s3, locations = server.client("s3"), []
    for number in range(6):
        body = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.table({"id": [number], "region": ["eu"]}), body)
        locations.append(f"{loaded.location()}/data/added-{number}.parquet")
        bucket, key = locations[-1].removeprefix("s3://").split("/", 1)
        s3.put_object(Bucket=bucket, Key=key, Body=body.getvalue())
    loaded.add_files(locations)
    with loaded.update_schema() as update:
        update.rename_column("id", "number")

    def seen():
        found = pyiceberg_table(server, server.bucket, f"ns.{name}").scan().to_arrow().to_pylist()
        athena_rows = run(server, f"SELECT number, region FROM ns.{name}")
        assert sorted(athena_rows) == sorted([str(row["number"]), row["region"]] for row in found)
        return sorted(row["number"] for row in found)

    assert seen() == list(range(6))
    assert execution(server, f"OPTIMIZE ns.{name} REWRITE DATA USING BIN_PACK")["Status"]["State"] == "SUCCEEDED"
    assert files(server, name) == {"region=eu": 1}
    assert seen() == list(range(6))
