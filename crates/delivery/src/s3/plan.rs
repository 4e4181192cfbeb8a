//! The S3 side of a destination, checked: what all its objects have in common.

use super::codec;
use crate::prefix::{BadPrefix, Prefix};
use crate::stream::{Compression, S3Destination, S3Output};
use std::sync::Arc;

/// The objects of a destination: of its records, or of their raw copies. Clones are the same.
#[derive(Debug, Clone)]
pub struct S3Plan {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) bucket: String,
    pub(super) prefix: Prefix,
    pub(super) compression: Compression,
    pub(super) extension: String,
    pub(super) size_bytes: u64,
    /// Part of the objects' identity: records and their copies may go to one bucket.
    pub(super) kind: &'static str,
    pub(super) partitioned: bool,
}

impl S3Plan {
    /// The objects of the destination's records.
    pub fn new(destination: &S3Destination) -> Result<Self, BadPrefix> {
        let output = &destination.output;
        let partitioned = destination.dynamic_partitioning.is_some();
        let own = destination.file_extension.as_deref().filter(|text| !text.is_empty());
        let inner = Inner {
            bucket: output.bucket().to_string(),
            prefix: prefix(output, partitioned, destination)?,
            compression: output.compression,
            extension: own.unwrap_or_else(|| codec::extension(output.compression)).to_string(),
            size_bytes: destination.buffering.size_bytes(),
            kind: "records",
            partitioned,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The objects of raw copies (`S3BackupMode` `Enabled`), if there are to be any.
    pub fn backup(destination: &S3Destination) -> Option<Result<Self, BadPrefix>> {
        let backup = destination.backup.as_ref().filter(|backup| backup.enabled)?;
        let output = &backup.output;
        let plan = prefix(output, false, destination).map(|prefix| Inner {
            bucket: output.bucket().to_string(),
            prefix,
            compression: output.compression,
            extension: codec::extension(output.compression).to_string(),
            size_bytes: backup.buffering.size_bytes(),
            kind: "backup",
            partitioned: false,
        });
        Some(plan.map(|inner| Self { inner: Arc::new(inner) }))
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.inner.bucket
    }

    /// The partition keys that its prefix names.
    pub fn partition_keys(&self) -> impl Iterator<Item = &str> {
        self.inner.prefix.partition_keys()
    }
}

fn prefix(
    output: &S3Output,
    partitioned: bool,
    destination: &S3Destination,
) -> Result<Prefix, BadPrefix> {
    Prefix::for_records(output.prefix.as_deref(), partitioned)?
        .in_zone(destination.time_zone.as_deref())
}
