//! Whole pipelines: every record becomes at least one step, the same ones each time, and what fails
//! is a part of what went in.
//!
//! The input's first byte chooses the processors; with its highest bit set the next line is a jq
//! filter. The rest is the record.

use super::split_line;
use alluvium_delivery::processing::{Metadata, Pipeline, Purpose, Step};
use alluvium_delivery::stream::{Processing, Processor};
use std::convert::Infallible;

/// A filter of paths, and one for the interpreter.
const FILTERS: [&str; 2] = [
    r#"{destinationTableName:.a.b?,operation:(.op // "insert"),"é":.c}"#,
    r#"{destinationTableName:("t_"+(.a|tostring)),k:(.l|length),m:[.l[]?|.a?]|length}"#,
];

/// The target.
pub(super) fn run(input: &[u8]) {
    let Some((choice, rest)) = input.split_first() else { return };
    let (filter, record) = match choice & 0x80 {
        0 => (FILTERS[usize::from(choice >> 5 & 1)], rest),
        _ => {
            let (line, record) = split_line(rest);
            (std::str::from_utf8(line).unwrap_or("{a:.a}"), record)
        }
    };
    let processors = chosen(*choice, filter);
    let processing = Processing { enabled: true, processors };
    let Ok(mut pipeline) = Pipeline::compile(&processing, Purpose::Iceberg) else { return };
    let first = steps(&mut pipeline, record);
    assert!(!first.is_empty(), "a record becomes something");
    assert_eq!(first, steps(&mut pipeline, record));
}

fn chosen(choice: u8, filter: &str) -> Vec<Processor> {
    let processor = |kind: &str, parameters: &[(&str, &str)]| Processor {
        kind: kind.into(),
        parameters: parameters.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect(),
    };
    let mut processors = Vec::new();
    if choice & 1 != 0 {
        processors.push(processor("Decompression", &[("CompressionFormat", "GZIP")]));
    }
    if choice & 3 == 3 {
        let extraction = [("DataMessageExtraction", "true")];
        processors.push(processor("CloudWatchLogProcessing", &extraction));
    }
    match choice >> 2 & 3 {
        0 => {}
        1 => processors.push(processor(
            "RecordDeAggregation",
            &[("SubRecordType", "DELIMITED"), ("Delimiter", "IyM=")],
        )),
        _ => processors.push(processor("RecordDeAggregation", &[("SubRecordType", "JSON")])),
    }
    if choice & 0x90 != 0 {
        let query = ("MetadataExtractionQuery", filter);
        processors.push(processor("MetadataExtraction", &[query]));
    }
    processors
}

fn steps(pipeline: &mut Pipeline, record: &[u8]) -> Vec<String> {
    let mut steps = Vec::new();
    let done: Result<(), Infallible> = pipeline.run(record, &mut |step| {
        if let Step::Record(sub) = &step {
            assert_eq!(sub.data, sub.source, "no delimiter is appended");
            if let Metadata::Routing(to) = sub.metadata {
                assert!(to.table != Some(""), "names are not empty");
            }
        }
        steps.push(format!("{step:?}"));
        Ok(())
    });
    let Ok(()) = done;
    steps
}
