//! Lifecycles in and out: S3's XML to rules that S3 would take, and back.

use super::super::attributes::timestamp;
use super::super::configuration::Kind;
use super::super::error::{custom, invalid_argument, malformed, not_implemented, refuse};
use super::super::operations::Operations;
use super::super::settings::check_body;
use super::super::tagging::{Tags, of_set, set_of};
use super::super::warehouse;
use super::{DAY_MS, Expire, Filter, Form, Lifecycle, Older, Rule};
use alluvium_store::objects::{ObjectMeta, UploadMeta};
use http::StatusCode;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use s3s::dto::{Expiration, *};
use s3s::{S3Error, S3ErrorCode, S3Request, S3Response, S3Result};
use std::collections::HashSet;

/// "A lifecycle configuration can have up to 1,000 rules."
const RULES_MAX: usize = 1000;
const ID_CHARS_MAX: usize = 255;
/// "NewerNoncurrentVersions: 1 to 100."
const KEEP_MAX: i32 = 100;
/// Tags of one filter: an object has no more.
const TAGS_MAX: usize = 10;
const MINIMUMS: [&str; 2] = ["varies_by_storage_class", "all_storage_classes_128K"];

const ELEMENTS: [&str; 24] = [
    "LifecycleConfiguration",
    "Rule",
    "ID",
    "Status",
    "Prefix",
    "Filter",
    "And",
    "Tag",
    "Key",
    "Value",
    "ObjectSizeGreaterThan",
    "ObjectSizeLessThan",
    "Expiration",
    "Days",
    "Date",
    "ExpiredObjectDeleteMarker",
    "NoncurrentVersionExpiration",
    "NoncurrentDays",
    "NewerNoncurrentVersions",
    "AbortIncompleteMultipartUpload",
    "DaysAfterInitiation",
    // Known, so that they are refused by their own name below.
    "Transition",
    "NoncurrentVersionTransition",
    "StorageClass",
];

fn invalid(why: impl Into<String>) -> S3Error {
    refuse(S3ErrorCode::InvalidRequest, why.into())
}

fn positive(days: Option<i32>, what: &str) -> S3Result<i32> {
    match days {
        Some(days) if days > 0 => Ok(days),
        Some(_) => Err(invalid_argument(format!("{what} action must be a positive integer"))),
        None => Err(malformed(&format!("{what} is given"))),
    }
}

fn read_filter(prefix: Option<String>, filter: Option<LifecycleRuleFilter>) -> S3Result<Filter> {
    let empty = Filter {
        form: Form::One,
        prefix: None,
        tags: Tags::new(),
        larger_than: None,
        smaller_than: None,
    };
    let given = match (prefix, filter) {
        (Some(_), Some(_)) => return Err(malformed("a Rule has a Filter or a Prefix, not both")),
        (None, None) => return Err(malformed("every Rule has a Filter")),
        (prefix, None) => return Ok(Filter { form: Form::Rule, prefix, ..empty }),
        (None, Some(filter)) => filter,
    };
    let members = usize::from(given.and.is_some())
        + usize::from(given.prefix.is_some())
        + usize::from(given.tag.is_some())
        + usize::from(given.object_size_greater_than.is_some())
        + usize::from(given.object_size_less_than.is_some());
    if members > 1 {
        return Err(malformed("a Filter has one member; And holds several"));
    }
    let (form, prefix, tags, larger, smaller) = match given.and {
        Some(and) => {
            let LifecycleRuleAndOperator {
                object_size_greater_than,
                object_size_less_than,
                prefix,
                tags,
            } = and;
            let sizes = (object_size_greater_than, object_size_less_than);
            (Form::And, prefix, tags.unwrap_or_default(), sizes.0, sizes.1)
        }
        None => {
            let tags = given.tag.into_iter().collect();
            let sizes = (given.object_size_greater_than, given.object_size_less_than);
            (Form::One, given.prefix, tags, sizes.0, sizes.1)
        }
    };
    let tags = of_set(tags, "Lifecycle filter", TAGS_MAX)?;
    let filter = Filter { form, prefix, tags, larger_than: larger, smaller_than: smaller };
    if filter.larger_than.is_some_and(|size| size < 0)
        || filter.smaller_than.is_some_and(|size| size < 1)
    {
        return Err(invalid_argument("Object sizes of a filter are not negative"));
    }
    if let (Some(larger), Some(smaller)) = (filter.larger_than, filter.smaller_than)
        && smaller <= larger
    {
        return Err(invalid(
            "'ObjectSizeLessThan' has to be a value greater than 'ObjectSizeGreaterThan'.",
        ));
    }
    Ok(filter)
}

