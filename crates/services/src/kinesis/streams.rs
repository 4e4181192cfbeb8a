//! Streams: created, described, listed, changed, deleted.

use super::answer::{self, ENCRYPTION};
use super::constraint::{self, required_one_of};
use super::error::{invalid, of_stream, unsupported};
use super::model::{
    AccountSettings, AccountSettingsInput, Commitment, CreateStreamInput, DeleteStreamInput,
    DescribeStreamInput, DescribeStreamOutput, DescribeSummaryOutput, EncryptionInput,
    EnhancedMetrics, LimitsOutput, ListStreamsInput, ListStreamsOutput, MaxRecordSizeInput,
    ModeDetails, ModeDetailsInput, ModeInput, MonitoringInput, MonitoringOutput, NothingInput,
    RetentionInput, StreamDescription, StreamDescriptionSummary, StreamInput, StreamSummary,
    WarmThroughput, WarmThroughputInput, WarmThroughputOutput,
};
use super::{KinesisService, parse, refuse_stream_id};

use alluvium_streams::{
    Monitoring, NewStream, ShardMetric, StartAfter, Stream, StreamDocument, StreamMode,
};
use alluvium_wire::constraint::{length, one_of, range, required, violation};
use alluvium_wire::json_protocol;
use alluvium_wire::member::Timestamp;
use alluvium_wire::{Call, Problem, Reply};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A page of `DescribeStream` and of `ListStreams`, whatever more is asked for.
const PAGE_MAX: usize = 100;
/// Numbers without a limit of their own.
const ANY: u32 = u32::MAX;
const MODES: [&str; 2] = ["PROVISIONED", "ON_DEMAND"];

fn mode(details: &ModeDetailsInput) -> Result<StreamMode, Problem> {
    let member = "streamModeDetails.streamMode";
    match required_one_of(details.stream_mode.as_deref(), member, &MODES)? {
        "ON_DEMAND" => Ok(StreamMode::OnDemand),
        _ => Ok(StreamMode::Provisioned),
    }
}

fn mode_details(document: &StreamDocument) -> ModeDetails {
    ModeDetails { stream_mode: document.mode.as_str() }
}

fn names(metrics: &BTreeSet<ShardMetric>) -> Vec<String> {
    metrics.iter().map(|metric| metric.as_str().to_string()).collect()
}

fn monitoring(document: &StreamDocument) -> [EnhancedMetrics; 1] {
    [EnhancedMetrics { shard_level_metrics: names(&document.shard_level_metrics) }]
}

fn summary(document: &StreamDocument) -> StreamSummary {
    StreamSummary {
        stream_name: document.name.clone(),
        stream_arn: document.arn().to_string(),
        stream_status: document.status.as_str(),
        stream_mode_details: mode_details(document),
        stream_creation_timestamp: Timestamp(document.created_ms),
    }
}

fn warm(mibps: u32) -> WarmThroughput {
    WarmThroughput { target: mibps, current: mibps }
}

fn shard_count(input: &CreateStreamInput, mode: StreamMode) -> Result<Option<u32>, Problem> {
    let count = input.shard_count.map(|count| range(count, "shardCount", (1, ANY))).transpose()?;
    match (mode, count) {
        (StreamMode::Provisioned, None) => {
            let rule = "Member must not be null for streams in PROVISIONED mode";
            Err(violation("null", "shardCount", rule))
        }
        (StreamMode::OnDemand, Some(count)) => {
            let rule = "Member must be null for streams in ON_DEMAND mode";
            Err(violation(&count.to_string(), "shardCount", rule))
        }
        (_, count) => Ok(count),
    }
}

/// Hours, whose limits are the engine's.
fn hours(value: Option<i64>) -> Result<u32, Problem> {
    let hours = required(value, "retentionPeriodHours")?;
    u32::try_from(hours)
        .map_err(|_| invalid(format!("RetentionPeriodHours is 24 to 8760; {hours} is not.")))
}

