//! What can be changed of a stream besides its shards, and the limits of each.

use crate::data_streams::DataStreams;
use crate::error::StreamError;
use crate::listing::ListOfStreams;
use crate::stream::{ShardMetric, Stream, StreamDocument, StreamMode};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The least time that records stay, and the default (Kinesis API reference).
pub const RETENTION_HOURS_LEAST: u32 = 24;
/// The longest: 365 days.
pub const RETENTION_HOURS_MOST: u32 = 8760;
/// The least of a stream's largest record, and the default.
pub const RECORD_KIB_LEAST: u32 = 1024;
/// The most of it.
pub const RECORD_KIB_MOST: u32 = 10_240;
/// Tags of a stream or a consumer.
pub const TAGS_MAX: usize = 50;
const TAG_KEY_CHARS_MAX: usize = 128;
const TAG_VALUE_CHARS_MAX: usize = 256;
/// IAM's limit of a resource policy.
const POLICY_BYTES_MAX: usize = 20_480;
/// Changes of a stream's mode in 24 hours (Kinesis API reference, `UpdateStreamMode`).
const MODE_CHANGES_A_DAY: usize = 2;
const DAY_MS: i64 = 24 * 3_600_000;
/// AWS's most in a region (Kinesis developer guide, warm throughput).
const WARM_THROUGHPUT_MIBPS_MAX: u32 = 10_240;

/// What tags and policies are attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// The stream itself.
    Stream,
    /// One of its consumers, by name.
    Consumer(String),
}

/// What a change of enhanced monitoring answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Monitoring {
    /// Before.
    pub current: BTreeSet<ShardMetric>,
    /// Now.
    pub desired: BTreeSet<ShardMetric>,
}

/// Limits of an account in a region, and what it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most open shards of provisioned streams.
    pub shard_limit: u32,
    /// Those that there are.
    pub open_shards: u32,
    /// On-demand streams.
    pub on_demand_streams: u32,
    /// The most of them.
    pub on_demand_limit: u32,
}

fn invalid<T>(text: String) -> Result<T, StreamError> {
    Err(StreamError::InvalidArgument(text))
}

/// Whether a text can name a stream or a consumer.
pub(crate) fn is_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    (1..=128).contains(&text.len()) && text.bytes().all(plain)
}

pub(crate) fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), StreamError> {
    if tags.len() > TAGS_MAX {
        return invalid(format!("There would be {} tags; {TAGS_MAX} is the limit.", tags.len()));
    }
    for (key, value) in tags {
        let (key_chars, value_chars) = (key.chars().count(), value.chars().count());
        if key_chars == 0 || key_chars > TAG_KEY_CHARS_MAX || value_chars > TAG_VALUE_CHARS_MAX {
            return invalid(format!(
                "Tag '{key}': a key has 1 to {TAG_KEY_CHARS_MAX} characters, a value at most \
                 {TAG_VALUE_CHARS_MAX}."
            ));
        }
        if key.starts_with("aws:") {
            return invalid(format!("Tag '{key}': keys that begin with 'aws:' are reserved."));
        }
    }
    Ok(())
}

pub(crate) fn check_record_kib(kib: u32) -> Result<(), StreamError> {
    if (RECORD_KIB_LEAST..=RECORD_KIB_MOST).contains(&kib) {
        return Ok(());
    }
    invalid(format!("MaxRecordSizeInKiB is {RECORD_KIB_LEAST} to {RECORD_KIB_MOST}; {kib} is not."))
}

fn check_warm(mibps: u32) -> Result<(), StreamError> {
    if mibps <= WARM_THROUGHPUT_MIBPS_MAX {
        return Ok(());
    }
    invalid(format!("WarmThroughputMiBps is at most {WARM_THROUGHPUT_MIBPS_MAX}; not {mibps}."))
}

/// The tags and the policy of a resource.
fn parts<'a>(
    document: &'a mut StreamDocument,
    resource: &Resource,
) -> Result<(&'a mut BTreeMap<String, String>, &'a mut Option<String>), StreamError> {
    let missing = |name: &str| {
        StreamError::ResourceNotFound(format!(
            "Consumer {name} of stream {} under account {} not found.",
            document.name, document.account
        ))
    };
    match resource {
        Resource::Stream => Ok((&mut document.tags, &mut document.policy)),
        Resource::Consumer(name) => {
            let missing = missing(name);
            let consumer = document.consumers.get_mut(name).ok_or(missing)?;
            Ok((&mut consumer.tags, &mut consumer.policy))
        }
    }
}

