//! The body of `PutRecord` and `PutRecordBatch` into log frames, in one pass.
//!
//! [`fast`] reads the JSON that SDKs write: known members once, no escapes, canonical base64. It
//! decodes each record straight into the framed block (a little-endian `u32` length, then the
//! bytes) and allocates once a call. Whatever is unusual in any way (an escape, an unknown member,
//! a limit passed, bytes that are not JSON) makes it give up, and [`exact`] reads the body again
//! with a JSON parser to answer as AWS does. So the fast way never decides what is refused.

use super::constraint;
use super::error::{bad_input, invalid};
use alluvium_wire::Problem;
use alluvium_wire::json_cursor::Cursor;
use base64_simd::{AsOut, STANDARD};
use http::StatusCode;
use serde::Deserialize;
use std::borrow::Cow;

/// `PutRecordBatch`: records in a call (Firehose quotas).
pub const RECORDS_MAX: usize = 500;
/// A record before base64: 1,000 KiB (Firehose quotas).
pub const RECORD_BYTES_MAX: usize = 1_024_000;
/// `PutRecordBatch`: all records before base64: 4 MiB (Firehose quotas).
pub const CALL_BYTES_MAX: usize = 4 << 20;
/// The length that stands before each record.
const FRAME_HEADER: usize = 4;

/// A call's records, framed.
#[derive(Debug, PartialEq, Eq)]
pub struct Put<'a> {
    /// `DeliveryStreamName`.
    pub stream: Cow<'a, str>,
    /// The records back to back.
    pub frames: Vec<u8>,
    /// How many.
    pub count: u32,
}

/// Which of the two operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// `{"DeliveryStreamName", "Record": {"Data"}}`
    One,
    /// `{"DeliveryStreamName", "Records": [{"Data"}]}`
    Batch,
}

/// Reads a body: the fast way, or else the exact one.
pub fn read(body: &[u8], shape: Shape) -> Result<Put<'_>, Problem> {
    match fast(body, shape) {
        Some(put) => Ok(put),
        None => exact(body, shape),
    }
}

struct Frames {
    /// As long as it can ever be; only `used` of it counts.
    bytes: Vec<u8>,
    used: usize,
    payload: usize,
    count: usize,
}

impl Frames {
    /// One record's object, after its `{`.
    #[inline]
    fn record(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        if cursor.string()? != b"Data" {
            return None;
        }
        cursor.byte(b':')?;
        let text = cursor.string()?;
        cursor.byte(b'}')?;
        let start = self.used + FRAME_HEADER;
        // Base64 of n bytes has 4n/3 characters and a record at least 11 more, so the body's own
        // length bounds the frames; a body that broke this would only take the exact way.
        let room = self.bytes.get_mut(start..)?;
        if text.len() / 4 * 3 > room.len() {
            return None;
        }
        let length = STANDARD.decode(text, room.as_out()).ok()?.len();
        self.payload += length;
        self.count += 1;
        let over = self.count > RECORDS_MAX || self.payload > CALL_BYTES_MAX;
        if length > RECORD_BYTES_MAX || over {
            return None;
        }
        let header = u32::try_from(length).ok()?.to_le_bytes();
        self.bytes[self.used..start].copy_from_slice(&header);
        self.used = start + length;
        Some(())
    }

    fn records(&mut self, cursor: &mut Cursor<'_>) -> Option<()> {
        cursor.byte(b'[')?;
        loop {
            cursor.byte(b'{')?;
            self.record(cursor)?;
            if !cursor.either(b',', b']')? {
                return Some(());
            }
        }
    }
}

#[inline]
fn plain_name(name: &[u8]) -> Option<&str> {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    let fits = (1..=64).contains(&name.len()) && name.iter().all(plain);
    if fits { std::str::from_utf8(name).ok() } else { None }
}

