//! The control plane: one function an operation.

use super::FirehoseService;
use super::constraint::{self, required};
use super::destination::{self, DESTINATION_ID, Home};
use super::error::{bad_input, invalid, no_stream, of_streams, unsupported};
use super::model::{
    CreateInput, CreateOutput, DeleteInput, DescribeInput, DescribeOutput, Description,
    EncryptionInput, EncryptionStatus, FailureDescription, ListInput, ListOutput, ListTagsInput,
    ListTagsOutput, NameInput, Tag, TagInput, UntagInput, UpdateInput,
};
use super::{iceberg, source};
use alluvium_delivery::stream::{Destination, StreamDocument, StreamStatus};
use alluvium_delivery::streams::{NewStream, Stream, StreamsError};
use alluvium_wire::json_protocol::{self, EpochSeconds};
use alluvium_wire::{Call, Problem, Reply};
use http::StatusCode;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Tags of a stream (Firehose API reference).
const TAGS_MAX: usize = 50;

fn parse<T: DeserializeOwned>(call: &Call) -> Result<T, Problem> {
    alluvium_wire::input::parse(&call.body).map_err(|error| bad_input(&error))
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

fn refuse_encryption(what: &str) -> Problem {
    unsupported(what, "this release does not encrypt at rest, and says so rather than pretend")
}

fn describe_stream(stream: &StreamDocument) -> Description {
    Description {
        delivery_stream_name: stream.name.clone(),
        delivery_stream_arn: stream.arn().to_string(),
        delivery_stream_status: match stream.status {
            StreamStatus::Active => "ACTIVE",
            StreamStatus::Deleting => "DELETING",
        },
        delivery_stream_encryption_configuration: EncryptionStatus { status: "DISABLED" },
        delivery_stream_type: source::kind(&stream.source),
        version_id: stream.version.to_string(),
        create_timestamp: EpochSeconds(stream.created_ms),
        last_update_timestamp: stream.updated_ms.map(EpochSeconds),
        source: source::describe(stream),
        destinations: vec![destination::describe(&stream.destination)],
        has_more_destinations: false,
        failure_description: None,
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
        let home = Home { region: &call.region, account: &self.account };
        if input.delivery_stream_encryption_configuration_input.is_some() {
            return Err(refuse_encryption("DeliveryStreamEncryptionConfigurationInput"));
        }
        let mut source = source::create(&input, home, call.arrival_ms)?;
        let given = destination::configuration(&input)?;
        source::begin(&mut source.source, &self.data_streams)?;
        let destination = destination::create(given, home)?;
        self.check_tables(&destination, home).await?;
        if let Some(tags) = &input.tags {
            constraint::length("[…]", tags.len(), "tags", (1, TAGS_MAX))?;
        }
        let tags = tags_of(input.tags)?;
        let region = call.region.clone();
        let source::NewSource { source, throughput_hint_mbs } = source;
        let new = NewStream { region, name, throughput_hint_mbs, tags, source, destination };
        let stream = self.streams.create(new).await.map_err(|e| self.refused(e))?;
        self.intake.stream_changed(&stream);
        let delivery_stream_arn = stream.document().arn().to_string();
        Ok(json_protocol::reply(call, &CreateOutput { delivery_stream_arn }))
    }

    /// Tables with unique keys must be there, and have them (Firehose guide, "Set up an Apache
    /// Iceberg destination").
    async fn check_tables(&self, made: &Destination, home: Home<'_>) -> Result<(), Problem> {
        match made.iceberg() {
            Some(made) => iceberg::check_unique_keys(made, &self.lake, home).await,
            None => Ok(()),
        }
    }

    pub(super) fn describe(&self, call: &Call) -> Result<Reply, Problem> {
        let input: DescribeInput = parse(call)?;
        let name = constraint::stream_name(input.delivery_stream_name)?;
        if let Some(limit) = input.limit {
            constraint::range(limit, "limit", (1, 10_000))?;
        }
        let stream = self.found(call, &name)?;
        let mut description = describe_stream(&stream.document());
        description.failure_description = self
            .intake
            .trouble(&stream)
            .map(|details| FailureDescription { r#type: "UNKNOWN_ERROR", details });
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
        let limit = constraint::range(input.limit.unwrap_or(10), "limit", (1, 10_000))?;
        if let Some(kind) = &input.delivery_stream_type {
            constraint::one_of(kind, "deliveryStreamType", &source::TYPES)?;
        }
        if let Some(after) = &input.exclusive_start_delivery_stream_name {
            constraint::stream_name(Some(after.clone()))?;
        }
        let after = input.exclusive_start_delivery_stream_name.as_deref();
        let kind = input.delivery_stream_type.as_deref();
        let listed =
            |stream: &StreamDocument| kind.is_none_or(|kind| source::kind(&stream.source) == kind);
        let (delivery_stream_names, has_more_delivery_streams) =
            self.streams.names(&call.region, after, limit as usize, listed);
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
        let given = destination::update(&input)?;
        let stream = self.found(call, &name)?;
        if id != DESTINATION_ID {
            return Err(invalid(format!(
                "destination '{id}' does not exist in delivery stream '{name}': it is \
                 {DESTINATION_ID}"
            )));
        }
        let home = Home { region: &call.region, account: &self.account };
        let before = stream.document();
        if before.version == expected {
            let merged = destination::merge(&before.destination, given, home)?;
            self.check_tables(&merged, home).await?;
        }
        // The merge's own refusal, which the engine's error cannot carry whole.
        let refusal = parking_lot::Mutex::new(None);
        let merged = self
            .streams
            .update_destination(&call.region, &name, expected, |before| {
                destination::merge(before, given, home).map_err(|problem| {
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
        constraint::length("[…]", given.len(), "tags", (1, TAGS_MAX))?;
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
        constraint::length("[…]", keys.len(), "tagKeys", (1, TAGS_MAX))?;
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
        let limit = constraint::range(input.limit.unwrap_or(50), "limit", (1, 50))?;
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
