//! Against another implementation of CBOR, and by hand where AWS has its own ways.

use super::*;
use crate::member::{Blob, Timestamp};
use ciborium::Value;
use proptest::prelude::*;
use serde::Deserialize;
use std::collections::BTreeMap;

/// A value of both worlds: what an AWS shape can hold.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(|n| Value::Integer(n.into())),
        any::<u64>().prop_map(|n| Value::Integer(n.into())),
        (-1e300..1e300f64).prop_map(Value::Float),
        prop::collection::vec(any::<u8>(), 0..40).prop_map(Value::Bytes),
        ".{0,30}".prop_map(Value::Text),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::btree_map("[a-zA-Z]{0,8}", inner, 0..6).prop_map(|map| {
                Value::Map(map.into_iter().map(|(key, value)| (Value::Text(key), value)).collect())
            }),
        ]
    })
}

fn ours(bytes: &[u8]) -> Result<Value, CborError> {
    let mut reader = Deserializer::new(bytes);
    let value = Value::deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

fn theirs(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}

proptest! {
    #[test]
    fn what_another_writes_is_read_here_and_the_other_way_round(value in value()) {
        prop_assert_eq!(&ours(&theirs(&value)).unwrap(), &value);
        let written = to_vec(&value).unwrap();
        let read: Value = ciborium::from_reader(written.as_slice()).unwrap();
        prop_assert_eq!(&read, &value);
        prop_assert_eq!(&ours(&written).unwrap(), &value);
    }

    #[test]
    fn any_bytes_are_read_or_refused_as_another_reads_or_refuses_them(
        bytes in prop::collection::vec(any::<u8>(), 0..60)
    ) {
        if let Ok(value) = ours(&bytes) {
            // Tags 1 and 55799 have no place in the value, and `undefined` is none of theirs.
            let theirs: Result<Value, _> = ciborium::from_reader(bytes.as_slice());
            if let Ok(other) = theirs && !has_tag(&other) && !has_nan(&other) {
                prop_assert_eq!(value, other);
            }
        }
    }

    #[test]
    fn a_cut_or_damaged_value_never_panics(value in value(), at in 0usize..400, byte in any::<u8>()) {
        let mut bytes = theirs(&value);
        if at < bytes.len() {
            prop_assert!(ours(&bytes[..at]).is_err());
            bytes[at] = byte;
            let _ = ours(&bytes);
        }
    }
}

fn any_in(value: &Value, test: &dyn Fn(&Value) -> bool) -> bool {
    test(value)
        || match value {
            Value::Array(list) => list.iter().any(|item| any_in(item, test)),
            Value::Map(map) => map.iter().any(|(_, item)| any_in(item, test)),
            Value::Tag(_, inner) => any_in(inner, test),
            _ => false,
        }
}

fn has_tag(value: &Value) -> bool {
    any_in(value, &|value| matches!(value, Value::Tag(..)))
}

fn has_nan(value: &Value) -> bool {
    any_in(value, &|value| matches!(value, Value::Float(number) if number.is_nan()))
}

/// An input as an SDK in Java writes it.
#[derive(Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Input {
    stream_name: Option<String>,
    data: Option<Blob>,
    at: Option<Timestamp>,
    count: Option<i64>,
    tags: Option<BTreeMap<String, String>>,
    more: Option<Vec<Input>>,
}

fn input(bytes: &[u8]) -> Result<Input, crate::input::InputError> {
    crate::input::parse_cbor(bytes)
}

#[test]
fn indefinite_lengths_tagged_times_and_pieces_are_read() {
    let mut body = vec![0xbf]; // an open map
    body.extend_from_slice(b"\x6aStreamName\x7f\x61s\x62tr\xff");
    body.extend_from_slice(b"\x64Data\x5f\x42\x00\xff\x41\x07\xff");
    body.extend_from_slice(b"\x62At\xc1\x1b\x00\x00\x01\xa0\x00\x00\x00\x05");
    body.extend_from_slice(b"\x65Count\x20");
    body.extend_from_slice(b"\x64Tags\xbf\x61k\x61v\xff");
    body.extend_from_slice(b"\x64More\x9f\xa0\xff\xff");
    let read = input(&body).unwrap();
    assert_eq!(read.stream_name.as_deref(), Some("str"));
    assert_eq!(read.data, Some(Blob(vec![0, 255, 7])));
    assert_eq!(read.at, Some(Timestamp(0x01a0_0000_0005)));
    assert_eq!(read.count, Some(-1));
    assert_eq!(read.tags.unwrap()["k"], "v");
    assert_eq!(read.more.unwrap().len(), 1);
}

