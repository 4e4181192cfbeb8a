"""A server that has a table bucket `lake` with the namespace `ns`, whose tables are committed to at once."""

import contextlib

from alluvium_server import Server


@contextlib.contextmanager
def lake_server(directory, *arguments):
    """The server; its `bucket` is the table bucket's ARN. Ends with a kill."""
    server = Server(directory / "data", "--table-commit-interval-ms", "0", *arguments).start()
    try:
        s3tables = server.client("s3tables")
        server.bucket = s3tables.create_table_bucket(name="lake")["arn"]
        s3tables.create_namespace(tableBucketARN=server.bucket, namespace=["ns"])
        yield server
    finally:
        server.kill()
