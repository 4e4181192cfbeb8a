//! Sizes that the door enforces before a service sees a request. Each is a service's own limit
//! plus room for the encoding around it, so that a service can name its limit itself when a
//! request is only just too large.

const MIB: usize = 1024 * 1024;

/// `PutRecordBatch`: 4 MiB of records, a third more in base64, and names around them.
pub const FIREHOSE_BODY_BYTES_MAX: usize = 6 * MIB;
/// `PutRecords`: 10 MiB of records and keys, a third more in base64, and names around them.
pub const KINESIS_BODY_BYTES_MAX: usize = 16 * MIB;
/// Athena: a query has at most 262,144 bytes; escaping can make it six times as long.
pub const ATHENA_BODY_BYTES_MAX: usize = 2 * MIB;
/// Glue: a table's definition.
pub const GLUE_BODY_BYTES_MAX: usize = 2 * MIB;
/// S3 Tables: a schema.
pub const S3TABLES_BODY_BYTES_MAX: usize = 4 * MIB;
/// The Iceberg REST catalog: a commit or a whole table's metadata; AWS's limit is 50 MB.
pub const ICEBERG_BODY_BYTES_MAX: usize = 50 * MIB;
/// STS: a few form members.
pub const STS_BODY_BYTES_MAX: usize = 64 * 1024;
/// Head of a request, all headers together.
pub const HEAD_BYTES_MAX: usize = 64 * 1024;
