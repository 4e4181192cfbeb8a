//! Names, ARNs, regions and policies: an ARN that is read is written as it came; a name that is
//! accepted has no separator, no dots alone and no control character in it.

use alluvium_access::check_policy;
use alluvium_base::{AccountId, Arn, Region};
use alluvium_lake::catalog::{
    check_bucket_name, check_link_name, check_namespace_name, check_table_name,
};

/// The target.
pub(super) fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(arn) = text.parse::<Arn>() {
        assert_eq!(arn.to_string(), text);
    }
    if let Ok(region) = text.parse::<Region>() {
        assert_eq!(region.as_str(), text);
    }
    if let Ok(account) = text.parse::<AccountId>() {
        assert_eq!(account.as_str(), text);
    }
    let checks = [
        check_bucket_name(text),
        check_namespace_name(text),
        check_table_name(text),
        check_link_name(text),
    ];
    if checks.iter().any(Result::is_ok) {
        assert!(!text.is_empty() && text.len() <= 255, "{text:?}");
        assert!(!text.contains(['/', '\\', '\0']) && text != "." && text != "..", "{text:?}");
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
    if check_policy(text).is_ok() {
        let value: serde_json::Value = serde_json::from_str(text).expect("a policy is JSON");
        let denies = value["Statement"]["Effect"] == "Deny";
        assert!(!denies, "a Deny was accepted");
    }
}
