//! What `ProcessingConfiguration` may say, and what it means.
//!
//! Everything is refused at creation that could not work later: unknown types and parameters,
//! repeated ones, values out of range, types that do not go together or not with the destination
//! (botocore's model of `Processor` and `ProcessorParameter`; Firehose developer guide, "Understand
//! partitioning keys"). The errors name the member and the way out.

use super::jq::Filter;
use super::subrecords::Deaggregation;
use crate::stream::{Destination, Processing, Processor};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// botocore's `ProcessorParameterValue`.
const VALUE_CHARS_MAX: usize = 5120;
/// Bytes that a delimiter may have; AWS says no limit.
const DELIMITER_BYTES_MAX: usize = 1024;

/// What a pipeline is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Tables: a filter says the table and the operation.
    Iceberg,
    /// Objects: a filter says the partition.
    S3 {
        /// `DynamicPartitioningConfiguration` is enabled.
        dynamic_partitioning: bool,
    },
}

impl Purpose {
    /// The purpose of a destination.
    pub fn of(destination: &Destination) -> Self {
        match destination {
            Destination::Iceberg(_) => Self::Iceberg,
            Destination::S3(s3) => {
                Self::S3 { dynamic_partitioning: s3.dynamic_partitioning.is_some() }
            }
        }
    }
}

/// A configuration that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ProcessingConfiguration.{member}: {reason}")]
pub struct BadProcessing {
    member: String,
    reason: String,
    unsupported: bool,
}

impl BadProcessing {
    /// Whether AWS has it and Alluvium has not.
    pub fn is_unsupported(&self) -> bool {
        self.unsupported
    }

    /// What a caller can do about it.
    pub fn kind(&self) -> alluvium_base::ErrorKind {
        match self.unsupported {
            true => alluvium_base::ErrorKind::Unsupported,
            false => alluvium_base::ErrorKind::Invalid,
        }
    }
}

/// What a pipeline does; nothing when it is not enabled.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) decompress: bool,
    pub(super) extract_messages: bool,
    pub(super) deaggregation: Option<Deaggregation>,
    pub(super) filter: Option<Filter>,
    pub(super) delimiter: Option<Vec<u8>>,
    pub(super) purpose: Purpose,
}

/// The types, and the parameters that each may have.
const KINDS: [(&str, &[&str]); 5] = [
    ("Decompression", &["CompressionFormat"]),
    ("CloudWatchLogProcessing", &["DataMessageExtraction"]),
    ("RecordDeAggregation", &["SubRecordType", "Delimiter"]),
    ("MetadataExtraction", &["MetadataExtractionQuery", "JsonParsingEngine"]),
    ("AppendDelimiterToRecord", &["Delimiter"]),
];

/// One processor, with its place in the configuration for errors.
struct Given<'a> {
    index: usize,
    processor: &'a Processor,
}

impl<'a> Given<'a> {
    fn bad(&self, reason: impl Into<String>) -> BadProcessing {
        let member = format!("Processors[{}] ({})", self.index, self.processor.kind);
        BadProcessing { member, reason: reason.into(), unsupported: false }
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        let found = self.processor.parameters.iter().find(|(given, _)| given == name);
        found.map(|(_, value)| value.as_str())
    }

    fn required(&self, name: &str, example: &str) -> Result<&'a str, BadProcessing> {
        self.get(name).ok_or_else(|| {
            self.bad(format!("the parameter {name} is missing; give it, such as {example}"))
        })
    }

    fn one_of<T: Copy>(
        &self,
        name: &str,
        value: &str,
        allowed: &[(&str, T)],
    ) -> Result<T, BadProcessing> {
        let found = allowed.iter().find(|(text, _)| *text == value);
        found.map(|(_, meaning)| *meaning).ok_or_else(|| {
            let names: Vec<&str> = allowed.iter().map(|(text, _)| *text).collect();
            self.bad(format!("{name} '{}' is not one of {}", shown(value), names.join(", ")))
        })
    }
}

/// Text of a caller, short enough for an error.
fn shown(text: &str) -> String {
    text.chars().take(100).collect()
}

