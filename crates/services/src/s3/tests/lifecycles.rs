//! Lifecycles carried out under a clock that the test moves: months in a moment.

use super::*;
use crate::s3::Swept;
use alluvium_base::ManualClock;
use alluvium_store::objects::local::LocalObjects;

const DAY_MS: i64 = 86_400_000;
/// A morning: 2024-01-15 10:30 UTC.
const BEGIN_MS: i64 = 1_705_314_600_000;

struct Lake {
    harness: Harness,
    clock: Arc<ManualClock>,
    _directory: tempfile::TempDir,
}

impl Lake {
    async fn new(versioned: bool) -> Self {
        let clock = Arc::new(ManualClock::new(BEGIN_MS));
        let directory = tempfile::TempDir::new().unwrap();
        let root = directory.path().join("objects");
        let records = Arc::new(MemoryRecords::new());
        let opened =
            LocalObjects::open(&root, records.clone(), clock.clone(), Arc::new(OsRandom)).await;
        let objects: Arc<dyn Objects> = Arc::new(opened.unwrap());
        let harness = Harness::over(objects, records, clock.clone());
        let lake = Self { harness, clock, _directory: directory };
        assert_eq!(lake.call("PUT", "/bucket", b"").await.status, StatusCode::OK);
        if versioned {
            lake.versioning("Enabled").await;
        }
        lake
    }

    async fn call(&self, method: &str, target: &str, body: &[u8]) -> Answer {
        self.call_with(method, target, &[], body).await
    }

    async fn call_with(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let now_ms = self.clock.now_ms();
        let request = signed_at(now_ms, "us-east-1", method, target, headers, body);
        self.harness.send(request).await
    }

