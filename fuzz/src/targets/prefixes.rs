//! Custom prefixes and their time patterns: refused with a reason, or evaluated to a key that an
//! object can have, the same one every time.
//!
//! The input's first line is `Prefix`, the rest `ErrorOutputPrefix`, and also the value of each
//! partition key and the name of a time zone.

use super::split_line;
use alluvium_base::{BatchNumber, StreamIncarnation};
use alluvium_delivery::java_time::{TimePattern, zone};
use alluvium_delivery::prefix::{ObjectIdentity, Prefix, RecordsIdentity};
use uuid::Uuid;

/// The target.
pub(super) fn run(input: &[u8]) {
    let (prefix, error) = split_line(input);
    let (Ok(prefix), Ok(error)) = (std::str::from_utf8(prefix), std::str::from_utf8(error)) else {
        return;
    };
    if let Ok(pattern) = TimePattern::parse(prefix) {
        for time_ms in [0, -1, i64::MIN, i64::MAX, 951_782_400_000, 1_767_431_107_089] {
            pattern.format(time_ms);
            let zone = zone(error).or_else(|| zone("America/St_Johns"));
            pattern.format_in(time_ms, zone.expect("a zone that is known"));
        }
    }
    records(prefix, error);
    let identity = ObjectIdentity {
        incarnation: StreamIncarnation(Uuid::from_u128(3)),
        batch: BatchNumber(7),
        part: 1,
        oldest_arrival_ms: 1_767_431_107_089,
    };
    for prefixes in [(Some(prefix), Some(error)), (Some(prefix), None), (None, Some(error))] {
        let Ok(found) = Prefix::for_errors(prefixes.0, prefixes.1) else { continue };
        let key = found.key(&identity, "iceberg-failed", "stream", 3);
        assert!(key.len() <= 1024, "a key of {} bytes", key.len());
        assert!(key.contains("stream-3-2026-01-03-09-05-07-"), "{key}");
        assert_eq!(key, found.key(&identity, "iceberg-failed", "stream", 3));
    }
}

fn records(prefix: &str, value: &str) {
    let identity = RecordsIdentity {
        incarnation: StreamIncarnation(Uuid::from_u128(3)),
        batch: BatchNumber(7),
        kind: "records",
        partition: value.as_bytes(),
        part: 1,
        oldest_arrival_ms: 1_767_431_107_089,
    };
    for partitioned in [false, true] {
        let Ok(found) = Prefix::for_records(Some(prefix), partitioned) else { continue };
        assert_eq!(partitioned, found.partition_keys().next().is_some());
        let Ok(found) = found.in_zone(Some("Asia/Tokyo")) else { continue };
        let values = vec![value.to_string(); found.partition_keys().count()];
        let bound = found.of_partition(&values);
        let key = bound.records_key(&identity, "stream", 3, ".gz");
        assert!(key.len() <= 1024 && key.contains("stream-3-2026-01-03-18-05-07-"), "{key}");
        if bound.check_records_key(&identity, "stream", 3, ".gz").is_ok() {
            assert!(!key.split('/').any(|segment| segment == ".."), "{key}");
            assert!(!key.chars().any(char::is_control), "{key}");
        }
    }
}
