//! The direction of imports, and the licences of what is built in, from `cargo metadata`.

use regex::Regex;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Who may import whom (ARCHITECTURE.md, "The house").
const MAY_USE: &[(&str, &[&str])] = &[
    ("alluvium-base", &[]),
    ("alluvium-store", &["base"]),
    ("alluvium-log", &["base"]),
    ("alluvium-streams", &["base", "store", "log"]),
    ("alluvium-access", &["base", "store"]),
    ("alluvium-lake", &["base", "store"]),
    ("alluvium-query", &["base", "lake", "access"]),
    ("alluvium-upkeep", &["base", "store", "lake", "query"]),
    ("alluvium-delivery", &["base", "store", "log", "streams", "lake", "access", "query"]),
    ("alluvium-wire", &["base"]),
    (
        "alluvium-services",
        &[
            "base", "store", "log", "streams", "access", "lake", "query", "upkeep", "delivery",
            "wire",
        ],
    ),
    (
        "alluvium",
        &[
            "base", "store", "log", "streams", "access", "lake", "query", "upkeep", "delivery",
            "wire", "services",
        ],
    ),
    (
        "alluvium-fuzz",
        &[
            "base", "store", "log", "streams", "access", "lake", "query", "upkeep", "delivery",
            "wire", "services",
        ],
    ),
];

/// Licences that a binary under Apache-2.0 may contain without further duties than notices.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "NCSA",
    "OpenSSL",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "Unlicense",
    "Zlib",
    "bzip2-1.0.6",
];

fn metadata() -> Value {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_string());
    // Linux is what is shipped; packages for other systems are not even downloaded.
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--offline", "--locked"])
        .args(["--filter-platform", &platform])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo describes the workspace");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}

