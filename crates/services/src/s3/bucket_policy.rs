//! Bucket policies: kept and returned. Until policies are evaluated every caller is the root user,
//! so an Allow changes nothing, and a Deny is refused (I7).

use super::configuration::Kind;
use super::error::{custom, not_implemented, refuse};
use super::operations::Operations;
use super::settings::PublicAccess;
use super::witness::Witness;
use alluvium_access::policy::{PolicyProblem, check_policy};
use http::StatusCode;
use s3s::dto::*;
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use serde_json::Value;

/// Keys of conditions that bind a statement to somebody ("The meaning of public", S3 user guide).
const BINDING_KEYS: [&str; 13] = [
    "aws:principalorgid",
    "aws:principalorgpaths",
    "aws:sourceaccount",
    "aws:sourcearn",
    "aws:sourceip",
    "aws:sourceorgid",
    "aws:sourceowner",
    "aws:sourcevpc",
    "aws:sourcevpce",
    "aws:userid",
    "s3:dataaccesspointaccount",
    "s3:dataaccesspointarn",
    "s3:x-amz-server-side-encryption-aws-kms-key-id",
];

fn no_policy() -> S3Error {
    custom("NoSuchBucketPolicy", StatusCode::NOT_FOUND, "The bucket policy does not exist".into())
}

fn malformed_policy(why: &str) -> S3Error {
    custom("MalformedPolicy", StatusCode::BAD_REQUEST, why.to_string())
}

fn from_policy(problem: PolicyProblem) -> S3Error {
    let text = problem.to_string();
    match problem {
        PolicyProblem::TooLarge { .. } => refuse(
            S3ErrorCode::InvalidArgument,
            format!("Normalized policy document exceeds the maximum allowed size: {text}"),
        ),
        PolicyProblem::Malformed(_) => malformed_policy(&text),
        PolicyProblem::Deny(_) => not_implemented(&format!("PutBucketPolicy: {text}; it")),
    }
}

fn statements(policy: &Value) -> Vec<&Value> {
    match policy.get("Statement") {
        Some(Value::Array(statements)) => statements.iter().collect(),
        Some(statement) => vec![statement],
        None => vec![],
    }
}

