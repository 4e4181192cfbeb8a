//! Amazon Data Firehose: delivery streams into Iceberg tables and S3 buckets.
//!
//! Parts: [`model`] and [`shapes`] AWS's shapes; [`constraint`] the limits of those shapes;
//! [`destination`], with [`iceberg`] and [`s3_destination`], destinations to and from the engine's;
//! [`source`] where records come from; [`control`] the control plane; [`scan`] and [`put`] the data
//! plane, the hot path; [`error`] the map to Firehose's codes.
//! Everything that AWS accepts here and this release does not do is refused by its member's name
//! (I7). Delivery itself is `alluvium_delivery`'s.

mod constraint;
mod control;
mod destination;
mod error;
mod iceberg;
mod model;
mod put;
mod s3_destination;
pub mod scan;
mod shapes;
mod source;

use alluvium_base::AccountId;
use alluvium_delivery::intake::Intake;
use alluvium_delivery::streams::Streams;
use alluvium_lake::Lake;
use alluvium_streams::DataStreams;
use alluvium_wire::{Call, Reply, Service, json_protocol};
use async_trait::async_trait;
use std::sync::Arc;

/// The prefix of `X-Amz-Target`.
const TARGET: &str = "Firehose_20150804";

/// The service.
#[derive(Debug)]
pub struct FirehoseService {
    streams: Arc<Streams>,
    intake: Arc<Intake>,
    data_streams: DataStreams,
    lake: Lake,
    account: AccountId,
}

/// What the service stands on.
#[derive(Debug)]
pub struct FirehoseParts {
    /// The delivery streams.
    pub streams: Arc<Streams>,
    /// Takes the records; a stream that is deleted is handed to the engine through it.
    pub intake: Arc<Intake>,
    /// The Kinesis streams, which may be sources.
    pub data_streams: DataStreams,
    /// The tables, which may have to be there.
    pub lake: Lake,
    /// Whose streams they are.
    pub account: AccountId,
}

impl FirehoseService {
    /// A service over these.
    pub fn new(parts: FirehoseParts) -> Self {
        let FirehoseParts { streams, intake, data_streams, lake, account } = parts;
        Self { streams, intake, data_streams, lake, account }
    }
}

#[async_trait]
impl Service for FirehoseService {
    async fn call(&self, call: Call) -> Reply {
        let operation = match json_protocol::operation(&call, TARGET) {
            Ok(operation) => operation,
            Err(problem) => return json_protocol::refuse(&call, &problem),
        };
        let answer = match operation {
            "PutRecordBatch" => self.put_record_batch(&call).await,
            "PutRecord" => self.put_record(&call).await,
            "CreateDeliveryStream" => self.create(&call).await,
            "DescribeDeliveryStream" => self.describe(&call),
            "ListDeliveryStreams" => self.list(&call),
            "UpdateDestination" => self.update_destination(&call).await,
            "DeleteDeliveryStream" => self.delete(&call).await,
            "TagDeliveryStream" => self.tag(&call).await,
            "UntagDeliveryStream" => self.untag(&call).await,
            "ListTagsForDeliveryStream" => self.list_tags(&call),
            "StartDeliveryStreamEncryption" => self.start_encryption(&call),
            "StopDeliveryStreamEncryption" => self.stop_encryption(&call),
            other => Err(json_protocol::unknown_operation(other)),
        };
        answer.unwrap_or_else(|problem| json_protocol::refuse(&call, &problem))
    }
}
