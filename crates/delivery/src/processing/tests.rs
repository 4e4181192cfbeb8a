//! Records through whole pipelines.

use super::*;
use crate::stream::Processor;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::convert::Infallible;
use std::io::Write;

const PARTITIONED: Purpose = Purpose::S3 { dynamic_partitioning: true };
const PLAIN: Purpose = Purpose::S3 { dynamic_partitioning: false };

fn processor(kind: &str, parameters: &[(&str, &str)]) -> Processor {
    let owned = |(name, value): &(&str, &str)| ((*name).to_string(), (*value).to_string());
    Processor { kind: kind.into(), parameters: parameters.iter().map(owned).collect() }
}

fn of(processors: Vec<Processor>) -> Processing {
    Processing { enabled: true, processors }
}

fn refusal(processors: Vec<Processor>, purpose: Purpose) -> String {
    Pipeline::compile(&of(processors), purpose).unwrap_err().to_string()
}

fn query(text: &str) -> Processor {
    processor(
        "MetadataExtraction",
        &[("MetadataExtractionQuery", text), ("JsonParsingEngine", "JQ-1.6")],
    )
}

fn json_parts() -> Processor {
    processor("RecordDeAggregation", &[("SubRecordType", "JSON")])
}

fn delimited_parts(delimiter: &str) -> Processor {
    let encoded = STANDARD.encode(delimiter);
    let parameters = [("SubRecordType", "DELIMITED"), ("Delimiter", encoded.as_str())];
    processor("RecordDeAggregation", &parameters)
}

fn cloudwatch() -> [Processor; 2] {
    [
        processor("CloudWatchLogProcessing", &[("DataMessageExtraction", "true")]),
        processor("Decompression", &[("CompressionFormat", "GZIP")]),
    ]
}

/// What came out, as text that a test can compare.
fn out(pipeline: &mut Pipeline, stage: Stage, raw: &[u8]) -> Vec<String> {
    let mut out = Vec::new();
    let done: Result<(), Infallible> = pipeline.run_from(stage, raw, &mut |step| {
        out.push(match step {
            Step::Record(sub) => {
                let data = String::from_utf8_lossy(sub.data);
                match sub.metadata {
                    Metadata::None => format!("{}:{data}", sub.index),
                    Metadata::Routing(to) => format!(
                        "{}:{data} to {:?}.{:?} by {:?}",
                        sub.index,
                        to.database,
                        to.table,
                        to.operation.map(RecordOperation::as_str)
                    ),
                    Metadata::Partition(keys) => {
                        let keys: Vec<_> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
                        format!("{}:{data} in {}", sub.index, keys.join("/"))
                    }
                }
            }
            Step::Failed(failed) => format!(
                "{}:{:?} {} {}",
                failed.index,
                failed.stage,
                failed.code,
                String::from_utf8_lossy(failed.raw)
            ),
            Step::Dropped(reason) => reason.as_str().to_string(),
        });
        Ok(())
    });
    let Ok(()) = done;
    out
}

fn through(processors: Vec<Processor>, purpose: Purpose, raw: &[u8]) -> Vec<String> {
    let mut pipeline = Pipeline::compile(&of(processors), purpose).unwrap();
    out(&mut pipeline, Stage::Decompress, raw)
}

fn gzip(text: &str) -> Vec<u8> {
    let mut writer = GzEncoder::new(Vec::new(), Compression::fast());
    writer.write_all(text.as_bytes()).unwrap();
    writer.finish().unwrap()
}

#[test]
fn without_processors_a_record_goes_through_as_it_is() {
    let pipeline = Pipeline::compile(&Processing::default(), Purpose::Iceberg).unwrap();
    assert!(pipeline.is_identity() && !pipeline.extracts());
    let disabled = Processing { enabled: false, processors: vec![json_parts()] };
    assert!(Pipeline::compile(&disabled, Purpose::Iceberg).unwrap().is_identity());
    assert_eq!(through(vec![], PLAIN, b"any\xff"), ["0:any\u{fffd}"]);
    assert_eq!(through(vec![], PLAIN, b""), ["empty"]);
}

#[test]
fn stages_run_in_their_order_whatever_order_was_given() {
    let envelope = r#"{"messageType":"DATA_MESSAGE","logEvents":[
        {"message":"{\"k\":1}"},{"message":"{\"k\":\"b\"}{\"k\":null}"}]}"#;
    let mut processors =
        vec![processor("AppendDelimiterToRecord", &[]), query("{key:.k}"), json_parts()];
    processors.extend(cloudwatch());
    assert_eq!(
        through(processors, PARTITIONED, &gzip(envelope)),
        [
            "0:{\"k\":1}\n in key=1",
            "1:{\"k\":\"b\"}\n in key=b",
            "2:Extract DynamicPartitioning.MetadataExtractionFailed {\"k\":null}",
        ]
    );
}

