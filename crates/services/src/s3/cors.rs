//! Cross-origin rules: kept, and told to browsers. A preflight (`OPTIONS`) is answered without a
//! signature, as the browser sends none; it says what the rules say and nothing of the bucket.
//! (S3 user guide, Using cross-origin resource sharing.)

use super::buckets::Buckets;
use super::configuration::Kind;
use super::error::{custom, malformed, refuse};
use super::operations::Operations;
use super::settings::check_body;
use http::header::{HeaderMap, HeaderName, HeaderValue, ORIGIN, VARY};
use http::{Response, StatusCode};
use s3s::dto::*;
use s3s::{Body, S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use serde::{Deserialize, Serialize};

/// "The configuration can have up to 100 rules", "up to 64 KB in size".
const RULES_MAX: usize = 100;
const SIZE_MAX_BYTES: usize = 64 * 1024;
const ID_CHARS_MAX: usize = 255;
const METHODS: [&str; 5] = ["GET", "PUT", "HEAD", "POST", "DELETE"];

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CorsRule {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    origins: Vec<String>,
    methods: Vec<String>,
    #[serde(default)]
    headers: Vec<String>,
    #[serde(default)]
    expose: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_age_s: Option<i32>,
}

/// What a browser asks.
struct Asked<'a> {
    origin: &'a str,
    method: &'a str,
    headers: Vec<String>,
}

/// Whether a text is what a pattern with at most one `*` says.
fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((front, back)) => {
            text.len() >= front.len() + back.len()
                && text.starts_with(front)
                && text.ends_with(back)
        }
    }
}

impl CorsRule {
    fn allows(&self, asked: &Asked<'_>) -> bool {
        let header = |name: &String| {
            self.headers.iter().any(|pattern| matches(&pattern.to_ascii_lowercase(), name))
        };
        self.origins.iter().any(|pattern| matches(pattern, asked.origin))
            && self.methods.iter().any(|method| method == asked.method)
            && asked.headers.iter().all(header)
    }

