//! Records into a schema, and back into it: whatever records say, the schema is one that records are
//! decoded by, bounded in its fields, and its key columns are found in deletes as in rows.

use alluvium_lake::decode::DecodeCode;
use alluvium_lake::delta::{ChangeDecoder, KeyColumns, RowOperation};
use alluvium_lake::evolve::{FIELDS_MAX, Inference};

/// The target: lines are records, those that begin with `-` deletes and with `+` updates.
pub(super) fn run(input: &[u8]) {
    let lines = || {
        input.split(|byte| *byte == b'\n').map(|line| match line.split_first() {
            Some((b'-', rest)) => (RowOperation::Delete, rest),
            Some((b'+', rest)) => (RowOperation::Update, rest),
            _ => (RowOperation::Insert, line),
        })
    };
    let mut inference = Inference::new();
    lines().for_each(|(_, record)| inference.observe(record));
    let Some(schema) = inference.schema() else { return };
    assert!(schema.highest_field_id() <= 2 * FIELDS_MAX as i32, "lists add an id for each level");
    let columns = schema.as_struct().fields();
    let keys = columns.first().map(|first| vec![first.name.clone()]).unwrap_or_default();
    let keys = KeyColumns::of(&schema, &keys).ok().flatten();
    let mut decoder =
        ChangeDecoder::new(&schema, keys.as_ref()).expect("records are decoded by it");
    let mut taken = 0;
    for (operation, record) in lines() {
        match decoder.push(record, operation) {
            Ok(()) => taken += 1,
            Err(error) => {
                let keyless = error.code == DecodeCode::UniqueKeysNotFound;
                assert_eq!(keyless, keys.is_none() && operation != RowOperation::Insert);
            }
        }
        assert_eq!(decoder.records(), taken);
    }
    let changes = decoder.finish().expect("columns fit their schema");
    assert_eq!(changes.records(), taken);
}
