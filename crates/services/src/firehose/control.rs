//! The control plane: one function an operation.

use super::FirehoseService;
use super::constraint::{self, required};
use super::destination::{self, Home};
use super::error::{bad_input, invalid, no_stream, of_streams, unsupported};
use super::model::{
    CreateInput, CreateOutput, DeleteInput, DescribeInput, DescribeOutput, Description,
    DestinationDescription, DirectPutSource, EncryptionInput, EncryptionStatus, ListInput,
    ListOutput, ListTagsInput, ListTagsOutput, NameInput, SourceDescription, Tag, TagInput,
    UntagInput, UpdateInput,
};
use alluvium_delivery::stream::{Destination, Source, StreamDocument, StreamStatus};
use alluvium_delivery::streams::{NewStream, Stream, StreamsError};
use alluvium_wire::json_protocol::{self, EpochSeconds};
use alluvium_wire::{Call, Problem, Reply};
use http::StatusCode;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A stream has one destination, and AWS names it so.
const DESTINATION_ID: &str = "destinationId-000000000001";
/// Tags of a stream (Firehose API reference).
const TAGS_MAX: usize = 50;
const TYPES: [&str; 4] = ["DirectPut", "KinesisStreamAsSource", "MSKAsSource", "DatabaseAsSource"];

fn parse<T: DeserializeOwned>(call: &Call) -> Result<T, Problem> {
    alluvium_wire::input::parse(&call.body).map_err(|error| bad_input(&error))
}

/// Refuses the first of these members that is there (I7).
fn refuse_members<T>(members: &[(&str, &Option<T>)], way_out: &str) -> Result<(), Problem> {
    match members.iter().find(|(_, value)| value.is_some()) {
        Some((name, _)) => Err(unsupported(name, way_out)),
        None => Ok(()),
    }
}

fn tags_of(tags: Option<Vec<Tag>>) -> Result<BTreeMap<String, String>, Problem> {
    let mut map = BTreeMap::new();
    for tag in tags.unwrap_or_default() {
        let key = required(tag.key, "tags.member.key")?;
        let value = tag.value.unwrap_or_default();
        constraint::tag(&key, &value)?;
        if map.insert(key.clone(), value).is_some() {
            return Err(invalid(format!("the tag key '{key}' is given twice")));
        }
    }
    Ok(map)
}

fn check_source(input: &CreateInput) -> Result<Option<u32>, Problem> {
    if let Some(kind) = &input.delivery_stream_type {
        constraint::one_of(kind, "deliveryStreamType", &TYPES)?;
        if kind != "DirectPut" {
            return Err(unsupported(&format!("DeliveryStreamType {kind}"), "use DirectPut"));
        }
    }
    refuse_members(
        &[
            ("KinesisStreamSourceConfiguration", &input.kinesis_stream_source_configuration),
            ("MSKSourceConfiguration", &input.msk_source_configuration),
            ("DatabaseSourceConfiguration", &input.database_source_configuration),
        ],
        "use DeliveryStreamType DirectPut",
    )?;
    let Some(source) = &input.direct_put_source_configuration else { return Ok(None) };
    let member = "directPutSourceConfiguration.throughputHintInMBs";
    let hint = required(source.throughput_hint_mbs, member)?;
    constraint::range(hint, member, 1, 100).map(Some)
}

fn check_destinations(input: &CreateInput) -> Result<(), Problem> {
    let others = [
        ("S3DestinationConfiguration", &input.s3_destination_configuration),
        ("ExtendedS3DestinationConfiguration", &input.extended_s3_destination_configuration),
        ("RedshiftDestinationConfiguration", &input.redshift_destination_configuration),
        ("ElasticsearchDestinationConfiguration", &input.elasticsearch_destination_configuration),
        (
            "AmazonopensearchserviceDestinationConfiguration",
            &input.amazonopensearchservice_destination_configuration,
        ),
        ("SplunkDestinationConfiguration", &input.splunk_destination_configuration),
        ("HttpEndpointDestinationConfiguration", &input.http_endpoint_destination_configuration),
        (
            "AmazonOpenSearchServerlessDestinationConfiguration",
            &input.amazon_open_search_serverless_destination_configuration,
        ),
        ("SnowflakeDestinationConfiguration", &input.snowflake_destination_configuration),
    ];
    refuse_members(&others, "use IcebergDestinationConfiguration")
}

