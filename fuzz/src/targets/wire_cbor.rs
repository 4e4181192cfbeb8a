//! Bodies in CBOR: an input that is taken is of its shape, within the depth that is allowed, has no
//! member that its shape lacks, and is the same after it was written and read again.

use alluvium_wire::cbor;
use alluvium_wire::input::parse_cbor;
use alluvium_wire::member::{Blob, Timestamp};
use serde_json::Value;
use std::collections::BTreeMap;

/// The target.
pub(super) fn run(input: &[u8]) {
    if let Ok(value) = parse_cbor::<Value>(input) {
        let written = cbor::to_vec(&value).expect("a JSON value has its CBOR");
        let again = parse_cbor::<Value>(&written).expect("what is written is read");
        // What CBOR has and JSON has not (NaN, infinity) became null at the first reading.
        assert_eq!(value, again);
    }
    if let Ok(shape) = parse_cbor::<Shape>(input) {
        let written = cbor::to_vec(&shape).expect("the shape has its CBOR");
        let again: Shape = parse_cbor(&written).expect("what is written is read");
        assert_eq!(shape, again);
    }
}

#[derive(Debug, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "PascalCase")]
struct Shape {
    name: Option<String>,
    numbers: Option<Vec<i32>>,
    data: Option<Blob>,
    at: Option<Timestamp>,
    nested: Option<BTreeMap<String, Box<Shape>>>,
}
