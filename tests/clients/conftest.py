"""Real clients against the real binary: one server a session, names of their own for each test."""

import itertools
import os
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import alluvium_server  # noqa: E402

_counter = itertools.count()


@pytest.fixture(scope="session")
def lake_server():
    """A running server with table commits at once, whose upkeep leaves the files that tests count alone."""
    with alluvium_server.running("--table-commit-interval-ms", "0", "--upkeep-interval-ms", "3600000") as server:
        yield server


@pytest.fixture
def fresh_server():
    """A server of the test's own, in a directory of its own."""
    with alluvium_server.running("--table-commit-interval-ms", "0", "--upkeep-interval-ms", "3600000") as server:
        yield server


@pytest.fixture
def unique():
    """A short name, unique in this session: `unique("bucket")`."""
    return lambda stem="t": f"{stem}-{os.getpid()}-{next(_counter)}"


@pytest.fixture
def make_table(lake_server, unique):
    """Creates a table bucket, a namespace and a table: `make_table(fields, **create_table_arguments)`.

    Returns a dictionary with bucket, bucket_arn, namespace, table, table_arn, catalog_arn, warehouse.
    """

    def make(fields, server=None, **create):
        server = server or lake_server
        s3tables = server.client("s3tables")
        bucket, namespace, table = unique("bucket"), "sensors", "readings"
        bucket_arn = s3tables.create_table_bucket(name=bucket)["arn"]
        s3tables.create_namespace(tableBucketARN=bucket_arn, namespace=[namespace])
        created = s3tables.create_table(
            tableBucketARN=bucket_arn,
            namespace=namespace,
            name=table,
            format="ICEBERG",
            metadata={"iceberg": {"schema": {"fields": fields}, **create}},
        )
        region, account = bucket_arn.split(":")[3:5]
        return {
            "bucket": bucket,
            "bucket_arn": bucket_arn,
            "namespace": namespace,
            "table": table,
            "table_arn": created["tableARN"],
            "catalog_arn": f"arn:aws:glue:{region}:{account}:catalog/s3tablescatalog/{bucket}",
            "catalog": f"s3tablescatalog/{bucket}",
            "region": region,
        }

    return make
