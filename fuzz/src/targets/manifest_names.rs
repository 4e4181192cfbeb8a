//! The header of a manifest that a client wrote: whatever the bytes are, a file whose partition fields
//! were renamed has nothing left to rename.

use alluvium_lake::avro_names::readable;
use bytes::Bytes;

/// The target.
pub(super) fn run(input: &[u8]) {
    let renamed = readable(Bytes::copy_from_slice(input));
    assert_eq!(readable(renamed.clone()), renamed, "renamed once is renamed");
}