#[test]
fn a_failure_holds_the_bytes_as_they_were_before_its_stage() {
    let all = || Vec::from(cloudwatch());
    assert_eq!(through(all(), PLAIN, b"plain"), ["0:Decompress Decompression.InvalidGzip plain"]);
    assert_eq!(
        through(all(), PLAIN, &gzip("[]")),
        ["0:CloudWatchLogs CloudWatchLogProcessing.InvalidEnvelope []"]
    );
    assert_eq!(
        through(vec![json_parts()], Purpose::Iceberg, b"{\"a\":1}\nnope\n{\"b\":2}"),
        ["0:{\"a\":1}", "1:Deaggregate RecordDeAggregation.InvalidJson nope", "2:{\"b\":2}",]
    );
}

#[test]
fn what_holds_nothing_is_a_declared_drop() {
    let control = r#"{"messageType":"CONTROL_MESSAGE","logEvents":[]}"#;
    assert_eq!(through(cloudwatch().into(), PLAIN, &gzip(control)), ["control_message"]);
    assert_eq!(through(cloudwatch().into(), PLAIN, &gzip("")), ["empty"]);
    assert_eq!(through(vec![json_parts()], Purpose::Iceberg, b" \n"), ["empty"]);
    assert_eq!(through(vec![delimited_parts("##")], Purpose::Iceberg, b"####"), ["empty"]);
}

