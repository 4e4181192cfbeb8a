//! `alluvium generate`: sensor readings into a delivery or Kinesis stream, and the load generator.
//!
//! It shares the machine with the server that it measures, so a record costs it almost nothing:
//! batches are prepared once, in their final base64, and only their times are written anew.

mod batch;
mod latency;
mod load;

pub(crate) use batch::SENSORS;
pub(crate) use load::{Load, Summary, run, stop_at_signal};

use crate::cli::Reach;
use std::str::FromStr;
use std::time::Duration;

/// What to generate.
#[derive(Debug, clap::Args)]
pub(crate) struct SensorOptions {
    /// The stream
    #[arg(long, value_name = "NAME")]
    pub(crate) stream: String,
    /// What kind of stream it is: Firehose's delivery streams, or Kinesis' (keyed by sensor)
    #[arg(long, value_enum, default_value_t, value_name = "SERVICE")]
    pub(crate) to: Service,
    /// Send to so many streams in turn: NAME-00000, NAME-00001 and so on
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) streams: Option<u32>,
    /// Records a second, or `max` for as fast as they are acknowledged
    #[arg(long, default_value = "200", value_name = "N|max")]
    pub(crate) rate: Rate,
    /// How long, as 50s, 5m or 500ms [default: until interrupted]
    #[arg(long = "for", value_name = "TIME", value_parser = duration, conflicts_with = "records")]
    pub(crate) duration: Option<Duration>,
    /// How many records
    #[arg(long, value_name = "N")]
    pub(crate) records: Option<u64>,
    /// Connections, each with one call at a time
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) connections: u16,
    /// Most records of a call
    #[arg(long, default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=500))]
    pub(crate) batch: u16,
    /// How many sensors report
    #[arg(long, default_value_t = SENSORS, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=99_999))]
    pub(crate) sensors: u32,
    /// Readings also have a member `route`, one of route_0 to route_N-1 in turn
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) routes: Option<u32>,
    /// No progress on stderr
    #[arg(long)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) reach: Reach,
}

/// Where readings are put.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Service {
    /// `PutRecordBatch`.
    #[default]
    Firehose,
    /// `PutRecords`.
    Kinesis,
}

/// How fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rate {
    /// As fast as calls are acknowledged.
    Max,
    /// Records a second, all connections together.
    PerSecond(u64),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse() {
            _ if text == "max" => Ok(Self::Max),
            Ok(rate) if rate > 0 => Ok(Self::PerSecond(rate)),
            Ok(_) | Err(_) => Err("write a number of records a second, or max".into()),
        }
    }
}

/// `500ms`, `50s`, `5m`, `1h`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("'{text}' is not a time: write it as 500ms, 50s, 5m or 1h");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let count: u64 = digits.parse().map_err(|_| bad())?;
    let unit_ms = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(bad()),
    };
    count.checked_mul(unit_ms).map(Duration::from_millis).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_times_are_read() {
        assert_eq!("max".parse(), Ok(Rate::Max));
        assert_eq!("200".parse(), Ok(Rate::PerSecond(200)));
        assert!("0".parse::<Rate>().is_err() && "fast".parse::<Rate>().is_err());
        assert_eq!(duration("50s"), Ok(Duration::from_secs(50)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(duration("5").is_err() && duration("s").is_err() && duration("5y").is_err());
    }
}