fn metrics(given: Option<Vec<String>>) -> Result<BTreeSet<ShardMetric>, Problem> {
    let given = required(given, "shardLevelMetrics")?;
    length("[…]", given.len(), "shardLevelMetrics", (1, 7))?;
    let mut known: Vec<&str> = ShardMetric::ALL.iter().map(|metric| metric.as_str()).collect();
    known.push("ALL");
    let mut metrics = BTreeSet::new();
    for name in &given {
        one_of(name, "shardLevelMetrics", &known)?;
        let named = |metric: &ShardMetric| name == "ALL" || metric.as_str() == name;
        metrics.extend(ShardMetric::ALL.into_iter().filter(named));
    }
    Ok(metrics)
}

impl KinesisService {
    pub(super) async fn create_stream(&self, call: &Call) -> Result<Reply, Problem> {
        let input: CreateStreamInput = parse(call)?;
        let name = required(input.stream_name.clone(), "streamName")?;
        constraint::name(&name, "streamName")?;
        let mode = input.stream_mode_details.as_ref().map(mode).transpose()?;
        let mode = mode.unwrap_or(StreamMode::Provisioned);
        let shard_count = shard_count(&input, mode)?;
        let most = input.max_record_size_in_kib;
        let max_record_kib =
            most.map(|kib| range(kib, "maxRecordSizeInKiB", (1024, 10_240))).transpose()?;
        let warm = input.warm_throughput_mibps;
        let warm_throughput_mibps =
            warm.map(|mibps| range(mibps, "warmThroughputMiBps", (0, ANY))).transpose()?;
        let tags = input.tags.unwrap_or_default();
        if !tags.is_empty() {
            constraint::tags(tags.iter())?;
        }
        let new = NewStream {
            region: call.region.clone(),
            name,
            mode,
            shard_count,
            max_record_kib,
            warm_throughput_mibps,
            tags,
        };
        self.streams.create(new).await.map_err(of_stream)?;
        Ok(json_protocol::reply_nothing(call))
    }

    pub(super) async fn delete_stream(&self, call: &Call) -> Result<Reply, Problem> {
        let input: DeleteStreamInput = parse(call)?;
        let stream = self.found(call, input.stream())?;
        let enforce = input.enforce_consumer_deletion.unwrap_or(false);
        self.streams.delete(&stream, enforce).await.map_err(of_stream)?;
        Ok(json_protocol::reply_nothing(call))
    }

    pub(super) fn describe_stream(&self, call: &Call) -> Result<Reply, Problem> {
        let input: DescribeStreamInput = parse(call)?;
        let limit = input.limit.map(|limit| range(limit, "limit", (1, 10_000))).transpose()?;
        let limit = limit.map_or(PAGE_MAX, |limit| (limit as usize).min(PAGE_MAX));
        let stream = self.found(call, input.stream())?;
        let after = input.exclusive_start_shard_id.as_deref();
        let after = after.map(|id| self.shard_of(&stream, id, "exclusiveStartShardId"));
        let page = self
            .streams
            .list_shards(&stream, None, after.transpose()?, Some(limit))
            .map_err(of_stream)?;
        let document = stream.document();
        let stream_description = StreamDescription {
            stream_name: document.name.clone(),
            stream_arn: document.arn().to_string(),
            stream_status: document.status.as_str(),
            stream_mode_details: mode_details(&document),
            shards: page.shards.iter().map(|shard| answer::shard(&self.streams, shard)).collect(),
            has_more_shards: page.next_token.is_some(),
            retention_period_hours: document.retention_hours,
            stream_creation_timestamp: Timestamp(document.created_ms),
            enhanced_monitoring: monitoring(&document),
            encryption_type: ENCRYPTION,
        };
        Ok(json_protocol::reply(call, &DescribeStreamOutput { stream_description }))
    }

    pub(super) fn describe_stream_summary(&self, call: &Call) -> Result<Reply, Problem> {
        let input: StreamInput = parse(call)?;
        let document = self.found(call, input.stream())?.document();
        let stream_description_summary = StreamDescriptionSummary {
            stream_name: document.name.clone(),
            stream_arn: document.arn().to_string(),
            stream_status: document.status.as_str(),
            stream_mode_details: mode_details(&document),
            retention_period_hours: document.retention_hours,
            stream_creation_timestamp: Timestamp(document.created_ms),
            enhanced_monitoring: monitoring(&document),
            encryption_type: ENCRYPTION,
            open_shard_count: document.open_shards(),
            consumer_count: document.consumers.len(),
            warm_throughput: document.warm_throughput_mibps.map(warm),
            max_record_size_in_kib: document.max_record_kib,
        };
        Ok(json_protocol::reply(call, &DescribeSummaryOutput { stream_description_summary }))
    }