/// The body as SDKs write it; none for anything else.
pub fn fast(body: &[u8], shape: Shape) -> Option<Put<'_>> {
    let mut cursor = Cursor::new(body);
    let mut frames = Frames { bytes: vec![0; body.len()], used: 0, payload: 0, count: 0 };
    let mut stream = None;
    cursor.byte(b'{')?;
    loop {
        let member = cursor.string()?;
        cursor.byte(b':')?;
        match (member, shape) {
            (b"DeliveryStreamName", _) if stream.is_none() => {
                stream = Some(plain_name(cursor.string()?)?);
            }
            (b"Records", Shape::Batch) if frames.count == 0 => frames.records(&mut cursor)?,
            (b"Record", Shape::One) if frames.count == 0 => {
                cursor.byte(b'{')?;
                frames.record(&mut cursor)?;
            }
            _ => return None,
        }
        if !cursor.either(b',', b'}')? {
            break;
        }
    }
    if !cursor.is_at_end() || frames.count == 0 {
        return None;
    }
    frames.bytes.truncate(frames.used);
    let count = u32::try_from(frames.count).ok()?;
    Some(Put { stream: Cow::Borrowed(stream?), frames: frames.bytes, count })
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct RecordInput {
    data: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct OneInput {
    delivery_stream_name: Option<String>,
    record: Option<RecordInput>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct BatchInput {
    delivery_stream_name: Option<String>,
    records: Option<Vec<RecordInput>>,
}

/// Any body, answered as AWS answers it.
pub fn exact(body: &[u8], shape: Shape) -> Result<Put<'static>, Problem> {
    let (name, records) = match shape {
        Shape::One => {
            let input: OneInput = alluvium_wire::input::parse(body).map_err(|e| bad_input(&e))?;
            let record = constraint::required(input.record, "record")?;
            (input.delivery_stream_name, vec![record])
        }
        Shape::Batch => {
            let input: BatchInput = alluvium_wire::input::parse(body).map_err(|e| bad_input(&e))?;
            let records = constraint::required(input.records, "records")?;
            constraint::length("[…]", records.len(), "records", (1, RECORDS_MAX))?;
            (input.delivery_stream_name, records)
        }
    };
    let stream = constraint::stream_name(name)?;
    let mut frames = Vec::new();
    let mut payload = 0;
    let count = u32::try_from(records.len()).expect("at most 500 records");
    for (index, record) in records.into_iter().enumerate() {
        let member = match shape {
            Shape::One => "record.data".to_string(),
            Shape::Batch => format!("records.{}.member.data", index + 1),
        };
        let text = constraint::required(record.data, &member)?;
        let data = STANDARD.decode_to_vec(text.as_bytes()).map_err(|_| {
            Problem::new(
                "SerializationException",
                StatusCode::BAD_REQUEST,
                format!("{member} is not base64 (standard alphabet, padded)"),
            )
        })?;
        constraint::length("java.nio.HeapByteBuffer", data.len(), &member, (0, RECORD_BYTES_MAX))?;
        payload += data.len();
        if payload > CALL_BYTES_MAX {
            return Err(invalid(format!(
                "Records size exceeds 4 MB limit: a call may hold {CALL_BYTES_MAX} bytes of \
                 records; send the rest in another call"
            )));
        }
        let length = u32::try_from(data.len()).expect("at most 1,024,000 bytes");
        frames.extend_from_slice(&length.to_le_bytes());
        frames.extend_from_slice(&data);
    }
    Ok(Put { stream: Cow::Owned(stream), frames, count })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn batch(records: &[&[u8]]) -> String {
        let records: Vec<String> = records
            .iter()
            .map(|data| format!("{{\"Data\": \"{}\"}}", STANDARD.encode_to_string(data)))
            .collect();
        format!("{{\"DeliveryStreamName\": \"s\", \"Records\": [{}]}}", records.join(", "))
    }

    fn framed(records: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for data in records {
            out.extend_from_slice(&u32::try_from(data.len()).unwrap().to_le_bytes());
            out.extend_from_slice(data);
        }
        out
    }

    fn code(body: &str, shape: Shape) -> String {
        read(body.as_bytes(), shape).unwrap_err().code.into_owned()
    }

    #[test]
    fn a_batch_as_sdks_write_it_takes_the_fast_way() {
        let records: &[&[u8]] = &[b"{\"a\":1}", b"", b"xyz"];
        let body = batch(records);
        let put = fast(body.as_bytes(), Shape::Batch).unwrap();
        assert_eq!((put.stream.as_ref(), put.count), ("s", 3));
        assert_eq!(put.frames, framed(records));
        let compact = body.replace(": ", ":").replace(", ", ",");
        assert_eq!(fast(compact.as_bytes(), Shape::Batch), Some(put));
    }

    #[test]
    fn members_come_in_any_order() {
        let body = r#" {"Record":{"Data":"YWJj"} , "DeliveryStreamName":"a.b-c_D9"} "#;
        let put = fast(body.as_bytes(), Shape::One).unwrap();
        assert_eq!((put.stream.as_ref(), put.count), ("a.b-c_D9", 1));
        assert_eq!(put.frames, framed(&[b"abc"]));
    }

    #[test]
    fn escapes_take_the_exact_way_to_the_same_frames() {
        let body = r#"{"DeliveryStreamName":"\u0073","Records":[{"Data":"\/\/\/\/"}]}"#;
        assert_eq!(fast(body.as_bytes(), Shape::Batch), None);
        let put = read(body.as_bytes(), Shape::Batch).unwrap();
        assert_eq!(put.stream, "s");
        assert_eq!(put.frames, framed(&[&[0xff, 0xff, 0xff]]));
    }

    #[test]
    fn limits_hold_at_their_edge_and_fail_one_past_it() {
        let none: Vec<&[u8]> = Vec::new();
        assert_eq!(code(&batch(&none), Shape::Batch), "ValidationException");
        let many = vec![b"x".as_slice(); RECORDS_MAX];
        assert!(read(batch(&many).as_bytes(), Shape::Batch).is_ok());
        let over = vec![b"x".as_slice(); RECORDS_MAX + 1];
        assert_eq!(code(&batch(&over), Shape::Batch), "ValidationException");

        let largest = vec![b'x'; RECORD_BYTES_MAX];
        assert!(read(batch(&[&largest]).as_bytes(), Shape::Batch).is_ok());
        let larger = vec![b'x'; RECORD_BYTES_MAX + 1];
        assert_eq!(code(&batch(&[&larger]), Shape::Batch), "ValidationException");

        let rest = vec![b'x'; CALL_BYTES_MAX - 4 * RECORD_BYTES_MAX];
        let four = [&largest[..], &largest[..], &largest[..], &largest[..], &rest[..]];
        assert!(read(batch(&four).as_bytes(), Shape::Batch).is_ok());
        let mut past = four.to_vec();
        past.push(b"x");
        assert_eq!(code(&batch(&past), Shape::Batch), "InvalidArgumentException");
    }

    #[test]
    fn what_is_not_the_shape_is_refused() {
        for body in [
            "",
            "{",
            "[]",
            "null",
            "{\"DeliveryStreamName\":\"s\",\"Records\":[{\"Data\":\"YQ==\"}]",
            "{\"DeliveryStreamName\":\"s\",\"Records\":[{\"Data\":\"YQ==\"}]}x",
            "{\"DeliveryStreamName\":\"s\",\"Records\":[{\"Data\":\"YQ==\"},]}",
            "{\"DeliveryStreamName\":\"s\",\"Records\":[{\"Data\":\"YQ==\"}],}",
            "{\"DeliveryStreamName\":\"s\",\"Records\":[{\"Data\":\"YQ=\"}]}",
            "{\"DeliveryStreamName\":\"s\",\"Records\":[{\"Data\":\"Y\u{e9}==\"}]}",
            "{\"DeliveryStreamName\":\"s\",\"Records\":[{\"Data\":7}]}",
            "{\"DeliveryStreamName\":\"s\",\"Records\":[{}]}",
            "{\"DeliveryStreamName\":\"s\",\"Records\":[\"YQ==\"]}",
            "{\"DeliveryStreamName\":\"s\",\"Records\":{\"Data\":\"YQ==\"}}",
            "{\"Records\":[{\"Data\":\"YQ==\"}]}",
            "{\"DeliveryStreamName\":\"a/../b\",\"Records\":[{\"Data\":\"YQ==\"}]}",
            "{\"DeliveryStreamName\":\"s\",\"Records\":[{\"Data\":\"YQ==\",\"Extra\":1}]}",
            "{\"DeliveryStreamName\":\"s\",\"Records\":[{\"Data\":\"YQ==\"}],\"Extra\":1}",
        ] {
            let code = code(body, Shape::Batch);
            let known =
                ["SerializationException", "ValidationException", "InvalidArgumentException"];
            assert!(known.contains(&code.as_str()), "{body}: {code}");
        }
    }

    #[test]
    fn members_that_are_given_twice_are_refused() {
        let body =
            r#"{"DeliveryStreamName":"s","Records":[{"Data":"YQ=="}],"Records":[{"Data":"YQ=="}]}"#;
        assert_eq!(code(body, Shape::Batch), "SerializationException");
    }

    proptest! {
        #[test]
        fn fast_and_exact_agree(records in prop::collection::vec(
            prop::collection::vec(any::<u8>(), 0..40), 1..8)) {
            let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
            let body = batch(&records);
            let put = fast(body.as_bytes(), Shape::Batch).unwrap();
            let other = exact(body.as_bytes(), Shape::Batch).unwrap();
            prop_assert_eq!((put.frames, put.count), (other.frames, other.count));
        }

        #[test]
        fn what_the_fast_way_takes_is_json(
            body in "(\\{|\\}|\\[|\\]|,|:|\"|Records|Data|DeliveryStreamName|YQ==|s| ){0,16}"
        ) {
            if fast(body.as_bytes(), Shape::Batch).is_some() {
                prop_assert!(exact(body.as_bytes(), Shape::Batch).is_ok());
            }
        }

        #[test]
        fn a_damaged_body_never_panics(
            cut in 0usize..90, byte in any::<u8>(), shape in prop::bool::ANY
        ) {
            let shape = if shape { Shape::One } else { Shape::Batch };
            let mut body = batch(&[b"{\"a\":1}", b"{\"b\":2}"]).into_bytes();
            if let Some(place) = body.get_mut(cut) {
                *place = byte;
            }
            let _ = read(&body, shape);
        }
    }
}
