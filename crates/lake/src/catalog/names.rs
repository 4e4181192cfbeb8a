//! Name rules (S3 Tables user guide, "Amazon S3 table bucket, table, and namespace naming rules";
//! Glue API, database names).

use super::CatalogError;

fn refuse(what: &'static str, name: &str, rule: &'static str) -> Result<(), CatalogError> {
    // Long enough to recognise, short enough for a log line.
    let name = name.chars().take(64).collect();
    Err(CatalogError::BadName { what, name, rule })
}

fn lower_or_digit(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

const BUCKET_PREFIXES: [&str; 4] = ["xn--", "sthree-", "amzn-s3-demo-", "aws"];
const BUCKET_SUFFIXES: [&str; 4] = ["-s3alias", "--ol-s3", "--x-s3", "--table-s3"];

/// Checks the name of a table bucket.
pub fn check_bucket_name(name: &str) -> Result<(), CatalogError> {
    const WHAT: &str = "table bucket";
    if !(3..=63).contains(&name.len()) {
        return refuse(WHAT, name, "it has 3 to 63 characters");
    }
    if !name.bytes().all(|b| lower_or_digit(b) || b == b'-') {
        return refuse(WHAT, name, "it consists of lower-case letters, digits and hyphens");
    }
    let ends = [name.as_bytes()[0], name.as_bytes()[name.len() - 1]];
    if !ends.into_iter().all(lower_or_digit) {
        return refuse(WHAT, name, "it begins and ends with a letter or digit");
    }
    if BUCKET_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
        return refuse(WHAT, name, "it does not begin with xn--, sthree-, amzn-s3-demo- or aws");
    }
    if BUCKET_SUFFIXES.iter().any(|suffix| name.ends_with(suffix)) {
        return refuse(WHAT, name, "it does not end in -s3alias, --ol-s3, --x-s3 or --table-s3");
    }
    Ok(())
}

fn check_identifier(what: &'static str, name: &str) -> Result<(), CatalogError> {
    if !(1..=255).contains(&name.len()) {
        return refuse(what, name, "it has 1 to 255 characters");
    }
    if !name.bytes().all(|b| lower_or_digit(b) || b == b'_') {
        return refuse(what, name, "it consists of lower-case letters, digits and underscores");
    }
    if !lower_or_digit(name.as_bytes()[0]) {
        return refuse(what, name, "it begins with a letter or digit");
    }
    Ok(())
}

/// Checks the name of a namespace.
pub fn check_namespace_name(name: &str) -> Result<(), CatalogError> {
    check_identifier("namespace", name)?;
    if name.starts_with("aws") {
        return refuse("namespace", name, "it does not begin with aws");
    }
    Ok(())
}

/// Checks the name of a table.
pub fn check_table_name(name: &str) -> Result<(), CatalogError> {
    check_identifier("table", name)
}

/// Checks the name of a Glue database that is a resource link; it is lower-cased before.
pub fn check_link_name(name: &str) -> Result<(), CatalogError> {
    const WHAT: &str = "database";
    if !(1..=255).contains(&name.len()) {
        return refuse(WHAT, name, "it has 1 to 255 bytes");
    }
    let allowed = |b: u8| lower_or_digit(b) || b == b'_' || b == b'-' || b == b'.';
    if !name.bytes().all(allowed) {
        return refuse(WHAT, name, "it consists of letters, digits, underscores, hyphens and dots");
    }
    if name.bytes().all(|b| b == b'.') {
        return refuse(WHAT, name, "it does not consist of dots alone");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_names_hold_to_every_rule_at_its_edge() {
        let longest = "a".repeat(63);
        for good in ["abc", "a-1", longest.as_str(), "1sensor-lake", "amzn-s3"] {
            assert!(check_bucket_name(good).is_ok(), "{good}");
        }
        let too_long = "a".repeat(64);
        for bad in [
            "",
            "ab",
            too_long.as_str(),
            "-abc",
            "abc-",
            "Abc",
            "a_b",
            "a.b",
            "a/b",
            "a b",
            "ab\u{e9}",
            "xn--abc",
            "sthree-a",
            "amzn-s3-demo-a",
            "awsome",
            "a-s3alias",
            "a--ol-s3",
            "a--x-s3",
            "a--table-s3",
            "a\0b",
            "..",
        ] {
            assert!(check_bucket_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn identifiers_hold_to_every_rule_at_its_edge() {
        let longest = "a".repeat(255);
        for good in ["a", "0", "sensor_data", longest.as_str()] {
            assert!(check_namespace_name(good).is_ok(), "{good}");
            assert!(check_table_name(good).is_ok(), "{good}");
        }
        let too_long = "a".repeat(256);
        for bad in ["", "_a", "A", "a-b", "a.b", "a/b", "..", "a b", "a\n", "\u{fc}", &too_long] {
            assert!(check_namespace_name(bad).is_err(), "{bad}");
            assert!(check_table_name(bad).is_err(), "{bad}");
        }
        assert!(check_namespace_name("aws_x").is_err());
        assert!(check_table_name("aws_x").is_ok());
    }

    #[test]
    fn a_link_may_have_dots_in_its_name_but_not_nothing_else() {
        for good in ["a", "a.b", ".a", "a-b_c"] {
            assert!(check_link_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "...", "A", "a/b", "a\0", "a b"] {
            assert!(check_link_name(bad).is_err(), "{bad}");
        }
    }
}
