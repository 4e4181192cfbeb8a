//! Lifecycles: when objects, older versions, delete markers and uploads go.
//!
//! Here, the rules as they are kept and what they say of one object; `calls` reads and shows them,
//! `job` carries them out. Days are counted as S3 counts them: "by adding the number of days
//! specified in the rule to the object creation time and rounding the resulting time to the next
//! day midnight UTC" (S3 user guide, Lifecycle configuration elements).

mod calls;
mod job;

pub use job::{LifecycleJob, Swept};

use super::tagging::Tags;
use alluvium_store::objects::versions::VersionMeta;
use alluvium_store::objects::{ObjectMeta, UploadMeta};
use serde::{Deserialize, Serialize};

pub(super) const DAY_MS: i64 = 86_400_000;

/// The rules of a bucket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lifecycle {
    pub(super) rules: Vec<Rule>,
    /// `TransitionDefaultMinimumObjectSize`: kept and shown; transitions are refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) transition_minimum: Option<String>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rule {
    pub(super) id: String,
    pub(super) enabled: bool,
    pub(super) filter: Filter,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expire: Option<Expire>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) older: Option<Older>,
    /// Days after which uploads are aborted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) abort_days: Option<i32>,
}

/// Which objects a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Filter {
    pub(super) form: Form,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) prefix: Option<String>,
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub(super) tags: Tags,
    /// More bytes than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) larger_than: Option<i64>,
    /// Fewer bytes than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) smaller_than: Option<i64>,
}

/// How a filter was written, and is shown again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Form {
    /// A `Prefix` of the rule itself, as of old.
    Rule,
    /// A `Filter` of at most one member.
    One,
    /// A `Filter` with an `And`.
    And,
}

/// When the current version goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Expire {
    /// After days.
    Days(i32),
    /// At a midnight, and from then on.
    Date(i64),
    /// Whether a delete marker that is alone goes; objects do not.
    Marker(bool),
}

/// When older versions go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Older {
    /// Days after they became older ones.
    pub(super) days: i32,
    /// So many of the newest of them stay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) keep: Option<i32>,
}

/// The midnight that days after a time are rounded up to.
fn midnight_after(at_ms: i64, days: i32) -> i64 {
    let due = at_ms.saturating_add(i64::from(days).saturating_mul(DAY_MS));
    due.saturating_add((-due).rem_euclid(DAY_MS))
}

impl Filter {
    fn has_prefix(&self, key: &str) -> bool {
        key.starts_with(self.prefix.as_deref().unwrap_or_default())
    }

    fn takes(&self, meta: &ObjectMeta) -> bool {
        let size = i64::try_from(meta.size_bytes).unwrap_or(i64::MAX);
        let kept = &meta.attributes.tags;
        self.has_prefix(&meta.key)
            && self.tags.iter().all(|(key, value)| kept.get(key) == Some(value))
            && self.larger_than.is_none_or(|least| size > least)
            && self.smaller_than.is_none_or(|most| size < most)
    }

    /// A delete marker has neither tags nor a size.
    fn takes_version(&self, version: &VersionMeta) -> bool {
        let sized = self.larger_than.is_some() || self.smaller_than.is_some();
        self.takes(&version.meta) && !(version.is_marker && sized)
    }
}