impl DataStreams {
    /// Keeps records longer (`IncreaseStreamRetentionPeriod`). Records that are gone do not return.
    pub async fn increase_retention(
        &self,
        stream: &Arc<Stream>,
        hours: u32,
    ) -> Result<(), StreamError> {
        self.set_retention(stream, hours, |is, hours| hours > is).await
    }

    /// Keeps records for a shorter time (`DecreaseStreamRetentionPeriod`): older ones are not
    /// returned from now on.
    pub async fn decrease_retention(
        &self,
        stream: &Arc<Stream>,
        hours: u32,
    ) -> Result<(), StreamError> {
        self.set_retention(stream, hours, |is, hours| hours < is).await
    }

    async fn set_retention(
        &self,
        stream: &Arc<Stream>,
        hours: u32,
        fits: fn(u32, u32) -> bool,
    ) -> Result<(), StreamError> {
        self.change(stream, move |document| {
            if !(RETENTION_HOURS_LEAST..=RETENTION_HOURS_MOST).contains(&hours) {
                return invalid(format!(
                    "RetentionPeriodHours is {RETENTION_HOURS_LEAST} to {RETENTION_HOURS_MOST}; \
                     {hours} is not."
                ));
            }
            let is = document.retention_hours;
            // The same again changes nothing, as on AWS.
            if hours != is && !fits(is, hours) {
                return invalid(format!(
                    "Requested retention period ({hours} hours) for stream {} is on the wrong side \
                     of the existing one ({is} hours): IncreaseStreamRetentionPeriod raises it, \
                     DecreaseStreamRetentionPeriod lowers it.",
                    document.name
                ));
            }
            document.retention_hours = hours;
            Ok(())
        })
        .await
    }

    /// Keeps more metrics of each shard.
    pub async fn enable_monitoring(
        &self,
        stream: &Arc<Stream>,
        metrics: BTreeSet<ShardMetric>,
    ) -> Result<Monitoring, StreamError> {
        self.change(stream, move |document| {
            let current = document.shard_level_metrics.clone();
            document.shard_level_metrics.extend(metrics);
            Ok(Monitoring { current, desired: document.shard_level_metrics.clone() })
        })
        .await
    }

    /// Keeps fewer.
    pub async fn disable_monitoring(
        &self,
        stream: &Arc<Stream>,
        metrics: BTreeSet<ShardMetric>,
    ) -> Result<Monitoring, StreamError> {
        self.change(stream, move |document| {
            let current = document.shard_level_metrics.clone();
            document.shard_level_metrics.retain(|metric| !metrics.contains(metric));
            Ok(Monitoring { current, desired: document.shard_level_metrics.clone() })
        })
        .await
    }

    /// Adds tags, or changes the values of those that are there.
    pub async fn add_tags(
        &self,
        stream: &Arc<Stream>,
        resource: Resource,
        tags: BTreeMap<String, String>,
    ) -> Result<(), StreamError> {
        self.change(stream, move |document| {
            let (is, _) = parts(document, &resource)?;
            let mut all = is.clone();
            all.extend(tags);
            check_tags(&all)?;
            *is = all;
            Ok(())
        })
        .await
    }

    /// Removes tags; those that are not there are not missed.
    pub async fn remove_tags(
        &self,
        stream: &Arc<Stream>,
        resource: Resource,
        keys: BTreeSet<String>,
    ) -> Result<(), StreamError> {
        self.change(stream, move |document| {
            let (is, _) = parts(document, &resource)?;
            is.retain(|key, _| !keys.contains(key));
            Ok(())
        })
        .await
    }

    /// The tags and the policy of a resource.
    pub fn tags_and_policy(
        &self,
        stream: &Arc<Stream>,
        resource: &Resource,
    ) -> Result<(BTreeMap<String, String>, Option<String>), StreamError> {
        let mut document = stream.document().as_ref().clone();
        let (tags, policy) = parts(&mut document, resource)?;
        Ok((std::mem::take(tags), policy.take()))
    }

