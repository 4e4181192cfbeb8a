//! Athena's calls over a lake in a directory.

use super::{AthenaDependencies, AthenaService};
use crate::testing::{self, Ground};
use alluvium_base::{Clock, ManualClock};
use alluvium_query::{Engine, EngineOptions};
use alluvium_store::records::Operation;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

struct Client {
    service: AthenaService,
    parts: AthenaDependencies,
    clock: Arc<ManualClock>,
    _directory: tempfile::TempDir,
}

impl Client {
    async fn new() -> Self {
        let ground = Ground::new().await;
        ground.namespace().await;
        ground.objects.create_bucket("out").await.unwrap();
        let Ground { clock, random, account, records, objects, lake, directory } = ground;
        let options = EngineOptions::new(directory.path().join("spill"));
        let engine = Engine::new(lake, clock.clone(), random.clone(), options).unwrap();
        let dyn_clock: Arc<dyn Clock> = clock.clone();
        let parts =
            AthenaDependencies { engine, records, objects, clock: dyn_clock, random, account };
        let service = AthenaService::open(parts.clone()).await.unwrap();
        Self { service, parts, clock, _directory: directory }
    }

    async fn call(&self, operation: &str, body: Value) -> Result<Value, (String, String)> {
        let target = format!("AmazonAthena.{operation}");
        let (status, body) = testing::json(&self.service, "athena", &target, &body).await;
        if status.is_success() {
            return Ok(body);
        }
        let text = |member: &str| body[member].as_str().unwrap_or_default().to_string();
        Err((text("__type"), text("message")))
    }

    async fn ok(&self, operation: &str, body: Value) -> Value {
        self.call(operation, body).await.unwrap_or_else(|e| panic!("{operation}: {e:?}"))
    }

    async fn refused(&self, operation: &str, body: Value) -> String {
        let (code, message) = self.call(operation, body).await.unwrap_err();
        assert!(code == "InvalidRequestException" || code == "UnknownOperationException", "{code}");
        message
    }

