//! The body of Kinesis's `PutRecord` and `PutRecords`, in JSON and in CBOR: what a fast way accepts
//! the exact way accepts too, with the same stream and the same records, unless what should be
//! base64 is none.

use alluvium_services::kinesis::scan::{Put, Shape, exact, fast, fast_cbor, read};
use alluvium_streams::PutEntry;
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
            within_limits(&put);
            let Some(records) = plain(&put) else {
                assert!(exact(input, shape, encoding).is_err(), "what is not base64 is refused");
                continue;
            };
            let other = exact(input, shape, encoding).expect("what a fast way accepts is right");
            assert_eq!(Some(records), plain(&other), "both ways read the same");
        }
    }
}

/// A record's partition key, hash key and data.
type Plain = (String, Option<u128>, Vec<u8>);

/// Each record; none if some data is not base64.
fn plain(put: &Put<'_>) -> Option<Vec<Plain>> {
    let plain = |entry: &PutEntry<'_>| {
        let mut data = Vec::new();
        entry.data.append_to(&mut data)?;
        Some((entry.partition_key.to_string(), entry.explicit_hash_key.map(|hash| hash.0), data))
    };
    put.entries().iter().map(plain).collect()
}

fn within_limits(put: &Put<'_>) {
    assert!((1..=500).contains(&put.count()));
    let entries = put.entries();
    assert!(entries.iter().map(PutEntry::size_bytes).sum::<usize>() <= 10 << 20);
    assert!(entries.iter().all(|entry| (1..=256).contains(&entry.partition_key.chars().count())));
}
