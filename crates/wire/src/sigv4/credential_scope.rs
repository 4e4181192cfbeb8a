//! The credential scope: which key signed, on which day, for which region and service.

use super::SignatureProblem;

/// `AKID/20260131/us-east-1/firehose/aws4_request`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialScope {
    /// The access key id.
    pub access_key_id: String,
    /// The day, `yyyyMMdd`, UTC.
    pub date: String,
    /// The region.
    pub region: String,
    /// The service's signing name.
    pub service: String,
}

/// Longest part of a scope that is looked at; AWS's access keys have at most 128 characters.
const PART_MAX: usize = 128;

impl CredentialScope {
    /// Reads a scope.
    pub fn parse(text: &str) -> Result<Self, SignatureProblem> {
        let bad = || {
            SignatureProblem::Incomplete(
                "Credential must have the form KEY/yyyyMMdd/REGION/SERVICE/aws4_request".into(),
            )
        };
        let parts: Vec<&str> = text.split('/').collect();
        let [key, date, region, service, "aws4_request"] = parts[..] else { return Err(bad()) };
        let fits = |part: &&str| {
            !part.is_empty() && part.len() <= PART_MAX && part.bytes().all(|b| b.is_ascii_graphic())
        };
        let day = date.len() == 8 && date.bytes().all(|b| b.is_ascii_digit());
        if !day || ![key, region, service].iter().all(fits) {
            return Err(bad());
        }
        Ok(Self {
            access_key_id: key.into(),
            date: date.into(),
            region: region.into(),
            service: service.into(),
        })
    }

    /// The scope without the key, as it stands in the string to sign.
    pub fn without_key(&self) -> String {
        format!("{}/{}/{}/aws4_request", self.date, self.region, self.service)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_keeps_its_four_parts() {
        let scope = CredentialScope::parse("AK/20260131/us-east-1/sts/aws4_request").unwrap();
        assert_eq!(scope.access_key_id, "AK");
        assert_eq!(scope.without_key(), "20260131/us-east-1/sts/aws4_request");
    }

    #[test]
    fn other_forms_are_incomplete() {
        for bad in [
            "",
            "AK",
            "AK/20260131/us-east-1/sts",
            "AK/20260131/us-east-1/sts/aws4_request/x",
            "AK/2026013/us-east-1/sts/aws4_request",
            "AK/2026013x/us-east-1/sts/aws4_request",
            "/20260131/us-east-1/sts/aws4_request",
            "AK/20260131//sts/aws4_request",
            "AK/20260131/us-east-1/s ts/aws4_request",
            "AK/20260131/us-east-1/sts/aws5_request",
        ] {
            assert!(
                matches!(CredentialScope::parse(bad), Err(SignatureProblem::Incomplete(_))),
                "{bad}"
            );
        }
    }
}
