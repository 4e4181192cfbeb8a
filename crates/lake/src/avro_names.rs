//! Partition fields under names that Avro allows.
//!
//! A partition field may have any name; a field of an Avro record begins with a letter or `_` and
//! goes on with letters, digits and `_`. Iceberg's Java library writes what else there is as
//! `_x` and the UTF-16 unit in hex (`AvroSchemaUtil.sanitize`), and readers find partition values by
//! field id. The `iceberg` crate does neither: it writes names as they are, which its own reader then
//! refuses, and looks the partition spec's names up in the file's schema, where a Java writer has
//! put others. So we hand it specs with Avro's names to write by ([`spec_to_write`]), and of a
//! manifest that is read both places are brought to them first ([`readable`]).

use bytes::Bytes;
use iceberg::spec::PartitionSpec;
use serde_json::Value;
use std::fmt::Write as _;

/// What an Avro file begins with.
const MAGIC: &[u8] = b"Obj\x01";
/// The record of partition values in a manifest (Iceberg specification, "Manifests": field 102).
const PARTITION_RECORD: &str = "r102";

/// The name as Avro may have it.
fn avro_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for (place, letter) in name.chars().enumerate() {
        match letter {
            '_' | 'a'..='z' | 'A'..='Z' => out.push(letter),
            '0'..='9' => {
                if place == 0 {
                    out.push('_');
                }
                out.push(letter);
            }
            other => {
                for unit in other.encode_utf16(&mut [0; 2]) {
                    // Writing into a String cannot fail.
                    let _ = write!(out, "_x{unit:X}");
                }
            }
        }
    }
    out
}

/// Renames the objects of a list that have a `name`; true when one of them got another.
fn rename_all(fields: Option<&mut Value>) -> bool {
    let mut changed = false;
    for field in fields.and_then(Value::as_array_mut).into_iter().flatten() {
        let Some(Value::String(name)) = field.get_mut("name") else { continue };
        let allowed = avro_name(name);
        if *name != allowed {
            *name = allowed;
            changed = true;
        }
    }
    changed
}

/// The spec with names that a manifest can be written by. Ids, sources and transforms stay.
pub(crate) fn spec_to_write(spec: &PartitionSpec) -> Result<PartitionSpec, serde_json::Error> {
    let mut json = serde_json::to_value(spec)?;
    if rename_all(json.get_mut("fields")) { serde_json::from_value(json) } else { Ok(spec.clone()) }
}

/// Renames the fields of the partition record, wherever in the schema it is defined.
fn rename_in_schema(schema: &mut Value) -> bool {
    match schema {
        // Every part: a first that changed does not end it.
        Value::Array(parts) => {
            parts.iter_mut().map(rename_in_schema).filter(|changed| *changed).count() > 0
        }
        Value::Object(members) => {
            if members.get("name").and_then(Value::as_str) == Some(PARTITION_RECORD) {
                return rename_all(members.get_mut("fields"));
            }
            let parts = ["type", "fields", "items"].into_iter();
            parts.filter(|name| members.get_mut(*name).is_some_and(rename_in_schema)).count() > 0
        }
        _ => false,
    }
}

/// A manifest's bytes with Avro's names in its schema and its partition spec; as they are when
/// they have them already, and when they are no Avro file: then the library says what is wrong.
pub fn readable(file: Bytes) -> Bytes {
    let Some((mut header, data_at)) = header(&file) else { return file };
    let mut changed = false;
    for (key, value) in &mut header {
        let rename: fn(&mut Value) -> bool = match key.as_slice() {
            b"avro.schema" => rename_in_schema,
            b"partition-spec" => |spec| rename_all(Some(spec)),
            _ => continue,
        };
        let Ok(mut json) = serde_json::from_slice::<Value>(value) else { continue };
        if rename(&mut json) {
            *value = json.to_string().into_bytes();
            changed = true;
        }
    }
    if !changed {
        return file;
    }
    let mut out = MAGIC.to_vec();
    push_long(&mut out, header.len());
    for (key, value) in &header {
        push_bytes(&mut out, key);
        push_bytes(&mut out, value);
    }
    push_long(&mut out, 0);
    out.extend_from_slice(&file[data_at..]);
    out.into()
}

type Header = Vec<(Vec<u8>, Vec<u8>)>;

