//! Statements of each kind, read and refused.

use super::*;

fn parse(sql: &str) -> Result<Statement, QueryError> {
    super::parse(sql, &[])
}

#[test]
fn create_table_of_athena_is_read_whole() {
    let sql = "CREATE TABLE IF NOT EXISTS `ns`.T1 (id bigint NOT NULL, data string COMMENT 'x', \
               m map<string,array<int>>, d decimal(12,2)) PARTITIONED BY (day(ts), bucket(16, id), region) \
               LOCATION 's3://b/p/' TBLPROPERTIES ('table_type'='ICEBERG', 'format'='parquet');";
    let Statement::CreateTable(table) = parse(sql).unwrap() else { panic!() };
    assert_eq!(table.name.0, ["ns", "t1"]);
    assert!(table.if_not_exists && table.columns[0].not_null);
    assert_eq!(table.columns.len(), 4);
    assert_eq!(table.partitioning[1].parameter, Some(16));
    assert_eq!(table.partitioning[2].transform, None);
    assert_eq!(table.location.as_deref(), Some("s3://b/p/"));
    assert_eq!(table.properties[0].key, "table_type");
}

#[test]
fn ctas_keeps_its_query_and_its_with_no_data() {
    let Statement::CreateTable(t) = parse(
        "create table a.b with (partitioning = ARRAY['day(ts)', 'bucket(id, 4)']) as \
         select * from c with no data",
    )
    .unwrap() else {
        panic!()
    };
    assert!(!t.with_data && t.query.is_some());
    let terms = parse_partition_terms(&t.properties[0].value).unwrap();
    assert_eq!(terms[1].parameter, Some(4));
    assert_eq!(terms[1].column, "id");
}

#[test]
fn what_is_not_supported_is_refused_by_its_name() {
    for (sql, name) in [
        ("MERGE INTO a USING b ON 1=1", "MERGE"),
        ("update a set x = 1", "UPDATE"),
        ("DELETE FROM a", "DELETE"),
        ("CREATE VIEW v AS SELECT 1", "CREATE VIEW"),
        ("EXPLAIN OPTIMIZE t REWRITE DATA USING BIN_PACK", "EXPLAIN OPTIMIZE"),
        ("DROP VIEW v", "DROP VIEW"),
        ("SHOW STATS FOR t", "SHOW STATS"),
    ] {
        match parse(sql) {
            Err(QueryError::Unsupported(text)) => assert!(text.contains(name), "{text}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[test]
fn text_that_is_no_statement_says_where() {
    for sql in ["", "SELEC 1", "SELECT FROM WHERE", "SELECT 'abc", "SELECT 1; SELECT 2", "((("] {
        assert!(matches!(parse(sql), Err(QueryError::Syntax(_))), "{sql}");
    }
}

#[test]
fn parameters_are_whole_expressions_in_the_places_of_question_marks() {
    let with = |sql: &str, parameters: &[&str]| {
        let parameters: Vec<String> = parameters.iter().map(|p| p.to_string()).collect();
        super::parse(sql, &parameters).map(|statement| match statement {
            Statement::Query(query) => query.to_string(),
            other => format!("{other:?}"),
        })
    };
    assert_eq!(
        with("SELECT a-? FROM t LIMIT ?", &["-1", "5"]).unwrap(),
        "SELECT a - -1 FROM t LIMIT 5"
    );
    assert_eq!(with("SELECT 2*?, '?'", &["1 + 1"]).unwrap(), "SELECT 2 * (1 + 1), '?'");
    assert_eq!(with("SELECT ?", &["'it''s'"]).unwrap(), "SELECT 'it''s'");
    for (sql, parameters) in [
        ("SELECT ?", &[][..]),
        ("SELECT 1", &["1"][..]),
        ("SELECT ?", &["1) UNION (SELECT 2"][..]),
        ("SELECT ?", &["1, 2"][..]),
        ("SELECT ?", &["1 FROM t"][..]),
        ("SELECT ?", &["1 --"][..]),
        ("SELECT ?", &[""][..]),
    ] {
        let refused = with(sql, parameters);
        let harmless = parameters == ["1 --"] && refused.is_ok();
        assert!(harmless || matches!(refused, Err(QueryError::Syntax(_))), "{sql} {parameters:?}");
    }
}

#[test]
fn depth_and_length_are_bounded() {
    let deep = format!("SELECT {}1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(matches!(parse(&deep), Err(QueryError::Syntax(_))));
    let long = format!("SELECT 1{}", " + 1".repeat(10_000));
    assert!(matches!(parse(&long), Err(QueryError::Syntax(_))));
    let huge = format!("SELECT '{}'", "x".repeat(300_000));
    assert!(matches!(parse(&huge), Err(QueryError::Syntax(_))));
}

#[test]
fn optimize_and_vacuum_name_their_table_and_what_is_chosen_of_it() {
    let Statement::Optimize(read) = parse("OPTIMIZE db.T rewrite data using bin_pack").unwrap()
    else {
        panic!()
    };
    assert_eq!(read.table.0, ["db", "t"]);
    assert!(read.chosen.is_none());
    let sql = "OPTIMIZE \"s3tablescatalog/b\".db.t REWRITE DATA USING BIN_PACK \
               WHERE day >= date '2026-01-01' AND region IN ('eu', 'us')";
    let Statement::Optimize(read) = parse(sql).unwrap() else { panic!() };
    let chosen = read.chosen.unwrap().to_string();
    assert!(chosen.contains("FROM \"s3tablescatalog/b\".\"db\".\"t\" WHERE"), "{chosen}");
    let Statement::Vacuum { table } = parse("vacuum a.b.c;").unwrap() else { panic!() };
    assert_eq!(table.0, ["a", "b", "c"]);
    for wrong in [
        "OPTIMIZE t",
        "OPTIMIZE t REWRITE DATA USING SORT",
        "OPTIMIZE t REWRITE DATA USING BIN_PACK WHERE",
        "OPTIMIZE t REWRITE DATA USING BIN_PACK WHERE x = 1 ORDER BY y",
        "VACUUM",
        "VACUUM t u",
    ] {
        assert!(matches!(parse(wrong), Err(QueryError::Syntax(_))), "{wrong}");
    }
}