fn epoch_ms(at: &Timestamp) -> S3Result<i64> {
    let mut text = Vec::new();
    let bad = || malformed("Date is a time");
    at.format(TimestampFormat::EpochSeconds, &mut text).map_err(|_| bad())?;
    let seconds: f64 =
        std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).ok_or_else(bad)?;
    Ok((seconds * 1000.0) as i64)
}

fn read_expiration(expiration: LifecycleExpiration, filter: &Filter) -> S3Result<Expire> {
    let LifecycleExpiration { date, days, expired_object_delete_marker } = expiration;
    match (date, days, expired_object_delete_marker) {
        (Some(date), None, None) => {
            let at_ms = epoch_ms(&date)?;
            if at_ms.rem_euclid(DAY_MS) != 0 {
                return Err(invalid_argument("'Date' must be at midnight GMT"));
            }
            Ok(Expire::Date(at_ms))
        }
        (None, days @ Some(_), None) => Ok(Expire::Days(positive(days, "'Days' for Expiration")?)),
        (None, None, Some(wanted)) => {
            let sized = filter.larger_than.is_some() || filter.smaller_than.is_some();
            if !filter.tags.is_empty() || sized {
                return Err(invalid(
                    "ExpiredObjectDeleteMarker cannot be specified with Tags or object sizes.",
                ));
            }
            Ok(Expire::Marker(wanted))
        }
        _ => Err(malformed("Expiration has one of Days, Date and ExpiredObjectDeleteMarker")),
    }
}

fn read_older(given: NoncurrentVersionExpiration, filter: &Filter) -> S3Result<Older> {
    let NoncurrentVersionExpiration { newer_noncurrent_versions: keep, noncurrent_days } = given;
    let days = positive(noncurrent_days, "'NoncurrentDays' for NoncurrentVersionExpiration")?;
    if keep.is_some_and(|keep| !(1..=KEEP_MAX).contains(&keep)) {
        return Err(invalid_argument(format!("'NewerNoncurrentVersions' is 1 to {KEEP_MAX}")));
    }
    if keep.is_some() && filter.form == Form::Rule {
        return Err(invalid("NewerNoncurrentVersions needs a rule with a Filter element."));
    }
    Ok(Older { days, keep })
}

fn read_rule(rule: LifecycleRule) -> S3Result<Rule> {
    if rule.transitions.is_some() {
        return Err(not_implemented("Transition (storage classes)"));
    }
    if rule.noncurrent_version_transitions.is_some() {
        return Err(not_implemented("NoncurrentVersionTransition (storage classes)"));
    }
    let id = rule.id.unwrap_or_default();
    if id.chars().count() > ID_CHARS_MAX {
        let text = format!("ID length should not exceed allowed limit of {ID_CHARS_MAX}");
        return Err(invalid_argument(text));
    }
    let enabled = match rule.status.as_str() {
        "Enabled" => true,
        "Disabled" => false,
        _ => return Err(malformed("Status is Enabled or Disabled")),
    };
    let filter = read_filter(rule.prefix, rule.filter)?;
    let expire = rule.expiration.map(|given| read_expiration(given, &filter)).transpose()?;
    let older =
        rule.noncurrent_version_expiration.map(|given| read_older(given, &filter)).transpose()?;
    let abort_days = match rule.abort_incomplete_multipart_upload {
        None => None,
        Some(given) => {
            let sized = filter.larger_than.is_some() || filter.smaller_than.is_some();
            if !filter.tags.is_empty() || sized {
                return Err(invalid(
                    "AbortIncompleteMultipartUpload cannot be specified with Tags or object sizes.",
                ));
            }
            let what = "'DaysAfterInitiation' for AbortIncompleteMultipartUpload";
            Some(positive(given.days_after_initiation, what)?)
        }
    };
    if expire.is_none() && older.is_none() && abort_days.is_none() {
        return Err(invalid("At least one action needs to be specified in a rule"));
    }
    Ok(Rule { id, enabled, filter, expire, older, abort_days })
}