    async fn end(&self, id: &Value) -> Value {
        // Two minutes at least: a debug build on a busy machine is slow.
        for _ in 0..24_000 {
            let got = self.ok("GetQueryExecution", json!({ "QueryExecutionId": id })).await;
            let state = got["QueryExecution"]["Status"]["State"].as_str().unwrap().to_string();
            if state != "QUEUED" && state != "RUNNING" {
                return got["QueryExecution"].clone();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("the query does not end");
    }

    async fn run(&self, sql: &str) -> Value {
        let started = self
            .ok(
                "StartQueryExecution",
                json!({
                    "QueryString": sql,
                    "QueryExecutionContext": { "Catalog": "s3tablescatalog/lake", "Database": "ns" },
                    "ResultConfiguration": { "OutputLocation": "s3://out/results/" },
                }),
            )
            .await;
        self.end(&started["QueryExecutionId"]).await
    }

    async fn object(&self, location: &str) -> String {
        let key = location.strip_prefix("s3://out/").unwrap();
        let meta = self.parts.objects.head("out", key).await.unwrap();
        let range = 0..meta.size_bytes;
        let bytes = self.parts.objects.get_ranges("out", key, &[range]).await.unwrap();
        String::from_utf8_lossy(&bytes[0]).into_owned()
    }
}

fn cells(results: &Value) -> Vec<Vec<Value>> {
    let rows = results["ResultSet"]["Rows"].as_array().unwrap();
    let data = |row: &Value| row["Data"].as_array().unwrap().clone();
    rows.iter().map(|row| data(row).iter().map(|d| d["VarCharValue"].clone()).collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_select_is_a_csv_with_a_header_and_pages_of_it() {
    let client = Client::new().await;
    let sql = "SELECT x AS \"Id\", CASE WHEN x = 2 THEN NULL ELSE 'say \"hi\",\nyou' END AS t \
               FROM (VALUES 1, 2, 3) AS v (x) ORDER BY x";
    let done = client.run(sql).await;
    assert_eq!(done["Status"]["State"], "SUCCEEDED", "{done}");
    assert_eq!(done["StatementType"], "DML");
    let location = done["ResultConfiguration"]["OutputLocation"].as_str().unwrap();
    let text =
        "\"Id\",\"t\"\n\"1\",\"say \"\"hi\"\",\nyou\"\n\"2\",\n\"3\",\"say \"\"hi\"\",\nyou\"\n";
    assert_eq!(client.object(location).await, text);
    assert!(!client.object(&format!("{location}.metadata")).await.is_empty());
    let id = &done["QueryExecutionId"];
    let first =
        client.ok("GetQueryResults", json!({ "QueryExecutionId": id, "MaxResults": 2 })).await;
    assert_eq!(
        cells(&first),
        [vec![json!("Id"), json!("t")], vec![json!("1"), json!("say \"hi\",\nyou")]]
    );
    let info = &first["ResultSet"]["ResultSetMetadata"]["ColumnInfo"];
    assert_eq!((&info[0]["Type"], &info[1]["Type"]), (&json!("integer"), &json!("varchar")));
    let ask = json!({ "QueryExecutionId": id, "NextToken": first["NextToken"] });
    let second = client.ok("GetQueryResults", ask).await;
    assert_eq!(
        cells(&second),
        [vec![json!("2"), Value::Null], vec![json!("3"), json!("say \"hi\",\nyou")]]
    );
    assert!(second.get("NextToken").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_write_text_manifests_and_counts() {
    let client = Client::new().await;
    let made = client.run("CREATE TABLE t (a int, b string)").await;
    assert_eq!(
        (&made["Status"]["State"], &made["StatementType"]),
        (&json!("SUCCEEDED"), &json!("DDL")),
        "{made}"
    );
    let inserted = client.run("INSERT INTO t VALUES (1, 'x'), (2, 'y')").await;
    let manifest = inserted["Statistics"]["DataManifestLocation"].as_str().unwrap();
    assert!(client.object(manifest).await.starts_with("s3://"));
    let ask = json!({ "QueryExecutionId": inserted["QueryExecutionId"] });
    assert_eq!(client.ok("GetQueryResults", ask).await["UpdateCount"], 2);
    let shown = client.run("DESCRIBE t").await;
    assert!(shown["ResultConfiguration"]["OutputLocation"].as_str().unwrap().ends_with(".txt"));
    let ask = json!({ "QueryExecutionId": shown["QueryExecutionId"] });
    let rows = cells(&client.ok("GetQueryResults", ask).await);
    assert!(rows.contains(&vec![json!("a"), json!("int"), json!("")]), "{rows:?}");
    let listed = json!({ "CatalogName": "s3tablescatalog/lake", "DatabaseName": "ns" });
    let tables = client.ok("ListTableMetadata", listed).await;
    assert_eq!(tables["TableMetadataList"][0]["Columns"][1]["Type"], "string");
    let one =
        json!({ "CatalogName": "s3tablescatalog/lake", "DatabaseName": "ns", "TableName": "nope" });
    assert_eq!(client.call("GetTableMetadata", one).await.unwrap_err().0, "MetadataException");
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_say_why_and_have_no_results() {
    let client = Client::new().await;
    for (sql, part) in [
        ("SELECT 1 / 0", "DIVISION_BY_ZERO"),
        ("SELECT * FROM nope", "TABLE_NOT_FOUND"),
        ("SELECT 1 / (x - 500) FROM UNNEST(sequence(1, 1000)) AS t (x)", "DIVISION_BY_ZERO"),
    ] {
        let done = client.run(sql).await;
        assert_eq!(done["Status"]["State"], "FAILED", "{sql}: {done}");
        let reason = done["Status"]["StateChangeReason"].as_str().unwrap();
        assert!(reason.contains(part), "{sql}: {reason}");
        assert_eq!(done["Status"]["AthenaError"]["ErrorCategory"], 2);
        let ask = json!({ "QueryExecutionId": done["QueryExecutionId"] });
        assert!(client.refused("GetQueryResults", ask).await.contains("FAILED"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_refused_at_once_however_deep_it_is() {
    let client = Client::new().await;
    let deep = |levels| format!("SELECT {}1{}", "(".repeat(levels), ")".repeat(levels));
    for (sql, part) in [
        ("SELEC 1".to_string(), "SYNTAX_ERROR"),
        ("MERGE INTO t USING s ON 1 = 1".to_string(), "MERGE"),
        (deep(50_000), "nested"),
        (format!("SELECT {}1", "NOT ".repeat(60_000)), "operators"),
    ] {
        let said = client.refused("StartQueryExecution", json!({ "QueryString": sql })).await;
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(client.ok("ListQueryExecutions", json!({})).await["QueryExecutionIds"], json!([]));
    assert_eq!(client.run(&deep(60)).await["Status"]["State"], "SUCCEEDED");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_of_one_result_and_of_one_query() {
    let client = Client::new().await;
    let sql = "SELECT x, 'a\"\nb' AS y, null AS z FROM UNNEST(sequence(1, 5)) AS t (x)";
    let (one, other) = (client.run(sql).await, client.run(sql).await);
    let ask = |id: &Value, token: &Value| {
        let mut ask = json!({ "QueryExecutionId": id, "MaxResults": 2 });
        if !token.is_null() {
            ask["NextToken"] = token.clone();
        }
        ask
    };
    let (mut rows, mut token) = (Vec::new(), Value::Null);
    loop {
        let page = client.ok("GetQueryResults", ask(&one["QueryExecutionId"], &token)).await;
        rows.extend(cells(&page));
        if page["NextToken"].is_null() {
            break;
        }
        token = page["NextToken"].clone();
        let stranger = client.refused("GetQueryResults", ask(&other["QueryExecutionId"], &token));
        assert!(stranger.await.contains("NextToken"));
    }
    assert_eq!(rows.len(), 6);
    assert_eq!(rows[5], [json!("5"), json!("a\"\nb"), Value::Null]);
    let location = one["ResultConfiguration"]["OutputLocation"].as_str().unwrap();
    let key = location.strip_prefix("s3://out/").unwrap();
    client.parts.objects.put_bytes("out", key, "x".into(), Default::default()).await.unwrap();
    let said = client.refused("GetQueryResults", ask(&one["QueryExecutionId"], &Value::Null)).await;
    assert!(said.contains("overwritten"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_or_too_much_is_forgotten_with_its_token_and_its_result() {
    let client = Client::new().await;
    let mut ids = Vec::new();
    for number in 0..3 {
        let token = format!("{number}").repeat(40);
        let ask = json!({ "QueryString": "SELECT 1", "ClientRequestToken": token });
        let id = client.ok("StartQueryExecution", ask).await["QueryExecutionId"].clone();
        client.end(&id).await;
        client.clock.advance(1_000);
        ids.push(id);
    }
    let listed =
        async || client.ok("ListQueryExecutions", json!({})).await["QueryExecutionIds"].clone();
    assert_eq!(listed().await, json!([ids[2], ids[1], ids[0]]));
    assert_eq!(client.service.retention.trim(2).await.unwrap(), 1);
    assert_eq!(listed().await, json!([ids[2], ids[1]]));
    let object = format!("{}.csv", ids[0].as_str().unwrap());
    let bucket = super::workgroups::MANAGED_BUCKET;
    assert!(client.parts.objects.head(bucket, &object).await.is_err());
    let again = json!({ "QueryString": "SELECT 2", "ClientRequestToken": "0".repeat(40) });
    let again = client.ok("StartQueryExecution", again).await["QueryExecutionId"].clone();
    client.end(&again).await;
    client.clock.advance(46 * 86_400_000);
    assert_eq!(client.service.retention.trim(2).await.unwrap(), 3);
    assert_eq!(listed().await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_whose_end_could_not_be_recorded_is_failed_not_forever_queued() {
    let client = Client::new().await;
    let done = client.run("SELECT 1").await;
    let id: uuid::Uuid = done["QueryExecutionId"].as_str().unwrap().parse().unwrap();
    let region = "us-east-1".parse().unwrap();
    let found = super::executions::find(&client.service, &region, &id.to_string()).await;
    let mut execution = found.unwrap();
    execution.state = super::documents::State::Queued;
    let put = vec![Operation::Put(execution.key(), super::documents::body(&execution).unwrap())];
    super::documents::change(&*client.parts.records, Vec::new(), put).await.unwrap();
    let shown = client.end(&done["QueryExecutionId"]).await;
    assert_eq!(shown["Status"]["State"], "FAILED");
}

#[tokio::test(flavor = "multi_thread")]
async fn work_groups_have_tags() {
    let client = Client::new().await;
    let tags = json!([{ "Key": "team", "Value": "data" }]);
    client.ok("CreateWorkGroup", json!({ "Name": "tagged", "Tags": tags })).await;
    let arn = "arn:aws:athena:us-east-1:000000000000:workgroup/tagged";
    let list = json!({ "ResourceARN": arn });
    assert_eq!(client.ok("ListTagsForResource", list.clone()).await["Tags"], tags);
    let more = json!({ "ResourceARN": arn, "Tags": [{ "Key": "a", "Value": "b" }] });
    client.ok("TagResource", more).await;
    client.ok("UntagResource", json!({ "ResourceARN": arn, "TagKeys": ["team"] })).await;
    let left = client.ok("ListTagsForResource", list.clone()).await;
    assert_eq!(left["Tags"], json!([{ "Key": "a", "Value": "b" }]));
    client.ok("DeleteWorkGroup", json!({ "WorkGroup": "tagged" })).await;
    let gone = client.call("ListTagsForResource", list).await.unwrap_err();
    assert_eq!(gone.0, "ResourceNotFoundException");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_starts_one_query_and_only_the_same() {
    let client = Client::new().await;
    let ask = |sql: &str| json!({ "QueryString": sql, "ClientRequestToken": "t".repeat(32) });
    let first = client.ok("StartQueryExecution", ask("SELECT 1")).await;
    assert_eq!(client.ok("StartQueryExecution", ask("SELECT 1")).await, first);
    assert!(client.refused("StartQueryExecution", ask("SELECT 2")).await.contains("Idempotent"));
    client.end(&first["QueryExecutionId"]).await;
    let listed = client.ok("ListQueryExecutions", json!({})).await;
    assert_eq!(listed["QueryExecutionIds"], json!([first["QueryExecutionId"]]));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_location_results_are_managed_or_refused() {
    let client = Client::new().await;
    let started = client.ok("StartQueryExecution", json!({ "QueryString": "SELECT 1" })).await;
    let done = client.end(&started["QueryExecutionId"]).await;
    assert_eq!(done["Status"]["State"], "SUCCEEDED", "{done}");
    assert!(done["ResultConfiguration"].get("OutputLocation").is_none());
    client.ok("CreateWorkGroup", json!({ "Name": "strict" })).await;
    let ask = json!({ "QueryString": "SELECT 1", "WorkGroup": "strict" });
    assert!(
        client.refused("StartQueryExecution", ask.clone()).await.contains("No output location")
    );
    let location = json!({ "OutputLocation": "s3://out/forced/" });
    let updates = json!({ "ResultConfigurationUpdates": location });
    client
        .ok("UpdateWorkGroup", json!({ "WorkGroup": "strict", "ConfigurationUpdates": updates }))
        .await;
    let mut forced = ask;
    forced["ResultConfiguration"] = json!({ "OutputLocation": "s3://out/own/" });
    let started = client.ok("StartQueryExecution", forced).await;
    let done = client.end(&started["QueryExecutionId"]).await;
    let location = done["ResultConfiguration"]["OutputLocation"].as_str().unwrap();
    assert!(location.starts_with("s3://out/forced/"), "{location}");
    let missing = json!({ "QueryString": "SELECT 1", "ResultConfiguration": { "OutputLocation": "s3://none-such/" } });
    assert!(client.refused("StartQueryExecution", missing).await.contains("none-such"));
    assert!(
        client
            .refused("DeleteWorkGroup", json!({ "WorkGroup": "strict" }))
            .await
            .contains("not empty")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_query_is_cancelled_and_one_left_by_a_crash_failed() {
    let client = Client::new().await;
    let endless = "SELECT count(*) FROM UNNEST(sequence(1, 10000)) AS a (x) CROSS JOIN \
                   UNNEST(sequence(1, 10000)) AS b (y) CROSS JOIN UNNEST(sequence(1, 10000)) AS c (z) \
                   WHERE x + y + z = -1";
    let started = client.ok("StartQueryExecution", json!({ "QueryString": endless })).await;
    let id = &started["QueryExecutionId"];
    // Another process starts on the same records while the query is open.
    let next = AthenaService::open(client.parts.clone()).await.unwrap();
    let got = client.ok("GetQueryExecution", json!({ "QueryExecutionId": id })).await;
    assert_eq!(got["QueryExecution"]["Status"]["State"], "FAILED");
    drop(next);
    client.ok("StopQueryExecution", json!({ "QueryExecutionId": id })).await;
    let again = client.ok("StartQueryExecution", json!({ "QueryString": endless })).await;
    let id = &again["QueryExecutionId"];
    client.ok("StopQueryExecution", json!({ "QueryExecutionId": id })).await;
    assert_eq!(client.end(id).await["Status"]["State"], "CANCELLED");
    client.service.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_built_is_refused_by_name() {
    let client = Client::new().await;
    let with = |member: &str, value: Value| {
        let mut body = json!({ "QueryString": "SELECT 1" });
        body[member] = value;
        body
    };
    for (body, part) in [
        (with("ExecutionParameters", json!(["1"])), "expected 0 but found 1"),
        (with("ExecutionParameters", json!([])), "ExecutionParameters"),
        (
            with(
                "ResultReuseConfiguration",
                json!({ "ResultReuseByAgeConfiguration": { "Enabled": true } }),
            ),
            "ResultReuse",
        ),
        (
            with(
                "ResultConfiguration",
                json!({ "AclConfiguration": { "S3AclOption": "BUCKET_OWNER_FULL_CONTROL" } }),
            ),
            "AclConfiguration",
        ),
        (
            with(
                "ResultConfiguration",
                json!({ "EncryptionConfiguration": { "EncryptionOption": "CSE_KMS" } }),
            ),
            "CSE_KMS",
        ),
        (with("ClientRequestToken", json!("short")), "32 to 128"),
        (with("QueryString", json!(" ")), "empty"),
        (with("QueryString", json!("x".repeat(262_145))), "262144"),
        (with("WorkGroup", json!("nope")), "nope"),
    ] {
        let message = client.refused("StartQueryExecution", body).await;
        assert!(message.contains(part), "{message}");
    }
    for operation in ["CreatePreparedStatement", "CreateDataCatalog", "StartSession"] {
        assert!(client.refused(operation, json!({})).await.contains(operation));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn named_queries_and_work_groups_are_kept() {
    let client = Client::new().await;
    let named = json!({ "Name": "n", "Database": "ns", "QueryString": "SELECT 1" });
    let made = client.ok("CreateNamedQuery", named).await;
    let id = &made["NamedQueryId"];
    let got = client.ok("GetNamedQuery", json!({ "NamedQueryId": id })).await;
    assert_eq!(got["NamedQuery"]["WorkGroup"], "primary");
    assert_eq!(client.ok("ListNamedQueries", json!({})).await["NamedQueryIds"], json!([id]));
    client.ok("DeleteNamedQuery", json!({ "NamedQueryId": id })).await;
    client.refused("GetNamedQuery", json!({ "NamedQueryId": id })).await;
    client.ok("CreateWorkGroup", json!({ "Name": "g1", "Description": "d" })).await;
    assert!(client.refused("CreateWorkGroup", json!({ "Name": "g1" })).await.contains("already"));
    let listed = client.ok("ListWorkGroups", json!({})).await;
    let names: Vec<&Value> =
        listed["WorkGroups"].as_array().unwrap().iter().map(|g| &g["Name"]).collect();
    assert_eq!(names, ["primary", "g1"]);
    client.ok("DeleteWorkGroup", json!({ "WorkGroup": "g1" })).await;
    client.refused("GetWorkGroup", json!({ "WorkGroup": "g1" })).await;
    let catalogs = client.ok("ListDataCatalogs", json!({})).await;
    assert_eq!(catalogs["DataCatalogsSummary"][1]["CatalogName"], "s3tablescatalog/lake");
    let databases =
        client.ok("ListDatabases", json!({ "CatalogName": "s3tablescatalog/lake" })).await;
    assert_eq!(databases["DatabaseList"], json!([{ "Name": "ns" }]));
}