    /// What an answer says of the rule that allowed it.
    fn say(&self, asked: &Asked<'_>, headers: &mut HeaderMap) {
        let mut set = |name: &'static str, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        if self.origins.iter().any(|origin| origin == "*") {
            set("access-control-allow-origin", "*");
        } else {
            set("access-control-allow-origin", asked.origin);
            set("access-control-allow-credentials", "true");
        }
        set("access-control-allow-methods", &self.methods.join(", "));
        if !asked.headers.is_empty() {
            set("access-control-allow-headers", &asked.headers.join(", "));
        }
        if !self.expose.is_empty() {
            set("access-control-expose-headers", &self.expose.join(", "));
        }
        if let Some(max_age_s) = self.max_age_s {
            set("access-control-max-age", &max_age_s.to_string());
        }
        let vary = "Origin, Access-Control-Request-Headers, Access-Control-Request-Method";
        headers.insert(VARY, HeaderValue::from_static(vary));
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The answer to a preflight.
pub(super) async fn preflight(
    buckets: &Buckets,
    bucket: Option<&str>,
    headers: &HeaderMap,
) -> S3Result<Response<Body>> {
    let bad = |why: String| custom("BadRequest", StatusCode::BAD_REQUEST, why);
    let Some(origin) = text(headers, ORIGIN.as_str()) else {
        return Err(bad("Insufficient information. Origin request header needed.".into()));
    };
    let method = text(headers, "access-control-request-method").unwrap_or("null");
    if !METHODS.contains(&method) {
        let shown: String = method.chars().take(64).collect();
        return Err(bad(format!("Invalid Access-Control-Request-Method: {shown}")));
    }
    let asked = text(headers, "access-control-request-headers").unwrap_or_default();
    let names = asked.split(',').map(|name| name.trim().to_ascii_lowercase());
    let asked = Asked { origin, method, headers: names.filter(|n| !n.is_empty()).collect() };
    let forbidden = |why: &str| custom("AccessForbidden", StatusCode::FORBIDDEN, why.to_string());
    let configured = match bucket {
        Some(bucket) => Some(buckets.configurations(bucket).await?),
        None => None,
    };
    let Some(rules) = configured.as_ref().and_then(|configured| configured.cors.as_ref()) else {
        return Err(forbidden("CORSResponse: CORS is not enabled for this bucket."));
    };
    let Some(rule) = rules.iter().find(|rule| rule.allows(&asked)) else {
        return Err(forbidden(
            "CORSResponse: This CORS request is not allowed. This is usually because the \
             evaluation of Origin, request method / Access-Control-Request-Method or \
             Access-Control-Request-Headers are not whitelisted by the resource's CORS spec.",
        ));
    };
    let mut response = Response::new(Body::empty());
    rule.say(&asked, response.headers_mut());
    Ok(response)
}

/// Tells the page that called what the bucket's rules allow it.
pub(super) async fn tell(
    buckets: &Buckets,
    bucket: Option<&str>,
    (origin, method): (&str, &str),
    headers: &mut HeaderMap,
) {
    let Some(bucket) = bucket else { return };
    // Whether the bucket exists was the call's to tell.
    let Ok(configured) = buckets.configurations(bucket).await else { return };
    let asked = Asked { origin, method, headers: Vec::new() };
    let rules = configured.cors.as_deref().unwrap_or_default();
    if let Some(rule) = rules.iter().find(|rule| rule.allows(&asked)) {
        rule.say(&asked, headers);
    }
}

fn invalid(why: String) -> S3Error {
    refuse(S3ErrorCode::InvalidRequest, why)
}

fn check_patterns(patterns: &[String], element: &str) -> S3Result<()> {
    match patterns.iter().find(|pattern| pattern.matches('*').count() > 1) {
        None => Ok(()),
        Some(pattern) => {
            Err(invalid(format!("{element} \"{pattern}\" can not have more than one wildcard.")))
        }
    }
}

fn read_rule(rule: CORSRule) -> S3Result<CorsRule> {
    let CORSRule {
        allowed_headers,
        allowed_methods,
        allowed_origins,
        expose_headers,
        id,
        max_age_seconds,
    } = rule;
    if allowed_methods.is_empty() || allowed_origins.is_empty() {
        return Err(malformed("every CORSRule has an AllowedMethod and an AllowedOrigin"));
    }
    if id.as_ref().is_some_and(|id| id.chars().count() > ID_CHARS_MAX) {
        return Err(invalid(format!("The ID of a rule has at most {ID_CHARS_MAX} characters")));
    }
    if let Some(method) = allowed_methods.iter().find(|m| !METHODS.contains(&m.as_str())) {
        return Err(invalid(format!(
            "Found unsupported HTTP method in CORS config. Unsupported method is {method}"
        )));
    }
    let headers = allowed_headers.unwrap_or_default();
    check_patterns(&allowed_origins, "AllowedOrigin")?;
    check_patterns(&headers, "AllowedHeader")?;
    let expose = expose_headers.unwrap_or_default();
    if let Some(header) = expose.iter().find(|header| header.contains('*')) {
        return Err(invalid(format!(
            "ExposeHeader \"{header}\" contains wildcard. We currently do not support wildcard \
             for ExposeHeader."
        )));
    }
    let (origins, methods) = (allowed_origins, allowed_methods);
    Ok(CorsRule { id, origins, methods, headers, expose, max_age_s: max_age_seconds })
}

fn show_rule(rule: &CorsRule) -> CORSRule {
    let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    CORSRule {
        allowed_headers: some(&rule.headers),
        allowed_methods: rule.methods.clone(),
        allowed_origins: rule.origins.clone(),
        expose_headers: some(&rule.expose),
        id: rule.id.clone(),
        max_age_seconds: rule.max_age_s,
    }
}

impl Operations {
    pub(super) async fn answer_cors(
        &self,
        request: S3Request<GetBucketCorsInput>,
    ) -> S3Result<S3Response<GetBucketCorsOutput>> {
        let configured = self.buckets.configurations(&request.input.bucket).await?;
        let Some(rules) = &configured.cors else {
            return Err(custom(
                "NoSuchCORSConfiguration",
                StatusCode::NOT_FOUND,
                "The CORS configuration does not exist".into(),
            ));
        };
        let cors_rules = Some(rules.iter().map(show_rule).collect());
        Ok(S3Response::new(GetBucketCorsOutput { cors_rules }))
    }

