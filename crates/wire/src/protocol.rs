//! The protocols, and the envelope in which each refuses.

use crate::json_protocol::Encoding;
use crate::{Problem, Reply, json_protocol, query_protocol, rest_json};
use alluvium_base::RequestId;

/// How a service speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// AWS JSON 1.0.
    AwsJson10,
    /// AWS JSON 1.1.
    AwsJson11,
    /// AWS JSON 1.1 written in CBOR.
    AwsCbor11,
    /// REST with JSON bodies.
    RestJson,
    /// Forms in, XML out.
    Query,
    /// REST with XML bodies (S3).
    RestXml,
    /// The Iceberg REST catalog's own JSON.
    Iceberg,
}

impl Protocol {
    /// A refusal in this protocol's envelope.
    pub fn refuse(self, request_id: RequestId, problem: &Problem) -> Reply {
        match self {
            Self::AwsJson10 => json_protocol::refuse_as(Encoding::Json10, request_id, problem),
            Self::AwsJson11 => json_protocol::refuse_as(Encoding::Json11, request_id, problem),
            Self::AwsCbor11 => json_protocol::refuse_as(Encoding::Cbor11, request_id, problem),
            Self::RestJson => rest_json::refuse(request_id, problem),
            Self::Query => query_protocol::refuse(request_id, None, problem),
            Self::RestXml => query_protocol::refuse_s3(request_id, problem),
            Self::Iceberg => rest_json::refuse_iceberg(request_id, problem),
        }
    }
}

/// The code of a refusal, kept beside the answer for logs.
#[derive(Debug, Clone)]
pub struct RefusalCode(pub std::borrow::Cow<'static, str>);

/// Keeps the code of a refusal beside its answer.
pub(crate) fn coded(mut reply: Reply, problem: &Problem) -> Reply {
    reply.extensions_mut().insert(RefusalCode(problem.code.clone()));
    reply
}