fn read(given: BucketLifecycleConfiguration, minimum: Option<String>) -> S3Result<Lifecycle> {
    if given.rules.is_empty() || given.rules.len() > RULES_MAX {
        let count = given.rules.len();
        return Err(malformed(&format!("there are 1 to {RULES_MAX} rules, not {count}")));
    }
    let mut rules = Vec::with_capacity(given.rules.len());
    let mut ids = HashSet::new();
    for rule in given.rules {
        let rule = read_rule(rule)?;
        if !rule.id.is_empty() && !ids.insert(rule.id.clone()) {
            return Err(invalid_argument(format!(
                "Rule ID must be unique. Found same ID for one or more rules: '{}'",
                rule.id
            )));
        }
        rules.push(rule);
    }
    // "If you do not specify a value, one will be assigned."
    for (number, rule) in rules.iter_mut().enumerate().filter(|(_, rule)| rule.id.is_empty()) {
        let mut free = (number + 1..).map(|n| format!("rule-{n}"));
        rule.id = free.find(|id| !ids.contains(id)).unwrap_or_default();
        ids.insert(rule.id.clone());
    }
    Ok(Lifecycle { rules, transition_minimum: minimum })
}

fn show_filter(filter: &Filter) -> (Option<String>, Option<LifecycleRuleFilter>) {
    let Filter { form, prefix, tags, larger_than, smaller_than } = filter;
    match form {
        Form::Rule => (Some(prefix.clone().unwrap_or_default()), None),
        Form::One => {
            let shown = LifecycleRuleFilter {
                and: None,
                object_size_greater_than: *larger_than,
                object_size_less_than: *smaller_than,
                prefix: prefix.clone(),
                tag: set_of(tags).pop(),
            };
            (None, Some(shown))
        }
        Form::And => {
            let and = LifecycleRuleAndOperator {
                object_size_greater_than: *larger_than,
                object_size_less_than: *smaller_than,
                prefix: prefix.clone(),
                tags: (!tags.is_empty()).then(|| set_of(tags)),
            };
            (None, Some(LifecycleRuleFilter { and: Some(and), ..LifecycleRuleFilter::default() }))
        }
    }
}

fn show_rule(rule: &Rule) -> LifecycleRule {
    let (prefix, filter) = show_filter(&rule.filter);
    let expiration = rule.expire.map(|expire| match expire {
        Expire::Days(days) => {
            LifecycleExpiration { days: Some(days), ..LifecycleExpiration::default() }
        }
        Expire::Date(at_ms) => {
            LifecycleExpiration { date: Some(timestamp(at_ms)), ..LifecycleExpiration::default() }
        }
        Expire::Marker(wanted) => LifecycleExpiration {
            expired_object_delete_marker: Some(wanted),
            ..LifecycleExpiration::default()
        },
    });
    let status = if rule.enabled { ExpirationStatus::ENABLED } else { ExpirationStatus::DISABLED };
    LifecycleRule {
        abort_incomplete_multipart_upload: rule
            .abort_days
            .map(|days| AbortIncompleteMultipartUpload { days_after_initiation: Some(days) }),
        expiration,
        filter,
        id: Some(rule.id.clone()),
        noncurrent_version_expiration: rule.older.map(|older| NoncurrentVersionExpiration {
            newer_noncurrent_versions: older.keep,
            noncurrent_days: Some(older.days),
        }),
        noncurrent_version_transitions: None,
        prefix,
        status: ExpirationStatus::from_static(status),
        transitions: None,
    }
}

