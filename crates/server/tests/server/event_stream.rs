//! `SubscribeToShard` over HTTP/2 with prior knowledge, as the AWS SDKs for Java and Go subscribe
//! where they may not fall back to HTTP/1.1.
#![allow(clippy::unwrap_used)] // tests

use crate::support::{KEY, SECRET, Server};
use alluvium_base::{Clock, Region, Secret, SystemClock};
use alluvium_wire::sigv4::sign::Signer;
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// One HTTP/2 connection.
struct Client {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
}

impl Client {
    async fn connect(server: &Server) -> Self {
        let stream = TcpStream::connect(&server.authority).await.unwrap();
        let (sender, connection) =
            handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        Self { sender, authority: server.authority.clone() }
    }

    async fn send(&mut self, operation: &str, input: Value) -> http::Response<Incoming> {
        let body = Bytes::from(input.to_string());
        let request = http::Request::builder()
            .method("POST")
            .uri(format!("http://{}/", self.authority))
            .header("host", &self.authority)
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", format!("Kinesis_20131202.{operation}"));
        let (mut head, ()) = request.body(()).unwrap().into_parts();
        let region: Region = "us-east-1".parse().unwrap();
        let signer = Signer::new(KEY.into(), Secret::new(SECRET.into()));
        signer.sign(&mut head, &region, "kinesis", &body, SystemClock.now_ms()).unwrap();
        self.sender.ready().await.unwrap();
        let request = http::Request::from_parts(head, Full::new(body));
        let answer = self.sender.send_request(request).await.unwrap();
        assert_eq!(answer.version(), http::Version::HTTP_2);
        answer
    }

    async fn call(&mut self, operation: &str, input: Value) -> Value {
        let answer = self.send(operation, input).await;
        let status = answer.status();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(status, 200, "{operation}: {}", String::from_utf8_lossy(&bytes));
        serde_json::from_slice(&bytes).unwrap()
    }
}

/// The payloads of an event stream, one by one.
struct Payloads {
    body: Incoming,
    buffer: BytesMut,
}

impl Payloads {
    /// The next frame's payload; none at the end.
    async fn next(&mut self) -> Option<Value> {
        loop {
            let length = |at: usize| -> Option<usize> {
                let bytes: [u8; 4] = self.buffer.get(at..at + 4)?.try_into().unwrap();
                Some(u32::from_be_bytes(bytes) as usize)
            };
            if let (Some(total), Some(headers)) = (length(0), length(4))
                && self.buffer.len() >= total
            {
                let frame = self.buffer.split_to(total);
                return Some(serde_json::from_slice(&frame[12 + headers..total - 4]).unwrap());
            }
            let frame = self.body.frame().await?.unwrap();
            self.buffer.extend_from_slice(&frame.into_data().unwrap());
        }
    }

    async fn records(&mut self) -> Vec<Value> {
        loop {
            let event = self.next().await.expect("the stream goes on");
            match event["Records"].as_array() {
                Some(records) if !records.is_empty() => return records.clone(),
                _ => {} // the first frame, or a heartbeat
            }
        }
    }
}

#[tokio::test]
async fn records_are_pushed_over_http2_with_prior_knowledge() {
    // Shorter than the time between two heartbeats of a quiet subscription.
    let timeouts = ["--head-timeout-ms", "1000", "--body-timeout-ms", "1000"];
    let mut server = Server::start(&timeouts);
    let mut client = Client::connect(&server).await;
    client.call("CreateStream", json!({"StreamName": "s", "ShardCount": 2})).await;
    let arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
    let consumer = json!({"StreamARN": arn, "ConsumerName": "c"});
    let consumer = client.call("RegisterStreamConsumer", consumer).await;
    let mut flows = Vec::new();
    for shard in ["shardId-000000000000", "shardId-000000000001"] {
        let input = json!({"ConsumerARN": consumer["Consumer"]["ConsumerARN"],
            "ShardId": shard, "StartingPosition": {"Type": "TRIM_HORIZON"}});
        let answer = client.send("SubscribeToShard", input).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "application/vnd.amazon.eventstream");
        flows.push(Payloads { body: answer.into_body(), buffer: BytesMut::new() });
    }
    // Both subscriptions and the puts share one connection.
    for (index, hash) in ["0", "340282366920938463463374607431768211455"].iter().enumerate() {
        for data in ["YQ==", "Yg=="] {
            let put = json!({"StreamName": "s", "Data": data, "PartitionKey": "k",
                "ExplicitHashKey": hash});
            client.call("PutRecord", put).await;
            let records = flows[index].records().await;
            assert_eq!(records.len(), 1);
            assert_eq!(records[0]["Data"], data);
        }
    }
    for flow in &mut flows {
        let heartbeat = flow.next().await.expect("it outlives the timeouts");
        assert_eq!(heartbeat["Records"], json!([]));
    }
    server.terminate();
    for flow in &mut flows {
        while flow.next().await.is_some() {}
    }
    assert!(server.wait().success());
}