    /// Sets (or removes) a resource policy: a JSON object, stored and returned.
    pub async fn set_policy(
        &self,
        stream: &Arc<Stream>,
        resource: Resource,
        policy: Option<String>,
    ) -> Result<(), StreamError> {
        if let Some(text) = &policy {
            let object = serde_json::from_str::<serde_json::Map<String, _>>(text);
            let object: Result<serde_json::Map<String, serde_json::Value>, _> = object;
            if text.len() > POLICY_BYTES_MAX || object.is_err() {
                return invalid(format!(
                    "Policy is not a JSON object of at most {POLICY_BYTES_MAX} bytes."
                ));
            }
        }
        self.change(stream, move |document| {
            let is_none = policy.is_none();
            let name = document.name.clone();
            let (_, is) = parts(document, &resource)?;
            if is_none && is.is_none() {
                let text = format!("Stream {name}: there is no resource policy.");
                return Err(StreamError::ResourceNotFound(text));
            }
            *is = policy;
            Ok(())
        })
        .await
    }

    /// Changes who decides on the number of shards (`UpdateStreamMode`); the shards stay.
    pub async fn update_mode(
        &self,
        stream: &Arc<Stream>,
        mode: StreamMode,
        warm_throughput_mibps: Option<u32>,
    ) -> Result<(), StreamError> {
        let now_ms = self.0.clock.now_ms();
        let region = stream.document().region.clone();
        let streams = ListOfStreams::of(&self.0.known.read(), &region);
        let open = stream.document().open_shards() as u32;
        match mode {
            StreamMode::Provisioned => {
                let counted = stream.document().mode == StreamMode::Provisioned;
                self.0.check_shards(
                    &region,
                    streams.open_shards,
                    if counted { 0 } else { open },
                )?;
            }
            StreamMode::OnDemand => {
                let most = self.0.options.on_demand_limit;
                let counted = stream.document().mode == StreamMode::OnDemand;
                if !counted && streams.on_demand >= most {
                    let text =
                        format!("There are {most} on-demand streams, the most there may be.");
                    return Err(StreamError::LimitExceeded(text));
                }
            }
        }
        self.change(stream, move |document| {
            if let Some(mibps) = warm_throughput_mibps {
                warm(document, mode, mibps)?;
            }
            if document.mode == mode {
                return Ok(());
            }
            document.mode_changes_ms.retain(|at| *at > now_ms - DAY_MS);
            if document.mode_changes_ms.len() >= MODE_CHANGES_A_DAY {
                return Err(StreamError::LimitExceeded(format!(
                    "The mode of stream {} was changed {MODE_CHANGES_A_DAY} times in the last 24 \
                     hours, the most there may be.",
                    document.name
                )));
            }
            document.mode_changes_ms.push(now_ms);
            document.mode = mode;
            Ok(())
        })
        .await
    }

    /// Changes the most KiB of a record (`UpdateMaxRecordSize`).
    pub async fn update_max_record_size(
        &self,
        stream: &Arc<Stream>,
        kib: u32,
    ) -> Result<(), StreamError> {
        check_record_kib(kib)?;
        self.change(stream, move |document| {
            document.max_record_kib = kib;
            Ok(())
        })
        .await
    }

    /// Changes the warm throughput of an on-demand stream: stored and described.
    pub async fn update_warm_throughput(
        &self,
        stream: &Arc<Stream>,
        mibps: u32,
    ) -> Result<(), StreamError> {
        self.change(stream, move |document| {
            let mode = document.mode;
            warm(document, mode, mibps)
        })
        .await
    }

    /// The account's limits in a region (`DescribeLimits`).
    pub fn limits(&self, region: &alluvium_base::Region) -> Limits {
        let streams = ListOfStreams::of(&self.0.known.read(), region);
        Limits {
            shard_limit: self.0.options.shard_limit,
            open_shards: streams.open_shards,
            on_demand_streams: streams.on_demand,
            on_demand_limit: self.0.options.on_demand_limit,
        }
    }
}

fn warm(document: &mut StreamDocument, mode: StreamMode, mibps: u32) -> Result<(), StreamError> {
    check_warm(mibps)?;
    if mode == StreamMode::Provisioned {
        return Err(StreamError::Validation(format!(
            "WarmThroughputMiBps is of streams in ON_DEMAND mode; {} is PROVISIONED.",
            document.name
        )));
    }
    document.warm_throughput_mibps = Some(mibps);
    Ok(())
}
