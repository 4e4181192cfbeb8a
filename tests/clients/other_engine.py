"""Another engine: commits files of any kind to a table, with manifests of its own, through the REST catalog."""

import io
import time
import uuid

import pyarrow
import pyarrow.orc
import pyarrow.parquet
from pyiceberg.manifest import (
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSnapshotUpdate, SetSnapshotRefUpdate
from pyiceberg.typedef import Record

CODEC = "deflate"


class Manifest(ManifestWriterV2):
    """A manifest of data files or of delete files; PyIceberg's own writes data files only."""

    def __init__(self, of, *arguments):
        self.of = of
        super().__init__(*arguments)

    def content(self):
        return self.of

    @property
    def _meta(self):
        return {**super()._meta, "content": "data" if self.of == ManifestContent.DATA else "deletes"}


def put(table, name, content):
    location = f"{table.location()}/data/{uuid.uuid4()}-{name}"
    with table.io.new_output(location).create(overwrite=True) as output:
        output.write(content)
    return location, len(content)


def parquet(columns, field_ids):
    schema = columns.schema
    fields = [field.with_metadata({"PARQUET:field_id": str(field_ids[field.name])}) for field in schema]
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(columns.cast(pyarrow.schema(fields)), buffer)
    return buffer.getvalue()


def orc(columns):
    buffer = io.BytesIO()
    pyarrow.orc.write_table(columns, buffer)
    return buffer.getvalue()


def data_file(table, name, content, rows, file_format=FileFormat.PARQUET, of=DataFileContent.DATA, **more):
    location, size = put(table, name, content)
    return DataFile.from_args(
        content=of, file_path=location, file_format=file_format, partition=Record(), record_count=rows,
        file_size_in_bytes=size, **more,
    )


def keys_file(table, ids):
    """An equality delete file: rows with these ids are gone."""
    columns = pyarrow.table({"id": pyarrow.array(ids, pyarrow.int64())})
    return data_file(table, "keys.parquet", parquet(columns, {"id": 1}), len(ids),
                     of=DataFileContent.EQUALITY_DELETES, equality_ids=[1])


def commit(table, *files, requirements=()):
    """A snapshot with these files besides those that the table has."""
    metadata, snapshot_id = table.metadata, uuid.uuid4().int >> 66
    deletes = [file for file in files if file.content != DataFileContent.DATA]
    of = ManifestContent.DELETES if deletes else ManifestContent.DATA
    output = table.io.new_output(f"{table.location()}/metadata/{uuid.uuid4()}-m0.avro")
    with Manifest(of, table.spec(), table.schema(), output, snapshot_id, CODEC) as writer:
        for file in files:
            writer.add(ManifestEntry.from_args(
                status=ManifestEntryStatus.ADDED, snapshot_id=snapshot_id, data_file=file))
    parent = table.current_snapshot()
    carried = parent.manifests(table.io) if parent else []
    location = f"{table.location()}/metadata/snap-{snapshot_id}-{uuid.uuid4()}.avro"
    sequence = metadata.last_sequence_number + 1
    parent_id = parent.snapshot_id if parent else None
    with write_manifest_list(2, table.io.new_output(location), snapshot_id, parent_id, sequence, CODEC) as listing:
        listing.add_manifests([writer.to_manifest_file(), *carried])
    snapshot = Snapshot(
        snapshot_id=snapshot_id, parent_snapshot_id=parent_id, sequence_number=sequence, manifest_list=location,
        timestamp_ms=int(time.time() * 1000), summary=Summary(Operation.OVERWRITE), schema_id=table.schema().schema_id,
    )
    table._do_commit(
        updates=(AddSnapshotUpdate(snapshot=snapshot),
                 SetSnapshotRefUpdate(ref_name="main", type="branch", snapshot_id=snapshot_id)),
        requirements=requirements,
    )
    return table