#[test]
fn a_record_enters_again_at_the_stage_that_failed() {
    let mut processors = vec![json_parts(), query("{destinationTableName:.t}")];
    processors.extend(cloudwatch());
    let mut pipeline = Pipeline::compile(&of(processors), Purpose::Iceberg).unwrap();
    let record = br#"{"t":"x"}{"t":"y"}"#;
    let (x, y) =
        ("{\"t\":\"x\"} to None.Some(\"x\") by None", "{\"t\":\"y\"} to None.Some(\"y\") by None");
    let again = out(&mut pipeline, Stage::Deaggregate, record);
    assert_eq!(again, [format!("0:{x}"), format!("1:{y}")]);
    for stage in [Stage::Extract, Stage::Route, Stage::Convert] {
        assert_eq!(out(&mut pipeline, stage, br#"{"t":"x"}"#), [format!("0:{x}")]);
        // Not split once more.
        assert_eq!(
            out(&mut pipeline, stage, record),
            ["0:Extract MetadataExtraction.Failed {\"t\":\"x\"}{\"t\":\"y\"}"]
        );
    }
}

#[test]
fn routing_names_tables_and_operations() {
    let routed = |record: &str| {
        let text = "{destinationDatabaseName:\"db\",destinationTableName:.t,operation:.op}";
        through(vec![query(text)], Purpose::Iceberg, record.as_bytes()).remove(0)
    };
    assert!(
        routed(r#"{"t":"x","op":"delete"}"#)
            .ends_with("to Some(\"db\").Some(\"x\") by Some(\"delete\")")
    );
    for (record, code) in [
        (r#"{"t":"","op":"insert"}"#, "Iceberg.InvalidTableName"),
        (r#"{"op":"insert"}"#, "Iceberg.InvalidTableName"),
        (r#"{"t":["x"],"op":"insert"}"#, "Iceberg.InvalidTableName"),
        (r#"{"t":"x","op":"upsert"}"#, "Iceberg.InvalidOperation"),
        (r#"{"t":"x"}"#, "Iceberg.InvalidOperation"),
        (r#"["t"]"#, "MetadataExtraction.Failed"),
        (r#"{"t":"x""#, "MetadataExtraction.Failed"),
        (r#"{"t":"x","op":"insert"}{}"#, "MetadataExtraction.Failed"),
    ] {
        assert!(routed(record).starts_with(&format!("0:Extract {code}")), "{}", routed(record));
    }
}

#[test]
fn partition_keys_are_texts() {
    let keys = |record: &str| {
        through(vec![query("{a:.a,b:.b}")], PARTITIONED, record.as_bytes()).remove(0)
    };
    assert!(keys(r#"{"a":1.50,"b":true}"#).ends_with("in a=1.5/b=true"));
    assert!(
        keys(r#"{"a":"x\u00e9","b":9007199254740993}"#).ends_with("in a=xé/b=9007199254740993")
    );
    for bad in [r#"{"a":1}"#, r#"{"a":1,"b":null}"#, r#"{"a":1,"b":[]}"#, r#"{"a":"","b":1}"#] {
        assert!(keys(bad).contains("DynamicPartitioning.MetadataExtractionFailed"), "{bad}");
    }
    let long = format!(r#"{{"a":"{}","b":1}}"#, "x".repeat(1025));
    assert!(keys(&long).contains("DynamicPartitioning.MetadataExtractionFailed"));
}

#[test]
fn delimiters_are_written_with_escapes() {
    let appended = |value: &str| {
        let append = processor("AppendDelimiterToRecord", &[("Delimiter", value)]);
        through(vec![append], PLAIN, b"r").remove(0)
    };
    for (value, delimiter) in [
        ("\\n", "\n"),
        ("\n", "\n"),
        ("\\r\\n", "\r\n"),
        ("||", "||"),
        ("\\\\n", "\\n"),
        ("\\x", "\\x"),
    ] {
        assert_eq!(appended(value), format!("0:r{delimiter}"), "{value}");
    }
}

#[test]
fn a_delimiter_has_no_effect_on_rows() {
    let append = || processor("AppendDelimiterToRecord", &[]);
    assert_eq!(through(vec![append()], Purpose::Iceberg, b"{}"), ["0:{}"]);
    assert!(Pipeline::compile(&of(vec![append()]), Purpose::Iceberg).unwrap().is_identity());
}

#[test]
fn configurations_that_cannot_work_are_refused_by_name() {
    let decompression = || processor("Decompression", &[]);
    let append = || processor("AppendDelimiterToRecord", &[]);
    let routed = "{destinationTableName:.t}";
    for (processors, purpose, named) in [
        (vec![processor("Lambda", &[("LambdaArn", "arn")])], PLAIN, "Lambda"),
        (vec![processor("Magic", &[])], PLAIN, "Magic"),
        (vec![append(), append()], PLAIN, "once"),
        (vec![json_parts()], PLAIN, "Dynamic Partitioning"),
        (vec![query("{a:.a}")], PLAIN, "Dynamic Partitioning"),
        (vec![json_parts()], PARTITIONED, "MetadataExtraction"),
        (vec![processor("RecordDeAggregation", &[])], Purpose::Iceberg, "SubRecordType"),
        (
            vec![processor("RecordDeAggregation", &[("SubRecordType", "CSV")])],
            Purpose::Iceberg,
            "DELIMITED",
        ),
        (
            vec![processor("RecordDeAggregation", &[("SubRecordType", "DELIMITED")])],
            Purpose::Iceberg,
            "Delimiter",
        ),
        (
            vec![processor(
                "RecordDeAggregation",
                &[("SubRecordType", "DELIMITED"), ("Delimiter", "####")],
            )],
            Purpose::Iceberg,
            "base64",
        ),
        (
            vec![processor(
                "RecordDeAggregation",
                &[("SubRecordType", "JSON"), ("Delimiter", "IyMjIw==")],
            )],
            Purpose::Iceberg,
            "DELIMITED",
        ),
        (vec![processor("Decompression", &[("CompressionFormat", "ZIP")])], PLAIN, "GZIP"),
        (vec![cloudwatch()[0].clone()], PLAIN, "Decompression"),
        (
            vec![decompression(), processor("CloudWatchLogProcessing", &[])],
            PLAIN,
            "DataMessageExtraction",
        ),
        (vec![processor("Decompression", &[("Delimiter", "x")])], PLAIN, "CompressionFormat"),
        (
            vec![processor(
                "Decompression",
                &[("CompressionFormat", "GZIP"), ("CompressionFormat", "GZIP")],
            )],
            PLAIN,
            "twice",
        ),
        (vec![processor("Decompression", &[("CompressionFormat", " ")])], PLAIN, "characters"),
        (
            vec![processor("MetadataExtraction", &[("JsonParsingEngine", "JQ-1.6")])],
            Purpose::Iceberg,
            "MetadataExtractionQuery",
        ),
        (
            vec![processor(
                "MetadataExtraction",
                &[("JsonParsingEngine", "JQ-1.7"), ("MetadataExtractionQuery", routed)],
            )],
            Purpose::Iceberg,
            "JQ-1.6",
        ),
        (vec![query("{a:.a}")], Purpose::Iceberg, "destinationTableName"),
        (vec![query("{}")], PARTITIONED, "keys"),
        (vec![query(&"x".repeat(5121))], PARTITIONED, "5120"),
        (vec![query("{a:")], PARTITIONED, "MetadataExtractionQuery"),
    ] {
        let message = refusal(processors, purpose);
        assert!(message.starts_with("ProcessingConfiguration.Processors"), "{message}");
        assert!(message.contains(named), "{message} does not name {named}");
    }
    let lambda = of(vec![processor("Lambda", &[])]);
    assert!(Pipeline::compile(&lambda, PLAIN).unwrap_err().is_unsupported());
    let keys: Vec<String> = (0..51).map(|key| format!("k{key}:.a")).collect();
    let message = refusal(vec![query(&format!("{{{}}}", keys.join(",")))], PARTITIONED);
    assert!(message.contains("50"), "{message}");
}

#[test]
fn key_names_are_known_where_the_query_is_an_object() {
    let names = |text: &str| {
        let pipeline = Pipeline::compile(&of(vec![query(text)]), PARTITIONED).unwrap();
        pipeline.partition_key_names().map(<[String]>::to_vec)
    };
    assert_eq!(names("{a:.a,\"b c\":(.b|length)}"), Some(vec!["a".into(), "b c".into()]));
    assert_eq!(names(".routing"), None);
}
