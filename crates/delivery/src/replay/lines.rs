//! Lines of error objects, read back.
//!
//! What a line must have is what [`crate::error_object`] writes; members that it does not know are
//! left alone. A line that cannot be read is told, never guessed at.

use crate::error_object::Stage;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use std::borrow::Cow;

/// A record that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedRecord<'a> {
    /// The stage that it failed in.
    pub stage: Stage,
    /// The code that it failed with.
    pub code: Cow<'a, str>,
    /// When the record arrived.
    pub arrival_ms: i64,
    /// When its last attempt ended.
    pub failed_ms: i64,
    /// The batch that it failed in.
    pub batch: u64,
    /// Its sequence, as text.
    pub sequence: Cow<'a, str>,
    /// Which sub-record it is.
    pub sub_sequence: Option<u32>,
    /// Which user record of a KPL aggregate.
    pub aggregated: Option<u32>,
    raw: Cow<'a, str>,
}

impl FailedRecord<'_> {
    /// Its bytes as they were before the stage.
    pub fn data(&self) -> Result<Vec<u8>, BadLine> {
        STANDARD.decode(&*self.raw).map_err(|_| BadLine("rawData is not base64".into()))
    }
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'a> {
    /// A record.
    Record(FailedRecord<'a>),
    /// A data file that was not committed: its batch is decided about as a whole
    /// ([`crate::failed_batches`]).
    File,
}

/// A line that is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a line of an error object of a stream: {0}")]
pub struct BadLine(String);

impl BadLine {
    /// What a caller can do about it.
    pub fn kind(&self) -> alluvium_base::ErrorKind {
        alluvium_base::ErrorKind::Invalid
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Given<'a> {
    stage: Stage,
    #[serde(borrow)]
    error_code: Cow<'a, str>,
    arrival_timestamp: i64,
    attempt_ending_timestamp: i64,
    batch: u64,
    #[serde(borrow, default)]
    sequence_number: Option<Text<'a>>,
    #[serde(default)]
    sub_sequence_number: Option<u32>,
    #[serde(default)]
    kpl_sub_sequence: Option<u32>,
    #[serde(borrow, default)]
    raw_data: Option<Text<'a>>,
    #[serde(borrow, default)]
    data_file: Option<Text<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Line<'a> {
    /// Reads one line, without its newline.
    pub fn parse(line: &'a [u8]) -> Result<Self, BadLine> {
        let given: Given<'a> =
            serde_json::from_slice(line).map_err(|error| BadLine(error.to_string()))?;
        if given.data_file.is_some() || given.stage == Stage::Commit {
            return Ok(Self::File);
        }
        let (Some(raw), Some(sequence)) = (given.raw_data, given.sequence_number) else {
            return Err(BadLine("rawData or sequenceNumber is missing".into()));
        };
        Ok(Self::Record(FailedRecord {
            stage: given.stage,
            code: given.error_code,
            arrival_ms: given.arrival_timestamp,
            failed_ms: given.attempt_ending_timestamp,
            batch: given.batch,
            sequence: sequence.0,
            sub_sequence: given.sub_sequence_number,
            aggregated: given.kpl_sub_sequence,
            raw: raw.0,
        }))
    }
}

/// The lines of an object, in order.
pub fn lines(object: &[u8]) -> impl Iterator<Item = &[u8]> {
    object.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_records_and_files_are_told_apart() {
        let record = br#"{"attemptsMade":1,"arrivalTimestamp":5,"errorCode":"C","errorMessage":"m",
            "attemptEndingTimestamp":9,"rawData":"e30=","stage":"extract","batch":3,
            "sequenceNumber":"0-7","subSequenceNumber":2,"table":"t"}"#;
        let Ok(Line::Record(line)) = Line::parse(record) else { panic!("a record") };
        assert_eq!((line.stage, line.batch, line.sub_sequence), (Stage::Extract, 3, Some(2)));
        assert_eq!((line.arrival_ms, line.failed_ms, &*line.sequence), (5, 9, "0-7"));
        assert_eq!(line.data().unwrap(), b"{}");
        let file = br#"{"attemptsMade":1,"arrivalTimestamp":5,"errorCode":"C","errorMessage":"m",
            "attemptEndingTimestamp":9,"dataFile":"s3://b/f","stage":"commit","batch":3}"#;
        assert_eq!(Line::parse(file), Ok(Line::File));
        for bad in [
            "{}",
            "[]",
            r#"{"stage":"convert","errorCode":"C","arrivalTimestamp":1,"attemptEndingTimestamp":1,"batch":1}"#,
            r#"{"stage":"none","errorCode":"C","arrivalTimestamp":1,"attemptEndingTimestamp":1,"batch":1,"rawData":"","sequenceNumber":"0-1"}"#,
        ] {
            assert!(Line::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(lines(b"a\nb\n\n").count(), 2);
    }
}
