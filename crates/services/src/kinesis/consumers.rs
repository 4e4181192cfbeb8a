//! Consumers with enhanced fan-out: registered, described, listed, deregistered.

use super::constraint;
use super::error::{invalid, not_found, of_stream};
use super::model::{
    self, ConsumerInput, DescribeConsumerOutput, ListConsumersInput, ListConsumersOutput,
    RegisterInput, RegisterOutput,
};
use super::shards::{TOKEN_LENGTH_MAX, check_creation};
use super::{KinesisService, parse, refuse_stream_id};
use alluvium_streams::{Consumer, Stream, StreamDocument};
use alluvium_wire::constraint::{length, matches, range, required};
use alluvium_wire::json_protocol;
use alluvium_wire::member::Timestamp;
use alluvium_wire::{Call, Problem, Reply};
use std::sync::Arc;

/// A page of `ListStreamConsumers`, whatever more is asked for.
const PAGE_MAX: usize = 100;
/// Consumers are made at once.
const ACTIVE: &str = "ACTIVE";

fn shown(document: &StreamDocument, consumer: &Consumer) -> model::Consumer {
    model::Consumer {
        consumer_name: consumer.name.clone(),
        consumer_arn: document.consumer_arn(consumer).to_string(),
        consumer_status: ACTIVE,
        consumer_creation_timestamp: Timestamp(consumer.created_ms),
        stream_arn: None,
    }
}

impl KinesisService {
    /// A consumer by its ARN.
    pub(super) fn consumer_of(
        &self,
        call: &Call,
        text: &str,
        member: &str,
    ) -> Result<(Arc<Stream>, Consumer), Problem> {
        let arn = self.arn(call, text, member)?;
        let form = || {
            let (stream, consumer) = arn.resource.strip_prefix("stream/")?.split_once('/')?;
            let (name, second) = consumer.strip_prefix("consumer/")?.rsplit_once(':')?;
            let digits = !second.is_empty() && second.bytes().all(|b| b.is_ascii_digit());
            (digits && !stream.is_empty() && !name.is_empty()).then_some(())
        };
        const PATTERN: &str = "^(arn):aws.*:kinesis:.*:\\d{12}:.*stream\\/[a-zA-Z0-9_.-]+\\/\
                               consumer\\/[a-zA-Z0-9_.-]+:[0-9]+";
        matches(text, member, PATTERN, form().is_some())?;
        self.streams.find_consumer(&arn).map_err(of_stream)
    }

    /// The consumer that an input means: by its ARN, or by its stream's ARN and its name, or by all
    /// three.
    fn chosen(
        &self,
        call: &Call,
        input: &ConsumerInput,
    ) -> Result<(Arc<Stream>, Consumer), Problem> {
        refuse_stream_id(input.stream_id.as_deref())?;
        if let Some(name) = &input.consumer_name {
            constraint::name(name, "consumerName")?;
        }
        if let Some(arn) = &input.consumer_arn {
            let (stream, consumer) = self.consumer_of(call, arn, "consumerARN")?;
            let other_name =
                input.consumer_name.as_ref().is_some_and(|name| *name != consumer.name);
            let other_stream = match &input.stream_arn {
                Some(arn) => !Arc::ptr_eq(&self.found_arn(call, arn)?, &stream),
                None => false,
            };
            if other_name || other_stream {
                return Err(invalid(format!(
                    "ConsumerARN {arn} is not the consumer of StreamARN and ConsumerName: give one \
                     of them, or all of the same consumer"
                )));
            }
            return Ok((stream, consumer));
        }
        match (&input.stream_arn, &input.consumer_name) {
            (Some(arn), Some(name)) => {
                let stream = self.found_arn(call, arn)?;
                let consumer = self.streams.consumer(&stream, name).map_err(of_stream)?;
                Ok((stream, consumer))
            }
            _ => Err(invalid(
                "Must provide either a ConsumerARN, or a StreamARN and a ConsumerName.",
            )),
        }
    }

    pub(super) async fn register_consumer(&self, call: &Call) -> Result<Reply, Problem> {
        let input: RegisterInput = parse(call)?;
        refuse_stream_id(input.stream_id.as_deref())?;
        let name = required(input.consumer_name, "consumerName")?;
        constraint::name(&name, "consumerName")?;
        let tags = input.tags.unwrap_or_default();
        if !tags.is_empty() {
            constraint::tags(tags.iter())?;
        }
        let stream = self.found_arn(call, &required(input.stream_arn, "streamARN")?)?;
        let consumer =
            self.streams.register_consumer(&stream, &name, tags).await.map_err(of_stream)?;
        let output = RegisterOutput { consumer: shown(&stream.document(), &consumer) };
        Ok(json_protocol::reply(call, &output))
    }

    pub(super) async fn deregister_consumer(&self, call: &Call) -> Result<Reply, Problem> {
        let input: ConsumerInput = parse(call)?;
        let (stream, consumer) = self.chosen(call, &input)?;
        self.streams.deregister_consumer(&stream, &consumer.name).await.map_err(of_stream)?;
        Ok(json_protocol::reply_nothing(call))
    }

    pub(super) fn describe_consumer(&self, call: &Call) -> Result<Reply, Problem> {
        let input: ConsumerInput = parse(call)?;
        let (stream, consumer) = self.chosen(call, &input)?;
        let document = stream.document();
        let consumer_description = model::Consumer {
            stream_arn: Some(document.arn().to_string()),
            ..shown(&document, &consumer)
        };
        Ok(json_protocol::reply(call, &DescribeConsumerOutput { consumer_description }))
    }

    pub(super) fn list_consumers(&self, call: &Call) -> Result<Reply, Problem> {
        let input: ListConsumersInput = parse(call)?;
        refuse_stream_id(input.stream_id.as_deref())?;
        let limit = input.max_results.map(|most| range(most, "maxResults", (1, 10_000)));
        let limit = limit.transpose()?.map_or(PAGE_MAX, |most| (most as usize).min(PAGE_MAX));
        let stream = self.found_arn(call, &required(input.stream_arn, "streamARN")?)?;
        if stream.is_gone() {
            return Err(not_found("The stream is deleted.".into()));
        }
        if let Some(token) = &input.next_token {
            length("…", token.len(), "nextToken", (1, TOKEN_LENGTH_MAX))?;
            if input.stream_creation_timestamp.is_some() {
                return Err(invalid(
                    "NextToken and StreamCreationTimestamp cannot be provided together.",
                ));
            }
        }
        check_creation(&stream, input.stream_creation_timestamp)?;
        let (consumers, next_token) = self
            .streams
            .list_consumers(&stream, input.next_token.as_deref(), Some(limit))
            .map_err(of_stream)?;
        let document = stream.document();
        let output = ListConsumersOutput {
            consumers: consumers.iter().map(|consumer| shown(&document, consumer)).collect(),
            next_token,
        };
        Ok(json_protocol::reply(call, &output))
    }
}
