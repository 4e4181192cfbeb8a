//! Event streams: answers that go on, as frames of `application/vnd.amazon.eventstream`.
//!
//! A frame is the length of all, the length of its headers and their CRC32 (the prelude), the
//! headers, the payload, and the CRC32 of everything before it; numbers are big-endian (Amazon
//! event stream encoding). Headers here are texts, which is all that AWS's services send.
//!
//! [`channel`] makes an answer and the [`Sender`] that feeds it. One frame waits at most, so a client
//! that does not read holds its sender up, and one that hung up ends it ([`Sender::closed`]).

use crate::json_protocol::Encoding;
use crate::{Problem, Reply, ReplyBody};
use alluvium_base::RequestId;
use bytes::Bytes;
use crc_fast::CrcAlgorithm;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use serde::Serialize;
use tokio::sync::mpsc;

/// The type of the answer.
pub const CONTENT_TYPE_STREAM: &str = "application/vnd.amazon.eventstream";
/// Two lengths and their checksum.
const PRELUDE_BYTES: usize = 12;
/// The checksum at the end.
const CRC_BYTES: usize = 4;
/// The type of a header whose value is a text.
const TEXT: u8 = 7;

fn crc32(bytes: &[u8]) -> [u8; 4] {
    let sum = crc_fast::checksum(CrcAlgorithm::Crc32IsoHdlc, bytes);
    u32::try_from(sum).expect("a CRC32 has 32 bits").to_be_bytes()
}

/// A frame. Names and values of headers are ours and short; a longer value is cut at 1,024 bytes.
pub fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Bytes {
    const VALUE_MAX: usize = 1024;
    let mut block = Vec::with_capacity(128);
    for (name, value) in headers {
        let value = &value.as_bytes()[..value.floor_char_boundary(VALUE_MAX)];
        let name_length = u8::try_from(name.len()).expect("a header's name is short");
        let value_length = u16::try_from(value.len()).expect("at most 1,024");
        block.push(name_length);
        block.extend_from_slice(name.as_bytes());
        block.push(TEXT);
        block.extend_from_slice(&value_length.to_be_bytes());
        block.extend_from_slice(value);
    }
    let total = PRELUDE_BYTES + block.len() + payload.len() + CRC_BYTES;
    let length = |bytes: usize| u32::try_from(bytes).expect("a frame is under 4 GiB").to_be_bytes();
    let mut out = Vec::with_capacity(total);
    out.extend_from_slice(&length(total));
    out.extend_from_slice(&length(block.len()));
    out.extend_from_slice(&crc32(&out));
    out.extend_from_slice(&block);
    out.extend_from_slice(payload);
    out.extend_from_slice(&crc32(&out));
    out.into()
}

/// Feeds an answer.
#[derive(Debug)]
pub struct Sender {
    frames: mpsc::Sender<Bytes>,
    encoding: Encoding,
}

/// The client hung up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the client hung up")]
pub struct HungUp;

impl Sender {
    /// How the payloads are written.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Sends an event whose payload is written already.
    pub async fn event(&self, name: &str, payload: &[u8]) -> Result<(), HungUp> {
        let headers = [
            (":message-type", "event"),
            (":event-type", name),
            (":content-type", self.encoding.content_type()),
        ];
        self.send(frame(&headers, payload)).await
    }

    /// Sends the answer's first event, which holds the members of the output beside the stream.
    pub async fn initial_response(&self, output: &impl Serialize) -> Result<(), HungUp> {
        let payload = self.encoding.write(output).unwrap_or_default();
        self.event("initial-response", &payload).await
    }

    /// Sends a refusal that is a member of the stream's shape: SDKs raise it. The stream should end
    /// after it.
    pub async fn exception(&self, problem: &Problem) -> Result<(), HungUp> {
        let headers = [
            (":message-type", "exception"),
            (":exception-type", problem.code.as_ref()),
            (":content-type", self.encoding.content_type()),
        ];
        let message = serde_json::json!({ "message": problem.message });
        let payload = self.encoding.write(&message).unwrap_or_default();
        self.send(frame(&headers, &payload)).await
    }

    /// Waits until the client has hung up.
    pub async fn closed(&self) {
        self.frames.closed().await;
    }

    async fn send(&self, frame: Bytes) -> Result<(), HungUp> {
        self.frames.send(frame).await.map_err(|_| HungUp)
    }
}

/// An answer that goes on until its sender is dropped.
pub fn channel(encoding: Encoding, request_id: RequestId) -> (Sender, Reply) {
    let (frames, mut received) = mpsc::channel::<Bytes>(1);
    let stream = futures::stream::poll_fn(move |context| {
        received.poll_recv(context).map(|frame| frame.map(|bytes| Ok(Frame::data(bytes))))
    });
    let body: ReplyBody = StreamBody::new(stream).boxed();
    let mut reply = http::Response::new(body);
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE_STREAM));
    crate::request_id::stamp(reply.headers_mut(), request_id);
    (Sender { frames, encoding }, reply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    #[test]
    fn a_frame_is_as_the_specification_has_it() {
        // The example of the specification: no headers, no payload.
        assert_eq!(
            frame(&[], b"")[..],
            [0, 0, 0, 16, 0, 0, 0, 0, 5, 194, 72, 235, 125, 152, 200, 255]
        );
        // Its second one: a payload, and one header.
        let framed = frame(&[("content-type", "application/json")], b"{'foo':'bar'}");
        assert_eq!(framed[..12], [0, 0, 0, 61, 0, 0, 0, 32, 7, 253, 131, 150]);
        assert_eq!(framed[framed.len() - 4..], [141, 156, 8, 177]);
        assert_eq!(framed.len(), 61);
    }

    #[tokio::test]
    async fn a_sender_that_is_dropped_ends_the_answer_and_a_client_that_hangs_up_ends_the_sender() {
        let id = RequestId(uuid::Uuid::from_u128(7));
        let (sender, reply) = channel(Encoding::Json11, id);
        assert_eq!(reply.headers()[CONTENT_TYPE], CONTENT_TYPE_STREAM);
        let sent = tokio::spawn(async move {
            sender.initial_response(&serde_json::json!({})).await?;
            sender.exception(&Problem::new("X", StatusCode::BAD_REQUEST, "why")).await
        });
        let bytes = reply.into_body().collect().await.unwrap().to_bytes();
        sent.await.unwrap().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for part in ["initial-response", "exception", "{\"message\":\"why\"}"] {
            assert!(text.contains(part), "{text}");
        }
        let (sender, reply) = channel(Encoding::Cbor11, id);
        drop(reply);
        sender.closed().await;
        assert_eq!(sender.event("E", b"").await, Err(HungUp));
    }
}
