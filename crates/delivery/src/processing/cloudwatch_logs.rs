//! `CloudWatchLogProcessing` with `DataMessageExtraction`: the messages of a CloudWatch Logs
//! subscription's envelope, one a line (Firehose developer guide, "Extract messages after
//! decompression of CloudWatch Logs").
//!
//! A `CONTROL_MESSAGE`, by which CloudWatch Logs asks whether the stream is there, and an envelope
//! without messages are declared drops.

use super::DropReason;
use serde::Deserialize;
use std::borrow::Cow;

const INVALID: &str = "CloudWatchLogProcessing.InvalidEnvelope";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(borrow)]
    message_type: Cow<'a, str>,
    #[serde(borrow, default)]
    log_events: Vec<LogEvent<'a>>,
}

#[derive(Debug, Deserialize)]
struct LogEvent<'a> {
    #[serde(borrow)]
    message: Text<'a>,
}

/// A string that is borrowed where it has no escapes.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Replaces `into` with the messages of `record`, joined by newlines.
pub(super) fn messages(
    record: &[u8],
    into: &mut Vec<u8>,
) -> Result<Option<DropReason>, (&'static str, String)> {
    into.clear();
    let envelope: Envelope<'_> = serde_json::from_slice(record)
        .map_err(|error| (INVALID, format!("not an envelope of CloudWatch Logs: {error}")))?;
    match &*envelope.message_type {
        "DATA_MESSAGE" => {}
        "CONTROL_MESSAGE" => return Ok(Some(DropReason::ControlMessage)),
        other => {
            let shown: String = other.chars().take(64).collect();
            let reason = format!(
                "messageType '{shown}' is neither DATA_MESSAGE nor CONTROL_MESSAGE: only \
                 subscriptions of CloudWatch Logs can be put to a stream that extracts messages"
            );
            return Err((INVALID, reason));
        }
    }
    for (index, event) in envelope.log_events.iter().enumerate() {
        if index > 0 {
            into.push(b'\n');
        }
        into.extend_from_slice(event.message.0.as_bytes());
    }
    Ok(into.is_empty().then_some(DropReason::Empty))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extracted(record: &str) -> Result<(Option<DropReason>, String), &'static str> {
        let mut into = b"left over".to_vec();
        let dropped = messages(record.as_bytes(), &mut into).map_err(|(code, _)| code)?;
        Ok((dropped, String::from_utf8(into).unwrap()))
    }

    #[test]
    fn messages_are_joined_by_newlines() {
        let record = r#"{"messageType":"DATA_MESSAGE","owner":"123456789012","logGroup":"g",
            "logStream":"s","subscriptionFilters":["f"],"logEvents":[
            {"id":"1","timestamp":1510109208016,"message":"{\"a\":1}"},
            {"id":"2","timestamp":1510109208017,"message":"Grüße \u00fc"}]}"#;
        assert_eq!(extracted(record), Ok((None, "{\"a\":1}\nGrüße ü".to_string())));
    }

    #[test]
    fn control_messages_and_empty_envelopes_are_dropped() {
        let control = r#"{"messageType":"CONTROL_MESSAGE","owner":"CloudwatchLogs",
            "logEvents":[{"id":"","timestamp":1,"message":"CWL CONTROL MESSAGE: Checking health"}]}"#;
        assert_eq!(extracted(control).unwrap().0, Some(DropReason::ControlMessage));
        let none = r#"{"messageType":"DATA_MESSAGE","logEvents":[]}"#;
        assert_eq!(extracted(none).unwrap().0, Some(DropReason::Empty));
    }

    #[test]
    fn what_is_no_envelope_fails() {
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"messageType":"OTHER"}"#,
            r#"{"messageType":"DATA_MESSAGE","logEvents":[{"id":"1"}]}"#,
            r#"{"messageType":"DATA_MESSAGE","logEvents":[{"message":1}]}"#,
            r#"{"messageType":"DATA_MESSAGE","logEvents":[]}{}"#,
        ] {
            assert_eq!(extracted(bad), Err(INVALID), "{bad}");
        }
    }
}