    pub(super) fn list_streams(&self, call: &Call) -> Result<Reply, Problem> {
        let input: ListStreamsInput = parse(call)?;
        let limit = input.limit.map(|limit| range(limit, "limit", (1, 10_000))).transpose()?;
        let limit = limit.map_or(PAGE_MAX, |limit| (limit as usize).min(PAGE_MAX));
        if let Some(name) = &input.exclusive_start_stream_name {
            constraint::name(name, "exclusiveStartStreamName")?;
        }
        let start = match (input.next_token, input.exclusive_start_stream_name) {
            (Some(_), Some(_)) => {
                return Err(invalid(
                    "NextToken and ExclusiveStartStreamName cannot be provided together.",
                ));
            }
            (Some(token), None) => StartAfter::Token(token),
            (None, Some(name)) => StartAfter::Item(name),
            (None, None) => StartAfter::Beginning,
        };
        let (streams, next_token) =
            self.streams.list(&call.region, start, Some(limit)).map_err(of_stream)?;
        let output = ListStreamsOutput {
            stream_names: streams.iter().map(|document| document.name.clone()).collect(),
            has_more_streams: next_token.is_some(),
            next_token,
            stream_summaries: streams.iter().map(|document| summary(document)).collect(),
        };
        Ok(json_protocol::reply(call, &output))
    }

    pub(super) async fn increase_retention(&self, call: &Call) -> Result<Reply, Problem> {
        let input: RetentionInput = parse(call)?;
        let hours = hours(input.retention_period_hours)?;
        let stream = self.found(call, input.stream())?;
        self.streams.increase_retention(&stream, hours).await.map_err(of_stream)?;
        Ok(json_protocol::reply_nothing(call))
    }

    pub(super) async fn decrease_retention(&self, call: &Call) -> Result<Reply, Problem> {
        let input: RetentionInput = parse(call)?;
        let hours = hours(input.retention_period_hours)?;
        let stream = self.found(call, input.stream())?;
        self.streams.decrease_retention(&stream, hours).await.map_err(of_stream)?;
        Ok(json_protocol::reply_nothing(call))
    }

    pub(super) async fn enable_monitoring(&self, call: &Call) -> Result<Reply, Problem> {
        let mut input: MonitoringInput = parse(call)?;
        let metrics = metrics(input.shard_level_metrics.take())?;
        let stream = self.found(call, input.stream())?;
        let changed = self.streams.enable_monitoring(&stream, metrics).await;
        Ok(json_protocol::reply(call, &monitored(&stream, &changed.map_err(of_stream)?)))
    }

    pub(super) async fn disable_monitoring(&self, call: &Call) -> Result<Reply, Problem> {
        let mut input: MonitoringInput = parse(call)?;
        let metrics = metrics(input.shard_level_metrics.take())?;
        let stream = self.found(call, input.stream())?;
        let changed = self.streams.disable_monitoring(&stream, metrics).await;
        Ok(json_protocol::reply(call, &monitored(&stream, &changed.map_err(of_stream)?)))
    }

    pub(super) async fn update_stream_mode(&self, call: &Call) -> Result<Reply, Problem> {
        let input: ModeInput = parse(call)?;
        refuse_stream_id(input.stream_id.as_deref())?;
        let details = required(input.stream_mode_details, "streamModeDetails")?;
        let mode = mode(&details)?;
        let warm = input.warm_throughput_mibps;
        let warm = warm.map(|mibps| range(mibps, "warmThroughputMiBps", (0, ANY))).transpose()?;
        let arn = required(input.stream_arn.as_deref(), "streamARN")?;
        let stream = self.found_arn(call, arn)?;
        self.streams.update_mode(&stream, mode, warm).await.map_err(of_stream)?;
        Ok(json_protocol::reply_nothing(call))
    }

