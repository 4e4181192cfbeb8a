//! Accounts, regions and Amazon resource names.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A twelve-digit account id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountId(Arc<str>);

/// Why a text is not an account id, a region or an ARN.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadArn {
    /// Not twelve digits.
    #[error("'{0}' is not an account id: it has twelve digits")]
    Account(String),
    /// Not the form of a region's name.
    #[error(
        "'{0}' is not a region: it looks like us-east-1 (lower-case letters, digits and hyphens)"
    )]
    Region(String),
    /// Not `arn:partition:service:region:account:resource`.
    #[error("'{0}' is not an ARN: it looks like arn:aws:SERVICE:REGION:ACCOUNT:RESOURCE")]
    Arn(String),
}

impl AccountId {
    /// The text, twelve digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountId {
    type Err = BadArn;
    fn from_str(text: &str) -> Result<Self, BadArn> {
        if text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Self(text.into()))
        } else {
            Err(BadArn::Account(text.to_string()))
        }
    }
}

impl TryFrom<String> for AccountId {
    type Error = BadArn;
    fn try_from(text: String) -> Result<Self, BadArn> {
        text.parse()
    }
}

impl From<AccountId> for String {
    fn from(id: AccountId) -> String {
        id.0.to_string()
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A region: a namespace for resources. Any name of AWS's form works.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region(Arc<str>);

impl Region {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Long enough for every AWS region, short enough for a key.
const REGION_MAX: usize = 32;

impl FromStr for Region {
    type Err = BadArn;
    fn from_str(text: &str) -> Result<Self, BadArn> {
        let part_ok = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        };
        let parts: Vec<&str> = text.split('-').collect();
        let ends_in_digit = text.bytes().last().is_some_and(|b| b.is_ascii_digit());
        let fits = text.len() <= REGION_MAX && parts.len() >= 3 && ends_in_digit;
        if fits && parts.iter().all(|part| part_ok(part)) {
            Ok(Self(text.into()))
        } else {
            Err(BadArn::Region(text.to_string()))
        }
    }
}

impl TryFrom<String> for Region {
    type Error = BadArn;
    fn try_from(text: String) -> Result<Self, BadArn> {
        text.parse()
    }
}

impl From<Region> for String {
    fn from(region: Region) -> String {
        region.0.to_string()
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `arn:partition:service:region:account:resource`; the resource may contain colons and slashes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Arn {
    /// `aws`, `aws-cn`, …
    pub partition: String,
    /// The service, such as `firehose`.
    pub service: String,
    /// The region; empty for global services.
    pub region: String,
    /// The account; empty for S3 buckets.
    pub account: String,
    /// All that follows.
    pub resource: String,
}

impl Arn {
    /// An ARN of partition `aws`.
    pub fn new(service: &str, region: &str, account: &str, resource: impl Into<String>) -> Self {
        Self {
            partition: "aws".into(),
            service: service.into(),
            region: region.into(),
            account: account.into(),
            resource: resource.into(),
        }
    }
}

impl FromStr for Arn {
    type Err = BadArn;
    fn from_str(text: &str) -> Result<Self, BadArn> {
        let bad = || BadArn::Arn(text.chars().take(256).collect());
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next().ok_or_else(bad);
        if next()? != "arn" {
            return Err(bad());
        }
        let arn = Self {
            partition: next()?.into(),
            service: next()?.into(),
            region: next()?.into(),
            account: next()?.into(),
            resource: next()?.into(),
        };
        if arn.partition.is_empty() || arn.service.is_empty() || arn.resource.is_empty() {
            return Err(bad());
        }
        Ok(arn)
    }
}

impl fmt::Display for Arn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { partition, service, region, account, resource } = self;
        write!(f, "arn:{partition}:{service}:{region}:{account}:{resource}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arn_round_trips_with_colons_in_its_resource() {
        let text = "arn:aws:glue:us-east-1:000000000000:catalog/s3tablescatalog/b:c";
        assert_eq!(text.parse::<Arn>().unwrap().to_string(), text);
    }

    #[test]
    fn regions_of_other_forms_are_refused() {
        for good in ["us-east-1", "eu-central-2", "us-gov-west-1", "ap-southeast-5"] {
            assert!(good.parse::<Region>().is_ok(), "{good}");
        }
        for bad in ["", "us", "US-EAST-1", "us-east-1/..", "us--1", "us-east-", "é-a-1"] {
            assert!(bad.parse::<Region>().is_err(), "{bad}");
        }
    }
}