/// Whether a value is, or holds, the wildcard.
fn is_anyone(value: &Value) -> bool {
    match value {
        Value::String(text) => text == "*",
        Value::Array(values) => values.iter().any(is_anyone),
        Value::Object(members) => members.values().any(is_anyone),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn is_bound(statement: &Value) -> bool {
    let Some(Value::Object(operators)) = statement.get("Condition") else { return false };
    let keys = operators.values().filter_map(Value::as_object).flat_map(|keys| keys.keys());
    keys.map(|key| key.to_ascii_lowercase()).any(|key| BINDING_KEYS.contains(&key.as_str()))
}

/// Whether a statement allows something to everybody.
fn is_public(policy: &str) -> bool {
    let Ok(policy) = serde_json::from_str::<Value>(policy) else { return true };
    statements(&policy).into_iter().any(|statement| {
        let allows = statement.get("Effect").and_then(Value::as_str) == Some("Allow");
        let anyone = statement.get("Principal").is_some_and(is_anyone)
            || statement.get("NotPrincipal").is_some();
        allows && anyone && !is_bound(statement)
    })
}

/// Whether a value is a text that fits, or some of them.
fn all_texts(value: &Value, fits: fn(&str) -> bool) -> bool {
    match value {
        Value::String(text) => fits(text),
        Value::Array(values) => {
            !values.is_empty() && values.iter().all(|value| value.as_str().is_some_and(fits))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => false,
    }
}

/// An action of S3, with wildcards or whole.
fn is_action(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    let Some((service, name)) = text.split_once(':') else { return false };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'*' | b'?');
    service.eq_ignore_ascii_case("s3") && !name.is_empty() && name.bytes().all(plain)
}

/// Every resource of a bucket's policy is the bucket or in it, every statement has a principal.
fn check_statements(bucket: &str, policy: &str) -> S3Result<()> {
    let policy: Value = serde_json::from_str(policy).map_err(|_| {
        malformed_policy("Policies must be valid JSON and the first byte must be '{'")
    })?;
    let arn = format!("arn:aws:s3:::{bucket}");
    // With a wildcard, what stands before it must be able to lead to the bucket.
    let within = |text: &str| {
        let stem = text.find(['*', '?']).and_then(|at| text.get(..at));
        text.strip_prefix(&arn).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            || stem.is_some_and(|stem| arn.starts_with(stem))
    };
    for statement in statements(&policy) {
        if statement.get("Principal").is_none() && statement.get("NotPrincipal").is_none() {
            return Err(malformed_policy("Missing required field Principal"));
        }
        let actions = statement.get("Action").or_else(|| statement.get("NotAction"));
        match actions {
            None => return Err(malformed_policy("Missing required field Action")),
            Some(actions) if !all_texts(actions, is_action) => {
                return Err(malformed_policy(
                    "Policy has invalid action: actions of a bucket's policy are as s3:GetObject",
                ));
            }
            Some(_) => {}
        }
        let named = match statement.get("Resource").or_else(|| statement.get("NotResource")) {
            Some(Value::String(one)) => vec![one.as_str()],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            Some(_) | None => return Err(malformed_policy("Missing required field Resource")),
        };
        if named.is_empty() || !named.into_iter().all(within) {
            return Err(malformed_policy(&format!(
                "Policy has invalid resource: the resources of this bucket's policy are {arn} and \
                 {arn}/*"
            )));
        }
    }
    Ok(())
}

impl Operations {
    pub(super) async fn answer_policy(
        &self,
        request: S3Request<GetBucketPolicyInput>,
    ) -> S3Result<S3Response<GetBucketPolicyOutput>> {
        let configured = self.buckets.configurations(&request.input.bucket).await?;
        let policy = configured.policy.clone().ok_or_else(no_policy)?;
        Ok(S3Response::new(GetBucketPolicyOutput { policy: Some(policy) }))
    }

    pub(super) async fn answer_policy_status(
        &self,
        request: S3Request<GetBucketPolicyStatusInput>,
    ) -> S3Result<S3Response<GetBucketPolicyStatusOutput>> {
        let configured = self.buckets.configurations(&request.input.bucket).await?;
        let policy = configured.policy.as_deref().ok_or_else(no_policy)?;
        let status = PolicyStatus { is_public: Some(is_public(policy)) };
        Ok(S3Response::new(GetBucketPolicyStatusOutput { policy_status: Some(status) }))
    }

    pub(super) async fn answer_put_policy(
        &self,
        request: S3Request<PutBucketPolicyInput>,
    ) -> S3Result<S3Response<PutBucketPolicyOutput>> {
        Witness::check(&request.extensions, &request.headers)?;
        let PutBucketPolicyInput { bucket, policy, .. } = request.input;
        let configured = self.buckets.configurations(&bucket).await?;
        check_policy(&policy).map_err(from_policy)?;
        check_statements(&bucket, &policy)?;
        if is_public(&policy) && PublicAccess::blocks_policies(configured.public_access.as_ref()) {
            return Err(refuse(
                S3ErrorCode::AccessDenied,
                "Access Denied: public policies are blocked by the BlockPublicPolicy setting of \
                 the bucket's public access block",
            ));
        }
        self.buckets.configure(&bucket, Kind::Policy, Some(&policy)).await?;
        let output = PutBucketPolicyOutput::default();
        Ok(S3Response::with_status(output, StatusCode::NO_CONTENT))
    }

    pub(super) async fn answer_delete_policy(
        &self,
        request: S3Request<DeleteBucketPolicyInput>,
    ) -> S3Result<S3Response<DeleteBucketPolicyOutput>> {
        self.buckets.configure(&request.input.bucket, Kind::Policy, None::<&String>).await?;
        let output = DeleteBucketPolicyOutput::default();
        Ok(S3Response::with_status(output, StatusCode::NO_CONTENT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(principal: &str, condition: &str) -> String {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow","Principal":{principal},
            "Action":"s3:GetObject","Resource":"arn:aws:s3:::b/*"{condition}}}]}}"#
        )
    }

    #[test]
    fn a_policy_is_public_if_anyone_may_do_something() {
        let account = r#"{"AWS":"arn:aws:iam::000000000000:root"}"#;
        assert!(!is_public(&policy(account, "")));
        for anyone in [r#""*""#, r#"{"AWS":"*"}"#, r#"{"AWS":["*"]}"#] {
            assert!(is_public(&policy(anyone, "")), "{anyone}");
            let bound = r#","Condition":{"IpAddress":{"aws:SourceIp":"10.0.0.0/8"}}"#;
            assert!(!is_public(&policy(anyone, bound)));
            let free = r#","Condition":{"StringLike":{"aws:Referer":"x"}}"#;
            assert!(is_public(&policy(anyone, free)));
        }
    }

    #[test]
    fn a_policy_is_about_its_bucket_and_somebody() {
        let good = policy(r#"{"AWS":"arn:aws:iam::000000000000:root"}"#, "");
        assert!(check_statements("b", &good).is_ok());
        assert!(check_statements("other", &good).is_err());
        assert!(
            check_statements("b", r#"{"Statement":{"Effect":"Allow","Resource":"*"}}"#).is_err()
        );
        for action in [r#""S3:Get*""#, r#""*""#, r#"["s3:ListBucket","s3:?etObject"]"#] {
            let policy = good.replace(r#""s3:GetObject""#, action);
            assert!(check_statements("b", &policy).is_ok(), "{action}");
        }
        for action in
            [r#""foo""#, r#""s3:""#, r#""sqs:SendMessage""#, "[]", "1", r#""s3:Get Object""#]
        {
            let policy = good.replace(r#""s3:GetObject""#, action);
            assert!(check_statements("b", &policy).is_err(), "{action}");
        }
        assert!(check_statements("b", &good.replace("Action", "Actions")).is_err());
    }
}