fn refuse_encryption(what: &str) -> Problem {
    unsupported(what, "this release does not encrypt at rest, and says so rather than pretend")
}

fn describe_stream(stream: &StreamDocument) -> Description {
    let hint = stream.throughput_hint_mbs.map(i64::from);
    Description {
        delivery_stream_name: stream.name.clone(),
        delivery_stream_arn: stream.arn().to_string(),
        delivery_stream_status: match stream.status {
            StreamStatus::Active => "ACTIVE",
            StreamStatus::Deleting => "DELETING",
        },
        delivery_stream_encryption_configuration: EncryptionStatus { status: "DISABLED" },
        delivery_stream_type: "DirectPut",
        version_id: stream.version.to_string(),
        create_timestamp: EpochSeconds(stream.created_ms),
        last_update_timestamp: stream.updated_ms.map(EpochSeconds),
        source: hint.map(|hint| SourceDescription {
            direct_put_source_description: DirectPutSource { throughput_hint_mbs: Some(hint) },
        }),
        destinations: vec![DestinationDescription {
            destination_id: DESTINATION_ID,
            iceberg_destination_description: stream
                .destination
                .iceberg()
                .map(destination::describe),
        }],
        has_more_destinations: false,
    }
}

impl FirehoseService {
    fn found(&self, call: &Call, name: &str) -> Result<Arc<Stream>, Problem> {
        self.streams.get(&call.region, name).ok_or_else(|| no_stream(name, self.account.as_str()))
    }

    fn refused(&self, error: StreamsError) -> Problem {
        of_streams(error, self.account.as_str())
    }

    pub(super) async fn create(&self, call: &Call) -> Result<Reply, Problem> {
        let input: CreateInput = parse(call)?;
        let name = constraint::stream_name(input.delivery_stream_name.clone())?;
        let throughput_hint_mbs = check_source(&input)?;
        check_destinations(&input)?;
        if input.delivery_stream_encryption_configuration_input.is_some() {
            return Err(refuse_encryption("DeliveryStreamEncryptionConfigurationInput"));
        }
        let given = input.iceberg_destination_configuration.as_ref().ok_or_else(|| {
            invalid(
                "Exactly one destination configuration is supported for a Firehose: give \
                     IcebergDestinationConfiguration",
            )
        })?;
        let home = Home { region: &call.region, account: &self.account };
        let destination = Destination::Iceberg(destination::create(given, home)?);
        if let Some(tags) = &input.tags {
            constraint::length("[…]", tags.len(), "tags", 1, TAGS_MAX)?;
        }
        let tags = tags_of(input.tags)?;
        let region = call.region.clone();
        let source = Source::DirectPut;
        let new = NewStream { region, name, throughput_hint_mbs, tags, source, destination };
        let stream = self.streams.create(new).await.map_err(|e| self.refused(e))?;
        self.intake.stream_changed(&stream);
        let delivery_stream_arn = stream.document().arn().to_string();
        Ok(json_protocol::reply(call, &CreateOutput { delivery_stream_arn }))
    }

    pub(super) fn describe(&self, call: &Call) -> Result<Reply, Problem> {
        let input: DescribeInput = parse(call)?;
        let name = constraint::stream_name(input.delivery_stream_name)?;
        if let Some(limit) = input.limit {
            constraint::range(limit, "limit", 1, 10_000)?;
        }
        let stream = self.found(call, &name)?;
        let mut description = describe_stream(&stream.document());
        let after = input.exclusive_start_destination_id;
        after.as_deref().map_or(Ok(()), constraint::destination_id)?;
        if after.is_some_and(|id| id.as_str() >= DESTINATION_ID) {
            description.destinations.clear();
        }
        let output = DescribeOutput { delivery_stream_description: description };
        Ok(json_protocol::reply(call, &output))
    }

