//! Pruning leaves out nothing that matches: every kind of column and partition transform, with nulls, NaN
//! and long text, asked with and without it.

use crate::bench::Bench;

/// A type, its partition terms, and values as SQL writes them.
struct Kind {
    of: &'static str,
    terms: &'static [&'static str],
    values: &'static [&'static str],
}

const KINDS: &[Kind] = &[
    Kind {
        of: "int",
        terms: &["", "v", "bucket(3, v)", "truncate(10, v)"],
        values: &["-2147483648", "-11", "-10", "-1", "0", "9", "10", "2147483647"],
    },
    Kind {
        of: "bigint",
        terms: &["", "v", "bucket(3, v)", "truncate(7, v)"],
        values: &["-9223372036854775807", "-8", "0", "6", "7", "13", "9223372036854775807"],
    },
    Kind {
        of: "double",
        terms: &["", "v"],
        values: &[
            "nan()",
            "-infinity()",
            "-1.5e0",
            "-0e0",
            "0e0",
            "2e0",
            "1e300",
            "infinity()",
            "-(0e0/0)",
        ],
    },
    Kind {
        of: "decimal(10,2)",
        terms: &["", "v", "bucket(4, v)", "truncate(50, v)"],
        values: &[
            "DECIMAL '-1.01'",
            "DECIMAL '-0.50'",
            "DECIMAL '0.00'",
            "DECIMAL '0.49'",
            "DECIMAL '99999999.99'",
        ],
    },
    Kind {
        of: "string",
        terms: &["", "v", "bucket(3, v)", "truncate(2, v)"],
        values: &[
            "''",
            "'a'",
            "'aaaaaaaaaaaaaaaaaaaa1'",
            "'aaaaaaaaaaaaaaaaaaaa2'",
            "'aaaaaaaaaaaaaaaa'",
            "'zzzzzzzzzzzzzzzzzzzzzzz'",
            "'ééééééééééééééééééé'",
            "'\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\
             \u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}\u{10ffff}'",
        ],
    },
    Kind {
        of: "date",
        terms: &["", "v", "bucket(3, v)", "year(v)", "month(v)", "day(v)"],
        values: &[
            "DATE '1969-12-31'",
            "DATE '1970-01-01'",
            "DATE '1965-03-05'",
            "DATE '2024-02-29'",
            "DATE '2024-12-31'",
        ],
    },
    Kind {
        of: "timestamp",
        terms: &["", "v", "bucket(3, v)", "year(v)", "month(v)", "day(v)", "hour(v)"],
        values: &[
            "TIMESTAMP '1969-12-31 23:59:59.999999'",
            "TIMESTAMP '1970-01-01 00:00:00'",
            "TIMESTAMP '1960-06-30 12:00:00.000001'",
            "TIMESTAMP '2024-02-29 00:00:00'",
            "TIMESTAMP '2024-02-29 23:59:59.999999'",
        ],
    },
    Kind { of: "boolean", terms: &["", "v"], values: &["true", "false"] },
    Kind { of: "binary", terms: &["", "v"], values: &["X''", "X'00'", "X'ff'", "X'6161'"] },
];

const PREDICATES: &[&str] = &[
    "v = {a}",
    "v <> {a}",
    "v < {a}",
    "v <= {a}",
    "v > {a}",
    "v >= {a}",
    "{a} > v",
    "v BETWEEN {a} AND {b}",
    "v IN ({a}, {b})",
    "v NOT IN ({a}, {b})",
    "NOT (v < {a})",
    "NOT (v = {a} OR v > {b})",
    "v IS NULL",
    "v IS NOT NULL",
    "v = {a} OR v IS NULL",
    "v IS DISTINCT FROM {a}",
    "v IS NOT DISTINCT FROM {a}",
    "coalesce(v, {a}) = {a}",
    "v > {a} AND v < {b}",
    "v > {a} OR id < 3",
    "CASE WHEN v = {a} THEN true ELSE id > 9 END",
];

async fn compare(bench: &Bench, table: &str, kind: &Kind, seed: usize) {
    let mut asked = 0;
    for (at, predicate) in PREDICATES.iter().enumerate() {
        for step in 0..2 {
            let count = kind.values.len();
            let a = kind.values[(seed + at + step * 5) % count];
            let b = kind.values[(seed + at * 3 + step * 2 + 1) % count];
            let predicate = predicate.replace("{a}", a).replace("{b}", b);
            let pruned = format!("SELECT count(*), sum(id) FROM {table} WHERE {predicate}");
            // A limit above the filter keeps it from the scan.
            let whole = format!(
                "SELECT count(*), sum(id) FROM (SELECT * FROM {table} LIMIT 1000000) WHERE {predicate}"
            );
            let (pruned, whole) = (bench.one(&pruned).await, bench.one(&whole).await);
            assert_eq!(pruned, whole, "{table} ({}) WHERE {predicate}", kind.of);
            asked += 1;
        }
    }
    assert!(asked > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn pruning_loses_no_row_for_any_type_and_transform() {
    let bench = Bench::new().await;
    let mut number = 0;
    for kind in KINDS {
        for term in kind.terms {
            number += 1;
            let table = format!("p{number}");
            let by =
                if term.is_empty() { String::new() } else { format!("PARTITIONED BY ({term})") };
            bench.one(&format!("CREATE TABLE {table} (id bigint, v {}) {by}", kind.of)).await;
            let count = kind.values.len();
            for file in 0..4 {
                // Two neighbours of the list and, in every other file, a null.
                let (a, b) = (kind.values[file % count], kind.values[(file + number) % count]);
                let null = if file % 2 == 0 { "NULL" } else { a };
                let id = file * 3;
                bench
                    .one(&format!(
                        "INSERT INTO {table} VALUES ({id}, {a}), ({}, {b}), ({}, {null})",
                        id + 1,
                        id + 2
                    ))
                    .await;
            }
            compare(&bench, &table, kind, number).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nan_compares_with_nothing_and_the_zeros_are_equal() {
    let bench = Bench::new().await;
    bench.one("CREATE TABLE n (id bigint, v double)").await;
    bench.one("INSERT INTO n VALUES (1, nan()), (2, 1e0), (3, 0e0/0), (4, -0e0), (5, 0e0)").await;
    for (predicate, expected) in [
        ("v > 0", "2"),
        ("v >= 1e0", "2"),
        ("v < 5", "2;4;5"),
        ("5 > v", "2;4;5"),
        ("NOT (v <= 5)", "1;3"),
        ("v = 0", "4;5"),
        ("v = v", "2;4;5"),
        ("v <> v", "1;3"),
        ("v <> 0", "1;2;3"),
        ("v >= 0", "2;4;5"),
        ("v < 0", ""),
        ("v IN (0, 7)", "4;5"),
        ("v BETWEEN 0 AND 0.5", "4;5"),
        ("is_nan(v)", "1;3"),
    ] {
        let rows = bench.rows(&format!("SELECT id FROM n WHERE {predicate} ORDER BY id")).await;
        assert_eq!(rows.join(";"), expected, "{predicate}");
    }
}