/// The header's map (Avro specification, "Object Container Files"), and where its sync marker is.
fn header(file: &[u8]) -> Option<(Header, usize)> {
    let mut cursor = Cursor { file, at: MAGIC.len() };
    if !file.starts_with(MAGIC) {
        return None;
    }
    let mut entries = Header::new();
    loop {
        let count = cursor.long()?;
        if count == 0 {
            return Some((entries, cursor.at));
        }
        if count < 0 {
            // The block's size in bytes follows, for readers that skip.
            cursor.long()?;
        }
        for _ in 0..count.unsigned_abs() {
            entries.push((cursor.bytes()?.to_vec(), cursor.bytes()?.to_vec()));
        }
    }
}

struct Cursor<'a> {
    file: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// A zigzag number of seven bits a byte, the lowest first.
    fn long(&mut self) -> Option<i64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.file.get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some((value >> 1).cast_signed() ^ -((value & 1).cast_signed()));
            }
        }
        None
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.long()?).ok()?;
        let bytes = self.file.get(self.at..self.at.checked_add(length)?)?;
        self.at += length;
        Some(bytes)
    }
}

fn push_long(out: &mut Vec<u8>, value: usize) {
    let mut rest = (value as u64) << 1;
    while rest > 0x7f {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push_long(out, bytes.len());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(entries: &[(&str, String)], data: &[u8]) -> Bytes {
        let mut out = MAGIC.to_vec();
        push_long(&mut out, entries.len());
        for (key, value) in entries {
            push_bytes(&mut out, key.as_bytes());
            push_bytes(&mut out, value.as_bytes());
        }
        push_long(&mut out, 0);
        out.extend_from_slice(data);
        out.into()
    }

    fn manifest(in_schema: &str, in_spec: &str) -> Bytes {
        let schema = serde_json::json!({"type": "record", "name": "manifest_entry", "fields": [
            {"name": "data-file", "type": {"type": "record", "name": "r2", "fields": [
                {"name": "partition", "field-id": 102, "type": ["null", {
                    "type": "record", "name": PARTITION_RECORD,
                    "fields": [{"name": in_schema, "type": ["null", "string"]}]}]}]}}]});
        let spec = serde_json::json!([{"name": in_spec, "transform": "identity", "source-id": 1}]);
        let long = ("schema", "x".repeat(300));
        let entries =
            [("avro.schema", schema.to_string()), long, ("partition-spec", spec.to_string())];
        file(&entries, b"sync and blocks")
    }

    #[test]
    fn names_are_written_as_javas_library_writes_them() {
        for (name, allowed) in [
            ("event_day", "event_day"),
            ("a-b", "a_x2Db"),
            ("st.x", "st_x2Ex"),
            ("1a", "_1a"),
            ("a b/", "a_x20b_x2F"),
            ("größe", "gr_xF6_xDFe"),
            ("😀", "_xD83D_xDE00"),
        ] {
            assert_eq!(avro_name(name), allowed);
            assert_eq!(avro_name(allowed), allowed, "a name that is allowed stays");
        }
    }

    #[test]
    fn a_manifest_gets_one_name_in_both_places_and_keeps_its_blocks() {
        let wanted = manifest("a_x2Db", "a_x2Db");
        // As this library's writer, and as Java's, leave it.
        for given in [manifest("a-b", "a-b"), manifest("a_x2Db", "a-b")] {
            let read = readable(given);
            let ((found, at), (expected, _)) = (header(&read).unwrap(), header(&wanted).unwrap());
            for (pair, other) in found.iter().zip(&expected) {
                let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).ok();
                assert_eq!((&pair.0, json(&pair.1)), (&other.0, json(&other.1)));
            }
            assert_eq!(&read[at..], b"sync and blocks");
            assert_eq!(readable(read.clone()), read);
        }
        assert_eq!(readable(wanted.clone()), wanted);
    }

    #[test]
    fn names_outside_the_partition_record_stay() {
        let schema = serde_json::json!({"type": "record", "name": "e", "fields": [
            {"name": "not-ours", "type": "int"}]});
        let given = file(&[("avro.schema", schema.to_string())], b"");
        assert_eq!(readable(given.clone()), given);
    }

    #[test]
    fn what_is_no_avro_file_is_left_to_the_library() {
        for bytes in
            [&b""[..], b"Obj", b"Obj\x01", b"PAR1....", b"Obj\x01\x02\xff\xff\xff\xff\xff\xff"]
        {
            assert_eq!(readable(Bytes::copy_from_slice(bytes)), bytes);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_after_the_magic_are_handed_on_or_renamed(
            bytes in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let given = Bytes::from([MAGIC, &bytes].concat());
            let _ = readable(given);
        }
    }
}