    pub(super) async fn update_max_record_size(&self, call: &Call) -> Result<Reply, Problem> {
        let input: MaxRecordSizeInput = parse(call)?;
        refuse_stream_id(input.stream_id.as_deref())?;
        let kib = required(input.max_record_size_in_kib, "maxRecordSizeInKiB")?;
        let kib = range(kib, "maxRecordSizeInKiB", (1024, 10_240))?;
        let arn = input.stream_arn.as_deref();
        let arn = arn.ok_or_else(|| invalid("Must provide a StreamARN."))?;
        let stream = self.found_arn(call, arn)?;
        self.streams.update_max_record_size(&stream, kib).await.map_err(of_stream)?;
        Ok(json_protocol::reply_nothing(call))
    }

    pub(super) async fn update_warm_throughput(&self, call: &Call) -> Result<Reply, Problem> {
        let input: WarmThroughputInput = parse(call)?;
        let mibps = required(input.warm_throughput_mibps, "warmThroughputMiBps")?;
        let mibps = range(mibps, "warmThroughputMiBps", (0, ANY))?;
        let stream = self.found(call, input.stream())?;
        self.streams.update_warm_throughput(&stream, mibps).await.map_err(of_stream)?;
        let document = stream.document();
        let output = WarmThroughputOutput {
            stream_arn: document.arn().to_string(),
            stream_name: document.name.clone(),
            warm_throughput: warm(mibps),
        };
        Ok(json_protocol::reply(call, &output))
    }

    pub(super) fn describe_limits(&self, call: &Call) -> Result<Reply, Problem> {
        let NothingInput {} = parse(call)?;
        let limits = self.streams.limits(&call.region);
        let output = LimitsOutput {
            shard_limit: limits.shard_limit,
            open_shard_count: limits.open_shards,
            on_demand_stream_count: limits.on_demand_streams,
            on_demand_stream_count_limit: limits.on_demand_limit,
        };
        Ok(json_protocol::reply(call, &output))
    }

    pub(super) fn describe_account_settings(&self, call: &Call) -> Result<Reply, Problem> {
        let NothingInput {} = parse(call)?;
        Ok(json_protocol::reply(call, &no_commitment()))
    }

    /// Nothing is billed here, so there is nothing to commit to.
    pub(super) fn update_account_settings(&self, call: &Call) -> Result<Reply, Problem> {
        let input: AccountSettingsInput = parse(call)?;
        let member = "minimumThroughputBillingCommitment";
        let commitment = required(input.minimum_throughput_billing_commitment, member)?;
        let member = "minimumThroughputBillingCommitment.status";
        match required_one_of(commitment.status.as_deref(), member, &["ENABLED", "DISABLED"])? {
            "DISABLED" => Ok(json_protocol::reply(call, &no_commitment())),
            _ => Err(unsupported(
                "MinimumThroughputBillingCommitment ENABLED",
                "nothing is billed, and warm throughput and consumers need no commitment",
            )),
        }
    }

    pub(super) fn encryption(&self, call: &Call, operation: &str) -> Result<Reply, Problem> {
        let input: EncryptionInput = parse(call)?;
        required_one_of(input.encryption_type.as_deref(), "encryptionType", &["NONE", "KMS"])?;
        let key = required(input.key_id.as_deref(), "keyId")?;
        length(key, key.chars().count(), "keyId", (1, 2048))?;
        self.found(call, input.stream())?;
        Err(unsupported(
            operation,
            "this release does not encrypt at rest, and says so rather than pretend",
        ))
    }
}

fn no_commitment() -> AccountSettings {
    AccountSettings { minimum_throughput_billing_commitment: Commitment { status: "DISABLED" } }
}

fn monitored(stream: &Arc<Stream>, changed: &Monitoring) -> MonitoringOutput {
    let document = stream.document();
    MonitoringOutput {
        stream_name: document.name.clone(),
        current_shard_level_metrics: names(&changed.current),
        desired_shard_level_metrics: names(&changed.desired),
        stream_arn: document.arn().to_string(),
    }
}
