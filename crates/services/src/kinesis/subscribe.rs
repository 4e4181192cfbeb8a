//! `SubscribeToShard`: a shard's events as they come, until five minutes have passed, the shard is
//! read to its end, a later subscription takes over, the client hangs up, or the server ends.
//!
//! The events wait in the engine, not here: one is taken when the client has read the one before.

use super::answer::{self, Page};
use super::error::of_stream;
use super::figures::Counters;
use super::model::SubscribeInput;
use super::records::position;
use super::{KinesisService, constraint, parse, refuse_stream_id};
use alluvium_streams::subscription::{Events, ShardEvent};
use alluvium_wire::constraint::required;
use alluvium_wire::event_stream::{self, HungUp, Sender};
use alluvium_wire::json_protocol::Encoding;
use alluvium_wire::{Call, Problem, Reply};
use futures::StreamExt;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

impl KinesisService {
    pub(super) async fn subscribe_to_shard(&self, call: &Call) -> Result<Reply, Problem> {
        let input: SubscribeInput = parse(call)?;
        refuse_stream_id(input.stream_id.as_deref())?;
        let shard = required(input.shard_id.as_deref(), "shardId")?;
        constraint::shard_id(shard, "shardId")?;
        let start = required(input.starting_position, "startingPosition")?;
        let sequence = start.sequence_number.as_deref();
        let position = position(
            start.kind.as_deref(),
            "startingPosition.type",
            sequence.map(|sequence| ("startingPosition.sequenceNumber", sequence)),
            start.timestamp,
        )?;
        let arn = required(input.consumer_arn.as_deref(), "consumerARN")?;
        let (stream, consumer) = self.consumer_of(call, arn, "consumerARN")?;
        let events =
            self.streams.subscribe(&stream, &consumer, shard, &position).map_err(of_stream)?;
        let encoding = Encoding::of(&call.head.headers);
        let (sender, reply) = event_stream::channel(encoding, call.request_id);
        let counters = self.figures.of(&stream);
        tokio::spawn(feed(events, sender, counters, self.closing.clone()));
        Ok(reply)
    }
}

/// Sends events until there are no more, or nobody to send them to.
async fn feed(
    mut events: Events,
    sender: Sender,
    counters: Arc<Counters>,
    closing: CancellationToken,
) {
    let _subscribed = counters.subscribed();
    let feeding = async {
        sender.initial_response(&serde_json::json!({})).await?;
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    counters.read(&event.records, event.millis_behind_latest);
                    send(&sender, &event).await?;
                }
                Err(error) => return sender.exception(&of_stream(error)).await,
            }
        }
        Ok::<(), HungUp>(())
    };
    tokio::select! {
        // Whoever hung up, there is nobody to tell.
        _ = feeding => {}
        () = sender.closed() => {}
        () = closing.cancelled() => {}
    }
}

async fn send(sender: &Sender, event: &ShardEvent) -> Result<(), HungUp> {
    let page = Page {
        records: &event.records,
        text: Some(("ContinuationSequenceNumber", event.continuation.as_str())),
        millis_behind_latest: event.millis_behind_latest,
        children: &event.child_shards,
    };
    sender.event("SubscribeToShardEvent", &answer::page(&page, sender.encoding())).await
}