    pub(super) fn list(&self, call: &Call) -> Result<Reply, Problem> {
        let input: ListInput = parse(call)?;
        let limit = constraint::range(input.limit.unwrap_or(10), "limit", 1, 10_000)?;
        if let Some(kind) = &input.delivery_stream_type {
            constraint::one_of(kind, "deliveryStreamType", &TYPES)?;
        }
        if let Some(after) = &input.exclusive_start_delivery_stream_name {
            constraint::stream_name(Some(after.clone()))?;
        }
        let after = input.exclusive_start_delivery_stream_name.as_deref();
        let (delivery_stream_names, has_more_delivery_streams) =
            match input.delivery_stream_type.as_deref() {
                None | Some("DirectPut") => self.streams.names(&call.region, after, limit as usize),
                Some(_) => (Vec::new(), false),
            };
        let output = ListOutput { delivery_stream_names, has_more_delivery_streams };
        Ok(json_protocol::reply(call, &output))
    }

    pub(super) async fn update_destination(&self, call: &Call) -> Result<Reply, Problem> {
        let input: UpdateInput = parse(call)?;
        let name = constraint::stream_name(input.delivery_stream_name.clone())?;
        let version = required(
            input.current_delivery_stream_version_id.clone(),
            "currentDeliveryStreamVersionId",
        )?;
        let expected = constraint::version_id(&version)?;
        let id = required(input.destination_id.clone(), "destinationId")?;
        constraint::destination_id(&id)?;
        refuse_other_updates(&input)?;
        let given = input.iceberg_destination_update.ok_or_else(|| {
            invalid("UpdateDestination needs one destination update: give IcebergDestinationUpdate")
        })?;
        self.found(call, &name)?;
        if id != DESTINATION_ID {
            return Err(invalid(format!(
                "destination '{id}' does not exist in delivery stream '{name}': it is \
                 {DESTINATION_ID}"
            )));
        }
        let home = Home { region: &call.region, account: &self.account };
        // The merge's own refusal, which the engine's error cannot carry whole.
        let refusal = parking_lot::Mutex::new(None);
        let merged = self
            .streams
            .update_destination(&call.region, &name, expected, |before| {
                let merged = before
                    .iceberg()
                    .ok_or_else(|| {
                        unsupported("a change of the destination's type", "create another stream")
                    })
                    .and_then(|before| destination::merge(before, &given, home));
                merged.map(Destination::Iceberg).map_err(|problem| {
                    let message = problem.message.clone();
                    *refusal.lock() = Some(problem);
                    StreamsError::Refused(message)
                })
            })
            .await;
        match merged {
            Ok(stream) => {
                self.intake.stream_changed(&stream);
                Ok(json_protocol::reply_nothing(call))
            }
            Err(error) => Err(refusal.into_inner().unwrap_or_else(|| self.refused(error))),
        }
    }

    pub(super) async fn delete(&self, call: &Call) -> Result<Reply, Problem> {
        let input: DeleteInput = parse(call)?;
        let name = constraint::stream_name(input.delivery_stream_name)?;
        let stream = self
            .streams
            .begin_delete(&call.region, &name)
            .await
            .map_err(|error| self.refused(error))?;
        self.intake.stream_changed(&stream);
        Ok(json_protocol::reply_nothing(call))
    }

