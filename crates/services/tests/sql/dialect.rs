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
            "integer|bigint|varchar|decimal(2,1)|timestamp(3) with time zone",
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

#[tokio::test(flavor = "multi_thread")]
async fn numbers_that_do_not_fit_are_errors() {
    check(&[
        ("9223372036854775807 + 1", "NUMERIC_VALUE_OUT_OF_RANGE"),
        ("-9223372036854775807 - 2", "NUMERIC_VALUE_OUT_OF_RANGE"),
        ("9223372036854775807 * 2", "NUMERIC_VALUE_OUT_OF_RANGE"),
        ("(SELECT sum(x) FROM (VALUES 9223372036854775807, 1) t(x))", "NUMERIC_VALUE_OUT_OF_RANGE"),
        ("(SELECT sum(x) FROM (VALUES 9223372036854775807, 1, -2) t(x))", "9223372036854775806"),
        (
            "CAST('99999999999999999999999999999999999999' AS decimal(38,0)) + 1",
            "NUMERIC_VALUE_OUT_OF_RANGE",
        ),
        ("CAST(3000000000 AS integer)", "INVALID_CAST_ARGUMENT"),
        ("1 / 0", "DIVISION_BY_ZERO"),
        ("1.0 / 0", "DIVISION_BY_ZERO"),
        ("1e0 / 0", "Infinity"),
        ("9223372036854775806 + 1", "9223372036854775807"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn decimals_have_trinos_precision_and_round() {
    check(&[
        ("1 / 3.0", "0.3"),
        ("10.00 / 3", "3.33"),
        ("20.0 / 3", "6.7"),
        ("-20.0 / 3", "-6.7"),
        ("1.10 * 2.5", "2.750"),
        ("typeof(1.10 * 2.5)", "decimal(5,3)"),
        ("CAST(2.5 AS integer)", "3"),
        ("CAST(-2.5 AS integer)", "-3"),
        ("CAST(2.5e0 AS bigint)", "3"),
        ("CAST(12.4 AS bigint)", "12"),
        ("try_cast(1e30 AS integer)", "∅"),
        ("coalesce(v, 0.5), typeof(coalesce(v, 0.5)), v > 0.5, v IN (0.5, 2) FROM (VALUES 1e300) t(v)", "1.0E300|double|true|false"),
        ("CASE WHEN v > 1 THEN v ELSE 0.5 END, greatest(v, 0.5) FROM (VALUES 25e0) t(v)", "25.0|25.0"),
        ("d > v, d = v FROM (VALUES (1.5, 1e300), (1.5, 1.5e0)) t(d, v) ORDER BY v DESC LIMIT 1", "false|false"),
        ("date_trunc('month', DATE '2024-03-15')", "2024-03-01"),
        ("typeof(date_trunc('month', DATE '2024-03-15'))", "date"),
        ("DATE '2024-01-05' - DATE '2024-01-01'", "4 00:00:00.000"),
        ("to_iso8601(DATE '2024-01-01')", "2024-01-01"),
        ("json_array_contains('[1, 2]', 2), json_array_contains('[\"a\"]', 'a')", "true|true"),
        ("to_base64(X'6869'), from_base64('aGk=')", "aGk=|68 69"),
        ("bit_count(7, 64), bit_count(-1, 8), bitwise_left_shift(1, 3), bitwise_right_shift(8, 2)", "3|8|8|2"),
        ("regexp_position('xx1', '\\d'), hamming_distance('abc', 'abd'), is_finite(1e0)", "3|1|true"),
        ("JSON '{\"a\": 1}'", "{\"a\":1}"),
        ("rpad('a', 5, 'xyz'), lpad('é', 4, 'üö')", "axyzx|üöüé"),
        ("DECIMAL '123.45'", "123.45"),
        ("typeof(DECIMAL '-0.50')", "decimal(2,2)"),
        ("(SELECT avg(x) FROM (VALUES 1.25, 2.5, 3.0) t(x))", "2.25"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn subscripts_outside_are_errors_and_element_at_is_null() {
    check(&[
        ("ARRAY[1, 2][2]", "2"),
        ("ARRAY[1, 2][5]", "INVALID_FUNCTION_ARGUMENT: Array subscript must be less"),
        ("ARRAY[1, 2][0]", "INVALID_FUNCTION_ARGUMENT: SQL array indices start at 1"),
        ("ARRAY[1, 2][-1]", "INVALID_FUNCTION_ARGUMENT: Array subscript is negative"),
        ("element_at(ARRAY[1, 2], 5)", "∅"),
        ("try(ARRAY[1, 2][5])", "∅"),
        ("MAP(ARRAY['a'], ARRAY[1])['a']", "1"),
        ("MAP(ARRAY['a'], ARRAY[1])['z']", "INVALID_FUNCTION_ARGUMENT: Key not present in map: z"),
        ("array_position(ARRAY[5, 6], 7)", "0"),
        (
            "typeof(cardinality(ARRAY[1])), typeof(length('a')), cardinality(ARRAY[1]) - 5",
            "bigint|bigint|-4",
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_call_says_beside_its_arguments_is_kept_or_refused() {
    check(&[
        ("listagg(x, ',') WITHIN GROUP (ORDER BY x DESC) FROM (VALUES 'a', 'b') t(x)", "b,a"),
        ("array_agg(x ORDER BY x DESC) FROM (VALUES 1, 2) t(x)", "[2, 1]"),
        ("geometric_mean(DISTINCT x) FROM (VALUES 1, 2) t(x)", "NOT_SUPPORTED"),
        ("count_if(x > 1 ORDER BY x) FROM (VALUES 1, 2) t(x)", "1"),
        ("row_number() OVER (ORDER BY x) - 2 FROM (VALUES 5) t(x)", "-1"),
        ("typeof(row_number() OVER (ORDER BY x)) FROM (VALUES 5) t(x)", "bigint"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scalar_subquery_gives_one_row_or_fails() {
    check(&[
        ("(SELECT x FROM (VALUES 1, 2) t(x))", "SUBQUERY_MULTIPLE_ROWS"),
        ("(SELECT x FROM (VALUES 1) t(x))", "1"),
        ("(SELECT x FROM (VALUES 1) t(x) WHERE x > 1)", "∅"),
        ("(SELECT x FROM (VALUES 1, 2) t(x) ORDER BY x DESC LIMIT 1)", "2"),
        (
            "u.k, (SELECT max(x) FROM (VALUES 1, 2) t(x) WHERE t.x = u.k) FROM (VALUES 1) u(k)",
            "1|1",
        ),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_in_arrays_and_recursion() {
    let bench = Bench::new().await;
    assert_eq!(
        bench
            .rows("SELECT a, b FROM UNNEST(ARRAY[ROW(1, 'x'), ROW(2, 'y')]) t(a, b) ORDER BY a")
            .await,
        ["1|x", "2|y"]
    );
    bench.one("CREATE TABLE r (id bigint, items array<struct<name:string,qty:int>>)").await;
    bench.one("INSERT INTO r SELECT 7, ARRAY[ROW('p', 2), ROW('q', 3)]").await;
    assert_eq!(
        bench.rows("SELECT id, n, q FROM r CROSS JOIN UNNEST(items) AS t (n, q) WHERE q > 2").await,
        ["7|q|3"]
    );
    let outer = "SELECT n, x, o FROM (VALUES (1, ARRAY['a', 'b']), (2, NULL), (3, ARRAY[])) t(n, xs) \
                 LEFT JOIN UNNEST(xs) WITH ORDINALITY AS u(x, o) ON TRUE ORDER BY n, o";
    assert_eq!(bench.rows(outer).await, ["1|a|1", "1|b|2", "2|∅|∅", "3|∅|∅"]);
    let recursive = "WITH RECURSIVE r (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) \
                     SELECT sum(n) FROM r";
    assert_eq!(bench.one(recursive).await, "15");
}

#[tokio::test(flavor = "multi_thread")]
async fn casts_to_nested_types() {
    check(&[
        ("CAST(ARRAY['1', '2'] AS array(integer))", "[1, 2]"),
        ("CAST(JSON '[1, 2, null]' AS array(bigint))", "[1, 2, null]"),
        ("CAST(json_parse('{\"a\": 1}') AS map(varchar, integer))", "{a=1}"),
        ("CAST(ROW(1, 'x') AS ROW(a integer, b varchar)).b", "x"),
        ("CAST(JSON '{\"b\": \"x\", \"A\": 5}' AS row(a bigint, b varchar))", "{a=5, b=x}"),
        ("typeof(CAST(JSON '[[1.5]]' AS array(array(double))))", "array(array(double))"),
        ("CAST(JSON '{\"a\": 1}' AS array(bigint))", "INVALID_CAST_ARGUMENT"),
        ("try_cast(JSON '{\"a\": 1}' AS array(bigint))", "∅"),
        ("try(CAST(JSON '{\"a\": 1}' AS array(bigint)))", "∅"),
        ("CAST(ARRAY[1] AS map(varchar, integer))", "INVALID_CAST_ARGUMENT"),
        ("CAST(1 AS array(frob))", "NOT_SUPPORTED"),
        ("ROW(1, 'x')", "{field0=1, field1=x}"),
        (
            "element_at(CAST(json_extract('{\"i\": [{\"k\": 1}]}', '$.i') AS array(json)), 1)",
            "{\"k\":1}",
        ),
        (
            "typeof(1), typeof(2147483648), typeof(1 + 1), typeof(ARRAY[1]), 2147483647 + 0",
            "integer|bigint|integer|array(integer)|2147483647",
        ),
        ("2147483647 + 1", "NUMERIC_VALUE_OUT_OF_RANGE"),
        (
            "typeof(12345678901234567890), typeof(x), count(*) FROM (VALUES 1) t(x) GROUP BY x",
            "decimal(20,0)|integer|1",
        ),
    ])
    .await;
    let bench = Bench::new().await;
    let items = "SELECT i.name, i.qty FROM (VALUES '[{\"name\": \"p\", \"qty\": 2}, {\"name\": \"q\"}]') t(j) \
                 CROSS JOIN UNNEST(CAST(json_parse(j) AS array(row(name varchar, qty integer)))) AS i (name, qty)";
    assert_eq!(bench.rows(items).await, ["p|2", "q|∅"]);
    bench.one("CREATE TABLE typed AS SELECT 1 AS a, 5000000000 AS b, DATE '2024-01-15' AS c, date_trunc('month', DATE '2024-01-15') AS d").await;
    assert_eq!(
        bench.one("SELECT typeof(a), typeof(b), typeof(c), d FROM typed").await,
        "integer|bigint|date|2024-01-01"
    );
}
