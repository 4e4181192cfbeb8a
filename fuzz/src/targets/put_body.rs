//! The body of `PutRecord` and `PutRecordBatch`: what the fast way accepts the exact way accepts too,
//! with the same stream and the same records, and the frames hold as many records as they say.

use alluvium_lake::decode::Frames;
use alluvium_services::firehose::scan::{Put, Shape, exact, fast, read};

/// The target.
pub(super) fn run(input: &[u8]) {
    for shape in [Shape::One, Shape::Batch] {
        let Some(put) = fast(input, shape) else {
            if let Ok(put) = read(input, shape) {
                counts_agree(&put);
            }
            continue;
        };
        let other = exact(input, shape).expect("what the fast way accepts is right");
        assert_eq!(put, other, "both ways read the same");
        counts_agree(&put);
    }
}

fn counts_agree(put: &Put<'_>) {
    let frames: Result<Vec<&[u8]>, _> = Frames::new(&put.frames).collect();
    assert_eq!(frames.expect("frames are whole").len(), put.count as usize);
    assert!(!put.stream.is_empty());
}
