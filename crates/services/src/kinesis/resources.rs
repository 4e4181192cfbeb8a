//! Tags and resource policies, of streams and of consumers.

use super::constraint;
use super::error::{invalid, not_found, of_stream};
use super::model::{
    AddTagsInput, ListTagsInput, ListTagsOutput, PolicyOutput, PutPolicyInput, RemoveTagsInput,
    ResourceInput, ResourceTagsOutput, Tag, TagResourceInput, UntagResourceInput,
};
use super::{KinesisService, parse, refuse_stream_id};
use alluvium_access::policy::check_policy;
use alluvium_streams::{Resource, Stream};
use alluvium_wire::constraint::{range, required};
use alluvium_wire::json_protocol;
use alluvium_wire::{Call, Problem, Reply};
use std::sync::Arc;

impl KinesisService {
    /// What a `ResourceARN` names.
    fn resource(
        &self,
        call: &Call,
        arn: Option<&str>,
        stream_id: Option<&str>,
    ) -> Result<(Arc<Stream>, Resource), Problem> {
        refuse_stream_id(stream_id)?;
        let text = required(arn, "resourceARN")?;
        if text.contains("/consumer/") {
            let (stream, consumer) = self.consumer_of(call, text, "resourceARN")?;
            return Ok((stream, Resource::Consumer(consumer.name)));
        }
        Ok((self.found_arn(call, text)?, Resource::Stream))
    }

    fn tags(&self, stream: &Arc<Stream>, resource: &Resource) -> Result<Vec<Tag>, Problem> {
        let (tags, _) = self.streams.tags_and_policy(stream, resource).map_err(of_stream)?;
        Ok(tags.into_iter().map(|(key, value)| Tag { key, value }).collect())
    }

    pub(super) async fn add_tags_to_stream(&self, call: &Call) -> Result<Reply, Problem> {
        let mut input: AddTagsInput = parse(call)?;
        let tags = required(input.tags.take(), "tags")?;
        constraint::tags(tags.iter())?;
        let stream = self.found(call, input.stream())?;
        self.streams.add_tags(&stream, Resource::Stream, tags).await.map_err(of_stream)?;
        Ok(json_protocol::reply_nothing(call))
    }

    pub(super) async fn remove_tags_from_stream(&self, call: &Call) -> Result<Reply, Problem> {
        let mut input: RemoveTagsInput = parse(call)?;
        let keys = required(input.tag_keys.take(), "tagKeys")?;
        constraint::tag_keys(&keys)?;
        let stream = self.found(call, input.stream())?;
        let keys = keys.into_iter().collect();
        self.streams.remove_tags(&stream, Resource::Stream, keys).await.map_err(of_stream)?;
        Ok(json_protocol::reply_nothing(call))
    }

    pub(super) fn list_tags_for_stream(&self, call: &Call) -> Result<Reply, Problem> {
        let input: ListTagsInput = parse(call)?;
        let limit = range(input.limit.unwrap_or(50), "limit", (1, 50))? as usize;
        let after = input.exclusive_start_tag_key.as_deref();
        after.map_or(Ok(()), constraint::tag_key)?;
        let stream = self.found(call, input.stream())?;
        let all = self.tags(&stream, &Resource::Stream)?;
        let mut left =
            all.into_iter().filter(|tag| after.is_none_or(|after| tag.key.as_str() > after));
        let tags = left.by_ref().take(limit).collect();
        let output = ListTagsOutput { tags, has_more_tags: left.next().is_some() };
        Ok(json_protocol::reply(call, &output))
    }

    pub(super) async fn tag_resource(&self, call: &Call) -> Result<Reply, Problem> {
        let input: TagResourceInput = parse(call)?;
        let tags = required(input.tags, "tags")?;
        constraint::tags(tags.iter())?;
        let (stream, resource) =
            self.resource(call, input.resource_arn.as_deref(), input.stream_id.as_deref())?;
        self.streams.add_tags(&stream, resource, tags).await.map_err(of_stream)?;
        Ok(json_protocol::reply_nothing(call))
    }

    pub(super) async fn untag_resource(&self, call: &Call) -> Result<Reply, Problem> {
        let input: UntagResourceInput = parse(call)?;
        let keys = required(input.tag_keys, "tagKeys")?;
        constraint::tag_keys(&keys)?;
        let (stream, resource) =
            self.resource(call, input.resource_arn.as_deref(), input.stream_id.as_deref())?;
        let keys = keys.into_iter().collect();
        self.streams.remove_tags(&stream, resource, keys).await.map_err(of_stream)?;
        Ok(json_protocol::reply_nothing(call))
    }

    pub(super) fn list_tags_for_resource(&self, call: &Call) -> Result<Reply, Problem> {
        let input: ResourceInput = parse(call)?;
        let (stream, resource) =
            self.resource(call, input.resource_arn.as_deref(), input.stream_id.as_deref())?;
        let tags = self.tags(&stream, &resource)?;
        Ok(json_protocol::reply(call, &ResourceTagsOutput { tags }))
    }

    /// A policy is kept without effect, so one that denies would be a false promise (I7).
    pub(super) async fn put_policy(&self, call: &Call) -> Result<Reply, Problem> {
        let input: PutPolicyInput = parse(call)?;
        let policy = required(input.policy, "policy")?;
        check_policy(&policy).map_err(|problem| invalid(format!("Policy: {problem}")))?;
        let (stream, resource) =
            self.resource(call, input.resource_arn.as_deref(), input.stream_id.as_deref())?;
        self.streams.set_policy(&stream, resource, Some(policy)).await.map_err(of_stream)?;
        Ok(json_protocol::reply_nothing(call))
    }

    pub(super) fn get_policy(&self, call: &Call) -> Result<Reply, Problem> {
        let input: ResourceInput = parse(call)?;
        let (stream, resource) =
            self.resource(call, input.resource_arn.as_deref(), input.stream_id.as_deref())?;
        let (_, policy) = self.streams.tags_and_policy(&stream, &resource).map_err(of_stream)?;
        let policy = policy.ok_or_else(|| {
            let arn = input.resource_arn.unwrap_or_default();
            not_found(format!("There is no resource policy of {arn}."))
        })?;
        Ok(json_protocol::reply(call, &PolicyOutput { policy }))
    }

    pub(super) async fn delete_policy(&self, call: &Call) -> Result<Reply, Problem> {
        let input: ResourceInput = parse(call)?;
        let (stream, resource) =
            self.resource(call, input.resource_arn.as_deref(), input.stream_id.as_deref())?;
        self.streams.set_policy(&stream, resource, None).await.map_err(of_stream)?;
        Ok(json_protocol::reply_nothing(call))
    }
}
