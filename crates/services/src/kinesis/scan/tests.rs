//! Both ways read the same, and the exact one decides what is refused.

use super::*;
use alluvium_wire::cbor;
use base64_simd::STANDARD;
use proptest::prelude::*;
use serde_json::json;

const JSON: Encoding = Encoding::Json11;
const CBOR: Encoding = Encoding::Cbor11;

fn batch(records: &[(&str, Option<&str>, &[u8])]) -> String {
    let records: Vec<_> = records
        .iter()
        .map(|(key, hash, data)| {
            let mut record = json!({"Data": STANDARD.encode_to_string(data), "PartitionKey": key});
            if let Some(hash) = hash {
                record["ExplicitHashKey"] = (*hash).into();
            }
            record
        })
        .collect();
    json!({"StreamName": "s", "Records": records}).to_string()
}

fn cbor_batch(records: &[(&str, Option<&str>, &[u8])], open: bool) -> Vec<u8> {
    let mut out = cbor::Writer::default();
    if open {
        out.open_map()
    } else {
        out.map(2)
    }
    out.text("StreamName");
    out.text("s");
    out.text("Records");
    if open {
        out.open_list()
    } else {
        out.list(records.len())
    }
    for (key, hash, data) in records {
        if open {
            out.open_map()
        } else {
            out.map(2 + usize::from(hash.is_some()))
        }
        out.text("PartitionKey");
        out.text(key);
        if let Some(hash) = hash {
            out.text("ExplicitHashKey");
            out.text(hash);
        }
        out.text("Data");
        out.bytes(data);
        if open {
            out.end();
        }
    }
    if open {
        out.end();
        out.end();
    }
    out.into_bytes()
}

/// A record, whatever read it: key, hash, data.
type Plain = (String, Option<u128>, Vec<u8>);

fn plain(put: &Put<'_>) -> Vec<Plain> {
    let plain = |entry: &PutEntry<'_>| {
        let mut data = Vec::new();
        entry.data.append_to(&mut data)?;
        Some((entry.partition_key.to_string(), entry.explicit_hash_key.map(|hash| hash.0), data))
    };
    put.entries().iter().map(|entry| plain(entry).expect("it is base64")).collect()
}

/// Why a body is refused, as the service finds it.
fn code(body: &[u8], shape: Shape, encoding: Encoding) -> String {
    let refused = read(body, shape, encoding).and_then(|put| {
        assert!(!put.is_certain());
        exact(body, shape, encoding)
    });
    refused.unwrap_err().code.into_owned()
}

#[test]
fn what_sdks_write_takes_the_fast_ways() {
    let records: &[(&str, Option<&str>, &[u8])] =
        &[("k", None, b"{\"a\":1}"), ("é", Some("7"), b""), ("k2", None, &[0, 255])];
    let expected: Vec<Plain> = vec![
        ("k".into(), None, b"{\"a\":1}".to_vec()),
        ("é".into(), Some(7), Vec::new()),
        ("k2".into(), None, vec![0, 255]),
    ];
    let body = batch(records);
    let put = fast(body.as_bytes(), Shape::Batch).unwrap();
    assert_eq!(put.stream().name, Some("s"));
    assert_eq!(plain(&put), expected);
    for open in [false, true] {
        let body = cbor_batch(records, open);
        let put = fast_cbor(&body, Shape::Batch).unwrap();
        assert_eq!(put.stream().name, Some("s"));
        assert_eq!(plain(&put), expected);
    }
}

#[test]
fn one_record_has_its_members_beside_the_streams() {
    let body = br#" {"Data":"YWJj","PartitionKey":"k", "SequenceNumberForOrdering":"12",
        "StreamARN":"arn:aws:kinesis:us-east-1:000000000000:stream/s"} "#;
    let put = fast(body, Shape::One).unwrap();
    assert_eq!(put.ordering(), Some("12"));
    assert_eq!(put.stream().arn.unwrap().rsplit('/').next(), Some("s"));
    assert_eq!(plain(&put), [("k".into(), None, b"abc".to_vec())]);
    let other = exact(body, Shape::One, JSON).unwrap();
    assert_eq!(plain(&other), plain(&put));
    assert_eq!(other.ordering(), put.ordering());
}

