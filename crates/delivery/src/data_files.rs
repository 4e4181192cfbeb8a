//! Data files as text, for the document of a prepared batch.
//!
//! Iceberg's JSON form of a `DataFile` is small, but JSON has no NaN: a file whose JSON does not
//! read back equal is kept as Avro, the form of manifests, in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use iceberg::spec::{
    DataFile, Schema, StructType, TableMetadata, deserialize_data_file_from_json,
    read_data_files_from_avro, serialize_data_file_to_json, write_data_files_to_avro,
};

/// What stands before the base64 of Avro.
const AVRO: &str = "avro:";

/// A file could not be described or read back: a defect, or a document that was damaged.
#[derive(Debug, Clone, thiserror::Error)]
#[error("a data file's description is not usable: {0}")]
pub(crate) struct BadDataFile(pub(crate) String);

fn bad(error: impl std::fmt::Display) -> BadDataFile {
    BadDataFile(error.to_string())
}

/// What a description is read by.
struct Form {
    schema: std::sync::Arc<Schema>,
    spec_id: i32,
    partition: StructType,
}

fn form(metadata: &TableMetadata, schema_id: i32, spec_id: i32) -> Result<Form, BadDataFile> {
    let schema = metadata
        .schema_by_id(schema_id)
        .ok_or_else(|| bad(format!("the table has no schema {schema_id} any more")))?;
    let spec = metadata
        .partition_spec_by_id(spec_id)
        .ok_or_else(|| bad(format!("the table has no partition spec {spec_id} any more")))?;
    let partition = spec.partition_type(schema).map_err(bad)?;
    Ok(Form { schema: schema.clone(), spec_id, partition })
}

impl Form {
    fn read(&self, text: &str) -> Result<DataFile, BadDataFile> {
        let Some(avro) = text.strip_prefix(AVRO) else {
            let (id, partition) = (self.spec_id, &self.partition);
            return deserialize_data_file_from_json(text, id, partition, &self.schema).map_err(bad);
        };
        let bytes = STANDARD.decode(avro).map_err(bad)?;
        let version = iceberg::spec::FormatVersion::V2;
        let (id, partition) = (self.spec_id, &self.partition);
        let files =
            read_data_files_from_avro(&mut bytes.as_slice(), &self.schema, id, partition, version)
                .map_err(bad)?;
        files.into_iter().next().ok_or_else(|| bad("it is empty"))
    }

    fn write(&self, file: &DataFile) -> Result<String, BadDataFile> {
        let version = iceberg::spec::FormatVersion::V2;
        let json = serialize_data_file_to_json(file.clone(), &self.partition, version);
        if let Ok(json) = json
            && self.read(&json).is_ok_and(|back| back == *file)
        {
            return Ok(json);
        }
        let mut avro = Vec::new();
        write_data_files_to_avro(&mut avro, [file.clone()], &self.partition, version)
            .map_err(bad)?;
        Ok(format!("{AVRO}{}", STANDARD.encode(avro)))
    }
}

/// Describes files that were written by this schema and spec.
pub(crate) fn describe(
    files: &[DataFile],
    metadata: &TableMetadata,
    schema_id: i32,
    spec_id: i32,
) -> Result<Vec<String>, BadDataFile> {
    let form = form(metadata, schema_id, spec_id)?;
    files.iter().map(|file| form.write(file)).collect()
}

/// Reads descriptions back.
pub(crate) fn restore(
    texts: &[String],
    metadata: &TableMetadata,
    schema_id: i32,
    spec_id: i32,
) -> Result<Vec<DataFile>, BadDataFile> {
    let form = form(metadata, schema_id, spec_id)?;
    texts.iter().map(|text| form.read(text)).collect()
}
