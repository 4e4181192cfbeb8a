//! `alluvium log check` and `repair`: the log of a stopped server, and what an operator accepts.

use crate::configuration::Configuration;
use crate::engines;
use crate::standard_output::print;
use crate::stopped::StoppedServer;
use alluvium_base::{Epoch, LaneId, SequenceNumber};
use alluvium_delivery::recovery;
use alluvium_log::SegmentId;
use alluvium_log::check::{Decision, Finding, Report, check, repair};
use alluvium_log::device::Device;
use alluvium_log::device::local::LocalDevice;
use alluvium_log::identity::{AcceptedDamage, AcceptedGap};
use alluvium_store::records::Records;
use alluvium_store::records::sqlite::{SqliteOptions, SqliteRecords};
use std::fmt::Write;
use std::sync::Arc;

/// Which log, and how its state is printed.
#[derive(Debug, clap::Args)]
pub(crate) struct LogOptions {
    #[command(flatten)]
    server: StoppedServer,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// What to accept as lost.
#[derive(Debug, clap::Args)]
pub(crate) struct RepairOptions {
    #[command(flatten)]
    log: LogOptions,
    /// Give up the records in these bytes of a segment, as `check` names them
    #[arg(long, value_name = "SEGMENT:FROM-TO", value_parser = damage)]
    accept_damage: Vec<AcceptedDamage>,
    /// Give up the missing records of a lane, as `check` names them
    #[arg(long, value_name = "LANE:SEQUENCE", value_parser = gap)]
    accept_gap: Vec<AcceptedGap>,
}

fn damage(text: &str) -> Result<AcceptedDamage, String> {
    let parts = || {
        let (segment, range) = text.split_once(':')?;
        let (from, to) = range.split_once('-')?;
        let segment = SegmentId(segment.parse().ok()?);
        Some(AcceptedDamage { segment, from: from.parse().ok()?, to: to.parse().ok()? })
    };
    parts().ok_or_else(|| format!("'{text}' is not SEGMENT:FROM-TO, such as 3:4096-8192"))
}

fn gap(text: &str) -> Result<AcceptedGap, String> {
    let parts = || {
        let (lane, previous) = text.split_once(':')?;
        let previous: SequenceNumber = previous.parse().ok()?;
        Some(AcceptedGap { lane: LaneId(lane.parse().ok()?), previous })
    };
    parts().ok_or_else(|| format!("'{text}' is not LANE:SEQUENCE, such as 7:0-4096"))
}

/// Checks the log. True when all of it is sound.
pub(crate) async fn run_check(options: &LogOptions) -> Result<bool, String> {
    examine(options, &[]).await
}

/// Records what is accepted, and shows what a check finds then.
pub(crate) async fn run_repair(options: &RepairOptions) -> Result<bool, String> {
    let damages = options.accept_damage.iter().copied().map(Decision::AcceptDamage);
    let gaps = options.accept_gap.iter().copied().map(Decision::AcceptGap);
    let decisions: Vec<Decision> = damages.chain(gaps).collect();
    if decisions.is_empty() {
        return Err("nothing to accept: `alluvium log check` prints the flags to give".into());
    }
    examine(&options.log, &decisions).await
}

async fn examine(options: &LogOptions, decisions: &[Decision]) -> Result<bool, String> {
    let configuration = options.server.configuration()?;
    let directory = engines::own(&configuration)?;
    let floors = floors(&configuration, directory.epoch()).await?;
    let (log_dir, decisions) = (configuration.log_dir.clone(), decisions.to_vec());
    let examined = tokio::task::spawn_blocking(move || {
        let device = LocalDevice::open(&log_dir).map_err(|error| error.to_string())?;
        let device: Arc<dyn Device> = Arc::new(device);
        let report = match decisions.as_slice() {
            [] => check(&device, &floors.lanes),
            some => repair(&device, &floors.lanes, some),
        };
        report.map_err(|error| error.to_string())
    });
    let report = examined.await.map_err(|error| error.to_string())??;
    drop(directory);
    if options.json {
        let json = serde_json::to_string(&report).map_err(|error| error.to_string())?;
        print(&format!("{json}\n"))?;
    } else {
        print(&describe(&report))?;
    }
    Ok(report.exit_status() == 0)
}

/// What the records know of each lane.
async fn floors(configuration: &Configuration, epoch: Epoch) -> Result<recovery::Floors, String> {
    let options = SqliteOptions { epoch_floor: epoch, ..SqliteOptions::default() };
    let records = SqliteRecords::open(&configuration.records_path, options).await;
    let records: Arc<dyn Records> = Arc::new(records.map_err(|error| error.to_string())?);
    let mut floors = recovery::floors(records.as_ref()).await.map_err(|error| error.to_string())?;
    let of_shards = alluvium_streams::recovery::floors(records.as_ref()).await;
    floors.lanes.extend(of_shards.map_err(|error| error.to_string())?);
    Ok(floors)
}

fn describe(report: &Report) -> String {
    let mut out = String::new();
    let blocks: u64 = report.segments.iter().map(|segment| segment.blocks).sum();
    let _ = writeln!(
        out,
        "log {}: {} segments, {blocks} blocks, {} lanes",
        report.log_id,
        report.segments.len(),
        report.lanes.len()
    );
    for (lane, found) in &report.lanes {
        let _ = writeln!(
            out,
            "lane {lane}: {} records, {} bytes, {} to {}",
            found.records, found.size_bytes, found.first, found.last
        );
    }
    for (lane, found) in &report.lane_segments {
        let _ = writeln!(
            out,
            "lane {lane}: {} records, {} bytes in {} lane segments, up to {}",
            found.records, found.size_bytes, found.files, found.last
        );
    }
    for segment in report.segments.iter().filter(|segment| segment.torn_tail) {
        let _ = writeln!(
            out,
            "segment {}: a torn block at its end, never acknowledged; the next start cuts it",
            segment.segment
        );
    }
    for finding in &report.findings {
        let _ = writeln!(out, "{}", describe_finding(finding));
    }
    for (lane, why) in &report.quarantined {
        let _ = writeln!(out, "lane {lane} will be quarantined: {why}");
    }
    if report.exit_status() == 0 {
        out.push_str("sound\n");
    }
    out
}

fn describe_finding(finding: &Finding) -> String {
    match finding {
        Finding::Damage { segment, from, to, lanes, detail } => {
            let lanes = match lanes {
                Some(lanes) => lanes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
                None => "unknown".into(),
            };
            format!(
                "damage: segment {segment}, bytes {from} to {to}, lanes {lanes}: {detail}\n  \
                 to give these records up: --accept-damage {segment}:{from}-{to}"
            )
        }
        Finding::Gap { lane, after, up_to } => format!(
            "gap: lane {lane}, records after {after} up to {up_to} are missing\n  \
             to give them up: --accept-gap {lane}:{up_to}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decisions_are_written_as_check_prints_them() {
        let finding = Finding::Damage {
            segment: SegmentId(3),
            from: 4096,
            to: 8192,
            lanes: None,
            detail: "checksum".into(),
        };
        assert!(describe_finding(&finding).contains("--accept-damage 3:4096-8192"));
        assert_eq!(Decision::AcceptDamage(damage("3:4096-8192").unwrap()), finding.accept());
        let finding = Finding::Gap {
            lane: LaneId(7),
            after: SequenceNumber::new(0, 1),
            up_to: SequenceNumber::new(0, 4096),
        };
        assert!(describe_finding(&finding).contains("--accept-gap 7:0-4096"));
        assert_eq!(Decision::AcceptGap(gap("7:0-4096").unwrap()), finding.accept());
        for bad in ["", "3", "3:1", "x:1-2", "3:1-"] {
            assert!(damage(bad).is_err() && gap(bad).is_err(), "{bad}");
        }
    }
}
