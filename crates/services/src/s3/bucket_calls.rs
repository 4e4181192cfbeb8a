//! Buckets: create, list, head, location, delete.

use super::admission::Signed;
use super::attributes::timestamp;
use super::error::{from_objects, invalid_argument, no_such_bucket, refuse};
use super::operations::Operations;
use super::warehouse;
use super::witness::Witness;
use alluvium_base::Region;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as TOKEN;
use s3s::dto::*;
use s3s::path::check_bucket_name;
use s3s::{S3ErrorCode, S3Request, S3Response, S3Result};

/// The region that has no location constraint.
const CLASSIC_REGION: &str = "us-east-1";
/// "MaxBuckets: 1 to 10,000", which is also what one page has when the call does not say.
const LIST_MAX: i32 = 10_000;
/// Reserved beginnings and ends of names ("General purpose bucket naming rules").
const RESERVED_PREFIXES: [&str; 3] = ["xn--", "sthree-", "amzn-s3-demo-"];
const RESERVED_SUFFIXES: [&str; 5] = ["-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3"];

/// The region that a call was signed for.
fn region_of<T>(request: &S3Request<T>) -> S3Result<Region> {
    let signed = request.extensions.get::<Signed>();
    signed.map(|signed| signed.region.clone()).ok_or_else(|| {
        refuse(S3ErrorCode::InternalError, "a call that nobody signed reached its operation")
    })
}

fn check_name(name: &str) -> S3Result<()> {
    let reserved = RESERVED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || RESERVED_SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
    let adjoining = name.contains(".-") || name.contains("-.");
    if check_bucket_name(name) && !reserved && !adjoining {
        return Ok(());
    }
    Err(refuse(
        S3ErrorCode::InvalidBucketName,
        format!(
            "The specified bucket is not valid: '{name}'. Names have 3 to 63 lower-case letters, \
             digits, hyphens and single dots, begin and end with a letter or digit, are not IP \
             addresses and have none of S3's reserved beginnings and endings"
        ),
    ))
}

/// The region of a new bucket, as S3 decides it from the endpoint's region and the constraint.
fn new_region(signed: Region, constraint: Option<&str>) -> S3Result<Region> {
    let classic = signed.as_str() == CLASSIC_REGION;
    let illegal = |what: &str| {
        refuse(
            S3ErrorCode::IllegalLocationConstraintException,
            format!(
                "The {what} location constraint is incompatible for the region specific endpoint \
                 this request was sent to: sign it for that region, or constrain it to {signed}"
            ),
        )
    };
    let asked = match constraint {
        None | Some("") if classic => return Ok(signed),
        None | Some("") => return Err(illegal("unspecified")),
        Some("EU") => "eu-west-1",
        Some(text) => text,
    };
    let region: Region = asked.parse().map_err(|_| {
        refuse(
            S3ErrorCode::InvalidLocationConstraint,
            format!("The specified location-constraint is not valid: '{asked}'"),
        )
    })?;
    if region.as_str() == CLASSIC_REGION {
        return Err(refuse(
            S3ErrorCode::InvalidLocationConstraint,
            "The specified location-constraint is not valid: us-east-1 has none, leave it out",
        ));
    }
    if classic || region == signed { Ok(region) } else { Err(illegal(asked)) }
}

impl Operations {
    pub(super) async fn answer_create_bucket(
        &self,
        request: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        Witness::check(&request.extensions, &request.headers)?;
        let allowed = ["CreateBucketConfiguration", "LocationConstraint"];
        Witness::allow_elements(&request.extensions, &allowed)?;
        let signed = region_of(&request)?;
        let name = request.input.bucket;
        check_name(&name)?;
        let configuration = request.input.create_bucket_configuration;
        let constraint = configuration.and_then(|c| c.location_constraint);
        let region = new_region(signed.clone(), constraint.as_ref().map(|c| c.as_str()))?;
        let output = CreateBucketOutput { location: Some(format!("/{name}")) };
        match self.buckets.create(&name, region.clone(), self.account.clone()).await? {
            Ok(()) => Ok(S3Response::new(output)),
            // "If you re-create an existing bucket that you already own in us-east-1, Amazon S3
            // returns 200 OK"; everywhere else it is a conflict.
            Err(there) if signed.as_str() == CLASSIC_REGION && there.region == region => {
                Ok(S3Response::new(output))
            }
            Err(_) => Err(refuse(
                S3ErrorCode::BucketAlreadyOwnedByYou,
                format!("Your previous request to create '{name}' succeeded and you own it."),
            )),
        }
    }

    pub(super) async fn answer_delete_bucket(
        &self,
        request: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        self.buckets.delete(&request.input.bucket).await?;
        let done = http::StatusCode::NO_CONTENT;
        Ok(S3Response::with_status(DeleteBucketOutput::default(), done))
    }

