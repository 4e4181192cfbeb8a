//! A table's metadata file, as a client can have it registered: refused, or read; what is read can be
//! written and read again, and its references are named.

use alluvium_lake::commit::{parse_metadata, references};
use bytes::Bytes;

/// The target.
pub(super) fn run(input: &[u8]) {
    let Ok(metadata) = parse_metadata(&Bytes::copy_from_slice(input)) else { return };
    let json = serde_json::to_vec(&metadata).expect("metadata that was read can be written");
    let again = parse_metadata(&json.into()).expect("metadata that was written can be read");
    assert_eq!(metadata, again);
    references(&metadata).expect("references of metadata that was read");
    let _ = metadata.current_schema();
    let _ = metadata.current_snapshot();
}