impl Lifecycle {
    fn enabled(&self) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(|rule| rule.enabled)
    }

    /// When a current object expires, and by which rule: the first to take it.
    pub(super) fn expiry(&self, meta: &ObjectMeta) -> Option<(i64, &str)> {
        let due =
            self.enabled().filter(|rule| rule.filter.takes(meta)).filter_map(|rule| {
                match rule.expire? {
                    Expire::Days(days) => {
                        Some((midnight_after(meta.last_modified_ms, days), rule.id.as_str()))
                    }
                    Expire::Date(at_ms) => Some((at_ms, rule.id.as_str())),
                    Expire::Marker(_) => None,
                }
            });
        due.min_by_key(|(at_ms, _)| *at_ms)
    }

    /// When an upload is aborted, and by which rule.
    pub(super) fn abortion(&self, upload: &UploadMeta) -> Option<(i64, &str)> {
        let taken = self.enabled().filter(|rule| rule.filter.has_prefix(&upload.key));
        let due = taken.filter_map(|rule| {
            Some((midnight_after(upload.initiated_ms, rule.abort_days?), rule.id.as_str()))
        });
        due.min_by_key(|(at_ms, _)| *at_ms)
    }

    /// Whether an older version goes; `newer` of its key's older ones are newer.
    fn ends_older(&self, version: &VersionMeta, newer: usize, now_ms: i64) -> bool {
        let Some(since_ms) = version.superseded_ms else { return false };
        self.enabled().filter(|rule| rule.filter.takes_version(version)).any(|rule| {
            rule.older.is_some_and(|older| {
                let kept = usize::try_from(older.keep.unwrap_or(0)).unwrap_or(0);
                newer >= kept && midnight_after(since_ms, older.days) <= now_ms
            })
        })
    }

    /// Whether a delete marker that is all there is of its key goes. A rule that expires objects
    /// takes it when it is as old as they.
    fn ends_marker(&self, marker: &VersionMeta, now_ms: i64) -> bool {
        let age_ms = marker.meta.last_modified_ms;
        self.enabled().filter(|rule| rule.filter.takes_version(marker)).any(|rule| {
            match rule.expire {
                None => false,
                Some(Expire::Marker(wanted)) => wanted,
                Some(Expire::Days(days)) => midnight_after(age_ms, days) <= now_ms,
                Some(Expire::Date(at_ms)) => at_ms <= now_ms,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alluvium_store::objects::Attributes;

    #[test]
    fn days_end_at_the_next_midnight() {
        // 2014-01-15 10:30 UTC and three days: "2014-01-19 00:00 UTC".
        let created = 1_389_781_800_000;
        assert_eq!(midnight_after(created, 3), 1_390_089_600_000);
        let midnight = 1_390_089_600_000;
        assert_eq!(midnight_after(midnight, 1), midnight + DAY_MS);
        assert_eq!(midnight_after(midnight + 1, 1), midnight + 2 * DAY_MS);
    }

    pub(super) fn rule(expire: Option<Expire>) -> Rule {
        let filter = Filter {
            form: Form::One,
            prefix: None,
            tags: Tags::new(),
            larger_than: None,
            smaller_than: None,
        };
        Rule { id: "r".into(), enabled: true, filter, expire, older: None, abort_days: None }
    }

    fn meta(key: &str, size_bytes: u64, tags: &[(&str, &str)]) -> ObjectMeta {
        let tags = tags.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        ObjectMeta {
            key: key.into(),
            size_bytes,
            etag: String::new(),
            last_modified_ms: 0,
            version: 1,
            version_id: None,
            part_sizes: vec![],
            attributes: Attributes { tags, ..Attributes::default() },
        }
    }

    #[test]
    fn a_filter_takes_what_meets_all_of_it() {
        let mut filter = rule(None).filter;
        assert!(filter.takes(&meta("k", 0, &[])));
        filter.prefix = Some("logs/".into());
        filter.tags = Tags::from([("a".to_string(), "1".to_string())]);
        (filter.larger_than, filter.smaller_than) = (Some(10), Some(20));
        assert!(filter.takes(&meta("logs/x", 11, &[("a", "1"), ("b", "2")])));
        for other in [
            meta("log", 11, &[("a", "1")]),
            meta("logs/x", 10, &[("a", "1")]),
            meta("logs/x", 20, &[("a", "1")]),
            meta("logs/x", 11, &[("a", "2")]),
            meta("logs/x", 11, &[]),
        ] {
            assert!(!filter.takes(&other), "{other:?}");
        }
    }

    #[test]
    fn the_earliest_of_the_rules_that_take_an_object_counts() {
        let named = |id: &str, expire| Rule { id: id.into(), ..rule(Some(expire)) };
        let off = Rule { enabled: false, ..named("off", Expire::Days(1)) };
        let rules = vec![
            named("late", Expire::Days(9)),
            off,
            named("early", Expire::Days(3)),
            named("marker", Expire::Marker(true)),
        ];
        let lifecycle = Lifecycle { rules, transition_minimum: None };
        assert_eq!(lifecycle.expiry(&meta("k", 1, &[])), Some((3 * DAY_MS, "early")));
    }
}
