"""Writes fixtures/format-N.tar.gz: a stopped data directory with 5 delivered rows and 5 in the log; or, under a name
that begins with `documents-`, one with every kind of document (`documents.py`).

Run once, by hand, when the format of the data directory changes, or with every release that keeps documents which the
newest fixture does not have; a fixture is never replaced.
"""

import pathlib
import sys
import tarfile
import tempfile

import conftest  # noqa: F401 - makes the modules beside the tests importable
import documents
import pipeline
from alluvium_server import Server
from ledger import record


def write(target):
    with tempfile.TemporaryDirectory() as root:
        server = Server(pathlib.Path(root) / "data", "--table-commit-interval-ms", "0")
        server.start()
        try:
            pipeline.create(server, interval_s=0)
            client = server.client("firehose")
            put = lambda ids: client.put_record_batch(  # noqa: E731
                DeliveryStreamName=pipeline.STREAM, Records=[{"Data": record(n)} for n in ids]
            )
            put(range(5))
            pipeline.wait_for_rows(server, 5)
            stream = client.describe_delivery_stream(DeliveryStreamName=pipeline.STREAM)["DeliveryStreamDescription"]
            client.update_destination(
                DeliveryStreamName=pipeline.STREAM,
                CurrentDeliveryStreamVersionId=stream["VersionId"],
                DestinationId=stream["Destinations"][0]["DestinationId"],
                # Long enough that the five stay in the log here, over when a test opens the fixture.
                IcebergDestinationUpdate={"BufferingHints": {"IntervalInSeconds": 30, "SizeInMBs": 1}},
            )
            put(range(5, 10))
            assert server.stop() == 0
        finally:
            server.kill()
        with tarfile.open(target, "w:gz", compresslevel=9) as archive:
            archive.add(server.data_dir, "data")


def write_documents(target):
    with tempfile.TemporaryDirectory() as root:
        server = Server(pathlib.Path(root) / "data", "--table-commit-interval-ms", "0")
        server.start()
        try:
            documents.make(server)
            assert server.stop() == 0
        finally:
            server.kill()
        # The journal's segments are zeroes for the most part.
        with tarfile.open(target, "w:xz", preset=9) as archive:
            archive.add(server.data_dir, "data")


if __name__ == "__main__":
    wanted = pathlib.Path(sys.argv[1])
    write_documents(wanted) if wanted.name.startswith("documents-") else write(wanted)
