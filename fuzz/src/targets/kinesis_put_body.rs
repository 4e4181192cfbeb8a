//! The body of Kinesis's `PutRecord` and `PutRecords`, in JSON and in CBOR: what a fast way accepts
//! the exact way accepts too, with the same stream and the same records.

use alluvium_services::kinesis::scan::{Put, Shape, exact, fast, fast_cbor, read};
use alluvium_wire::json_protocol::Encoding;

/// The target.
pub(super) fn run(input: &[u8]) {
    for shape in [Shape::One, Shape::Batch] {
        let ways =
            [(fast(input, shape), Encoding::Json11), (fast_cbor(input, shape), Encoding::Cbor11)];
        for (put, encoding) in ways {
            let Some(put) = put else {
                if let Ok(put) = read(input, shape, encoding) {
                    within_limits(&put);
                }
                continue;
            };
            let other = exact(input, shape, encoding).expect("what a fast way accepts is right");
            assert!(put.entries().eq(other.entries()), "both ways read the same");
            within_limits(&put);
        }
    }
}

fn within_limits(put: &Put<'_>) {
    assert!((1..=500).contains(&put.count()));
    let size: usize = put.entries().map(|entry| entry.key.len() + entry.data.len()).sum();
    assert!(size <= 10 << 20);
    assert!(put.entries().all(|entry| (1..=256).contains(&entry.key.chars().count())));
}