#[test]
fn imports_point_one_way_only() {
    let allowed: BTreeMap<&str, BTreeSet<String>> = MAY_USE
        .iter()
        .map(|(name, uses)| (*name, uses.iter().map(|u| format!("alluvium-{u}")).collect()))
        .collect();
    let metadata = metadata();
    let members = metadata["packages"].as_array().expect("packages");
    let mut problems = Vec::new();
    let mut seen = 0;
    for package in members.iter().filter(|p| text(p, "name").starts_with("alluvium")) {
        let name = text(package, "name");
        let Some(may) = allowed.get(name) else {
            problems.push(format!("{name} is not in the table of this test"));
            continue;
        };
        seen += 1;
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let used = text(dependency, "name");
            if used.starts_with("alluvium") && used != name && !may.contains(used) {
                problems.push(format!("{name} imports {used}, which it may not"));
            }
        }
    }
    assert_eq!(seen, MAY_USE.len(), "the table names crates that do not exist");
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn no_service_imports_another() {
    let services = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../services/src");
    let folders: Vec<String> = std::fs::read_dir(&services)
        .expect("services")
        .filter_map(|entry| entry.ok().filter(|e| e.path().is_dir()))
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    assert!(folders.len() >= 5);
    let mut problems = Vec::new();
    for folder in &folders {
        for file in rust_files(&services.join(folder)) {
            let code = std::fs::read_to_string(&file).expect("source");
            for other in folders.iter().filter(|other| *other != folder) {
                if imports(&code, other) {
                    problems.push(format!("{} imports {other}", file.display()));
                }
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// Whether code names the module `other` beside its own folder: alone or in a group, from the root
/// of the crate or by going up.
fn imports(code: &str, other: &str) -> bool {
    let way = r"\b(crate|super(\s*::\s*super)*)\s*::\s*";
    let alone = format!(r"{way}{other}\b");
    let grouped = format!(r"{way}\{{([^;]*?[{{,\s])?{other}\b");
    [alone, grouped].iter().any(|text| Regex::new(text).expect("a regex").is_match(code))
}

#[test]
fn imports_are_seen_however_they_are_written() {
    for bad in [
        "use crate::athena::Service;",
        "use crate::{athena, glue};",
        "use crate::{\n    glue::Service,\n    athena::{self, Service},\n};",
        "use super::super::athena;",
        "crate::athena::go();",
        "pub(crate) use crate::athena as other;",
    ] {
        assert!(imports(bad, "athena"), "{bad}");
    }
    for good in ["use crate::testing::athena_like;", "use super::athenaeum;", "let athena = 1;"] {
        assert!(!imports(good, "athena"), "{good}");
    }
}

/// Below the services nothing knows HTTP.
#[test]
fn the_engines_know_no_http() {
    const ENGINES: [&str; 7] = ["base", "store", "log", "access", "lake", "query", "delivery"];
    let metadata = metadata();
    let mut seen = 0;
    for package in metadata["packages"].as_array().expect("packages") {
        let name = text(package, "name");
        if !ENGINES.iter().any(|engine| name == format!("alluvium-{engine}")) {
            continue;
        }
        seen += 1;
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let used = text(dependency, "name");
            let http = ["http", "http-body", "hyper", "hyper-util", "axum", "reqwest", "s3s"];
            assert!(!http.contains(&used), "{name} imports {used}");
        }
    }
    assert_eq!(seen, ENGINES.len());
}

fn rust_files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("folder").flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found
}

/// An SPDX expression is fine when one side of every OR, and both sides of every AND, are allowed.
fn allowed(expression: &str) -> bool {
    let plain = expression.replace('/', " OR ");
    let plain = plain.trim();
    if let Some(inner) = plain.strip_prefix('(').and_then(|p| p.strip_suffix(')'))
        && !inner.contains(['(', ')'])
    {
        return allowed(inner);
    }
    split_outside(plain, " OR ").iter().any(|side| {
        let parts = split_outside(side, " AND ");
        if parts.len() > 1 || parts[0] != plain {
            parts.iter().all(|part| allowed(part))
        } else {
            LICENCES.contains(&plain)
        }
    })
}

fn split_outside<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let (mut depth, mut start, mut parts) = (0usize, 0usize, Vec::new());
    for (at, letter) in text.char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ if depth == 0 && at >= start && text[at..].starts_with(separator) => {
                parts.push(text[start..at].trim());
                start = at + separator.len();
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}

#[test]
fn what_is_built_in_is_licensed_permissively() {
    let metadata = metadata();
    let mut problems = Vec::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let licence = text(package, "license");
        if !allowed(licence) {
            problems.push(format!(
                "{} {}: '{licence}'",
                text(package, "name"),
                text(package, "version")
            ));
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn licence_expressions_are_read_as_spdx_says() {
    for good in [
        "MIT",
        "MIT/Apache-2.0",
        "(MIT OR GPL-3.0) AND ISC",
        "GPL-2.0 OR MIT",
        "Apache-2.0 AND ISC",
    ] {
        assert!(allowed(good), "{good}");
    }
    for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(GPL-2.0 OR AGPL-3.0) AND MIT"] {
        assert!(!allowed(bad), "{bad}");
    }
}

#[test]
fn every_dependency_comes_from_the_registry_with_a_checksum() {
    let lock = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock");
    let lock = std::fs::read_to_string(lock).expect("Cargo.lock is committed");
    for package in lock.split("[[package]]").skip(1) {
        let ours = package.contains("name = \"alluvium");
        assert!(ours || package.contains("checksum = "), "no checksum: {package}");
        assert!(!package.contains("source = \"git+"), "a git dependency: {package}");
    }
}

/// Every package that a build has, with its version and features.
fn features(edges: &str) -> BTreeSet<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_string());
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let output = Command::new(cargo)
        .args(["tree", "--workspace", "--offline", "--locked", "--prefix", "none"])
        .args(["--format", "{p} {f}", "--edges", edges, "--target", &platform])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo shows the tree");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tree = String::from_utf8(output.stdout).expect("a tree is text");
    // What was shown before has a star.
    tree.lines().map(|line| line.trim_end_matches(" (*)").to_string()).collect()
}

#[test]
fn the_program_and_its_tests_share_one_build_of_the_dependencies() {
    let tested = features("normal,build,dev");
    let other: Vec<_> = features("normal,build").difference(&tested).cloned().collect();
    assert!(
        other.is_empty(),
        "tests build these again, with other features: {other:?}; add them to the workspace hack"
    );
}
