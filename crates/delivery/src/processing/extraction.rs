//! What a filter's answer means: a table and an operation, or the keys of a partition.
//!
//! Keys of a partition are strings, numbers or booleans, each with a text; `null`, an empty string,
//! an array or an object is none (Firehose developer guide, "Troubleshoot dynamic partitioning").
//! Names of tables are not empty, an operation is one of three (the same guide, "Route incoming
//! records"). What an answer leaves out is left to the destination.

use super::Metadata;
use super::jq::{Answer, Filter, FilterError, Given};
use super::plan::Purpose;

/// Bytes of one value: more than an object's key or a table's name may have.
const VALUE_BYTES_MAX: usize = 1024;

const FAILED: &str = "MetadataExtraction.Failed";
/// AWS's code for partitions.
const PARTITIONS_FAILED: &str = "DynamicPartitioning.MetadataExtractionFailed";
/// AWS's code for a name that is null or empty.
const INVALID_TABLE_NAME: &str = "Iceberg.InvalidTableName";
const INVALID_OPERATION: &str = "Iceberg.InvalidOperation";

/// The member that names the database.
pub(super) const DATABASE: &str = "destinationDatabaseName";
/// The member that names the table.
pub(super) const TABLE: &str = "destinationTableName";
/// The member that says what to do with the record.
pub(super) const OPERATION: &str = "operation";

/// What to do with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordOperation {
    /// A new row.
    Insert,
    /// Takes the place of the row with its key.
    Update,
    /// Removes the row with its key.
    Delete,
}

impl RecordOperation {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Insert, Self::Update, Self::Delete].into_iter().find(|one| one.as_str() == text)
    }
}

/// Where a record goes; what the filter does not say is absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routing<'a> {
    /// `destinationDatabaseName`.
    pub database: Option<&'a str>,
    /// `destinationTableName`.
    pub table: Option<&'a str>,
    /// `operation`.
    pub operation: Option<RecordOperation>,
}

/// The keys of a record's partition, in the filter's order.
#[derive(Debug, Clone, Copy)]
pub struct PartitionKeys<'a>(&'a Answer);

impl<'a> PartitionKeys<'a> {
    /// The value of a key.
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// The value at a place.
    pub fn at(&self, index: usize) -> Option<&'a str> {
        match self.0.member(index)? {
            (_, Given::Text(text)) => Some(text),
            (_, Given::Null | Given::Nested) => None,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.0.members().filter_map(|(name, value)| match value {
            Given::Text(text) => Some((name, text)),
            Given::Null | Given::Nested => None,
        })
    }
}

/// The answer of one record, in a buffer that the next one uses again.
#[derive(Debug, Clone, Default)]
pub(super) struct Extracted(Answer);

type Failed = (&'static str, String);

impl Extracted {
    /// Asks the filter about a record.
    pub(super) fn take(
        &mut self,
        filter: &Filter,
        record: &[u8],
        purpose: Purpose,
    ) -> Result<Metadata<'_>, Failed> {
        let failed = match purpose {
            Purpose::Iceberg => FAILED,
            Purpose::S3 { .. } => PARTITIONS_FAILED,
        };
        filter.ask(record, &mut self.0).map_err(|error| (failed, error.to_string()))?;
        match purpose {
            Purpose::Iceberg => self.routing().map(Metadata::Routing),
            Purpose::S3 { .. } => self.partition().map(Metadata::Partition),
        }
    }

    fn partition(&self) -> Result<PartitionKeys<'_>, Failed> {
        for (name, value) in self.0.members() {
            match value {
                Given::Text("") | Given::Null => {
                    let reason = format!("partitionKeys values must not be null or empty: {name}");
                    return Err((PARTITIONS_FAILED, reason));
                }
                Given::Text(text) => too_long(PARTITIONS_FAILED, name, text)?,
                Given::Nested => {
                    let reason = format!(
                        "partitionKeys values must be strings, numbers or booleans, not arrays or \
                         objects: {name}"
                    );
                    return Err((PARTITIONS_FAILED, reason));
                }
            }
        }
        match self.0.len() {
            0 => Err((PARTITIONS_FAILED, "the query yields an object without keys".into())),
            _ => Ok(PartitionKeys(&self.0)),
        }
    }

    fn routing(&self) -> Result<Routing<'_>, Failed> {
        let mut routing = Routing { database: None, table: None, operation: None };
        for (name, value) in self.0.members() {
            let (place, code) = match name {
                DATABASE => (Some(&mut routing.database), INVALID_TABLE_NAME),
                TABLE => (Some(&mut routing.table), INVALID_TABLE_NAME),
                OPERATION => (None, INVALID_OPERATION),
                _ => continue,
            };
            let text = match value {
                Given::Text("") | Given::Null => {
                    return Err((code, format!("{name} is null or empty")));
                }
                Given::Nested => return Err((code, format!("{name} is an array or an object"))),
                Given::Text(text) => text,
            };
            too_long(code, name, text)?;
            match place {
                Some(place) => *place = Some(text),
                None => routing.operation = Some(operation(text)?),
            }
        }
        Ok(routing)
    }
}

fn operation(text: &str) -> Result<RecordOperation, Failed> {
    RecordOperation::parse(text).ok_or_else(|| {
        let shown: String = text.chars().take(64).collect();
        (INVALID_OPERATION, format!("operation '{shown}' is not insert, update or delete"))
    })
}

fn too_long(code: &'static str, name: &str, value: &str) -> Result<(), Failed> {
    if value.len() <= VALUE_BYTES_MAX {
        return Ok(());
    }
    let size = value.len();
    Err((code, format!("{name} has {size} bytes; at most {VALUE_BYTES_MAX} are allowed")))
}

impl std::fmt::Display for FilterError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotJson => f.write_str("Non JSON record provided"),
            Self::TooDeep => f.write_str("the record is nested deeper than 128 levels"),
            Self::TooLarge => f.write_str("the record is too large for this query"),
            Self::NoObject => f.write_str("the query does not yield an object"),
            Self::Empty => f.write_str("the query yields nothing"),
            Self::Many => f.write_str("the query yields more than one value"),
            Self::TooManyKeys => f.write_str("the query yields more than 50 keys"),
            Self::Query(reason) => write!(f, "the query fails: {reason}"),
        }
    }
}
