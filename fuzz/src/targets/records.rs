//! JSON records into columns of a schema: the same number of rows as accepted records; a refused
//! record changes nothing of its neighbours; each accepted record is exactly one JSON object.
//!
//! The first byte chooses the schema; the rest is frames as the log holds them when the byte is
//! even, and lines when it is odd.

use alluvium_lake::decode::RecordDecoder;
use iceberg::spec::{ListType, MapType, NestedField, PrimitiveType, Schema, StructType, Type};
use serde_json::value::RawValue;

/// The target.
pub(super) fn run(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else { return };
    let mut decoder = RecordDecoder::new(&schema(choice >> 1)).expect("a schema of version 2");
    if choice % 2 == 0 {
        let mut refused = 0;
        let counted = decoder.decode_frames(rest, &mut |_, _, _| refused += 1);
        if let Ok(count) = counted {
            assert_eq!(decoder.rows() + refused, count);
        }
        decoder.finish().expect("columns fit their schema");
        return;
    }
    let mut alone = Vec::new();
    for line in rest.split(|byte| *byte == b'\n') {
        let before = decoder.rows();
        let accepted = decoder.push(line).is_ok();
        assert_eq!(decoder.rows(), before + usize::from(accepted));
        if accepted {
            let text = std::str::from_utf8(line).expect("an accepted record is UTF-8");
            let value: &RawValue = serde_json::from_str(text).expect("an accepted record is JSON");
            assert!(value.get().starts_with('{'), "an accepted record is an object");
            alone.push(line);
        }
    }
    let together = decoder.finish().expect("columns fit their schema");
    for line in alone.iter() {
        decoder.push(line).expect("accepted before, accepted again");
    }
    let again = decoder.finish().expect("columns fit their schema");
    // Compared as text: NaN is not equal to itself.
    assert_eq!(format!("{together:?}"), format!("{again:?}"), "a refused record left a trace");
}

fn schema(choice: u8) -> Schema {
    use PrimitiveType as P;
    let primitives = [
        P::Boolean,
        P::Int,
        P::Long,
        P::Float,
        P::Double,
        P::Decimal { precision: 9, scale: 2 },
        P::Decimal { precision: 38, scale: 38 },
        P::Date,
        P::Time,
        P::Timestamp,
        P::Timestamptz,
        P::String,
        P::Uuid,
        P::Fixed(3),
        P::Binary,
    ];
    let mut fields = Vec::new();
    for (at, primitive) in primitives.iter().enumerate() {
        let name = char::from(b'a' + at as u8).to_string();
        fields.push(field(at as i32 + 1, &name, Type::Primitive(primitive.clone())));
    }
    let element = Type::Primitive(primitives[usize::from(choice) % primitives.len()].clone());
    let list =
        Type::List(ListType::new(NestedField::list_element(21, element.clone(), true).into()));
    let nested = StructType::new(vec![
        NestedField::required(24, "x", element.clone()).into(),
        NestedField::optional(25, "y", list.clone()).into(),
    ]);
    let key = NestedField::map_key_element(22, Type::Primitive(P::String)).into();
    let value = NestedField::map_value_element(23, element, false).into();
    let nested = match choice % 3 {
        0 => list,
        1 => Type::Map(MapType::new(key, value)),
        _ => Type::Struct(nested),
    };
    fields.push(field(20, "z", nested));
    if choice >= 64 {
        let last = fields.len() - 1;
        fields.swap(0, last);
        fields.truncate(3);
        fields.push(NestedField::required(40, "r", Type::Primitive(P::Long)).into());
    }
    Schema::builder().with_fields(fields).build().expect("a schema")
}

fn field(id: i32, name: &str, field_type: Type) -> iceberg::spec::NestedFieldRef {
    NestedField::optional(id, name, field_type).into()
}