#[test]
fn escapes_take_the_exact_way_to_the_same_records() {
    let body =
        br#"{"StreamName":"\u0073","Records":[{"Data":"\/\/\/\/","PartitionKey":"\u00e9"}]}"#;
    assert!(fast(body, Shape::Batch).is_none());
    let put = read(body, Shape::Batch, JSON).unwrap();
    assert_eq!(put.stream().name, Some("s"));
    assert_eq!(plain(&put), [("é".into(), None, vec![255; 3])]);
}

#[test]
fn base64_is_left_to_be_found_wrong_and_then_refused_as_by_the_exact_way() {
    for data in ["YQ=", "Y", "Y!==", "====", "YQ==YQ==", "YQ\\"] {
        let body =
            format!(r#"{{"StreamName":"s","Records":[{{"Data":"{data}","PartitionKey":"k"}}]}}"#);
        let put = fast(body.as_bytes(), Shape::Batch).unwrap();
        assert!(!put.is_certain());
        assert_eq!(put.entries()[0].data.append_to(&mut Vec::new()), None, "{data}");
        assert_eq!(code(body.as_bytes(), Shape::Batch, JSON), "SerializationException", "{data}");
    }
}

#[test]
fn limits_hold_at_their_edge_and_fail_one_past_it() {
    let many = vec![("k", None, b"x".as_slice()); RECORDS_MAX + 1];
    let none = batch(&[]);
    assert_eq!(code(none.as_bytes(), Shape::Batch, JSON), "ValidationException");
    for (count, fits) in [(RECORDS_MAX, true), (RECORDS_MAX + 1, false)] {
        let (json, cbor) = (batch(&many[..count]), cbor_batch(&many[..count], false));
        assert_eq!(read(json.as_bytes(), Shape::Batch, JSON).is_ok(), fits);
        assert_eq!(read(&cbor, Shape::Batch, CBOR).is_ok(), fits);
    }
    for (key, fits) in [("k".repeat(256), true), ("é".repeat(256), true), ("k".repeat(257), false)]
    {
        let json = batch(&[(&key, None, b"x")]);
        assert_eq!(read(json.as_bytes(), Shape::Batch, JSON).is_ok(), fits, "{}", key.len());
    }
    assert_eq!(
        code(batch(&[("", None, b"x")]).as_bytes(), Shape::Batch, JSON),
        "ValidationException"
    );
    // Ten records with their keys are 10 MiB, and one byte more is too much.
    let large = vec![b'x'; (1 << 20) - 1];
    let mut ten = vec![("k", None, large.as_slice()); 10];
    assert!(read(&cbor_batch(&ten, false), Shape::Batch, CBOR).is_ok());
    ten.push(("k", None, b""));
    assert_eq!(code(&cbor_batch(&ten, false), Shape::Batch, CBOR), "InvalidArgumentException");
    let largest = vec![b'x'; RECORD_BYTES_MAX - 1];
    assert!(read(&cbor_batch(&[("k", None, &largest)], false), Shape::Batch, CBOR).is_ok());
    let larger = vec![b'x'; RECORD_BYTES_MAX + 1];
    let over = cbor_batch(&[("k", None, &larger)], false);
    assert_eq!(code(&over, Shape::Batch, CBOR), "ValidationException");
}

#[test]
fn hash_keys_out_of_the_space_are_refused() {
    let most = "340282366920938463463374607431768211455";
    let past = "340282366920938463463374607431768211456";
    assert!(read(batch(&[("k", Some(most), b"x")]).as_bytes(), Shape::Batch, JSON).is_ok());
    for (hash, expected) in [
        (past, "InvalidArgumentException"),
        ("01", "ValidationException"),
        ("-1", "ValidationException"),
        ("", "ValidationException"),
        ("1e3", "ValidationException"),
    ] {
        let json = batch(&[("k", Some(hash), b"x")]);
        assert_eq!(code(json.as_bytes(), Shape::Batch, JSON), expected, "{hash}");
        let cbor = cbor_batch(&[("k", Some(hash), b"x")], true);
        assert_eq!(code(&cbor, Shape::Batch, CBOR), expected, "{hash}");
    }
}

#[test]
fn what_is_not_the_shape_is_refused() {
    for body in [
        "",
        "{",
        "[]",
        "null",
        r#"{"StreamName":"s","Records":[{"Data":"YQ==","PartitionKey":"k"}]"#,
        r#"{"StreamName":"s","Records":[{"Data":"YQ==","PartitionKey":"k"}]}x"#,
        r#"{"StreamName":"s","Records":[{"Data":"YQ==","PartitionKey":"k"},]}"#,
        r#"{"StreamName":"s","Records":[{"Data":"YQ==","PartitionKey":"k",}]}"#,
        r#"{"StreamName":"s","Records":[{"Data":"YQ=","PartitionKey":"k"}]}"#,
        r#"{"StreamName":"s","Records":[{"Data":7,"PartitionKey":"k"}]}"#,
        r#"{"StreamName":"s","Records":[{"Data":"YQ=="}]}"#,
        r#"{"StreamName":"s","Records":[{"PartitionKey":"k"}]}"#,
        r#"{"StreamName":"s","Records":["YQ=="]}"#,
        r#"{"StreamName":"s","Records":[{"Data":"YQ==","PartitionKey":"k","Odd":1}]}"#,
        r#"{"StreamName":"s","Records":[{"Data":"YQ==","Data":"YQ==","PartitionKey":"k"}]}"#,
        r#"{"StreamName":"s","Records":[{"Data":"YQ==","PartitionKey":"k"}],"Odd":1}"#,
    ] {
        let code = code(body.as_bytes(), Shape::Batch, JSON);
        let known = ["SerializationException", "ValidationException", "InvalidArgumentException"];
        assert!(known.contains(&code.as_str()), "{body}: {code}");
    }
    let text_data = cbor::to_vec(&json!({"StreamName": "s",
        "Records": [{"Data": "YQ==", "PartitionKey": "k"}]}));
    assert_eq!(code(&text_data.unwrap(), Shape::Batch, CBOR), "SerializationException");
}

fn records() -> impl Strategy<Value = Vec<(String, Option<u128>, Vec<u8>)>> {
    let record = (".{1,12}", any::<Option<u128>>(), prop::collection::vec(any::<u8>(), 0..40));
    prop::collection::vec(record, 1..8)
}

proptest! {
    #[test]
    fn fast_and_exact_agree(records in records(), open in any::<bool>()) {
        let hashes: Vec<Option<String>> =
            records.iter().map(|(_, hash, _)| hash.map(|hash| hash.to_string())).collect();
        let borrowed: Vec<(&str, Option<&str>, &[u8])> = records
            .iter()
            .zip(&hashes)
            .map(|((key, _, data), hash)| (key.as_str(), hash.as_deref(), data.as_slice()))
            .collect();
        let json = batch(&borrowed);
        let exact_json = exact(json.as_bytes(), Shape::Batch, JSON).unwrap();
        prop_assert_eq!(plain(&exact_json), records.clone());
        if let Some(put) = fast(json.as_bytes(), Shape::Batch) {
            prop_assert_eq!(plain(&put), records.clone());
        } else {
            prop_assert!(json.contains('\\'));
        }
        let cbor = cbor_batch(&borrowed, open);
        prop_assert_eq!(plain(&fast_cbor(&cbor, Shape::Batch).unwrap()), records.clone());
        prop_assert_eq!(plain(&exact(&cbor, Shape::Batch, CBOR).unwrap()), records);
    }

    #[test]
    fn what_the_fast_way_takes_the_exact_way_takes(
        body in "(\\{|\\}|\\[|\\]|,|:|\"|\"Records\"|\"Data\"|\"PartitionKey\"|\"StreamName\"|\"YQ==\"|\"k\"| ){0,16}"
    ) {
        for shape in [Shape::One, Shape::Batch] {
            if let Some(put) = fast(body.as_bytes(), shape) {
                let other = exact(body.as_bytes(), shape, JSON).unwrap();
                prop_assert_eq!(plain(&put), plain(&other));
            }
        }
    }

    #[test]
    fn a_damaged_body_never_panics(at in 0usize..90, byte in any::<u8>(), shape in any::<bool>()) {
        let shape = if shape { Shape::One } else { Shape::Batch };
        let records: &[(&str, Option<&str>, &[u8])] = &[("k", Some("1"), b"{}"), ("l", None, b"x")];
        let mut json = batch(records).into_bytes();
        let mut cbor = cbor_batch(records, false);
        for body in [&mut json, &mut cbor] {
            if let Some(place) = body.get_mut(at) {
                *place = byte;
            }
        }
        let _ = read(&json, shape, JSON);
        if let Some(put) = fast_cbor(&cbor, shape) {
            prop_assert_eq!(plain(&put), plain(&exact(&cbor, shape, CBOR).unwrap()));
        }
        let _ = read(&cbor, shape, CBOR);
    }
}
