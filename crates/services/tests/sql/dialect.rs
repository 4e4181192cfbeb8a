//! Trino's functions and forms.

use crate::bench::Bench;

async fn check(cases: &[(&str, &str)]) {
    let bench = Bench::new().await;
    let mut wrong = Vec::new();
    for (expression, expected) in cases {
        let got = match bench.try_run(&format!("SELECT {expression}")).await {
            Ok((_, rows)) => rows
                .iter()
                .map(|r| {
                    let cells = r.iter().map(|c| c.clone().unwrap_or("∅".into()));
                    cells.collect::<Vec<_>>().join("|")
                })
                .collect::<Vec<_>>()
                .join(";"),
            Err(error) => error.to_string(),
        };
        if !got.starts_with(expected) || (expected.is_empty() && !got.is_empty()) {
            wrong.push(format!("{expression}\n   is {got}\n not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn time_functions_answer_as_trino() {
    check(&[
        ("from_unixtime(1704067200)", "2024-01-01 00:00:00.000 UTC"),
        ("from_unixtime(1704067200, 'Asia/Seoul')", "2024-01-01 09:00:00.000 Asia/Seoul"),
        ("to_unixtime(from_unixtime(1704067200.5))", "1.7040672005E9"),
        ("from_unixtime(0) AT TIME ZONE 'America/New_York'", "1969-12-31 19:00:00.000 America/New_York"),
        ("date_trunc('hour', TIMESTAMP '2024-01-01 10:59:59')", "2024-01-01 10:00:00.000"),
        ("date_format(TIMESTAMP '2024-02-29 13:05:09', '%Y/%m/%d %H:%i:%s')", "2024/02/29 13:05:09"),
        ("date_parse('29/02/2024 13:05', '%d/%m/%Y %H:%i')", "2024-02-29 13:05:00.000"),
        ("date_add('month', 1, DATE '2024-01-31')", "2024-02-29"),
        ("date_add('hour', -1, TIMESTAMP '2024-01-01 00:00:00')", "2023-12-31 23:00:00.000"),
        ("date_diff('day', DATE '2024-01-01', DATE '2024-03-01')", "60"),
        ("date_diff('month', DATE '2024-01-31', DATE '2024-02-29')", "0"),
        ("DATE '2024-01-08' - INTERVAL '7' DAY", "2024-01-01"),
        ("current_date - INTERVAL '7' DAY", "2026-09-14"),
        ("current_timestamp", "2026-09-21 14:13:20.000 UTC"),
        ("year(DATE '2024-05-06'), month(DATE '2024-05-06'), day_of_week(DATE '2024-05-06')", "2024|5|1"),
        ("extract(doy FROM DATE '2024-12-31'), extract(hour FROM TIMESTAMP '2024-01-01 23:00:00')", "366|23"),
        ("last_day_of_month(DATE '2024-02-01')", "2024-02-29"),
        ("from_iso8601_timestamp('2024-01-01T00:00:00+01:00')", "2023-12-31 23:00:00.000 UTC"),
        ("TIMESTAMP '2024-01-01 00:00:00.123456'", "2024-01-01 00:00:00.123456"),
        ("TIMESTAMP '2024-01-01 00:00:00' < TIMESTAMP '2024-01-01 00:00:01 UTC'", "true"),
        ("CAST('2024-01-01 05:06:07' AS TIMESTAMP)", "2024-01-01 05:06:07.000"),
        ("date('2024-01-02')", "2024-01-02"),
        ("date_add('pony', 1, DATE '2024-01-01')", "INVALID_FUNCTION_ARGUMENT"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn text_and_json_functions_answer_as_trino() {
    check(&[
        ("json_extract_scalar('{\"a\":{\"b\":[1,\"x\"]}}', '$.a.b[1]')", "x"),
        ("json_extract('{\"a\":{\"b\":[1,2]}}', '$.a.b')", "[1,2]"),
        ("json_extract('{\"a\":1}', '$.z')", "∅"),
        ("CAST(json_extract('{\"a\":\"x\"}', '$.a') AS VARCHAR)", "x"),
        ("json_array_length('[1,2,3]')", "3"),
        ("json_format(json_parse('{\"a\": 1}'))", "{\"a\":1}"),
        ("json_parse('nope')", "INVALID_FUNCTION_ARGUMENT"),
        ("try(json_parse('nope'))", "∅"),
        ("regexp_like('abc123', '\\d+')", "true"),
        ("regexp_extract('abc123', '([a-z]+)(\\d+)', 2)", "123"),
        ("regexp_replace('a1b2', '(\\d)', '<$1>')", "a<1>b<2>"),
        ("split('a,b,c', ','), split_part('a-b', '-', 2)", "[a, b, c]|b"),
        ("element_at(split('a,b', ','), -1), split('a,b', ',')[1]", "b|a"),
        ("strpos('hello', 'l'), substr('hello', -3), substr('hello', 2, 3)", "3|llo|ell"),
        ("concat('a', NULL), 'a' || 'b' || 'c'", "∅|abc"),
        ("concat_ws('-', 'a', NULL, 'b')", "a-b"),
        ("upper('é'), length('héllo'), reverse('abc'), lpad('7', 3, '0')", "É|5|cba|007"),
        ("replace('a.b.c', '.'), trim('  x ')", "abc|x"),
        (
            "to_hex(to_utf8('hi')), to_hex(md5(to_utf8('')))",
            "6869|D41D8CD98F00B204E9800998ECF8427E",
        ),
        ("url_extract_host('https://u@h.example:8080/p?q=1#f')", "h.example"),
        (
            "url_extract_parameter('http://h/?a=1&b=x%20y', 'b'), url_extract_port('http://h:81/')",
            "x y|81",
        ),
        (
            "typeof(1), typeof(BIGINT '1'), typeof('x'), typeof(1.5), typeof(from_unixtime(0))",
            "bigint|bigint|varchar|decimal(2,1)|timestamp(3) with time zone",
        ),
        (
            "CAST(1.0E10 AS VARCHAR), CAST(25e0 AS VARCHAR), CAST(true AS VARCHAR)",
            "1.0E10|25.0|true",
        ),
        ("CAST(TIMESTAMP '2024-01-01 00:00:00' AS VARCHAR)", "2024-01-01 00:00:00.000"),
        ("to_utf8('hello')", "68 65 6c 6c 6f"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arithmetic_and_conditions_answer_as_trino() {
    check(&[
        ("7 / 2, -7 / 2, 7 % 3, mod(7, 3)", "3|-3|1|1"),
        ("7.0 / 2", "3.5"),
        ("7e0 / 2", "3.5"),
        ("1 / 0", "DIVISION_BY_ZERO"),
        ("1 % 0", "DIVISION_BY_ZERO"),
        ("try(1 / 0), coalesce(try(1 / 0), 9)", "∅|9"),
        ("try_cast('x' AS INTEGER), CAST('12' AS BIGINT)", "∅|12"),
        ("CAST('x' AS INTEGER)", "INVALID_CAST_ARGUMENT"),
        ("if(1 > 2, 'a', 'b'), if(false, 1)", "b|∅"),
        ("greatest(1, 3, 2), least(1, 3, 2), greatest(1, NULL)", "3|1|∅"),
        (
            "cardinality(ARRAY[1,2,3]), contains(ARRAY[1,2], 2), array_join(ARRAY['a','b'], '-')",
            "3|true|a-b",
        ),
        ("element_at(map(ARRAY['a','b'], ARRAY[1,2]), 'b')", "2"),
        ("map(ARRAY['a'], ARRAY[1])", "{a=1}"),
        ("sequence(1, 4), slice(ARRAY[1,2,3,4], 2, 2)", "[1, 2, 3, 4]|[2, 3]"),
        ("sequence(1, 10000000000)", "INVALID_FUNCTION_ARGUMENT"),
        ("generate_series(1, 2)", "FUNCTION_NOT_FOUND"),
        ("bitwise_and(12, 10), to_base(255, 16), width_bucket(5e0, 0e0, 10e0, 5)", "8|ff|3"),
        ("round(2.567, 2), truncate(2.9e0), sign(-3e0)", "2.57|2.0|-1.0"),
        ("infinity(), nan(), is_nan(nan())", "Infinity|NaN|true"),
        ("1 IS DISTINCT FROM NULL, NULL IS NOT DISTINCT FROM NULL", "true|true"),
        ("x FROM (VALUES 1, 2, 3) AS t (x) WHERE x IN (1, 3) ORDER BY x DESC", "3;1"),
        ("count(*) FROM (VALUES (1, 2), ROW(3, 4)) AS t (a, b)", "2"),
        ("1 FETCH FIRST 1 ROWS ONLY", "1"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aggregates_answer_as_trino() {
    let bench = Bench::new().await;
    bench.sensors().await;
    for (sql, expected) in [
        ("SELECT approx_distinct(sensor_id) FROM sensors", "3"),
        (
            "SELECT count_if(temperature > 25), count_if(humidity > 41) FILTER (WHERE true) FROM sensors",
            "2|2",
        ),
        (
            "SELECT max_by(sensor_id, temperature), min_by(sensor_id, temperature) FROM sensors",
            "s1|s1",
        ),
        ("SELECT arbitrary(humidity) FROM sensors WHERE sensor_id = 's2'", "50.0"),
        ("SELECT approx_percentile(temperature, 0.5) > 20 FROM sensors", "true"),
        ("SELECT array_agg(sensor_id ORDER BY \"timestamp\") FROM sensors", "[s1, s2, s1, s3]"),
        ("SELECT count(DISTINCT location), count(humidity), count(*) FROM sensors", "2|3|4"),
        ("SELECT count(*), count(*) FROM sensors", "4|4"),
        (
            "SELECT location, row_number() OVER (PARTITION BY location ORDER BY temperature DESC) AS n \
          FROM sensors ORDER BY 1, 2 LIMIT 1",
            "office|1",
        ),
        (
            "WITH hot AS (SELECT * FROM sensors WHERE temperature > 25) SELECT count(*) FROM hot a \
          JOIN sensors b ON a.sensor_id = b.sensor_id",
            "3",
        ),
        (
            "SELECT count(*) FROM sensors s WHERE temperature > (SELECT avg(temperature) FROM sensors \
          WHERE location = s.location)",
            "2",
        ),
        ("SELECT avg(temperature) FROM sensors HAVING count(*) > 10", ""),
        (
            "SELECT date_trunc('minute', from_unixtime(\"timestamp\")) AS m, count(*) FROM sensors \
          GROUP BY 1 ORDER BY 1 LIMIT 1",
            "2024-01-01 00:00:00.000 UTC|1",
        ),
    ] {
        assert_eq!(bench.one(sql).await, expected, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unnest_joins_each_row_with_its_elements() {
    let bench = Bench::new().await;
    for (sql, expected) in [
        ("SELECT x FROM UNNEST(ARRAY[1,2]) AS t (x)", "1\n2"),
        (
            "SELECT t.id, u.x FROM (VALUES (1, ARRAY['a','b']), (2, ARRAY['c'])) AS t (id, xs) \
          CROSS JOIN UNNEST(t.xs) AS u (x) ORDER BY 1, 2",
            "1|a\n1|b\n2|c",
        ),
        (
            "SELECT id, x, n FROM (VALUES (1, ARRAY['a','b'])) AS t (id, xs), \
          UNNEST(xs) WITH ORDINALITY AS u (x, n) ORDER BY n",
            "1|a|1\n1|b|2",
        ),
        ("SELECT x, y FROM UNNEST(ARRAY[1,2], ARRAY['p']) AS t (x, y) ORDER BY x", "1|p\n2|∅"),
        (
            "SELECT k, v FROM UNNEST(map(ARRAY['a','b'], ARRAY[1,2])) AS t (k, v) ORDER BY k",
            "a|1\nb|2",
        ),
        (
            "SELECT count(*) FROM (VALUES ARRAY[1,2,3]) AS t (xs) CROSS JOIN UNNEST(xs) AS u (x) \
          WHERE u.x > 1",
            "2",
        ),
        (
            "SELECT day FROM UNNEST(sequence(DATE '2024-01-01', DATE '2024-01-02', INTERVAL '1' DAY)) \
          AS t (day) ORDER BY 1 DESC LIMIT 1",
            "2024-01-02",
        ),
    ] {
        assert_eq!(bench.one(sql).await, expected, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_unknown_or_unsupported_is_named() {
    let bench = Bench::new().await;
    bench.sensors().await;
    for (sql, parts) in [
        (
            "SELECT date_trunk('day', now())",
            &["FUNCTION_NOT_FOUND", "date_trunk", "date_trunc"][..],
        ),
        ("SELECT transform(ARRAY[1], x -> x + 1)", &["lambda"]),
        ("SELECT nope FROM sensors", &["COLUMN_NOT_FOUND", "nope"]),
        ("SELECT * FROM ns.nope", &["TABLE_NOT_FOUND", "nope"]),
        ("SELECT * FROM nope.t", &["SCHEMA_NOT_FOUND", "nope"]),
        ("SELECT * FROM \"hive\".a.b", &["CATALOG_NOT_FOUND", "hive"]),
        ("SELECT * FROM sensors TABLESAMPLE BERNOULLI (10)", &["NOT_SUPPORTED", "TABLESAMPLE"]),
        ("DELETE FROM sensors", &["NOT_SUPPORTED", "DELETE"]),
        ("CREATE TABLE x (a int) LOCATION 's3://b/'", &["NOT_SUPPORTED", "LOCATION"]),
        ("CREATE TABLE x (a tinyint)", &["NOT_SUPPORTED", "tinyint"]),
        ("CREATE TABLE x (a int) TBLPROPERTIES ('pony'='yes')", &["NOT_SUPPORTED", "pony"]),
        ("SELECT from_unixtime('x')", &["FUNCTION_NOT_FOUND", "varchar", "from_unixtime"]),
        ("SELECT 1 +", &["SYNTAX_ERROR"]),
    ] {
        let error = bench.error(sql).await;
        for part in parts {
            assert!(error.contains(part), "{sql}: {error}");
        }
    }
}
