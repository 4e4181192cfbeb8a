//! Schemas from records.

use super::*;
use crate::catalog::NewTable;
use crate::decode::RecordDecoder;
use crate::testing::Bench;
use iceberg::spec::{NestedField, PrimitiveType, Schema, Type};
use proptest::prelude::*;

fn inferred(records: &[&str]) -> Inference {
    let mut inference = Inference::new();
    records.iter().for_each(|record| inference.observe(record.as_bytes()));
    inference
}

/// A schema as text, ids left out.
fn shown(schema: &Schema) -> String {
    fn of(kind: &Type) -> String {
        match kind {
            Type::Primitive(primitive) => primitive.to_string(),
            Type::List(list) => format!("[{}]", of(&list.element_field.field_type)),
            Type::Map(map) => format!("map<{}>", of(&map.value_field.field_type)),
            Type::Struct(inner) => format!("{{{}}}", fields(inner.fields())),
        }
    }
    fn fields(all: &[iceberg::spec::NestedFieldRef]) -> String {
        let one = |f: &iceberg::spec::NestedFieldRef| format!("{}:{}", f.name, of(&f.field_type));
        all.iter().map(one).collect::<Vec<_>>().join(" ")
    }
    fields(schema.as_struct().fields())
}

#[test]
fn types_come_from_the_kinds_of_values() {
    let records = [
        r#"{"a": 1, "b": 1.5, "c": "2024-01-01", "d": true, "e": null, "f": [], "g": {}}"#,
        r#"{"a": 2.5, "h": {"x": [1, null, 2], "y": {"z": "t"}}, "b": "text", "C": 1}"#,
        r#"{"i": 12345678901234567890, "j": 1e3, "k": 1.0, "h": {"w": [{"v": 1}]}}"#,
        "not json",
        r#"["no", "object"]"#,
        r#"{"l": 1} trailing"#,
    ];
    let inference = inferred(&records);
    assert_eq!(inference.records(), 3);
    let schema = inference.schema().unwrap();
    let expected = "a:double b:double c:string d:boolean h:{x:[long] y:{z:string} w:[{v:long}]} \
                    i:double j:double k:long";
    assert_eq!(shown(&schema), expected);
    assert!(inferred(&[r#"{"a": null}"#, "{}"]).schema().is_none());
    assert!(inferred(&[r#"{"a": null, "b": []}"#]).members.len() == 2);
}

fn old() -> Schema {
    use PrimitiveType as P;
    let field =
        |id, name: &str, kind| NestedField::optional(id, name, Type::Primitive(kind)).into();
    let place = iceberg::spec::StructType::new(vec![field(6, "x", P::Int)]);
    let fields = vec![
        NestedField::required(1, "id", Type::Primitive(P::Int)).into(),
        field(2, "f", P::Float),
        field(3, "d", P::Decimal { precision: 5, scale: 2 }),
        field(4, "s", P::String),
        NestedField::optional(5, "place", Type::Struct(place)).into(),
    ];
    Schema::builder().with_fields(fields).with_identifier_field_ids([1]).build().unwrap()
}

async fn table(partition: Option<i32>) -> (Bench, alluvium_base::TableId) {
    use crate::commit::TableDefinition;
    let bench = Bench::new().await;
    let mut spec = iceberg::spec::UnboundPartitionSpec::builder();
    if let Some(source) = partition {
        let identity = iceberg::spec::Transform::Identity;
        spec = spec.add_partition_field(source, "p", identity).unwrap();
    }
    let definition = TableDefinition::Schema {
        schema: Box::new(old()),
        spec: spec.build(),
        order: iceberg::spec::SortOrder::unsorted_order(),
        properties: Default::default(),
        version: iceberg::spec::FormatVersion::V2,
    };
    let created = bench.lake.create_table(&new(&bench, "grows").await, definition).await.unwrap();
    let id = created.record.id;
    (bench, id)
}

async fn new(bench: &Bench, name: &str) -> NewTable {
    let region = "us-east-1".parse().unwrap();
    let bucket = bench.lake.catalog().table_bucket(&region, "lake").await.unwrap();
    NewTable { bucket, namespace: "ns".into(), name: name.into() }
}

#[tokio::test]
async fn columns_are_added_and_widened_and_nothing_else_changes() {
    let (bench, id) = table(None).await;
    let inference = inferred(&[
        r#"{"id": 3000000000, "f": 1e300, "d": 12345.67, "s": 5, "place": {"y": "n"}, "new": 1}"#,
        r#"{"id": "text", "place": 7, "S": "differs by case alone"}"#,
    ]);
    assert!(bench.lake.evolve(id, &inference).await.unwrap());
    let metadata = bench.lake.load(id).await.unwrap().metadata.clone();
    let schema = metadata.current_schema();
    assert_eq!(
        shown(schema),
        "id:long f:double d:decimal(7, 2) s:string place:{x:int y:string} new:long"
    );
    assert_eq!(schema.identifier_field_ids().collect::<Vec<_>>(), [1]);
    assert!(schema.field_by_id(1).unwrap().required);
    assert_eq!(metadata.last_column_id(), 8);
    // The same records change nothing more: conversion ends.
    assert!(!bench.lake.evolve(id, &inference).await.unwrap());
    // A fraction in integers, a struct in text, a number with more than 38 digits.
    let long = "9".repeat(40);
    let breaking = inferred(&[&format!(r#"{{"id": 1.5, "s": {{"a": 1}}, "d": {long}}}"#)]);
    assert!(!bench.lake.evolve(id, &breaking).await.unwrap());
}

#[tokio::test]
async fn a_column_that_partitions_hold_keeps_its_type() {
    let (bench, id) = table(Some(1)).await;
    let inference = inferred(&[r#"{"id": 3000000000}"#]);
    assert!(!bench.lake.evolve(id, &inference).await.unwrap());
}

#[tokio::test]
async fn racing_changes_of_a_schema_are_all_made() {
    let (bench, id) = table(None).await;
    let changes = (0..6).map(|n| {
        let lake = bench.lake.clone();
        let own = inferred(&[&format!(r#"{{"column{n}": {n}, "shared": {{"m{n}": true}}}}"#)]);
        async move { lake.evolve(id, &own).await.unwrap() }
    });
    let changed = futures::future::join_all(changes).await;
    assert_eq!(changed, [true; 6]);
    let metadata = bench.lake.load(id).await.unwrap().metadata.clone();
    for n in 0..6 {
        for name in [format!("column{n}"), format!("shared.m{n}")] {
            assert!(metadata.current_schema().field_by_name(&name).is_some(), "{name}");
        }
    }
}

#[tokio::test]
async fn a_table_is_made_once_from_records() {
    let bench = Bench::new().await;
    let new = new(&bench, "made").await;
    let inference = inferred(&[r#"{"day": "2024-01-01", "n": 1}"#]);
    let keys = ["day".to_string()];
    let (a, b) = tokio::join!(
        bench.lake.create_inferred(&new, &inference, &keys),
        bench.lake.create_inferred(&new, &inference, &keys),
    );
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.record.id, b.record.id);
    assert_eq!(shown(a.metadata.current_schema()), "day:string n:long");
    assert_eq!(a.metadata.default_partition_spec().fields()[0].name, "day");
    let nothing = bench.lake.create_inferred(&new, &inferred(&["{}"]), &[]).await;
    assert_eq!(nothing.unwrap_err().kind(), alluvium_base::ErrorKind::Invalid);
    let absent = bench.lake.create_inferred(&new, &inference, &["nope".to_string()]).await;
    assert_eq!(absent.unwrap_err().kind(), alluvium_base::ErrorKind::Invalid);
}

#[test]
fn what_is_inferred_is_bounded() {
    let wide: Vec<String> = (0..5_000).map(|n| format!(r#""c{n}": {{"x": 1}}"#)).collect();
    let inference = inferred(&[&format!("{{{}}}", wide.join(","))]);
    let schema = inference.schema().unwrap();
    assert!(schema.highest_field_id() <= FIELDS_MAX as i32 + 1, "{}", schema.highest_field_id());
    let deep = format!("{}1{}", "{\"a\":".repeat(100), "}".repeat(100));
    let sixteen = inferred(&[&deep, r#"{"b": 1}"#]).schema().unwrap();
    assert!(RecordDecoder::new(&sixteen).is_ok());
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::{Value, json};
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1000..1000i32).prop_map(|n| json!(f64::from(n) / 4.0)),
        "[a-z]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn a_record_fits_the_schema_that_was_inferred_from_it(value in json()) {
        let record = serde_json::json!({ "first": 1, "value": value }).to_string();
        let inference = inferred(&[&record]);
        let schema = inference.schema().unwrap();
        let mut decoder = RecordDecoder::new(&schema).unwrap();
        // Lists of several kinds of values fit no schema.
        if let Err(error) = decoder.push(record.as_bytes()) {
            prop_assert_eq!(error.code, crate::decode::DecodeCode::SchemaTypeMismatch);
            prop_assert!(record.contains('['));
        }
    }
}