    /// A bucket's region. A table's bucket is in the region that the call was signed for: its
    /// catalog knows better, and only callers of that region learn its name.
    async fn region_of_bucket<T>(&self, name: &str, request: &S3Request<T>) -> S3Result<Region> {
        if warehouse::is_warehouse(name) {
            let exists = self.objects.has_bucket(name).await.map_err(from_objects)?;
            return if exists { region_of(request) } else { Err(no_such_bucket(name)) };
        }
        let document = self.buckets.find(name).await?;
        document.map(|d| d.region.clone()).ok_or_else(|| no_such_bucket(name))
    }

    pub(super) async fn answer_head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        let region = self.region_of_bucket(&request.input.bucket, &request).await?;
        Ok(S3Response::new(HeadBucketOutput {
            bucket_region: Some(region.to_string()),
            ..HeadBucketOutput::default()
        }))
    }

    pub(super) async fn answer_location(
        &self,
        request: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        let region = self.region_of_bucket(&request.input.bucket, &request).await?;
        let constraint = (region.as_str() != CLASSIC_REGION)
            .then(|| BucketLocationConstraint::from(region.to_string()));
        Ok(S3Response::new(GetBucketLocationOutput { location_constraint: constraint }))
    }

    pub(super) async fn answer_list_buckets(
        &self,
        request: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let input = request.input;
        let limit = input.max_buckets.unwrap_or(LIST_MAX);
        if !(1..=LIST_MAX).contains(&limit) {
            return Err(invalid_argument(format!("max-buckets is 1 to {LIST_MAX}, not {limit}")));
        }
        let after = match &input.continuation_token {
            None => None,
            Some(token) => Some(decode_token(token)?),
        };
        let prefix = input.prefix.clone().unwrap_or_default();
        let limit = usize::try_from(limit).unwrap_or_default();
        let region = input.bucket_region.as_deref();
        let (listed, more) = self.buckets.list(&prefix, region, after, limit).await?;
        let next = more.then(|| listed.last().map(|(name, _)| TOKEN.encode(name))).flatten();
        let buckets = listed
            .into_iter()
            .map(|(name, document)| Bucket {
                bucket_region: Some(document.region.to_string()),
                creation_date: Some(timestamp(document.created_ms)),
                name: Some(name),
            })
            .collect();
        Ok(S3Response::new(ListBucketsOutput {
            buckets: Some(buckets),
            continuation_token: next,
            owner: Some(self.owner()),
            prefix: input.prefix,
        }))
    }

    /// The owner of everything: the account.
    pub(super) fn owner(&self) -> Owner {
        Owner { display_name: None, id: Some(self.account.to_string()) }
    }
}

/// Opaque to callers: what to continue after, so that it may hold any key.
pub(super) fn encode_token(after: &str) -> String {
    TOKEN.encode(after)
}

/// The inverse of [`encode_token`].
pub(super) fn decode_token(token: &str) -> S3Result<String> {
    TOKEN
        .decode(token)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| invalid_argument("The continuation token provided is incorrect"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_buckets_follow_the_rules_of_s3() {
        for good in ["abc", "a-b.c", "123", &"a".repeat(63)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in [
            "ab",
            &long,
            "Abc",
            "a_b",
            "a..b",
            "a.-b",
            "-ab",
            "ab-",
            "192.168.1.1",
            "xn--abc",
            "sthree-x",
            "x-s3alias",
            "x--ol-s3",
            "x--table-s3",
            "é-bucket",
            "a/b",
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn location_constraint_agrees_with_the_region_of_the_signature() {
        let region = |text: &str| text.parse::<Region>().unwrap();
        let new = |signed: &str, c: Option<&str>| new_region(region(signed), c);
        assert_eq!(new("us-east-1", None).unwrap(), region("us-east-1"));
        assert_eq!(new("us-east-1", Some("eu-west-3")).unwrap(), region("eu-west-3"));
        assert_eq!(new("eu-west-3", Some("eu-west-3")).unwrap(), region("eu-west-3"));
        assert_eq!(new("eu-west-1", Some("EU")).unwrap(), region("eu-west-1"));
        for (signed, constraint, code) in [
            ("eu-west-3", None, S3ErrorCode::IllegalLocationConstraintException),
            ("eu-west-3", Some("eu-west-1"), S3ErrorCode::IllegalLocationConstraintException),
            ("us-east-1", Some("us-east-1"), S3ErrorCode::InvalidLocationConstraint),
            ("us-east-1", Some("moon"), S3ErrorCode::InvalidLocationConstraint),
        ] {
            let error = new(signed, constraint).unwrap_err();
            assert_eq!(*error.code(), code, "{signed} {constraint:?}");
        }
    }
}