impl Plan {
    pub(super) fn is_identity(&self) -> bool {
        let Self { decompress, extract_messages, deaggregation, filter, delimiter, .. } = self;
        !decompress
            && !extract_messages
            && deaggregation.is_none()
            && filter.is_none()
            && delimiter.is_none()
    }

    fn nothing(purpose: Purpose) -> Self {
        Self {
            decompress: false,
            extract_messages: false,
            deaggregation: None,
            filter: None,
            delimiter: None,
            purpose,
        }
    }

    /// What the configuration means; it is checked whole also when it is not enabled.
    pub(super) fn of(processing: &Processing, purpose: Purpose) -> Result<Self, BadProcessing> {
        let mut plan = Self::nothing(purpose);
        let mut seen: Vec<&str> = Vec::new();
        for (index, processor) in processing.processors.iter().enumerate() {
            let given = Given { index, processor };
            check_shape(&given)?;
            if seen.contains(&processor.kind.as_str()) {
                return Err(given.bad("a type may be given once; leave out the repetition"));
            }
            seen.push(&processor.kind);
            match processor.kind.as_str() {
                "Decompression" => {
                    let format = given.get("CompressionFormat").unwrap_or("GZIP");
                    given.one_of("CompressionFormat", format, &[("GZIP", ())])?;
                    plan.decompress = true;
                }
                "CloudWatchLogProcessing" => {
                    let value = given.required("DataMessageExtraction", "true")?;
                    let allowed = [("true", true), ("false", false)];
                    plan.extract_messages =
                        given.one_of("DataMessageExtraction", value, &allowed)?;
                }
                "RecordDeAggregation" => plan.deaggregation = Some(deaggregation(&given)?),
                "MetadataExtraction" => plan.filter = Some(filter(&given, purpose)?),
                _ => {
                    // A row has no delimiter: it is checked, and without effect.
                    let delimiter = delimiter(&given)?;
                    plan.delimiter = (purpose != Purpose::Iceberg).then_some(delimiter);
                }
            }
            check_purpose(&given, purpose)?;
        }
        check_together(&seen, processing, purpose)?;
        Ok(if processing.enabled { plan } else { Self::nothing(purpose) })
    }
}

/// The type, and the names and lengths of its parameters.
fn check_shape(given: &Given<'_>) -> Result<(), BadProcessing> {
    let Processor { kind, parameters } = given.processor;
    let member = format!("Processors[{}].Type", given.index);
    if kind == "Lambda" {
        let reason = "Lambda processors are not supported; transform records before they are put, \
                      or use the other types of processors"
            .to_string();
        return Err(BadProcessing { member, reason, unsupported: true });
    }
    let Some((_, allowed)) = KINDS.iter().find(|(name, _)| name == kind) else {
        let names: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
        let reason =
            format!("'{}' is no type of processor; there are {}", shown(kind), names.join(", "));
        return Err(BadProcessing { member, reason, unsupported: false });
    };
    for (at, (name, value)) in parameters.iter().enumerate() {
        if !allowed.contains(&name.as_str()) {
            return Err(given.bad(format!(
                "the parameter '{}' does not belong to this type, which has {}",
                shown(name),
                allowed.join(", ")
            )));
        }
        if parameters[..at].iter().any(|(earlier, _)| earlier == name) {
            return Err(given.bad(format!("the parameter {name} is given twice")));
        }
        let chars = value.chars().count();
        // A delimiter of white space is what most callers want.
        let blank = value.trim().is_empty() && !(name == "Delimiter" && chars > 0);
        if blank || chars > VALUE_CHARS_MAX {
            return Err(given.bad(format!(
                "the value of {name} has {chars} characters; 1 to {VALUE_CHARS_MAX} that are not \
                 all white space are needed"
            )));
        }
    }
    Ok(())
}

