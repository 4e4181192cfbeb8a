//! Lines of error objects, read back for a replay: read or told, and a record's bytes are those of its
//! base64.

use alluvium_delivery::replay::lines::{Line, lines};

/// The target.
pub(super) fn run(input: &[u8]) {
    for line in lines(input) {
        assert!(!line.is_empty() && !line.contains(&b'\n'));
        let Ok(Line::Record(record)) = Line::parse(line) else { continue };
        if let Ok(data) = record.data() {
            assert!(data.len() <= line.len(), "base64 shrinks");
        }
    }
}
