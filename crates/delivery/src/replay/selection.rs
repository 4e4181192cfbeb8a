//! Which error objects are a stream's, and which of their lines a replay sends.

use super::ReplayError;
use super::lines::{Line, lines};
use super::marks::{LineRange, MarkedLines, push_range};
use crate::batch::{BATCHES, BatchDocument, BatchState};
use crate::error_object::ERROR_TYPES;
use crate::prefix::Prefix;
use crate::stream::StreamDocument;
use crate::streams::{decode, scan_all};
use alluvium_store::objects::{ListRequest, Objects, ObjectsError};
use alluvium_store::records::Records;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

const LIST_PAGE: usize = 1000;

/// Failures of which time, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// Inclusive.
    pub since_ms: Option<i64>,
    /// Exclusive.
    pub until_ms: Option<i64>,
}

impl Window {
    pub(super) fn has(self, time_ms: i64) -> bool {
        self.since_ms.is_none_or(|since| since <= time_ms)
            && self.until_ms.is_none_or(|until| time_ms < until)
    }
}

/// Records of one error code.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodeCounts {
    /// That this replay sends.
    pub chosen: u64,
    /// That an earlier one sent.
    pub earlier: u64,
    /// That failed at another time than was asked for.
    pub outside: u64,
    /// Rows in files that their table still does not take.
    pub refused: u64,
}

/// What a replay found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Records, by the code that they failed with.
    pub codes: BTreeMap<String, CodeCounts>,
    /// Records whose batch is not prepared yet: their error objects are in the making.
    pub in_the_making: u64,
    /// Lines that are none of ours.
    pub unreadable: u64,
    /// Why files were refused.
    pub refusals: Vec<String>,
}

/// Everything that looks like an error object of the stream, in order.
pub(super) async fn list(
    objects: &dyn Objects,
    stream: &StreamDocument,
) -> Result<Vec<(String, String)>, ReplayError> {
    let mut found = BTreeSet::new();
    for target in stream.destination.error_targets().into_iter().chain(stream.former_errors.clone())
    {
        let prefix = Prefix::for_errors(target.prefix.as_deref(), target.error_prefix.as_deref())?
            .in_zone(target.time_zone.as_deref())?;
        let mut after = None;
        loop {
            let request = ListRequest {
                prefix: prefix.literal_beginning().to_string(),
                after: after.take(),
                delimiter: None,
                limit: LIST_PAGE,
            };
            let page = match objects.list(&target.bucket, request).await {
                Ok(page) => page,
                Err(ObjectsError::NoBucket(_)) => break,
                Err(error) => return Err(error.into()),
            };
            let ours =
                page.objects.into_iter().filter(|meta| is_ours(&meta.key, &stream.name, &prefix));
            found.extend(ours.map(|meta| (target.bucket.clone(), meta.key)));
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
    }
    Ok(found.into_iter().collect())
}

/// `PREFIX` of some error, `NAME-VERSION-yyyy-MM-dd-HH-mm-ss-UUID`.
fn is_ours(key: &str, stream: &str, prefix: &Prefix) -> bool {
    let name = format!("{stream}-");
    key.match_indices(&name).any(|(at, _)| {
        second_of(&key[at + name.len()..]).is_some_and(|named_ms| {
            ERROR_TYPES.iter().any(|kind| prefix.may_be(&key[..at], named_ms, kind))
        })
    })
}

/// The time in what follows a stream's name, if it is the rest of an object's name: in its zone,
/// told as if it were UTC.
fn second_of(rest: &str) -> Option<i64> {
    let (version, rest) = rest.split_once('-')?;
    let (time, uuid) = rest.split_at_checked(19)?;
    let uuid = uuid.strip_prefix('-')?;
    let digits = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
    let uuid = uuid.len() == 36 && uuid::Uuid::try_parse(uuid).is_ok();
    let time = chrono::NaiveDateTime::parse_from_str(time, "%Y-%m-%d-%H-%M-%S").ok()?;
    (digits && uuid).then(|| time.and_utc().timestamp_millis())
}

/// Batches whose error objects may still change. Of all streams of the error buckets: a stream that
/// is being deleted may have a successor of its name.
pub(super) async fn in_the_making(
    records: &dyn Records,
    stream: &StreamDocument,
) -> Result<BTreeSet<u64>, ReplayError> {
    let former = stream.former_errors.iter().map(|target| target.bucket.as_str());
    let buckets: BTreeSet<&str> = former.chain([stream.destination.errors().bucket]).collect();
    let mut making = BTreeSet::new();
    for found in scan_all(records, BATCHES, "").await? {
        let batch: BatchDocument = decode(&found)?;
        let here = batch.incarnation == stream.incarnation
            || buckets.contains(batch.destination.errors().bucket);
        if here && batch.state == BatchState::Cut {
            making.insert(batch.number.0);
        }
    }
    Ok(making)
}

/// What is chosen of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) lines: Vec<LineRange>,
    pub(super) oldest_arrival_ms: i64,
}