    pub(super) async fn answer_put_cors(
        &self,
        request: S3Request<PutBucketCorsInput>,
    ) -> S3Result<S3Response<PutBucketCorsOutput>> {
        let elements = [
            "CORSConfiguration",
            "CORSRule",
            "ID",
            "AllowedHeader",
            "AllowedMethod",
            "AllowedOrigin",
            "ExposeHeader",
            "MaxAgeSeconds",
        ];
        check_body(&request.extensions, &request.headers, &elements)?;
        let PutBucketCorsInput { bucket, cors_configuration, .. } = request.input;
        let rules = cors_configuration.cors_rules;
        if rules.is_empty() || rules.len() > RULES_MAX {
            return Err(malformed(&format!(
                "there are 1 to {RULES_MAX} rules, not {}",
                rules.len()
            )));
        }
        let rules = rules.into_iter().map(read_rule).collect::<S3Result<Vec<_>>>()?;
        let size_bytes: usize = rules.iter().map(|rule| format!("{rule:?}").len()).sum();
        if size_bytes > SIZE_MAX_BYTES {
            return Err(malformed(&format!("the rules have more than {SIZE_MAX_BYTES} bytes")));
        }
        self.buckets.configure(&bucket, Kind::Cors, Some(&rules)).await?;
        Ok(S3Response::new(PutBucketCorsOutput::default()))
    }

    pub(super) async fn answer_delete_cors(
        &self,
        request: S3Request<DeleteBucketCorsInput>,
    ) -> S3Result<S3Response<DeleteBucketCorsOutput>> {
        self.buckets.configure(&request.input.bucket, Kind::Cors, None::<&Vec<CorsRule>>).await?;
        let output = DeleteBucketCorsOutput::default();
        Ok(S3Response::with_status(output, StatusCode::NO_CONTENT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_has_one_wildcard_that_stands_for_anything() {
        for (pattern, text, wanted) in [
            ("*", "http://a.example", true),
            ("http://*.example", "http://a.example", true),
            ("http://*.example", "http://.example", true),
            ("http://*.example", "https://a.example", false),
            ("http://a.example", "http://a.example", true),
            ("http://a.example", "http://b.example", false),
            ("x-*z", "x-z", true),
            ("xx*xx", "xxx", false),
        ] {
            assert_eq!(matches(pattern, text), wanted, "{pattern} {text}");
        }
    }

    #[test]
    fn the_first_rule_that_allows_everything_asked_is_said() {
        let rule = |origin: &str, header: &str| CorsRule {
            id: None,
            origins: vec![origin.into()],
            methods: vec!["GET".into()],
            headers: vec![header.into()],
            expose: vec!["ETag".into()],
            max_age_s: Some(9),
        };
        let asked = Asked { origin: "http://a", method: "GET", headers: vec!["x-amz-date".into()] };
        assert!(!rule("http://a", "range").allows(&asked));
        assert!(!rule("http://b", "*").allows(&asked));
        let rule = rule("http://a", "X-Amz-*");
        assert!(rule.allows(&asked));
        let mut headers = HeaderMap::new();
        rule.say(&asked, &mut headers);
        assert_eq!(headers["access-control-allow-origin"], "http://a");
        assert_eq!(headers["access-control-allow-headers"], "x-amz-date");
        assert_eq!(headers["access-control-max-age"], "9");
    }
}
