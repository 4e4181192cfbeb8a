//! Where a stream's records come from: AWS's shapes to the engine's and back.

use super::constraint::{self, required};
use super::destination::Home;
use super::error::{invalid, unavailable, unsupported};
use super::model::{
    CreateInput, DirectPutSource, KinesisSource, KinesisSourceDescription, SourceDescription,
};
use alluvium_base::{Arn, ErrorKind};
use alluvium_delivery::source::latest;
use alluvium_delivery::stream::{KinesisSource as StoredKinesis, Source, StreamDocument};
use alluvium_streams::DataStreams;
use alluvium_wire::Problem;
use alluvium_wire::json_protocol::EpochSeconds;

/// `DeliveryStreamType`.
pub(super) const TYPES: [&str; 4] =
    ["DirectPut", "KinesisStreamAsSource", "MSKAsSource", "DatabaseAsSource"];

/// A source for a new stream.
#[derive(Debug)]
pub(super) struct NewSource {
    pub(super) source: Source,
    pub(super) throughput_hint_mbs: Option<u32>,
}

/// The type of a stream with this source.
pub(super) fn kind(source: &Source) -> &'static str {
    match source {
        Source::DirectPut => TYPES[0],
        Source::Kinesis(_) => TYPES[1],
    }
}

/// A source for a new stream; a Kinesis stream is read from now on.
pub(super) fn create(
    input: &CreateInput,
    home: Home<'_>,
    now_ms: i64,
) -> Result<NewSource, Problem> {
    let kind = input.delivery_stream_type.as_deref().unwrap_or(TYPES[0]);
    constraint::one_of(kind, "deliveryStreamType", &TYPES)?;
    let way_out = "use DeliveryStreamType DirectPut or KinesisStreamAsSource";
    for (name, given) in [
        ("MSKSourceConfiguration", &input.msk_source_configuration),
        ("DatabaseSourceConfiguration", &input.database_source_configuration),
    ] {
        if given.is_some() {
            return Err(unsupported(name, way_out));
        }
    }
    match kind {
        "DirectPut" => direct_put(input),
        "KinesisStreamAsSource" => {
            if input.direct_put_source_configuration.is_some() {
                return Err(invalid(
                    "DirectPutSourceConfiguration is only applicable for DirectPut stream type",
                ));
            }
            let given = input.kinesis_stream_source_configuration.as_ref().ok_or_else(|| {
                invalid(
                    "KinesisStreamSourceConfiguration is required for KinesisStreamAsSource \
                     stream type",
                )
            })?;
            let source = Source::Kinesis(kinesis(given, home, now_ms)?);
            Ok(NewSource { source, throughput_hint_mbs: None })
        }
        other => Err(unsupported(&format!("DeliveryStreamType {other}"), way_out)),
    }
}

fn direct_put(input: &CreateInput) -> Result<NewSource, Problem> {
    if input.kinesis_stream_source_configuration.is_some() {
        return Err(invalid(
            "KinesisStreamSourceConfiguration is only applicable for KinesisStreamAsSource stream \
             type: give DeliveryStreamType KinesisStreamAsSource",
        ));
    }
    let member = "directPutSourceConfiguration.throughputHintInMBs";
    let hint = match &input.direct_put_source_configuration {
        Some(given) => {
            Some(constraint::range(required(given.throughput_hint_mbs, member)?, member, (1, 100))?)
        }
        None => None,
    };
    Ok(NewSource { source: Source::DirectPut, throughput_hint_mbs: hint })
}

fn kinesis(
    given: &KinesisSource,
    home: Home<'_>,
    started_ms: i64,
) -> Result<StoredKinesis, Problem> {
    const PATTERN: &str = r"arn:.*:kinesis:[a-zA-Z0-9\-]+:\d{12}:stream/[a-zA-Z0-9_.-]+";
    let at = |name: &str| format!("kinesisStreamSourceConfiguration.{name}");
    let (arn_at, role_at) = (at("kinesisStreamARN"), at("roleARN"));
    let text = required(given.kinesis_stream_arn.clone(), &arn_at)?;
    let role_arn = required(given.role_arn.clone(), &role_at)?;
    constraint::role_arn(&role_arn, &role_at)?;
    constraint::length(&text, text.chars().count(), &arn_at, (1, 512))?;
    let arn: Option<Arn> = text.parse().ok();
    let arn = arn.filter(|arn| {
        let name = arn.resource.strip_prefix("stream/").unwrap_or_default();
        arn.service == "kinesis"
            && !name.is_empty()
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
    });
    constraint::matches(&text, &arn_at, PATTERN, arn.is_some())?;
    let here = arn.is_some_and(|arn| {
        arn.region == home.region.as_str() && arn.account == home.account.as_str()
    });
    if !here {
        return Err(invalid(format!(
            "the Kinesis stream '{text}' is not in the delivery stream's region {} and account {}",
            home.region, home.account
        )));
    }
    Ok(StoredKinesis { stream_arn: text, role_arn, started_ms, start: None })
}

/// Where a Kinesis stream is read from: its newest records. One that is not there is refused.
pub(super) fn begin(source: &mut Source, data_streams: &DataStreams) -> Result<(), Problem> {
    let Source::Kinesis(stored) = source else { return Ok(()) };
    let found = stored.stream_arn.parse().ok().map(|arn: Arn| data_streams.find_arn(&arn));
    match found {
        Some(Ok(found)) => {
            stored.start = Some(latest(data_streams, &found));
            Ok(())
        }
        Some(Err(error)) if error.kind() != ErrorKind::NotFound => {
            Err(unavailable(error.to_string()))
        }
        Some(Err(_)) | None => Err(invalid(format!(
            "the Kinesis stream '{}' does not exist: create it first",
            stored.stream_arn
        ))),
    }
}

/// `SourceDescription`; none where there is nothing to say.
pub(super) fn describe(stream: &StreamDocument) -> Option<SourceDescription> {
    match &stream.source {
        Source::DirectPut => stream.throughput_hint_mbs.map(|hint| {
            let throughput_hint_mbs = Some(i64::from(hint));
            SourceDescription::DirectPutSourceDescription(DirectPutSource { throughput_hint_mbs })
        }),
        Source::Kinesis(stored) => {
            Some(SourceDescription::KinesisStreamSourceDescription(KinesisSourceDescription {
                source: KinesisSource {
                    kinesis_stream_arn: Some(stored.stream_arn.clone()),
                    role_arn: Some(stored.role_arn.clone()),
                },
                delivery_start_timestamp: EpochSeconds(stored.started_ms),
            }))
        }
    }
}
