//! AWS STS, Query protocol, version 2011-06-15: `GetCallerIdentity`. Temporary credentials are not
//! issued yet, so everything else is refused by its name (I7).

use alluvium_wire::query_protocol::{self, Form};
use alluvium_wire::{Call, Problem, Reply, Service};
use async_trait::async_trait;

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";
const VERSION: &str = "2011-06-15";

/// The service.
#[derive(Debug, Default, Clone, Copy)]
pub struct StsService;

#[async_trait]
impl Service for StsService {
    async fn call(&self, call: Call) -> Reply {
        answer(&call).unwrap_or_else(|problem| {
            query_protocol::refuse(call.request_id, Some(NAMESPACE), &problem)
        })
    }
}

fn answer(call: &Call) -> Result<Reply, Problem> {
    let form = Form::parse(call)?;
    match (form.action()?, form.get("Version")) {
        ("GetCallerIdentity", Some(VERSION)) => {
            form.only(&[])?;
            let caller = &call.caller;
            let result = [
                query_protocol::element("Arn", &caller.arn),
                query_protocol::element("UserId", &caller.user_id),
                query_protocol::element("Account", caller.account.as_str()),
            ];
            Ok(query_protocol::reply(call, NAMESPACE, "GetCallerIdentity", &result.concat()))
        }
        (name, version) => Err(query_protocol::unknown_operation(name, version)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;

    async fn send(body: &str) -> (u16, String) {
        send_to("POST", "/", body).await
    }

    async fn send_to(method: &str, uri: &str, body: &str) -> (u16, String) {
        let head = http::Request::builder().method(method).uri(uri);
        let call = crate::testing::call("sts", head, body.to_string());
        let reply = StsService.call(call).await;
        let status = reply.status().as_u16();
        let bytes = reply.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn caller_identity_is_who_signed() {
        let (status, xml) = send("Action=GetCallerIdentity&Version=2011-06-15").await;
        assert_eq!(status, 200);
        assert!(xml.contains("<Arn>arn:aws:iam::000000000000:root</Arn>"), "{xml}");
        assert!(xml.contains("<Account>000000000000</Account>"), "{xml}");
    }

    #[tokio::test]
    async fn a_presigned_url_carries_the_form_for_both_methods() {
        let uri = "/?Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Signature=0";
        for method in ["GET", "POST"] {
            let (status, xml) = send_to(method, uri, "").await;
            assert_eq!(status, 200, "{method}: {xml}");
        }
    }

    #[tokio::test]
    async fn other_operations_and_members_are_refused_by_name() {
        for (body, code, name) in [
            ("Action=AssumeRole&Version=2011-06-15", "InvalidAction", "AssumeRole"),
            ("Action=GetCallerIdentity&Version=2001-01-01", "InvalidAction", "2001-01-01"),
            ("Action=GetCallerIdentity&Version=2011-06-15&X=1", "ValidationError", "&apos;X&apos;"),
            ("Version=2011-06-15", "MissingAction", "Action"),
        ] {
            let (status, xml) = send(body).await;
            assert_eq!(status, 400, "{xml}");
            assert!(xml.contains(&format!("<Code>{code}</Code>")), "{xml}");
            assert!(xml.contains(name), "{xml}");
        }
    }
}
