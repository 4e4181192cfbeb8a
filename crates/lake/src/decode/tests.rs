//! What the decoder promises, and that it agrees with `serde_json` and, where that is sane,
//! `arrow-json`.

use super::*;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type};
use iceberg::spec::{
    ListType, MapType, NestedField, NestedFieldRef, PrimitiveType, StructType, Type,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn primitive(primitive: PrimitiveType) -> Type {
    Type::Primitive(primitive)
}

fn optional(id: i32, name: &str, field_type: Type) -> NestedFieldRef {
    NestedField::optional(id, name, field_type).into()
}

fn decoder(fields: Vec<NestedFieldRef>) -> RecordDecoder {
    RecordDecoder::new(&Schema::builder().with_fields(fields).build().unwrap()).unwrap()
}

fn sensors() -> RecordDecoder {
    decoder(vec![
        NestedField::required(1, "sensor_id", primitive(PrimitiveType::String)).into(),
        optional(2, "timestamp", primitive(PrimitiveType::Long)),
        optional(3, "location", primitive(PrimitiveType::String)),
        optional(4, "temperature", primitive(PrimitiveType::Double)),
    ])
}

/// One column `c` of a type.
fn single(field_type: Type) -> RecordDecoder {
    decoder(vec![optional(1, "c", field_type)])
}

/// What a column of this type makes of a JSON value, as Arrow prints it.
fn converted(field_type: &Type, json: &str) -> Result<String, DecodeCode> {
    let mut decoder = single(field_type.clone());
    decoder.push(format!("{{\"c\":{json}}}").as_bytes()).map_err(|error| error.code)?;
    let batch = decoder.finish().unwrap();
    Ok(arrow::util::display::array_value_to_string(batch.column(0), 0).unwrap())
}

fn accepts(field_type: &Type, cases: &[(&str, &str)]) {
    for (json, shown) in cases {
        assert_eq!(converted(field_type, json).as_deref(), Ok(*shown), "{field_type} from {json}");
    }
}

fn refuses(field_type: &Type, cases: &[&str]) {
    for json in cases {
        assert_eq!(
            converted(field_type, json),
            Err(DecodeCode::SchemaTypeMismatch),
            "{field_type} from {json}"
        );
    }
}

#[test]
fn a_bad_record_leaves_its_neighbours_alone() {
    let good: &[u8] = br#"{"sensor_id":"a","timestamp":1,"location":"x","temperature":1.5}"#;
    let bad: &[&[u8]] = &[
        b"",
        b" ",
        b"{",
        b"[]",
        b"1",
        b"\"a\"",
        b"null",
        b"not json",
        b"{}{}",
        b"{} x",
        br#"{"sensor_id":"a","#,
        br#""timestamp":2}"#,
        br#"{"sensor_id":"a" "timestamp":1}"#,
        br#"{"sensor_id":"a",}"#,
        br#"{"sensor_id":"a"}{"sensor_id":"b"}"#,
        br#"[{"sensor_id":"a"}]"#,
        br#"{"sensor_id":"a","sensor_id":"b"}"#,
        br#"{"sensor_id":null}"#,
        br#"{"timestamp":1}"#,
        br#"{"sensor_id":1}"#,
        br#"{"sensor_id":"a","location":"\ud800"}"#,
        b"{\"sensor_id\":\"\xff\"}",
        b"{\"sensor_id\":\"a\",\"extra\":\"\xff\"}",
        b"{\"sensor_id\":\"a\",\"\xff\":1}",
        b"{\"sensor_id\":\"a\",\"extra\":{\"\xff\":1}}",
        b"{\"sensor_id\":\"a\nb\"}",
        br#"{"sensor_id":"a","temperature":"warm"}"#,
        br#"{"sensor_id":"a","timestamp":1.9}"#,
        br#"{"sensor_id":"a","temperature":NaN}"#,
        br#"{"sensor_id":"a","temperature":Infinity}"#,
        br#"{"sensor_id":"a","temperature":01}"#,
        br#"{"sensor_id":"a","timestamp":9223372036854775808}"#,
        br#"{"sensor_id":"a","extra":[1,2}}"#,
        br#"{"sensor_id":"a","temperature":1.}"#,
    ];
    let mut decoder = sensors();
    for bad in bad {
        decoder.push(good).unwrap();
        let error = decoder.push(bad).expect_err(&String::from_utf8_lossy(bad));
        assert_eq!(error.kind(), ErrorKind::Invalid);
    }
    decoder.push(good).unwrap();
    let batch = decoder.finish().unwrap();
    assert_eq!(batch.num_rows(), bad.len() + 1);
    for row in 0..batch.num_rows() {
        assert_eq!(batch.column(0).as_string::<i32>().value(row), "a");
        assert_eq!(batch.column(1).as_primitive::<Int64Type>().value(row), 1);
        assert_eq!(batch.column(2).as_string::<i32>().value(row), "x");
        assert_eq!(
            batch.column(3).as_primitive::<Float64Type>().value(row).to_bits(),
            1.5_f64.to_bits()
        );
        assert_eq!(batch.columns().iter().map(|c| c.null_count()).sum::<usize>(), 0);
    }
    assert_eq!(decoder.rows(), 0);
}

#[test]
fn keys_come_in_any_order_and_extra_fields_are_skipped() {
    let mut decoder = sensors();
    let text = r#" {"x":{"y":[1,{"z":null}]},"temperature":2,"sensor_id":"b\u00e9\n","L":"n"} "#;
    decoder.push(text.as_bytes()).unwrap();
    decoder.push(b"{\"sensor_id\":\"c\"}\r\n").unwrap();
    let batch = decoder.finish().unwrap();
    assert_eq!(batch.column(0).as_string::<i32>().value(0), "bé\n");
    assert!(batch.column(2).is_null(0));
    assert!(batch.column(3).is_null(1));
}

#[test]
fn errors_say_code_column_value_and_type() {
    let mut decoder = decoder(vec![
        NestedField::required(1, "id", primitive(PrimitiveType::Long)).into(),
        optional(
            2,
            "tags",
            Type::List(ListType::new(
                NestedField::list_element(3, primitive(PrimitiveType::Int), true).into(),
            )),
        ),
    ]);
    let mut error = |record: &str| decoder.push(record.as_bytes()).unwrap_err();
    let mismatch = error(r#"{"id":"seven","tags":[]}"#);
    assert_eq!(mismatch.code, DecodeCode::SchemaTypeMismatch);
    for part in ["'id'", "long", "\"seven\""] {
        assert!(mismatch.message.contains(part), "{}", mismatch.message);
    }
    let nested = error(r#"{"id":7,"tags":[1,"x"]}"#);
    assert!(nested.message.contains("'tags.element'"), "{}", nested.message);
    assert_eq!(error(r#"{"id":7,"tags":[null]}"#).code, DecodeCode::MissingColumnWithinRecord);
    assert_eq!(error(r#"{"tags":[]}"#).code, DecodeCode::MissingColumnWithinRecord);
    assert_eq!(error(r#"{"ID":7}"#).code.as_str(), "Iceberg.MissingColumnWithinRecord");
    assert_eq!(error(r#"{"id":7,"id":7}"#).code, DecodeCode::MalformedRecord);
    let long = error(&format!(r#"{{"id":"{}"}}"#, "x".repeat(100_000)));
    assert!(long.message.len() < 300, "{}", long.message.len());
}

#[test]
fn numbers_convert_exactly_or_not_at_all() {
    accepts(
        &primitive(PrimitiveType::Int),
        &[("1", "1"), ("\"-7\"", "-7"), ("1.0", "1"), ("2147483647", "2147483647")],
    );
    refuses(
        &primitive(PrimitiveType::Int),
        &["2147483648", "1.9", "\"\"", "\" 1\"", "true", "[]", "{}", "1e40"],
    );
    accepts(
        &primitive(PrimitiveType::Long),
        &[
            ("9223372036854775807", "9223372036854775807"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("1e3", "1000"),
        ],
    );
    refuses(
        &primitive(PrimitiveType::Long),
        &[
            "9223372036854775808",
            "-9223372036854775809",
            "18446744073709551616",
            "99999999999999999999999",
        ],
    );
    accepts(
        &primitive(PrimitiveType::Float),
        &[("1.5", "1.5"), ("\"1e2\"", "100.0"), ("\"NaN\"", "NaN"), ("16777217", "16777216.0")],
    );
    refuses(&primitive(PrimitiveType::Float), &["1e39", "\"inf\"", "\"0x1\"", "false"]);
    accepts(
        &primitive(PrimitiveType::Double),
        &[
            ("0.1", "0.1"),
            ("-0.0", "-0.0"),
            ("\"-Infinity\"", "-inf"),
            ("1e-400", "0.0"),
            ("12345678901234567890", "1.2345678901234567e19"),
        ],
    );
    refuses(&primitive(PrimitiveType::Double), &["1e999", "\"\"", "\"nan\""]);
    let decimal = primitive(PrimitiveType::Decimal { precision: 5, scale: 2 });
    accepts(&decimal, &[("1.5", "1.50"), ("\"-999.99\"", "-999.99"), ("1e2", "100.00")]);
    refuses(&decimal, &["1.234", "1000", "\"x\"", "true"]);
}

#[test]
fn other_scalars_convert_as_documented() {
    accepts(
        &primitive(PrimitiveType::Boolean),
        &[("true", "true"), ("\"FALSE\"", "false"), ("1", "true"), ("0", "false")],
    );
    refuses(&primitive(PrimitiveType::Boolean), &["2", "\"1\"", "0.5", "[]"]);
    accepts(&primitive(PrimitiveType::String), &[("\"\"", ""), ("\"a\\u0000\"", "a\0")]);
    refuses(&primitive(PrimitiveType::String), &["1", "true", "{}", "[]"]);
    accepts(
        &primitive(PrimitiveType::Date),
        &[("0", "1970-01-01"), ("\"2024-11-08\"", "2024-11-08")],
    );
    refuses(&primitive(PrimitiveType::Date), &["1.5", "\"2024-13-08\"", "2147483648"]);
    accepts(
        &primitive(PrimitiveType::Time),
        &[("1000000", "00:00:01"), ("\"23:59:59.5\"", "23:59:59.500")],
    );
    refuses(&primitive(PrimitiveType::Time), &["86400000000", "-1", "\"24:00\""]);
    let zoned = primitive(PrimitiveType::Timestamptz);
    accepts(
        &primitive(PrimitiveType::Timestamp),
        &[
            ("1731096000000000", "2024-11-08T20:00:00"),
            ("\"2024-11-08T20:00:00\"", "2024-11-08T20:00:00"),
        ],
    );
    accepts(
        &zoned,
        &[("\"2024-11-08T20:00:00+02:00\"", "2024-11-08T18:00:00Z"), ("0", "1970-01-01T00:00:00Z")],
    );
    refuses(&zoned, &["\"yesterday\"", "true", "0.5"]);
    accepts(
        &primitive(PrimitiveType::Binary),
        &[("\"AAEC\"", "000102"), ("\"0x0102\"", "0102"), ("null", "")],
    );
    refuses(&primitive(PrimitiveType::Binary), &["\"*\"", "1"]);
    accepts(&primitive(PrimitiveType::Fixed(4)), &[("\"deadbeef\"", "deadbeef")]);
    refuses(&primitive(PrimitiveType::Fixed(4)), &["\"AQI=\""]);
    accepts(
        &primitive(PrimitiveType::Uuid),
        &[("\"F79C3E09-677C-4BBD-A479-3F349CB785E7\"", "f79c3e09677c4bbda4793f349cb785e7")],
    );
    refuses(&primitive(PrimitiveType::Uuid), &["\"f79c3e09\"", "7"]);
}

fn nested_type() -> Type {
    let list = Type::List(ListType::new(
        NestedField::list_element(10, primitive(PrimitiveType::Int), false).into(),
    ));
    let map = Type::Map(MapType::optional(11, primitive(PrimitiveType::String), 12, list));
    Type::Struct(StructType::new(vec![
        optional(13, "m", map),
        NestedField::required(14, "r", primitive(PrimitiveType::String)).into(),
    ]))
}

#[test]
fn nested_values_come_as_json_or_as_text() {
    let shown = "{m: {k: [1, , 3]}, r: x}";
    accepts(
        &nested_type(),
        &[
            (r#"{"m":{"k":[1,null,3]},"r":"x"}"#, shown),
            (r#""{\"m\":{\"k\":[1,null,3]},\"r\":\"x\"}""#, shown),
            (r#"{"m":"{\"k\":\"[1,null,3]\"}","r":"x","extra":1}"#, shown),
            ("null", ""),
        ],
    );
    refuses(
        &nested_type(),
        &[
            "[]",
            "1",
            "\"[]\"",
            "\"{\"",
            r#"{"m":{"k":1},"r":"x"}"#,
            r#"{"m":{"k":[],"k":[]},"r":"x"}"#,
        ],
    );
    assert_eq!(
        converted(&nested_type(), r#"{"m":{}}"#),
        Err(DecodeCode::MissingColumnWithinRecord)
    );
    assert_eq!(converted(&nested_type(), r#"{"r":"x","r":"y"}"#), Err(DecodeCode::MalformedRecord));
}

#[test]
fn failed_nested_values_are_cut_back_with_their_record() {
    let mut decoder = single(nested_type());
    let good = br#"{"c":{"m":{"a":[1,2],"b":null},"r":"x"}}"#;
    decoder.push(good).unwrap();
    let sized = decoder.buffered_bytes();
    for bad in [
        r#"{"c":{"m":{"a":[1,2],"b":[3,"x"]},"r":"x"}}"#,
        r#"{"c":{"m":{"a":[1]}}}"#,
        r#"{"c":{"r":"y","m":{"#,
    ] {
        assert!(decoder.push(bad.as_bytes()).is_err());
        assert_eq!(decoder.buffered_bytes(), sized);
    }
    decoder.push(br#"{"c":null}"#).unwrap();
    decoder.push(good).unwrap();
    let batch = decoder.finish().unwrap();
    let rows = batch.column(0).as_struct();
    assert_eq!((rows.len(), rows.null_count()), (3, 1));
    assert_eq!(rows.column(0).as_map().value_offsets(), [0, 2, 2, 4]);
}

#[test]
fn depth_is_bounded_by_the_schema_and_not_by_the_stranger() {
    let mut decoder = sensors();
    for open in ["[", "{\"a\":"] {
        let deep = format!("{{\"sensor_id\":\"a\",\"extra\":{}", open.repeat(200_000));
        assert_eq!(decoder.push(deep.as_bytes()).unwrap_err().code, DecodeCode::MalformedRecord);
    }
    assert!(decoder.push("[".repeat(200_000).as_bytes()).is_err());
    let mut nested = primitive(PrimitiveType::Int);
    for id in 0..20 {
        nested = Type::List(ListType::new(NestedField::list_element(id + 2, nested, false).into()));
    }
    let schema = Schema::builder().with_fields([optional(1, "deep", nested)]).build().unwrap();
    assert_eq!(RecordDecoder::new(&schema).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn nulls_that_a_record_only_implies_are_counted_and_bounded() {
    let wide = Type::Primitive(PrimitiveType::Fixed(60_000));
    let element = Type::Struct(StructType::new(vec![optional(10, "f", wide.clone())]));
    let list = Type::List(ListType::new(NestedField::list_element(11, element, false).into()));
    let mut decoder = decoder(vec![
        optional(1, "id", primitive(PrimitiveType::Int)),
        optional(2, "blob", wide),
        optional(3, "list", list),
    ]);
    decoder.push(br#"{"id":1}"#).unwrap();
    assert!(decoder.held_bytes() > 60_000, "{}", decoder.held_bytes());
    let many = |count: usize| format!(r#"{{"id":2,"list":[{}{{}}]}}"#, "{},".repeat(count - 1));
    decoder.push(many(1000).as_bytes()).unwrap();
    let held = decoder.held_bytes();
    assert!(held > 60_000_000, "{held}");
    for record in [many(1200), format!(r#"{{"id":2,"list":{}}}"#, json!(inner_list(1200)))] {
        let error = decoder.push(record.as_bytes()).unwrap_err();
        assert_eq!(error.code, DecodeCode::RecordTooLarge);
    }
    assert_eq!(decoder.rows(), 2);
    assert_eq!(decoder.finish().unwrap().num_rows(), 2);
    assert_eq!(decoder.held_bytes(), 0);
}

/// `[{},{}…]` as text, for a list that comes JSON-encoded.
fn inner_list(count: usize) -> String {
    format!("[{}{{}}]", "{},".repeat(count - 1))
}

#[test]
fn types_of_format_version_3_are_refused_by_column_and_type() {
    let schema = Schema::builder()
        .with_fields([optional(1, "at", primitive(PrimitiveType::TimestamptzNs))])
        .build()
        .unwrap();
    let error = RecordDecoder::new(&schema).unwrap_err();
    assert_eq!((error.column.as_str(), error.type_name.as_str()), ("at", "timestamptz_ns"));
}

#[test]
fn a_block_of_frames_reports_the_bad_ones_by_index() {
    let records: [&[u8]; 4] = [br#"{"sensor_id":"a"}"#, b"oops", br#"{"sensor_id":"b"}"#, b""];
    let mut block = Vec::new();
    for record in records {
        block.extend((record.len() as u32).to_le_bytes());
        block.extend(record);
    }
    let mut decoder = sensors();
    let mut bad = Vec::new();
    let count = decoder.decode_frames(&block, &mut |at, record, error| {
        bad.push((at, record.to_vec(), error.code))
    });
    assert_eq!(count, Ok(4));
    assert_eq!(
        bad,
        [
            (1, b"oops".to_vec(), DecodeCode::MalformedRecord),
            (3, vec![], DecodeCode::MalformedRecord)
        ]
    );
    assert_eq!(decoder.rows(), 2);
    let torn = &block[..block.len() - 1];
    assert!(decoder.decode_frames(torn, &mut |_, _, _| {}).is_err());
}

/// All column types, for records nobody thought of.
fn everything() -> RecordDecoder {
    let types = [
        PrimitiveType::Boolean,
        PrimitiveType::Int,
        PrimitiveType::Long,
        PrimitiveType::Float,
        PrimitiveType::Double,
        PrimitiveType::Decimal { precision: 38, scale: 10 },
        PrimitiveType::Date,
        PrimitiveType::Time,
        PrimitiveType::Timestamp,
        PrimitiveType::Timestamptz,
        PrimitiveType::String,
        PrimitiveType::Uuid,
        PrimitiveType::Fixed(3),
        PrimitiveType::Binary,
    ];
    let mut fields: Vec<NestedFieldRef> = types
        .into_iter()
        .enumerate()
        .map(|(at, kind)| optional(at as i32 + 100, &format!("c{at}"), primitive(kind)))
        .collect();
    fields.push(optional(1, "n", nested_type()));
    decoder(fields)
}

fn leaf() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("null".to_string()),
        Just("true".to_string()),
        any::<i64>().prop_map(|v| v.to_string()),
        any::<f64>().prop_map(|v| format!("{v:e}")),
        "-?[0-9]{1,40}(\\.[0-9]{1,40})?([eE][+-]?[0-9]{1,5})?",
        ".{0,12}".prop_map(|v| Value::String(v).to_string()),
        "\"[0-9.eE+-]{0,12}\"",
        "\"[0-9]{4}-[01][0-9]-[0-3][0-9][T ][0-2][0-9]:[0-9]{2}(:[0-9]{2})?(\\.[0-9]{1,9})?[Z+-]?\"",
        "\"[A-Za-z0-9+/_=-]{0,12}\"",
        Just(r#"{"m":{"a":[1]},"r":"x"}"#.to_string()),
    ]
}

proptest! {
    #[test]
    fn any_bytes_are_a_row_or_an_error(
        records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..20),
    ) {
        let mut decoder = everything();
        for record in &records {
            let rows = decoder.rows();
            let pushed = decoder.push(record).is_ok();
            prop_assert_eq!(decoder.rows(), rows + usize::from(pushed));
        }
        let rows = decoder.rows();
        prop_assert_eq!(decoder.finish().unwrap().num_rows(), rows);
    }

    #[test]
    fn any_json_shaped_text_is_a_row_or_an_error(
        cells in prop::collection::vec((0..16_usize, leaf()), 0..12),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut text = String::from("{");
        for (at, (column, value)) in cells.iter().enumerate() {
            let name = if *column == 14 { "n".to_string() } else { format!("c{column}") };
            text.push_str(&format!("{}\"{name}\":{value}", if at == 0 { "" } else { "," }));
        }
        text.push('}');
        let mut decoder = everything();
        let whole = decoder.push(text.as_bytes());
        // A record that is taken is JSON for everybody, and one that is no JSON is never taken.
        if whole.is_ok() {
            let json = serde_json::from_str::<Value>(&text).is_ok();
            // serde_json refuses 1e999 where it is skipped, too.
            prop_assert!(json || text.contains(['e', 'E']), "{}", text);
        }
        let part = &text.as_bytes()[..cut.index(text.len())];
        prop_assert!(decoder.push(part).is_err());
        let rows = decoder.rows();
        prop_assert_eq!(decoder.finish().unwrap().num_rows(), rows);
    }

    #[test]
    fn rows_are_what_serde_json_reads(
        rows in prop::collection::vec(
            (".{0,20}", any::<i64>(), any::<Option<f64>>(), prop::option::of(".{0,9}")),
            1..30,
        ),
    ) {
        let mut decoder = sensors();
        let mut model = Vec::new();
        for (id, at, temperature, location) in rows {
            let temperature = temperature.filter(|t| t.is_finite());
            let record = json!({
                "sensor_id": id, "timestamp": at, "temperature": temperature, "location": location
            });
            let text = record.to_string();
            decoder.push(text.as_bytes()).unwrap();
            // serde_json writes the shortest text of a double but may read it back one unit off, so
            // the double itself is the model: reading its shortest text must give it back.
            model.push((serde_json::from_str::<Value>(&text).unwrap(), temperature));
        }
        let batch = decoder.finish().unwrap();
        for (row, (model, expected)) in model.iter().enumerate() {
            let id = batch.column(0).as_string::<i32>().value(row);
            prop_assert_eq!(Some(id), model["sensor_id"].as_str());
            let at = batch.column(1).as_primitive::<Int64Type>().value(row);
            prop_assert_eq!(Some(at), model["timestamp"].as_i64());
            let location = batch.column(2).as_string::<i32>();
            let location = location.is_valid(row).then(|| location.value(row));
            prop_assert_eq!(location, model["location"].as_str());
            let temperature = batch.column(3).as_primitive::<Float64Type>();
            let temperature = temperature.is_valid(row).then(|| temperature.value(row));
            prop_assert_eq!(temperature.map(f64::to_bits), expected.map(f64::to_bits));
        }
    }

    #[test]
    fn doubles_are_those_of_the_standard_library(
        text in "-?(0|[1-9][0-9]{0,18})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,2})?",
    ) {
        let mut decoder = single(primitive(PrimitiveType::Double));
        decoder.push(format!("{{\"c\":{text}}}").as_bytes()).unwrap();
        let value = decoder.finish().unwrap().column(0).as_primitive::<Float64Type>().value(0);
        prop_assert_eq!(value.to_bits(), text.parse::<f64>().unwrap().to_bits());
    }

    #[test]
    fn sane_records_read_as_arrow_json_reads_them(
        rows in prop::collection::vec(
            (
                "[a-zé\\n\"]{0,9}", any::<i32>(), any::<bool>(),
                prop::collection::vec(any::<Option<i32>>(), 0..4),
            ),
            1..20,
        ),
    ) {
        let element = NestedField::list_element(4, primitive(PrimitiveType::Int), false);
        let list = Type::List(ListType::new(element.into()));
        let mut decoder = decoder(vec![
            optional(1, "s", primitive(PrimitiveType::String)),
            optional(2, "i", primitive(PrimitiveType::Int)),
            optional(3, "b", primitive(PrimitiveType::Boolean)),
            optional(5, "l", list),
        ]);
        let schema = Arc::clone(decoder.schema());
        let mut reference = arrow::json::ReaderBuilder::new(schema).build_decoder().unwrap();
        for (s, i, b, l) in rows {
            let record = json!({"s": s, "i": i, "b": b, "l": l}).to_string();
            decoder.push(record.as_bytes()).unwrap();
            reference.decode(record.as_bytes()).unwrap();
        }
        prop_assert_eq!(decoder.finish().unwrap(), reference.flush().unwrap().unwrap());
    }
}
