//! KPL aggregates: a record is plain, or taken apart into parts of itself that make the same
//! aggregate again. The input is a whole record, or a message that gets its magic and checksum.

use alluvium_delivery::kpl::{Aggregator, MAGIC, deaggregate};
use md5::{Digest, Md5};

/// The target.
pub(super) fn run(input: &[u8]) {
    check(input);
    let sealed = [&MAGIC, input, Md5::digest(input).as_slice()].concat();
    check(&sealed);
}

fn check(record: &[u8]) {
    let Some(aggregate) = deaggregate(record) else { return };
    assert!(!aggregate.is_empty(), "an aggregate has records");
    let mut again = Aggregator::new();
    let mut count = 0;
    for user in aggregate.records() {
        assert_eq!(user.sub_sequence, count);
        assert!(record.as_ptr_range().contains(&user.data.as_ptr()) || user.data.is_empty());
        again.push(user.partition_key, user.explicit_hash_key, user.data);
        count += 1;
    }
    assert_eq!(count, aggregate.len());
    let again = again.finish();
    let told = |record: &[u8]| {
        let aggregate = deaggregate(record).expect("what was made is an aggregate");
        let records = aggregate.records();
        records
            .map(|user| {
                let hash = user.explicit_hash_key.map(String::from);
                (user.partition_key.to_string(), hash, user.data.to_vec())
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(told(&again), told(record));
}
