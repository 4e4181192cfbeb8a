"""Data directories of earlier servers are opened, and all that was in them is found."""

import pathlib
import tarfile

import pytest

import documents
import pipeline
from alluvium_server import Server
from ledger import record

FIXTURES = pathlib.Path(__file__).resolve().parent / "fixtures"


@pytest.fixture
def opened(tmp_path):
    server = Server(tmp_path / "data", "--table-commit-interval-ms", "0")

    def start(fixture):
        with tarfile.open(fixture) as archive:
            archive.extractall(tmp_path, filter="data")
        return server.start()

    yield start
    server.kill()


def of(kind):
    return pytest.mark.parametrize("fixture", sorted(FIXTURES.glob(f"{kind}-*")), ids=lambda path: path.name)


@of("format")
def test_a_data_directory_of_each_format_is_opened(fixture, opened):
    """FIXTURES hold 5 delivered rows (ids 0-4) and 5 in the log (ids 5-9), of a stopped server."""
    server = opened(fixture)
    pipeline.wait_for_rows(server, 10)
    assert sorted(pipeline.ids(server)) == list(range(10))
    client = server.client("firehose")
    client.put_record(DeliveryStreamName=pipeline.STREAM, Record={"Data": record(10)})
    pipeline.wait_for_rows(server, 11)
    assert sorted(pipeline.ids(server)) == list(range(11))
    assert server.stop() == 0


@of("documents")
def test_every_kind_of_document_is_read(fixture, opened):
    server = opened(fixture)
    documents.check(server)
    assert server.stop() == 0
    server.start()
    assert server.stop() == 0, "and what this server wrote beside them"


def test_the_first_fixtures_are_there():
    assert {"format-1.tar.gz", "documents-1.tar.xz"} <= {path.name for path in FIXTURES.iterdir()}
