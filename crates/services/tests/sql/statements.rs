//! The samples' queries, and the statements around them.

use crate::bench::Bench;

#[tokio::test(flavor = "multi_thread")]
async fn the_samples_queries_have_their_answers() {
    let bench = Bench::new().await;
    bench.sensors().await;
    assert_eq!(bench.one("SELECT COUNT(*) FROM \"ns\".\"sensors\"").await, "4");
    assert_eq!(bench.rows("SELECT * FROM ns.sensors LIMIT 100").await.len(), 4);
    assert_eq!(
        bench
            .rows(
                "SELECT location, AVG(temperature) as avg_temp, COUNT(*) as reading_count \
                 FROM ns.sensors GROUP BY location ORDER BY avg_temp DESC"
            )
            .await,
        ["warehouse|25.0|2", "office|24.0|2"]
    );
    assert_eq!(
        bench
            .rows(
                "SELECT sensor_id, temperature, humidity, timestamp, \
                 from_unixtime(timestamp) as reading_time FROM ns.sensors \
                 WHERE temperature > 25 ORDER BY timestamp DESC LIMIT 50"
            )
            .await,
        [
            "s1|29.5|42.0|1704067320|2024-01-01 00:02:00.000 UTC",
            "s2|26.0|50.0|1704067260|2024-01-01 00:01:00.000 UTC"
        ]
    );
    assert_eq!(
        bench
            .rows(
                "SELECT sensor_id, location, COUNT(*) as total_readings, \
                 AVG(temperature) as avg_temp, AVG(humidity) as avg_humidity, \
                 MIN(timestamp) as first_reading, MAX(timestamp) as last_reading \
                 FROM ns.sensors GROUP BY sensor_id, location ORDER BY sensor_id"
            )
            .await,
        [
            "s1|warehouse|2|25.0|41.0|1704067200|1704067320",
            "s2|office|1|26.0|50.0|1704067260|1704067260",
            "s3|office|1|22.0|∅|1704067380|1704067380"
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn names_resolve_with_the_context_or_look_for_the_only_bucket() {
    let bench = Bench::new().await;
    bench.sensors().await;
    let count = "SELECT COUNT(*) FROM \"NS\".\"Sensors\"";
    let (names, rows) = bench.run_in(count, None, None).await.unwrap();
    assert_eq!((names, rows), (vec!["_col0".into()], vec![vec![Some("4".into())]]));
    for sql in [
        "SELECT count(*) FROM \"s3tablescatalog/lake\".\"ns\".\"sensors\"",
        "SELECT count(*) FROM \"s3tablecatalog/lake\".ns.SENSORS",
    ] {
        assert_eq!(bench.run_in(sql, None, None).await.unwrap().1, [[Some("4".to_string())]]);
    }
    let strict = bench.run_in(count, Some("AwsDataCatalog"), None).await.unwrap_err();
    assert!(strict.to_string().starts_with("SCHEMA_NOT_FOUND"), "{strict}");
    let catalog = bench.lake.catalog();
    let second = catalog.create_table_bucket(&crate::bench::region(), "other").await.unwrap();
    catalog.create_namespace(&second, "ns", Default::default()).await.unwrap();
    let both = bench.run_in(count, None, None).await.unwrap_err().to_string();
    assert!(both.contains("s3tablescatalog/lake") && both.contains("other"), "{both}");
}

#[tokio::test(flavor = "multi_thread")]
async fn resource_links_lead_to_their_tables() {
    let bench = Bench::new().await;
    bench.sensors().await;
    let link = alluvium_lake::catalog::ResourceLink {
        region: crate::bench::region(),
        name: "linked".into(),
        target_catalog: "000000000000:s3tablescatalog/lake".into(),
        target_database: "ns".into(),
        target_region: None,
        created_ms: 0,
        shown: Default::default(),
    };
    bench.lake.catalog().create_resource_link(link).await.unwrap();
    let sql = "SELECT count(*) FROM linked.sensors";
    for catalog in [None, Some("AwsDataCatalog")] {
        assert_eq!(bench.run_in(sql, catalog, None).await.unwrap().1, [[Some("4".to_string())]]);
    }
    let refused = bench
        .run_in("CREATE TABLE t (a int)", Some("AwsDataCatalog"), Some("linked"))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("AwsDataCatalog is not supported"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_are_created_filled_shown_and_dropped() {
    let bench = Bench::new().await;
    bench
        .one(
            "CREATE TABLE events (id bigint NOT NULL, at timestamp, region string, \
             tags array<string>, amount decimal(12,2)) \
             PARTITIONED BY (day(at), bucket(4, id), region) TBLPROPERTIES ('table_type'='ICEBERG')",
        )
        .await;
    bench
        .one(
            "INSERT INTO events SELECT id, at, region, ARRAY['a','b'], 1.5 FROM (VALUES \
             (1, TIMESTAMP '2024-01-01 10:00:00', 'eu'), (2, TIMESTAMP '2024-01-02 10:00:00', 'us')) \
             AS t (id, at, region)",
        )
        .await;
    bench.one("INSERT INTO events (region, id) VALUES ('ap', 3)").await;
    assert_eq!(
        bench.rows("SELECT * FROM events ORDER BY id").await,
        [
            "1|2024-01-01 10:00:00.000000|eu|[a, b]|1.50",
            "2|2024-01-02 10:00:00.000000|us|[a, b]|1.50",
            "3|∅|ap|∅|∅"
        ]
    );
    assert_eq!(
        bench.one("SELECT id FROM events WHERE at < TIMESTAMP '2024-01-02 00:00:00'").await,
        "1"
    );
    assert_eq!(bench.one("SELECT id FROM events WHERE id = 2").await, "2");
    assert_eq!(bench.one("SELECT count(*) FROM \"events$partitions\"").await, "3");
    let shown = bench.one("SHOW CREATE TABLE events").await;
    assert!(shown.contains("PARTITIONED BY (day(`at`), bucket(4, `id`), `region`)"), "{shown}");
    assert_eq!(bench.rows("SHOW TABLES").await, ["events"]);
    assert_eq!(bench.rows("SHOW DATABASES").await, ["ns"]);
    assert_eq!(bench.rows("SHOW CATALOGS").await, ["awsdatacatalog", "s3tablescatalog/lake"]);
    assert_eq!(bench.rows("SHOW COLUMNS IN events").await[..2], ["id", "at"]);
    assert!(bench.rows("DESCRIBE events").await.contains(&"amount|decimal(12,2)|".to_string()));
    let ctas = "CREATE TABLE copy WITH (table_type = 'ICEBERG', partitioning = ARRAY['region']) AS \
                SELECT id, region, id * 2 AS double_id FROM events";
    bench.one(ctas).await;
    assert_eq!(bench.one("SELECT sum(double_id) FROM copy").await, "12");
    assert!(bench.error(ctas).await.contains("already exists"));
    assert!(bench.error("CREATE TABLE x AS SELECT count(*) FROM events").await.contains("no name"));
    let null = bench.error("INSERT INTO events (id) VALUES (NULL)").await;
    assert!(null.contains("NOT NULL"), "{null}");
    assert!(bench.error("INSERT INTO events (id) VALUES ('x')").await.contains("TYPE_MISMATCH"));
    bench.one("DROP TABLE copy").await;
    assert!(bench.error("SELECT * FROM copy").await.starts_with("TABLE_NOT_FOUND"));
    bench.one("DROP TABLE IF EXISTS copy").await;
    let columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'events' \
                   ORDER BY ordinal_position";
    assert_eq!(bench.rows(columns).await[..2], ["id", "at"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn properties_of_a_table_are_changed_and_shown() {
    let bench = Bench::new().await;
    bench.sensors().await;
    let set = "ALTER TABLE ns.`sensors` SET TBLPROPERTIES ('format'='parquet', \
               'write_compression'='snappy', 'optimize_rewrite_delete_file_threshold'='10')";
    bench.one(set).await;
    let snapshots = "SELECT count(*) FROM \"sensors$snapshots\"";
    assert_eq!(bench.one(snapshots).await, "2", "a property is no snapshot");
    assert_eq!(
        bench.rows("SHOW TBLPROPERTIES sensors").await,
        [
            "optimize_rewrite_delete_file_threshold|10",
            "table_type|ICEBERG",
            "write.parquet.compression-codec|snappy"
        ]
    );
    let one = "SHOW TBLPROPERTIES sensors ('write_compression')";
    assert_eq!(bench.rows(one).await, ["write.parquet.compression-codec|snappy"]);
    let shown = bench.one("SHOW CREATE TABLE sensors").await;
    assert!(shown.contains("'write_compression'='snappy'"), "{shown}");
    bench.one("INSERT INTO sensors SELECT * FROM sensors").await;
    assert_eq!(bench.one("SELECT count(*) FROM sensors").await, "8");

    bench.one("ALTER TABLE sensors UNSET TBLPROPERTIES ('write_compression')").await;
    // It is gone already.
    bench.one("ALTER TABLE sensors UNSET TBLPROPERTIES ('write_compression')").await;
    let absent = bench.one(one).await;
    assert!(absent.contains("does not have property: write_compression"), "{absent}");
    for (sql, parts) in [
        ("SET TBLPROPERTIES ('pony'='yes')", &["NOT_SUPPORTED", "pony"][..]),
        ("SET TBLPROPERTIES ('alluvium.x'='1')", &["NOT_SUPPORTED", "alluvium.x"]),
        ("SET TBLPROPERTIES ('format'='orc')", &["NOT_SUPPORTED", "format", "orc"]),
        ("SET TBLPROPERTIES ('vacuum_min_snapshots_to_keep'='0')", &["INVALID_TABLE_PROPERTY"]),
        ("UNSET TBLPROPERTIES ('pony')", &["NOT_SUPPORTED", "pony"]),
        ("UNSET TBLPROPERTIES ('table_type')", &["NOT_SUPPORTED", "table_type"]),
        ("SET TBLPROPERTIES ()", &["SYNTAX_ERROR"]),
        ("SET LOCATION 's3://b/'", &["NOT_SUPPORTED", "SET LOCATION"]),
        ("ADD COLUMNS (a int)", &["NOT_SUPPORTED", "ALTER TABLE … ADD"]),
        ("RENAME TO x", &["NOT_SUPPORTED", "RENAME"]),
    ] {
        let error = bench.error(&format!("ALTER TABLE sensors {sql}")).await;
        for part in parts {
            assert!(error.contains(part), "{sql}: {error}");
        }
    }
    let error = bench.error("ALTER TABLE nope SET TBLPROPERTIES ('format'='parquet')").await;
    assert!(error.starts_with("TABLE_NOT_FOUND"), "{error}");
    let error = bench.error("ALTER DATABASE ns SET DBPROPERTIES ('a'='b')").await;
    assert!(error.contains("ALTER DATABASE"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn time_travel_and_metadata_tables_see_every_snapshot() {
    let bench = Bench::new().await;
    bench.sensors().await;
    let ids =
        bench.rows("SELECT snapshot_id FROM \"sensors$snapshots\" ORDER BY committed_at").await;
    assert_eq!(ids.len(), 2);
    let first = &ids[0];
    let sql = format!("SELECT count(*) FROM sensors FOR VERSION AS OF {first}");
    assert_eq!(bench.one(&sql).await, "2");
    let sql = format!("SELECT s.sensor_id FROM sensors FOR VERSION AS OF {first} AS s ORDER BY 1");
    assert_eq!(bench.rows(&sql).await, ["s1", "s2"]);
    let now =
        "SELECT count(*) FROM sensors FOR TIMESTAMP AS OF (current_timestamp + INTERVAL '1' DAY)";
    assert_eq!(bench.one(now).await, "4");
    let past =
        "SELECT count(*) FROM sensors FOR TIMESTAMP AS OF TIMESTAMP '2020-01-01 00:00:00 UTC'";
    assert!(bench.error(past).await.starts_with("SNAPSHOT_NOT_FOUND"));
    for (kind, count) in
        [("files", "2"), ("history", "2"), ("refs", "1"), ("manifests", "2"), ("partitions", "1")]
    {
        let sql = format!("SELECT count(*) FROM \"ns\".\"sensors${kind}\"");
        assert_eq!(bench.one(&sql).await, count, "{kind}");
    }
    assert_eq!(bench.one("SELECT sum(record_count) FROM \"sensors$files\"").await, "4");
    assert!(bench.error("SELECT * FROM \"sensors$pony\"").await.contains("$pony"));
}

#[tokio::test(flavor = "multi_thread")]
async fn expressions_without_a_name_can_be_ordered_and_grouped_by() {
    let bench = Bench::new().await;
    bench.sensors().await;
    for (sql, expected) in [
        (
            "SELECT location, count(*) FROM sensors GROUP BY location ORDER BY count(*) DESC, location",
            "office|2\nwarehouse|2",
        ),
        ("SELECT sensor_id, count(*) FROM sensors GROUP BY sensor_id HAVING count(*) > 1", "s1|2"),
        (
            "SELECT upper(location) FROM sensors GROUP BY upper(location) ORDER BY upper(location)",
            "OFFICE\nWAREHOUSE",
        ),
        ("SELECT sensor_id, sensor_id FROM sensors ORDER BY sensor_id LIMIT 1", "s1|s1"),
        ("SELECT DISTINCT temperature > 25 FROM sensors ORDER BY temperature > 25", "false\ntrue"),
        (
            "SELECT a.*, b.* FROM (VALUES (1)) AS a (x) JOIN (VALUES (1)) AS b (x) ON a.x = b.x",
            "1|1",
        ),
        (
            "SELECT * FROM (VALUES (1, 'l')) AS a (id, x) JOIN (VALUES (1, 'r')) AS b (id, y) USING (id)",
            "1|l|r",
        ),
        ("SELECT 1 UNION ALL SELECT 2 ORDER BY 1", "1\n2"),
        (
            "SELECT s.location, t.n FROM sensors s JOIN (SELECT location, count(*) AS n FROM sensors \
          GROUP BY location) t ON s.location = t.location WHERE s.sensor_id = 's3'",
            "office|2",
        ),
        (
            "SELECT sensor_id FROM sensors WHERE sensor_id IN (SELECT sensor_id FROM sensors GROUP BY \
          sensor_id HAVING count(*) = 1) ORDER BY sensor_id",
            "s2\ns3",
        ),
        (
            "SELECT sum(temperature) OVER (ORDER BY \"timestamp\") FROM sensors ORDER BY 1 LIMIT 1",
            "20.5",
        ),
        (
            "SELECT lag(temperature) OVER (ORDER BY \"timestamp\") IS NULL FROM sensors ORDER BY 1 DESC LIMIT 1",
            "true",
        ),
        (
            "SELECT location, count(*) FROM sensors GROUP BY ROLLUP (location) ORDER BY location NULLS LAST",
            "office|2\nwarehouse|2\n∅|4",
        ),
        (
            "SELECT CASE WHEN temperature > 25 THEN 'hot' ELSE 'mild' END, count(*) FROM sensors GROUP BY 1 ORDER BY 1",
            "hot|2\nmild|2",
        ),
        ("SELECT Sensors.Location FROM NS.Sensors WHERE Sensors.Sensor_Id = 's3'", "office"),
        ("SELECT * FROM (SELECT count(*) FROM sensors)", "4"),
        (
            "SELECT avg(temperature) FROM sensors WHERE from_unixtime(\"timestamp\") >= TIMESTAMP '2024-01-01 00:02:00 UTC'",
            "25.75",
        ),
        (
            "SELECT count(*) FROM sensors WHERE date(from_unixtime(\"timestamp\")) = DATE '2024-01-01'",
            "4",
        ),
        ("SELECT count(*) FROM sensors WHERE location LIKE 'off%' AND sensor_id <> 's2'", "1"),
        ("SELECT count(*) FROM sensors WHERE temperature BETWEEN 20 AND 26.0", "3"),
    ] {
        assert_eq!(bench.one(sql).await, expected, "{sql}");
    }
    let (names, _) =
        bench.try_run("SELECT *, count(*) OVER () FROM sensors LIMIT 1").await.unwrap();
    assert_eq!(names[..2], ["sensor_id", "timestamp"]);
    assert_eq!(names[6], "_col6");
}