/// The default of `TransitionDefaultMinimumObjectSize`.
fn minimum_of(lifecycle: &Lifecycle) -> TransitionDefaultMinimumObjectSize {
    let kept = lifecycle.transition_minimum.clone();
    kept.unwrap_or_else(|| MINIMUMS[1].to_string()).into()
}

impl Operations {
    pub(in super::super) async fn answer_lifecycle(
        &self,
        request: S3Request<GetBucketLifecycleConfigurationInput>,
    ) -> S3Result<S3Response<GetBucketLifecycleConfigurationOutput>> {
        let configured = self.buckets.configurations(&request.input.bucket).await?;
        let Some(lifecycle) = &configured.lifecycle else {
            return Err(custom(
                "NoSuchLifecycleConfiguration",
                StatusCode::NOT_FOUND,
                "The lifecycle configuration does not exist".into(),
            ));
        };
        Ok(S3Response::new(GetBucketLifecycleConfigurationOutput {
            rules: Some(lifecycle.rules.iter().map(show_rule).collect()),
            transition_default_minimum_object_size: Some(minimum_of(lifecycle)),
        }))
    }

    pub(in super::super) async fn answer_put_lifecycle(
        &self,
        request: S3Request<PutBucketLifecycleConfigurationInput>,
    ) -> S3Result<S3Response<PutBucketLifecycleConfigurationOutput>> {
        check_body(&request.extensions, &request.headers, &ELEMENTS)?;
        let PutBucketLifecycleConfigurationInput {
            bucket,
            lifecycle_configuration,
            transition_default_minimum_object_size,
            ..
        } = request.input;
        let Some(given) = lifecycle_configuration else {
            return Err(malformed("the body is a LifecycleConfiguration"));
        };
        let minimum = transition_default_minimum_object_size.map(|m| m.as_str().to_string());
        if minimum.as_ref().is_some_and(|minimum| !MINIMUMS.contains(&minimum.as_str())) {
            return Err(invalid_argument(format!(
                "x-amz-transition-default-minimum-object-size is {}",
                MINIMUMS.join(" or ")
            )));
        }
        let lifecycle = read(given, minimum)?;
        self.buckets.configure(&bucket, Kind::Lifecycle, Some(&lifecycle)).await?;
        Ok(S3Response::new(PutBucketLifecycleConfigurationOutput {
            transition_default_minimum_object_size: Some(minimum_of(&lifecycle)),
        }))
    }

    pub(in super::super) async fn answer_delete_lifecycle(
        &self,
        request: S3Request<DeleteBucketLifecycleInput>,
    ) -> S3Result<S3Response<DeleteBucketLifecycleOutput>> {
        let bucket = &request.input.bucket;
        self.buckets.configure(bucket, Kind::Lifecycle, None::<&Lifecycle>).await?;
        let output = DeleteBucketLifecycleOutput::default();
        Ok(S3Response::with_status(output, StatusCode::NO_CONTENT))
    }

    /// `x-amz-expiration` of a current object.
    pub(in super::super) async fn expiration(
        &self,
        bucket: &str,
        meta: &ObjectMeta,
    ) -> Option<Expiration> {
        if warehouse::is_warehouse(bucket) {
            return None;
        }
        let configured = self.buckets.configurations(bucket).await.ok()?;
        let (at_ms, rule) = configured.lifecycle.as_ref()?.expiry(meta)?;
        let mut date = Vec::new();
        timestamp(at_ms).format(TimestampFormat::HttpDate, &mut date).ok()?;
        let date = String::from_utf8(date).ok()?;
        let rule = utf8_percent_encode(rule, NON_ALPHANUMERIC);
        Some(format!("expiry-date=\"{date}\", rule-id=\"{rule}\""))
    }