/// Chooses lines of an object and counts all of them; none when nothing is chosen.
pub(super) fn choose(
    body: &[u8],
    mark: &MarkedLines,
    making: &BTreeSet<u64>,
    window: Window,
    report: &mut Report,
) -> Option<Chosen> {
    let mut chosen = Chosen { lines: Vec::new(), oldest_arrival_ms: i64::MAX };
    for (number, line) in (0u32..).zip(lines(body)) {
        let record = match Line::parse(line) {
            Ok(Line::Record(record)) if record.data().is_ok() => record,
            Ok(Line::File) => continue,
            Ok(Line::Record(_)) | Err(_) => {
                report.unreadable += 1;
                continue;
            }
        };
        if making.contains(&record.batch) {
            report.in_the_making += 1;
            continue;
        }
        let counts = report.codes.entry(record.code.into_owned()).or_default();
        if mark.has(number) {
            counts.earlier += 1;
        } else if !window.has(record.failed_ms) {
            counts.outside += 1;
        } else {
            counts.chosen += 1;
            push_range(&mut chosen.lines, LineRange { from: number, to: number + 1 });
            chosen.oldest_arrival_ms = chosen.oldest_arrival_ms.min(record.arrival_ms);
        }
    }
    (!chosen.lines.is_empty()).then_some(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "1-2026-01-03-09-05-07-0b0c5d3e-93f1-5c0a-9d3c-2f6b7c8d9e0a";

    #[test]
    fn names_of_error_objects_are_known_and_no_others() {
        let plain = Prefix::for_errors(Some("e/"), None).unwrap();
        let ours = |key: String, stream: &str| is_ours(&key, stream, &plain);
        let errors = "e/iceberg-failed/2026/01/03/09/";
        assert!(ours(format!("{errors}s-{NAME}"), "s"));
        assert!(ours(format!("e/processing-failed/2026/01/03/09/s.a-b_c-{NAME}"), "s.a-b_c"));
        assert!(
            ours(format!("{errors}a-{NAME}"), "a") && !ours(format!("{errors}a-1-{NAME}"), "a")
        );
        for (key, why) in [
            (format!("{errors}x.s-{NAME}"), "another stream"),
            (format!("e/iceberg-failed/2026/01/03/10/s-{NAME}"), "another hour"),
            (format!("e/2026/01/03/09/s-{NAME}"), "an object of records"),
            (format!("{errors}s-{NAME}.gz"), "an extension"),
            (format!("{errors}s-{}", &NAME[..40]), "no UUID"),
            (format!("{errors}sub/s-{NAME}"), "elsewhere"),
        ] {
            assert!(!ours(key, "s"), "{why}");
        }
        let own = "x!{firehose:random-string}/!{firehose:error-output-type}!{timestamp:yyyy-SSS}-";
        let own = Prefix::for_errors(None, Some(own)).unwrap();
        let key = format!("xAbcdefgh123/iceberg-failed2026-123-s-{NAME}");
        assert!(is_ours(&key, "s", &own) && !is_ours(&key, "t", &own));
        assert!(!is_ours(&key.replace("2026-123", "2026-1x3"), "s", &own));
        // 09:05 in Tokyo was 00:05 in UTC; a prefix may tell the offset.
        let zoned = "e/!{firehose:error-output-type}/!{timestamp:yyyy-MM-dd'T'HHXXX}/";
        let zoned = Prefix::for_errors(None, Some(zoned)).unwrap();
        let key = |at: &str| format!("e/iceberg-failed/{at}/s-{NAME}");
        assert!(is_ours(&key("2026-01-03T09Z"), "s", &zoned));
        let zoned = zoned.in_zone(Some("Asia/Tokyo")).unwrap();
        assert!(is_ours(&key("2026-01-03T09+09:00"), "s", &zoned));
        assert!(!is_ours(&key("2026-01-03T00+09:00"), "s", &zoned));
        // The hour that comes twice is either of both.
        let autumn = NAME.replace("2026-01-03-09-05", "2026-10-25-02-05");
        let zoned = zoned.in_zone(Some("Europe/Berlin")).unwrap();
        for offset in ["+01:00", "+02:00"] {
            let key = format!("e/iceberg-failed/2026-10-25T02{offset}/s-{autumn}");
            assert!(is_ours(&key, "s", &zoned), "{offset}");
        }
    }

    #[test]
    fn each_line_is_counted_once() {
        let line = |code: &str, failed_ms: i64, batch: u64| {
            format!(
                "{{\"stage\":\"convert\",\"errorCode\":\"{code}\",\"arrivalTimestamp\":{batch},\
                 \"attemptEndingTimestamp\":{failed_ms},\"batch\":{batch},\"rawData\":\"e30=\",\
                 \"sequenceNumber\":\"0-1\"}}\n"
            )
        };
        let body = [
            line("A", 5, 1),
            line("A", 6, 1),
            line("B", 50, 1),
            line("A", 7, 2),
            "noise\n".into(),
            line("A", 8, 3),
        ]
        .concat();
        let mark = crate::replay::marks::tests_mark(&[LineRange { from: 1, to: 2 }]);
        let window = Window { since_ms: Some(5), until_ms: Some(50) };
        let mut report = Report::default();
        let making = BTreeSet::from([2]);
        let chosen = choose(body.as_bytes(), &mark, &making, window, &mut report).unwrap();
        let range = |from, to| LineRange { from, to };
        assert_eq!(chosen.lines, [range(0, 1), range(5, 6)]);
        assert_eq!(chosen.oldest_arrival_ms, 1);
        assert_eq!(report.codes["A"], CodeCounts { chosen: 2, earlier: 1, outside: 0, refused: 0 });
        assert_eq!(report.codes["B"], CodeCounts { chosen: 0, earlier: 0, outside: 1, refused: 0 });
        assert_eq!((report.in_the_making, report.unreadable), (1, 1));
    }
}