    pub(super) async fn tag(&self, call: &Call) -> Result<Reply, Problem> {
        let input: TagInput = parse(call)?;
        let name = constraint::stream_name(input.delivery_stream_name)?;
        let given = required(input.tags, "tags")?;
        constraint::length("[…]", given.len(), "tags", 1, TAGS_MAX)?;
        let tags = tags_of(Some(given))?;
        self.found(call, &name)?;
        let changed = self
            .streams
            .change(&call.region, &name, |document| {
                document.tags.extend(tags.clone());
                if document.tags.len() > TAGS_MAX {
                    return Err(StreamsError::TooMany);
                }
                Ok(())
            })
            .await;
        match changed {
            Ok(_) => Ok(json_protocol::reply_nothing(call)),
            Err(StreamsError::TooMany) => Err(Problem::new(
                "LimitExceededException",
                StatusCode::BAD_REQUEST,
                format!("a delivery stream can have {TAGS_MAX} tags; remove some first"),
            )),
            Err(error) => Err(self.refused(error)),
        }
    }

    pub(super) async fn untag(&self, call: &Call) -> Result<Reply, Problem> {
        let input: UntagInput = parse(call)?;
        let name = constraint::stream_name(input.delivery_stream_name)?;
        let keys = required(input.tag_keys, "tagKeys")?;
        constraint::length("[…]", keys.len(), "tagKeys", 1, TAGS_MAX)?;
        for key in &keys {
            constraint::tag(key, "")?;
        }
        self.found(call, &name)?;
        self.streams
            .change(&call.region, &name, |document| {
                document.tags.retain(|key, _| !keys.contains(key));
                Ok(())
            })
            .await
            .map_err(|error| self.refused(error))?;
        Ok(json_protocol::reply_nothing(call))
    }

    pub(super) fn list_tags(&self, call: &Call) -> Result<Reply, Problem> {
        let input: ListTagsInput = parse(call)?;
        let name = constraint::stream_name(input.delivery_stream_name)?;
        let limit = constraint::range(input.limit.unwrap_or(50), "limit", 1, 50)?;
        if let Some(after) = &input.exclusive_start_tag_key {
            constraint::tag(after, "")?;
        }
        let stream = self.found(call, &name)?.document();
        let after = input.exclusive_start_tag_key.as_deref();
        let mut left = stream
            .tags
            .iter()
            .filter(|(key, _)| after.is_none_or(|after| key.as_str() > after))
            .map(|(key, value)| Tag { key: Some(key.clone()), value: Some(value.clone()) });
        let tags: Vec<Tag> = left.by_ref().take(limit as usize).collect();
        let output = ListTagsOutput { tags, has_more_tags: left.next().is_some() };
        Ok(json_protocol::reply(call, &output))
    }

    pub(super) fn start_encryption(&self, call: &Call) -> Result<Reply, Problem> {
        let input: EncryptionInput = parse(call)?;
        let name = constraint::stream_name(input.delivery_stream_name)?;
        self.found(call, &name)?;
        Err(refuse_encryption("StartDeliveryStreamEncryption"))
    }

    pub(super) fn stop_encryption(&self, call: &Call) -> Result<Reply, Problem> {
        let input: NameInput = parse(call)?;
        let name = constraint::stream_name(input.delivery_stream_name)?;
        self.found(call, &name)?;
        Err(refuse_encryption("StopDeliveryStreamEncryption"))
    }
}

fn refuse_other_updates(input: &UpdateInput) -> Result<(), Problem> {
    let others = [
        ("S3DestinationUpdate", &input.s3_destination_update),
        ("ExtendedS3DestinationUpdate", &input.extended_s3_destination_update),
        ("RedshiftDestinationUpdate", &input.redshift_destination_update),
        ("ElasticsearchDestinationUpdate", &input.elasticsearch_destination_update),
        (
            "AmazonopensearchserviceDestinationUpdate",
            &input.amazonopensearchservice_destination_update,
        ),
        ("SplunkDestinationUpdate", &input.splunk_destination_update),
        ("HttpEndpointDestinationUpdate", &input.http_endpoint_destination_update),
        (
            "AmazonOpenSearchServerlessDestinationUpdate",
            &input.amazon_open_search_serverless_destination_update,
        ),
        ("SnowflakeDestinationUpdate", &input.snowflake_destination_update),
    ];
    refuse_members(&others, "use IcebergDestinationUpdate")
}
