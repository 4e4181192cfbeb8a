//! The house rules that a program can hold: file length, names, docs, forbidden words.

use regex::Regex;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Lines before `mod tests` that no file may exceed. Over 500 wants an explanation in the file's `//!`.
const LINES_MAX: usize = 800;
const LINES_EXPLAINED: usize = 500;
/// A function fits a screen. Counted from `fn` to its closing brace.
const FUNCTION_LINES_MAX: usize = 70;

fn repository() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).expect("crates/base lies two levels down").to_path_buf()
}

/// Every file that git tracks (or would), with its text; binary files are left out.
fn files() -> Vec<(String, String)> {
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(repository())
        .output()
        .expect("git lists the files of a checkout");
    let names = String::from_utf8(listed.stdout).expect("file names are UTF-8");
    let read = |name: &str| {
        let text = std::fs::read_to_string(repository().join(name)).ok()?;
        Some((name.to_string(), text))
    };
    let files: Vec<_> = names.lines().filter_map(read).collect();
    assert!(files.len() > 20, "found only {} files: not a checkout?", files.len());
    files
}

fn rust_files() -> Vec<(String, String)> {
    files().into_iter().filter(|(name, _)| name.ends_with(".rs")).collect()
}

fn before_tests(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .take_while(|line| !line.starts_with("#[cfg(test)]") && !line.starts_with("mod tests"))
}

/// Tests may hold long tables of cases.
fn is_test(name: &str) -> bool {
    name.contains("/tests/") || name.ends_with("/tests.rs")
}

fn fail_if_any(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

#[test]
fn files_are_short_or_explain_themselves() {
    let mut problems = Vec::new();
    for (name, text) in rust_files() {
        let lines = before_tests(&text).count();
        let explained = text.lines().any(|l| l.starts_with("//!") && l.contains("long because"));
        if lines > LINES_MAX {
            problems.push(format!("{name}: {lines} lines before its tests; {LINES_MAX} at most"));
        } else if lines > LINES_EXPLAINED && !explained && !is_test(&name) {
            problems.push(format!(
                "{name}: {lines} lines; over {LINES_EXPLAINED} its `//!` says `long because …`"
            ));
        }
    }
    fail_if_any(&problems);
}

#[test]
fn functions_fit_a_screen() {
    let start = Regex::new(
        r#"^(\s*)(pub(\([a-z:]+( [a-z:_]+)?\))? )?(const |async |unsafe |extern ("\w+" )?)*fn \w+"#,
    )
    .expect("a regex");
    let mut problems = Vec::new();
    for (name, text) in rust_files().into_iter().filter(|(name, _)| !is_test(name)) {
        let lines: Vec<&str> = before_tests(&text).collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(found) = start.captures(line) else { continue };
            let close = format!("{}}}", &found[1]);
            let length = lines[at..].iter().position(|l| *l == close).unwrap_or(0) + 1;
            if length > FUNCTION_LINES_MAX {
                problems.push(format!("{name}:{}: {length} lines in {}", at + 1, line.trim()));
            }
        }
    }
    fail_if_any(&problems);
}

#[test]
fn files_are_nouns_of_the_field_and_open_with_their_purpose() {
    let mut problems = Vec::new();
    for (name, text) in rust_files() {
        let vague = ["utils", "util", "helpers", "helper", "common", "misc"];
        let plain = Path::new(&name).with_extension("");
        let mut parts = plain.iter().filter_map(|part| part.to_str());
        if parts.any(|part| vague.contains(&part)) {
            problems.push(format!("{name}: say what it is about, not that it helps"));
        }
        if !text.trim_start().starts_with("//!") && !text.trim_start().starts_with("#![no_main]") {
            problems.push(format!("{name}: opens without `//!`"));
        }
    }
    fail_if_any(&problems);
}

#[test]
fn nothing_is_left_unfinished_or_printed_by_accident() {
    // Assembled, so that this file does not contain the words itself.
    let unfinished =
        [["to", "do!("].concat(), ["unimple", "mented!("].concat(), ["FIX", "ME"].concat()];
    let mut problems = Vec::new();
    for (name, text) in rust_files() {
        for (at, line) in text.lines().enumerate() {
            if unfinished.iter().any(|word| line.contains(word.as_str())) {
                problems.push(format!("{name}:{}: {}", at + 1, line.trim()));
            }
        }
        let library = name.starts_with("crates/") && name.contains("/src/");
        if library && !name.starts_with("crates/server/") && before_tests(&text).any(prints) {
            problems.push(format!("{name}: a library prints; use tracing"));
        }
    }
    fail_if_any(&problems);
}

/// `print!`, `println!` and their like for stderr, outside comments.
fn prints(line: &str) -> bool {
    !line.trim_start().starts_with("//") && (line.contains("print!(") || line.contains("println!("))
}

#[test]
fn no_path_of_one_machine_is_in_the_tree() {
    let machine = Regex::new(concat!(r"(^|[\s\x22'(=])/(wo", r"rk|ro", r"ot|ho", r"me/[a-z]+)/"))
        .expect("a regex");
    let mut problems = Vec::new();
    for (name, text) in files() {
        for (at, line) in text.lines().enumerate() {
            if machine.is_match(line) {
                problems.push(format!("{name}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    fail_if_any(&problems);
}

#[test]
fn every_path_and_symbol_that_the_architecture_names_exists() {
    let all = files();
    let Some((_, text)) = all.iter().find(|(name, _)| name == "ARCHITECTURE.md") else {
        panic!("ARCHITECTURE.md is missing");
    };
    let quoted = Regex::new(r"`([A-Za-z0-9_./:-]+)`").expect("a regex");
    let mut problems = Vec::new();
    for word in quoted.captures_iter(text).map(|c| c[1].to_string()) {
        if word.starts_with("crates/") || word.starts_with("tests/") || word.starts_with("docs/") {
            if !repository().join(&word).exists() {
                problems.push(format!("ARCHITECTURE.md names `{word}`, which does not exist"));
            }
        } else if let Some((_, symbol)) = word.rsplit_once("::") {
            let defined = Regex::new(&format!(
                r"\b(fn|struct|enum|trait|mod|type|const|static) {}\b",
                regex::escape(symbol)
            ))
            .expect("a regex");
            let variant =
                Regex::new(&format!(r"(?m)^\s+{}\b", regex::escape(symbol))).expect("a regex");
            let known = all
                .iter()
                .filter(|(name, _)| name.ends_with(".rs"))
                .any(|(_, code)| defined.is_match(code) || variant.is_match(code));
            if !known {
                problems.push(format!("ARCHITECTURE.md names `{word}`, which is defined nowhere"));
            }
        }
    }
    fail_if_any(&problems);
}
