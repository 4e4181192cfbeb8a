//! Which part of a `Host` header is a bucket.
//!
//! Only hosts under the configured domain (`--s3-domain`) name a bucket; every other host, such
//! as a container's name, addresses the service itself and the bucket is in the path.

use s3s::S3Result;
use s3s::host::{S3Host, VirtualHost};
use s3s::path::check_bucket_name;

/// Hosts of one domain: `DOMAIN` is the service, `BUCKET.DOMAIN` is a bucket.
#[derive(Debug, Clone)]
pub(super) struct DomainHost {
    domain: String,
}

impl DomainHost {
    /// Takes the domain without a port.
    pub(super) fn new(domain: &str) -> Self {
        Self { domain: domain.trim_matches('.').to_ascii_lowercase() }
    }

    /// The bucket that a `Host` header names, if any.
    pub(super) fn bucket_of<'a>(&self, host: &'a str) -> Option<&'a str> {
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        };
        let cut = name.len().checked_sub(self.domain.len())?.checked_sub(1)?;
        let (front, back) = (name.get(..cut)?, name.get(cut..)?);
        let under = back.strip_prefix('.')?.eq_ignore_ascii_case(&self.domain);
        (under && check_bucket_name(front)).then_some(front)
    }
}

impl S3Host for DomainHost {
    fn parse_host_header<'a>(&'a self, host: &'a str) -> S3Result<VirtualHost<'a>> {
        let parsed = VirtualHost::new(host);
        Ok(match self.bucket_of(host) {
            Some(bucket) => parsed.with_bucket(bucket),
            None => parsed,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hosts_under_the_domain_name_a_bucket() {
        let host = DomainHost::new("localhost");
        assert_eq!(host.bucket_of("localhost:4566"), None);
        assert_eq!(host.bucket_of("my-bucket.localhost:4566"), Some("my-bucket"));
        assert_eq!(host.bucket_of("my.dotted.bucket.LOCALHOST"), Some("my.dotted.bucket"));
        assert_eq!(host.bucket_of("alluvium:4566"), None);
        assert_eq!(host.bucket_of("my-bucket.example.com"), None);
        assert_eq!(host.bucket_of("s3.localhost:4566"), None);
        assert_eq!(host.bucket_of("evillocalhost"), None);
        assert_eq!(host.bucket_of(".localhost"), None);
        assert_eq!(host.bucket_of("é.localhost"), None);
    }
}