#[test]
fn times_are_milliseconds_here_and_seconds_in_json() {
    let time = Timestamp(1_700_000_000_250);
    let bytes = to_vec(&time).unwrap();
    assert_eq!(bytes, b"\xc1\x1b\x00\x00\x01\x8b\xcf\xe5\x68\xfa");
    assert_eq!(Timestamp::deserialize(&mut Deserializer::new(&bytes)).unwrap(), time);
    assert_eq!(serde_json::to_string(&time).unwrap(), "1700000000.25");
    assert_eq!(serde_json::from_str::<Timestamp>("1700000000.25").unwrap(), time);
    assert_eq!(serde_json::from_str::<Timestamp>("1700000000").unwrap().0, 1_700_000_000_000);
    assert!(serde_json::from_str::<Timestamp>("1e300").is_err());
    assert!(serde_json::from_str::<Timestamp>("\"now\"").is_err());
}

#[test]
fn blobs_are_bytes_here_and_base64_in_json() {
    let blob = Blob(vec![0, 1, 255]);
    assert_eq!(to_vec(&blob).unwrap(), b"\x43\x00\x01\xff");
    assert_eq!(serde_json::to_string(&blob).unwrap(), "\"AAH/\"");
    assert_eq!(serde_json::from_str::<Blob>("\"AAH/\"").unwrap(), blob);
    assert!(serde_json::from_str::<Blob>("\"AAH\"").is_err());
    let text = to_vec("AAH/").unwrap();
    assert!(Blob::deserialize(&mut Deserializer::new(&text)).is_err(), "base64 is JSON's way");
}

#[test]
fn an_unknown_member_is_refused_by_its_path() {
    use crate::input::InputError;
    let body = to_vec(&serde_json::json!({"More": [{"Odd": {"x": [1, 2]}}]})).unwrap();
    assert_eq!(input(&body), Err(InputError::UnknownMember("More.0.Odd".into())));
    let body = to_vec(&serde_json::json!({"More": [{"Count": "1"}]})).unwrap();
    let Err(InputError::WrongType { member, .. }) = input(&body) else { panic!() };
    assert_eq!(member, "More[0].Count");
    let list = to_vec(&serde_json::json!(["s"])).unwrap();
    assert!(matches!(input(&list), Err(InputError::WrongType { .. })));
}

#[test]
fn what_is_not_cbor_or_not_spoken_here_is_refused() {
    use crate::input::InputError;
    for body in [
        &b"\xa1"[..],                 // a pair that is missing
        b"\xa0\xa0",                  // two values
        b"\xff",                      // a break
        b"\x9f\x01",                  // a list without its end
        b"\x1c",                      // reserved
        b"\xf8\x20",                  // an unknown simple value
        b"\xa1\x01\x02",              // a key that is a number
        b"\xa1\x62\xc3\x28\x01",      // a key that is not UTF-8
        b"\xa1\x64Data\xc2\x41\x01",  // a big number
        b"\xa1\x64Data\x5f\x61a\xff", // a text among the pieces of bytes
        b"\xa1\x64Data\x5b\xff\xff\xff\xff\xff\xff\xff\xff\x00",
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff\x00",
    ] {
        let refused = input(body).unwrap_err();
        assert!(
            matches!(refused, InputError::NotCbor(_) | InputError::WrongType { .. }),
            "{body:?}: {refused}"
        );
    }
}

#[test]
fn depth_is_bounded_even_where_a_value_is_ignored() {
    use crate::input::InputError;
    let mut deep = b"\xa1\x63Odd".to_vec();
    deep.extend(std::iter::repeat_n(0x81u8, 200_000));
    assert_eq!(input(&deep), Err(InputError::TooDeep));
    let mut tags = b"\xa1\x65Count".to_vec();
    tags.extend(std::iter::repeat_n(0xc1u8, 200_000));
    tags.push(7);
    assert_eq!(input(&tags).unwrap().count, Some(7));
}

#[test]
fn halves_are_numbers() {
    let read = |bytes: &[u8]| f64::deserialize(&mut Deserializer::new(bytes)).unwrap();
    assert_eq!(read(b"\xf9\x3e\x00"), 1.5);
    assert_eq!(read(b"\xf9\xc4\x00"), -4.0);
    assert_eq!(read(b"\xf9\x00\x01"), 5.960_464_477_539_063e-8);
    assert_eq!(read(b"\xf9\x7c\x00"), f64::INFINITY);
    assert_eq!(read(b"\xfa\x47\xc3\x50\x00"), 100_000.0);
}