    /// When an upload will be aborted, and by which rule.
    pub(in super::super) async fn abortion(
        &self,
        bucket: &str,
        upload: &UploadMeta,
    ) -> Option<(Timestamp, String)> {
        if warehouse::is_warehouse(bucket) {
            return None;
        }
        let configured = self.buckets.configurations(bucket).await.ok()?;
        let (at_ms, rule) = configured.lifecycle.as_ref()?.abortion(upload)?;
        Some((timestamp(at_ms), rule.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> LifecycleRule {
        let kept = super::super::tests::rule(Some(Expire::Days(3)));
        show_rule(&kept)
    }

    fn read_one(rule: LifecycleRule) -> Result<Rule, String> {
        read_rule(rule).map_err(|error| error.code().as_str().to_string())
    }

    #[test]
    fn what_is_shown_is_read_as_it_was() {
        let mut kept = super::super::tests::rule(Some(Expire::Date(DAY_MS * 400)));
        kept.older = Some(Older { days: 7, keep: Some(3) });
        kept.filter.form = Form::And;
        kept.filter.prefix = Some("p/".into());
        kept.filter.tags = Tags::from([("a".into(), "b".into()), ("c".into(), String::new())]);
        (kept.filter.larger_than, kept.filter.smaller_than) = (Some(1), Some(9));
        assert_eq!(read_one(show_rule(&kept)), Ok(kept.clone()));
        let text = serde_json::to_string(&kept).unwrap();
        assert_eq!(serde_json::from_str::<Rule>(&text).unwrap(), kept);
        let plain = super::super::tests::rule(None);
        let mut plain = Rule { abort_days: Some(1), enabled: false, ..plain };
        (plain.filter.form, plain.filter.prefix) = (Form::Rule, Some(String::new()));
        assert_eq!(read_one(show_rule(&plain)), Ok(plain));
    }

    #[test]
    fn rules_that_s3_does_not_take_are_refused_with_its_codes() {
        let expire = |expiration| LifecycleRule { expiration: Some(expiration), ..rule() };
        let days = |days| LifecycleExpiration { days, ..LifecycleExpiration::default() };
        let filter = |filter| LifecycleRule { filter: Some(filter), ..rule() };
        let none = LifecycleRuleFilter::default;
        let tag = Tag { key: Some("a".into()), value: Some("b".into()) };
        let marker = LifecycleExpiration {
            expired_object_delete_marker: Some(true),
            ..LifecycleExpiration::default()
        };
        for (case, code) in [
            (LifecycleRule { expiration: None, ..rule() }, "InvalidRequest"),
            (expire(days(Some(0))), "InvalidArgument"),
            (expire(days(None)), "MalformedXML"),
            (
                expire(LifecycleExpiration { date: Some(timestamp(DAY_MS + 1000)), ..days(None) }),
                "InvalidArgument",
            ),
            (expire(LifecycleExpiration { days: Some(1), ..marker.clone() }), "MalformedXML"),
            (LifecycleRule { filter: None, ..rule() }, "MalformedXML"),
            (LifecycleRule { prefix: Some(String::new()), ..rule() }, "MalformedXML"),
            (LifecycleRule { id: Some("x".repeat(256)), ..rule() }, "InvalidArgument"),
            (
                filter(LifecycleRuleFilter {
                    prefix: Some("p".into()),
                    tag: Some(tag.clone()),
                    ..none()
                }),
                "MalformedXML",
            ),
            (
                LifecycleRule {
                    expiration: Some(marker),
                    filter: Some(LifecycleRuleFilter { tag: Some(tag), ..none() }),
                    ..rule()
                },
                "InvalidRequest",
            ),
            (
                LifecycleRule { status: ExpirationStatus::from_static("On"), ..rule() },
                "MalformedXML",
            ),
            (LifecycleRule { transitions: Some(vec![]), ..rule() }, "NotImplemented"),
        ] {
            assert_eq!(read_one(case), Err(code.to_string()));
        }
        let twice = BucketLifecycleConfiguration { rules: vec![rule(), rule()] };
        assert_eq!(*read(twice, None).unwrap_err().code(), S3ErrorCode::InvalidArgument);
        let many = BucketLifecycleConfiguration { rules: vec![rule(); 1001] };
        assert_eq!(*read(many, None).unwrap_err().code(), S3ErrorCode::MalformedXML);
    }
}