fn deaggregation(given: &Given<'_>) -> Result<Deaggregation, BadProcessing> {
    let kind = given.required("SubRecordType", "JSON")?;
    let delimited = given.one_of("SubRecordType", kind, &[("JSON", false), ("DELIMITED", true)])?;
    if !delimited {
        return match given.get("Delimiter") {
            None => Ok(Deaggregation::Json),
            Some(_) => Err(given.bad("Delimiter goes with SubRecordType DELIMITED only")),
        };
    }
    let encoded = given.required("Delimiter", "IyMjIw==, the base64 of ####")?;
    let delimiter = STANDARD.decode(encoded).map_err(|_| {
        given.bad(format!(
            "Delimiter '{}' is not base64; #### is written as IyMjIw==",
            shown(encoded)
        ))
    })?;
    if delimiter.is_empty() || delimiter.len() > DELIMITER_BYTES_MAX {
        return Err(given.bad(format!(
            "Delimiter has {} bytes; 1 to {DELIMITER_BYTES_MAX} are needed",
            delimiter.len()
        )));
    }
    Ok(Deaggregation::delimited(&delimiter))
}

fn filter(given: &Given<'_>, purpose: Purpose) -> Result<Filter, BadProcessing> {
    let engine = given.get("JsonParsingEngine").unwrap_or("JQ-1.6");
    given.one_of("JsonParsingEngine", engine, &[("JQ-1.6", ())])?;
    let example = match purpose {
        Purpose::Iceberg => "{destinationDatabaseName:\"db\",destinationTableName:.table}",
        Purpose::S3 { .. } => "{customer_id:.customer_id}",
    };
    let query = given.required("MetadataExtractionQuery", example)?;
    Filter::compile(query, purpose)
        .map_err(|bad| given.bad(format!("MetadataExtractionQuery: {bad}")))
}

/// `\n`, `\r`, `\t` and `\\` are written as two characters: the API takes no value that is all
/// white space, and what creates streams (CDK, Terraform) sends these.
fn delimiter(given: &Given<'_>) -> Result<Vec<u8>, BadProcessing> {
    let text = given.get("Delimiter").unwrap_or("\\n");
    let mut delimiter = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(next) = chars.next() {
        if next != '\\' {
            delimiter.push(next);
            continue;
        }
        match chars.next() {
            Some('n') => delimiter.push('\n'),
            Some('r') => delimiter.push('\r'),
            Some('t') => delimiter.push('\t'),
            Some('\\') => delimiter.push('\\'),
            Some(other) => delimiter.extend(['\\', other]),
            None => delimiter.push('\\'),
        }
    }
    match delimiter.len() {
        1..=DELIMITER_BYTES_MAX => Ok(delimiter.into_bytes()),
        size => {
            Err(given
                .bad(format!("Delimiter has {size} bytes; 1 to {DELIMITER_BYTES_MAX} are needed")))
        }
    }
}

/// Types that do not go with a destination. AWS names its own classes in the text.
fn check_purpose(given: &Given<'_>, purpose: Purpose) -> Result<(), BadProcessing> {
    let kind = given.processor.kind.as_str();
    match (kind, purpose) {
        (
            "RecordDeAggregation" | "MetadataExtraction",
            Purpose::S3 { dynamic_partitioning: false },
        ) => Err(given.bad(format!(
            "a {kind} processor can only be present when Dynamic Partitioning is enabled; enable \
             DynamicPartitioningConfiguration when the stream is created, or leave it out"
        ))),
        _ => Ok(()),
    }
}

/// Types that need one another.
fn check_together(
    seen: &[&str],
    processing: &Processing,
    purpose: Purpose,
) -> Result<(), BadProcessing> {
    let bad = |reason: &str| {
        let (member, reason) = ("Processors".to_string(), reason.to_string());
        Err(BadProcessing { member, reason, unsupported: false })
    };
    if seen.contains(&"CloudWatchLogProcessing") && !seen.contains(&"Decompression") {
        return bad("CloudWatchLogProcessing needs a Decompression processor as well: CloudWatch \
                    Logs sends GZIP");
    }
    if purpose == (Purpose::S3 { dynamic_partitioning: true })
        && !(processing.enabled && seen.contains(&"MetadataExtraction"))
    {
        return bad("Dynamic Partitioning needs an enabled MetadataExtraction processor, whose \
                    query says the partitioning keys");
    }
    Ok(())
}
