//! Consumers with enhanced fan-out: registered, described, deregistered. They are active at once.

use crate::data_streams::DataStreams;
use crate::error::StreamError;
use crate::settings::{check_tags, is_name};
use crate::stream::{Consumer, Stream, StreamDocument};
use alluvium_base::Arn;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The most consumers of a stream (Kinesis developer guide, Quotas and limits).
pub const CONSUMERS_MAX: usize = 20;

fn missing(document: &StreamDocument, name: &str) -> StreamError {
    StreamError::ResourceNotFound(format!(
        "Consumer {name} of stream {} under account {} not found.",
        document.name, document.account
    ))
}

impl DataStreams {
    /// Registers a consumer.
    pub async fn register_consumer(
        &self,
        stream: &Arc<Stream>,
        name: &str,
        tags: BTreeMap<String, String>,
    ) -> Result<Consumer, StreamError> {
        if !is_name(name) {
            return Err(StreamError::InvalidArgument(format!(
                "ConsumerName '{name}' is not 1 to 128 of a-z, A-Z, 0-9, '_', '.' and '-'."
            )));
        }
        check_tags(&tags)?;
        let (name, created_ms) = (name.to_string(), self.0.clock.now_ms());
        self.change(stream, move |document| {
            if document.consumers.contains_key(&name) {
                return Err(StreamError::ResourceInUse(format!(
                    "Consumer {name} of stream {} under account {} already exists.",
                    document.name, document.account
                )));
            }
            if document.consumers.len() >= CONSUMERS_MAX {
                return Err(StreamError::LimitExceeded(format!(
                    "Stream {} has {CONSUMERS_MAX} consumers, the most there may be; deregister \
                     one.",
                    document.name
                )));
            }
            let consumer = Consumer { name: name.clone(), created_ms, tags, policy: None };
            document.consumers.insert(name, consumer.clone());
            Ok(consumer)
        })
        .await
    }

    /// A consumer by its name.
    pub fn consumer(&self, stream: &Arc<Stream>, name: &str) -> Result<Consumer, StreamError> {
        let document = stream.document();
        document.consumers.get(name).cloned().ok_or_else(|| missing(&document, name))
    }

    /// A consumer by its ARN, which names this registration of it and no other.
    pub fn find_consumer(&self, arn: &Arn) -> Result<(Arc<Stream>, Consumer), StreamError> {
        let not_found = || StreamError::ResourceNotFound(format!("Consumer {arn} not found."));
        let resource = arn.resource.strip_prefix("stream/").ok_or_else(not_found)?;
        let (name, consumer) = resource.split_once("/consumer/").ok_or_else(not_found)?;
        let of_stream = Arn { resource: format!("stream/{name}"), ..arn.clone() };
        let stream = self.find_arn(&of_stream)?;
        let (consumer, _) = consumer.rsplit_once(':').ok_or_else(not_found)?;
        let document = stream.document();
        let found = document.consumers.get(consumer).cloned().ok_or_else(not_found)?;
        if document.consumer_arn(&found) != *arn {
            return Err(not_found());
        }
        Ok((stream, found))
    }

    /// Deregisters a consumer and ends its subscriptions.
    pub async fn deregister_consumer(
        &self,
        stream: &Arc<Stream>,
        name: &str,
    ) -> Result<(), StreamError> {
        let consumer = name.to_string();
        self.change(stream, move |document| {
            let removed = document.consumers.remove(&consumer);
            removed.map(|_| ()).ok_or_else(|| missing(document, &consumer))
        })
        .await?;
        self.0.subscriptions.end_consumer(stream.incarnation, name);
        Ok(())
    }
}