    async fn versioning(&self, status: &str) {
        let xml =
            format!("<VersioningConfiguration><Status>{status}</Status></VersioningConfiguration>");
        let answer = self.call("PUT", "/bucket?versioning", xml.as_bytes()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    }

    async fn rules(&self, rules: &str) {
        let xml = format!("<LifecycleConfiguration>{rules}</LifecycleConfiguration>");
        let answer = self.call("PUT", "/bucket?lifecycle", xml.as_bytes()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    }

    async fn put(&self, key: &str, body: &str, tags: &str) {
        let target = format!("/bucket/{key}");
        let headers: &[_] = if tags.is_empty() { &[] } else { &[("x-amz-tagging", tags)] };
        let answer = self.call_with("PUT", &target, headers, body.as_bytes()).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    }

    async fn pass(&self) -> Swept {
        self.harness.gateway.lifecycles().pass().await.unwrap()
    }

    /// Passes after so many days.
    async fn after_days(&self, days: i64) -> Swept {
        self.clock.advance(days * DAY_MS);
        self.pass().await
    }

    /// Every version: key, `*` for the current one, `!` for a delete marker.
    async fn versions(&self) -> Vec<String> {
        let listed = self.call("GET", "/bucket?versions", b"").await.text();
        let mut found = Vec::new();
        for (element, mark) in [("Version", ""), ("DeleteMarker", "!")] {
            for part in listed.split(&format!("<{element}>")).skip(1) {
                let latest = between(part, "<IsLatest>", "</IsLatest>") == "true";
                let key = between(part, "<Key>", "</Key>");
                found.push(format!("{key}{}{mark}", if latest { "*" } else { "" }));
            }
        }
        found.sort();
        found
    }
}

fn rule(filter: &str, action: &str) -> String {
    format!("<Rule><Status>Enabled</Status><Filter>{filter}</Filter>{action}</Rule>")
}

fn days(days: u32) -> String {
    format!("<Expiration><Days>{days}</Days></Expiration>")
}

#[tokio::test]
async fn objects_expire_at_the_midnight_after_their_days() {
    let lake = Lake::new(false).await;
    lake.put("k", "x", "").await;
    lake.rules(&rule("", &days(30))).await;
    let head = lake.call("HEAD", "/bucket/k", b"").await;
    // Thirty days and a morning after the 15th of January, at the next midnight.
    let wanted = "expiry-date=\"Thu, 15 Feb 2024 00:00:00 GMT\", rule-id=\"rule%2D1\"";
    assert_eq!(head.header("x-amz-expiration"), wanted);
    assert_eq!(lake.after_days(30).await, Swept::default(), "13.5 hours are left");
    lake.clock.advance(13 * 3_600_000 + 30 * 60_000 - 1);
    assert_eq!(lake.pass().await, Swept::default(), "a millisecond is left");
    lake.clock.advance(1);
    assert_eq!(lake.pass().await, Swept { expired: 1, ..Swept::default() });
    assert_eq!(lake.pass().await, Swept::default());
    assert!(lake.versions().await.is_empty());
    assert_eq!(lake.call("DELETE", "/bucket", b"").await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn rules_are_about_what_their_filter_takes() {
    let lake = Lake::new(false).await;
    lake.put("logs/a", "x", "").await;
    lake.put("tagged", "x", "a=1&b=2").await;
    lake.put("large", &"x".repeat(100), "").await;
    lake.put("logs/tagged", "x", "a=1").await;
    lake.put("kept", "x", "").await;
    let tag = "<Tag><Key>b</Key><Value>2</Value></Tag>";
    let and = "<And><Prefix>logs/</Prefix><Tag><Key>a</Key><Value>1</Value></Tag></And>";
    let off = rule("", &days(1)).replace("Enabled", "Disabled");
    let large = "<ObjectSizeGreaterThan>99</ObjectSizeGreaterThan>";
    let rules = [off, rule(tag, &days(2)), rule(large, &days(4)), rule(and, &days(6))];
    lake.rules(&rules.concat()).await;
    for (wait, wanted) in [
        (2, vec!["kept*", "large*", "logs/a*", "logs/tagged*", "tagged*"]),
        (1, vec!["kept*", "large*", "logs/a*", "logs/tagged*"]),
        (2, vec!["kept*", "logs/a*", "logs/tagged*"]),
        (2, vec!["kept*", "logs/a*"]),
        (100, vec!["kept*", "logs/a*"]),
    ] {
        lake.after_days(wait).await;
        assert_eq!(lake.versions().await, wanted);
    }
    lake.rules(&rule("<Prefix>logs/</Prefix>", &days(1))).await;
    assert_eq!(lake.pass().await.expired, 1);
    assert_eq!(lake.versions().await, ["kept*"]);
}

#[tokio::test]
async fn a_date_holds_from_its_midnight_on() {
    let lake = Lake::new(false).await;
    let date = "<Expiration><Date>2024-01-20T00:00:00Z</Date></Expiration>";
    lake.rules(&rule("", date)).await;
    lake.put("k", "x", "").await;
    assert_eq!(lake.after_days(4).await, Swept::default());
    assert_eq!(lake.after_days(1).await.expired, 1);
    lake.put("later", "x", "").await;
    assert_eq!(lake.after_days(1).await.expired, 1);
    let noon = date.replace("T00:", "T12:");
    let xml = format!("<LifecycleConfiguration>{}</LifecycleConfiguration>", rule("", &noon));
    let refused = lake.call("PUT", "/bucket?lifecycle", xml.as_bytes()).await;
    assert_eq!(refused.code(), "InvalidArgument");
}

#[tokio::test]
async fn in_a_versioned_bucket_what_expires_stays_until_it_is_old() {
    let lake = Lake::new(true).await;
    for body in ["1", "2", "3"] {
        lake.put("k", body, "").await;
    }
    let older = "<NoncurrentVersionExpiration><NoncurrentDays>10</NoncurrentDays>\
                 <NewerNoncurrentVersions>1</NewerNoncurrentVersions></NoncurrentVersionExpiration>";
    lake.rules(&rule("", &format!("{}{older}", days(5)))).await;
    assert_eq!(lake.after_days(6).await, Swept { expired: 1, ..Swept::default() });
    assert_eq!(lake.versions().await, ["k", "k", "k", "k*!"]);
    // Two of them became older ones on the first day, the third when it expired: that one is the
    // newest, which stays.
    assert_eq!(lake.after_days(5).await, Swept { older: 2, ..Swept::default() });
    assert_eq!(lake.versions().await, ["k", "k*!"]);
    assert_eq!(lake.after_days(100).await, Swept::default());
    let all = older.replace("<NewerNoncurrentVersions>1</NewerNoncurrentVersions>", "");
    lake.rules(&rule("", &format!("{}{all}", days(5)))).await;
    assert_eq!(lake.pass().await, Swept { older: 1, ..Swept::default() });
    assert_eq!(lake.pass().await, Swept { markers: 1, ..Swept::default() });
    assert!(lake.versions().await.is_empty());
}

#[tokio::test]
async fn delete_markers_that_are_alone_go_and_others_stay() {
    let lake = Lake::new(true).await;
    lake.put("k", "x", "").await;
    for key in ["k", "alone"] {
        let target = format!("/bucket/{key}");
        assert_eq!(lake.call("DELETE", &target, b"").await.status, StatusCode::NO_CONTENT);
    }
    let markers =
        "<Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration>";
    lake.rules(&rule("", &markers.replace("true", "false"))).await;
    assert_eq!(lake.after_days(1).await, Swept::default());
    lake.rules(&rule("", markers)).await;
    assert_eq!(lake.pass().await, Swept { markers: 1, ..Swept::default() });
    assert_eq!(lake.versions().await, ["k", "k*!"]);
}

#[tokio::test]
async fn a_suspended_bucket_expires_to_its_null_marker() {
    let lake = Lake::new(true).await;
    lake.put("k", "version", "").await;
    lake.versioning("Suspended").await;
    lake.put("k", "null", "").await;
    lake.rules(&rule("", &days(1))).await;
    assert_eq!(lake.after_days(2).await.expired, 1);
    assert_eq!(lake.versions().await, ["k", "k*!"]);
}

#[tokio::test]
async fn uploads_that_are_never_completed_are_aborted() {
    let lake = Lake::new(false).await;
    let action = "<AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation>\
                  </AbortIncompleteMultipartUpload>";
    lake.rules(&rule("<Prefix>a</Prefix>", action)).await;
    for key in ["a1", "a2", "b"] {
        let begun = lake.call("POST", &format!("/bucket/{key}?uploads"), b"").await;
        assert_eq!(begun.status, StatusCode::OK);
        let date = begun.header("x-amz-abort-date");
        assert_eq!(date, if key == "b" { "" } else { "Tue, 23 Jan 2024 00:00:00 GMT" });
    }
    assert_eq!(lake.after_days(7).await, Swept::default());
    assert_eq!(lake.after_days(1).await, Swept { uploads: 2, ..Swept::default() });
    let listed = lake.call("GET", "/bucket?uploads", b"").await.text();
    assert_eq!(listed.matches("<Upload>").count(), 1);
}

#[tokio::test]
async fn more_than_a_step_of_versions_goes_over_steps() {
    let lake = Lake::new(true).await;
    for n in 0..120 {
        lake.put(&format!("k{:03}", n / 4), "x", "").await;
    }
    let older = "<NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays>\
                 <NewerNoncurrentVersions>2</NewerNoncurrentVersions></NoncurrentVersionExpiration>";
    lake.rules(&rule("", older)).await;
    lake.clock.advance(2 * DAY_MS);
    // Steps end in the middle of a key's versions, and remember how many of them they saw.
    let job = lake.harness.gateway.lifecycles().in_steps_of(7);
    assert_eq!(job.pass().await.unwrap(), Swept { older: 30, ..Swept::default() });
    assert_eq!(lake.versions().await.len(), 90);
}

#[tokio::test]
async fn a_table_has_no_lifecycle_and_is_never_touched() {
    let lake = Lake::new(false).await;
    lake.harness.store.create_bucket(WAREHOUSE).await.unwrap();
    let put = lake.call("PUT", &format!("/{WAREHOUSE}/f"), b"x").await;
    assert_eq!(put.status, StatusCode::OK);
    let xml = format!("<LifecycleConfiguration>{}</LifecycleConfiguration>", rule("", &days(1)));
    let refused = lake.call("PUT", &format!("/{WAREHOUSE}?lifecycle"), xml.as_bytes()).await;
    assert_eq!(refused.code(), "MethodNotAllowed");
    assert_eq!(lake.after_days(400).await, Swept::default());
    assert_eq!(lake.call("GET", &format!("/{WAREHOUSE}/f"), b"").await.status, StatusCode::OK);
}
