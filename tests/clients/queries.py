"""The readers of a lake: PyIceberg, DuckDB and Athena, each on the same server."""

import contextlib

import duckdb

from alluvium_server import wait_until

ENDED = ("SUCCEEDED", "FAILED", "CANCELLED")


def pyiceberg_table(server, bucket_arn, name):
    from test_iceberg_rest import signed_catalog

    return signed_catalog(server, bucket_arn).load_table(name)


@contextlib.contextmanager
def duckdb_lake(server, bucket_arn):
    """A DuckDB connection with the table bucket attached as `lake`."""
    import duckdb_extensions

    pairs = server.exports()
    connection = duckdb.connect(config={"allow_unsigned_extensions": "false"})
    for extension in ("httpfs", "avro", "iceberg"):
        duckdb_extensions.import_extension(extension, con=connection)
        connection.load_extension(extension)
    host = server.endpoint.removeprefix("http://")
    connection.execute(
        f"""CREATE SECRET files (TYPE s3, KEY_ID '{pairs["AWS_ACCESS_KEY_ID"]}',
            SECRET '{pairs["AWS_SECRET_ACCESS_KEY"]}', REGION 'us-east-1', ENDPOINT '{host}',
            URL_STYLE 'path', USE_SSL false)"""
    )
    connection.execute(
        f"""CREATE SECRET catalog (TYPE iceberg, CLIENT_ID '{pairs["AWS_ACCESS_KEY_ID"]}',
            CLIENT_SECRET '{pairs["AWS_SECRET_ACCESS_KEY"]}',
            OAUTH2_SERVER_URI '{server.endpoint}/iceberg/v1/oauth/tokens')"""
    )
    connection.execute(
        f"""ATTACH '{bucket_arn}' AS lake (TYPE iceberg, ENDPOINT '{server.endpoint}/iceberg',
            SECRET catalog, ACCESS_DELEGATION_MODE 'none')"""
    )
    try:
        yield connection
    finally:
        connection.close()


def athena(server, sql, catalog, database=None):
    """One query through Athena's API: its columns' types by name, and its rows as text."""
    client = server.client("athena")
    context = {"Catalog": catalog, **({"Database": database} if database else {})}
    query = client.start_query_execution(QueryString=sql, QueryExecutionContext=context)
    query_id = query["QueryExecutionId"]

    def ended():
        found = client.get_query_execution(QueryExecutionId=query_id)["QueryExecution"]
        return found if found["Status"]["State"] in ENDED else None

    found = wait_until(ended, what=sql)
    assert found["Status"]["State"] == "SUCCEEDED", found["Status"]
    rows, columns = [], {}
    for page in client.get_paginator("get_query_results").paginate(QueryExecutionId=query_id):
        info = page["ResultSet"]["ResultSetMetadata"]["ColumnInfo"]
        columns = {column["Name"]: column["Type"] for column in info}
        rows += page["ResultSet"]["Rows"]
    cells = [[cell.get("VarCharValue") for cell in row["Data"]] for row in rows]
    # A query's first row is its header; SHOW and DESCRIBE have none.
    return columns, cells[1:] if found["StatementType"] == "DML" else cells
