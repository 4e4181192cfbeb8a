//! Reports for people.

use alluvium_upkeep::check::CheckReport;
use alluvium_upkeep::inspect::{InspectReport, Kind, SizeClass};
use std::fmt::Write;

/// A number of bytes as people read it: three digits and a unit.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    #[allow(clippy::cast_precision_loss)] // shown with one decimal
    let mut value = count as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

fn time(at_ms: Option<i64>) -> String {
    let at = at_ms.and_then(chrono::DateTime::from_timestamp_millis);
    at.map_or("-".into(), |at| at.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

fn class_name(class: &SizeClass, before: Option<u64>) -> String {
    match (class.below_bytes, before) {
        (Some(below), _) => format!("below {}", bytes(below)),
        (None, Some(from)) => format!("{} and more", bytes(from)),
        (None, None) => "all".into(),
    }
}

/// A table at a glance.
pub(super) fn inspected(report: &InspectReport) -> String {
    let mut out = format!("table {}  id {}\n", report.table, report.table_id);
    match (&report.format_version, &report.metadata_location) {
        (Some(version), Some(location)) => {
            let _ = writeln!(out, "format version {version}, metadata {location}");
        }
        _ => out.push_str("no schema yet\n"),
    }
    files(&mut out, report);
    let snapshots = &report.snapshots;
    let _ = writeln!(
        out,
        "snapshots {}: from {} to {}, current {}",
        snapshots.count,
        time(snapshots.oldest_ms),
        time(snapshots.newest_ms),
        snapshots.current_id.map_or("none".into(), |id| id.to_string()),
    );
    for reference in &report.references {
        let (kind, name, id) = (&reference.kind, &reference.name, reference.snapshot_id);
        let _ = writeln!(out, "  {kind} {name}: snapshot {id}");
    }
    let metadata = &report.metadata;
    let _ = writeln!(
        out,
        "manifests {} of data, {} of deletes, {}; metadata file {}, {} older ones",
        metadata.data_manifests,
        metadata.delete_manifests,
        bytes(metadata.manifest_bytes),
        bytes(metadata.metadata_bytes),
        metadata.metadata_log,
    );
    let (files, size) = (report.stored_files, bytes(report.stored_bytes));
    let _ = writeln!(out, "stored {files} files, {size}, older snapshots' and nobody's included");
    for kind in &report.upkeep {
        upkeep(&mut out, kind);
    }
    out
}

fn files(out: &mut String, report: &InspectReport) {
    let _ = writeln!(out, "{:<22}{:>10}{:>14}{:>16}", "data files", "files", "bytes", "rows");
    let mut before = None;
    for class in &report.data_files {
        let name = class_name(class, before);
        before = class.below_bytes;
        if class.files > 0 {
            let size = bytes(class.bytes);
            let _ = writeln!(out, "  {name:<20}{:>10}{size:>14}{:>16}", class.files, class.rows);
        }
    }
    let all = report.data();
    let size = bytes(all.bytes);
    let _ = writeln!(out, "  {:<20}{:>10}{size:>14}{:>16}", "all", all.files, all.rows);
    let deletes = &report.deletes;
    let _ = writeln!(
        out,
        "deletes: {} position files with {} rows, {} equality files with {} keys, {}",
        deletes.position_files,
        deletes.positions,
        deletes.equality_files,
        deletes.keys,
        bytes(deletes.bytes),
    );
    if deletes.vectors > 0 {
        let _ = writeln!(out, "  {} of them are deletion vectors", deletes.vectors);
    }
}

fn upkeep(out: &mut String, kind: &Kind) {
    let state = if kind.enabled { "enabled" } else { "disabled" };
    let settings = kind.settings.as_object().into_iter().flatten();
    let settings: Vec<String> = settings.map(|(name, value)| format!("{name} {value}")).collect();
    let _ = writeln!(out, "{} {state}: {}", kind.kind, settings.join(", "));
    if !kind.would.is_empty() {
        let _ = writeln!(out, "  would do: {}", kind.would);
    }
    let Some(last) = &kind.last else {
        out.push_str("  has not run yet\n");
        return;
    };
    let at = time(Some(last.last_run_ms));
    match &last.failure_message {
        Some(why) => {
            let _ = writeln!(out, "  failed at {at}: {why}");
        }
        None => {
            let _ = writeln!(out, "  ran at {at}: {}", last.done);
        }
    }
    if let Some(worked) = last.worked.as_ref().filter(|worked| worked.at_ms != last.last_run_ms) {
        let _ = writeln!(out, "  before, at {}: {}", time(Some(worked.at_ms)), worked.done);
    }
}

/// What a check found.
pub(super) fn checked(report: &CheckReport) -> String {
    let mut out = format!(
        "table {}: {} snapshots, {} manifests, {} files of {}, {} rows\n",
        report.table,
        report.snapshots,
        report.manifests,
        report.files,
        bytes(report.files_bytes),
        report.rows,
    );
    for finding in &report.findings {
        let _ = write!(out, "{}: ", finding.kind.as_str());
        if let Some(path) = &finding.path {
            let _ = write!(out, "{path}: ");
        }
        out.push_str(&finding.detail);
        if let Some(id) = finding.snapshot_id {
            let _ = write!(out, " (snapshot {id})");
        }
        out.push('\n');
    }
    if report.findings_left_out > 0 {
        let _ = writeln!(out, "and {} findings more", report.findings_left_out);
    }
    for note in &report.notes {
        let _ = writeln!(out, "note: {note}");
    }
    if report.sound {
        out.push_str("sound\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit_that_suits_them() {
        for (count, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1 << 20, "1.0 MiB"),
            (3 << 29, "1.5 GiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }
}
