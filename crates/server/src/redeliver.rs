//! `alluvium redeliver`: a stopped server's log goes through a stream again, from a record or a time.

use crate::configuration::Configuration;
use crate::engines;
use crate::stopped::StoppedServer;
use alluvium_base::{LaneId, OsRandom, Region, SequenceNumber, SystemClock};
use alluvium_delivery::redelivery;
use alluvium_delivery::streams::Streams;
use alluvium_log::check::check;
use alluvium_log::device::Device;
use alluvium_log::device::local::LocalDevice;
use alluvium_log::{Journal, JournalOptions};
use alluvium_store::records::Records;
use alluvium_store::records::sqlite::{SqliteOptions, SqliteRecords};
use std::str::FromStr;
use std::sync::Arc;

/// What to deliver again.
#[derive(Debug, clap::Args)]
pub(crate) struct RedeliverOptions {
    /// The delivery stream
    #[arg(long, value_name = "NAME")]
    stream: String,
    /// Its first record: a sequence number, as error objects and `log check` name them, or a time, as 2026-01-31T12:00:00Z; the whole call that holds the record is delivered again
    #[arg(long, value_name = "SEQUENCE|TIME")]
    from: From,
    /// The stream's region
    #[arg(long, default_value = "us-east-1")]
    region: Region,
    /// Say what would be delivered again and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    server: StoppedServer,
}

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Sequence(SequenceNumber),
    ArrivalMs(i64),
}

impl FromStr for From {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(sequence) = text.parse() {
            return Ok(Self::Sequence(sequence));
        }
        chrono::DateTime::parse_from_rfc3339(text)
            .map(|time| Self::ArrivalMs(time.timestamp_millis()))
            .map_err(|_| {
                format!("'{text}' is neither a sequence number, such as 0-4096, nor a time, such as 2026-01-31T12:00:00Z")
            })
    }
}

/// Most bytes of the log that are looked at in one step.
const STEP_BYTES: u64 = 4 << 20;

/// Runs the command; the answer is what to print.
pub(crate) async fn run(options: &RedeliverOptions) -> Result<String, String> {
    let configuration = options.server.configuration()?;
    let directory = engines::own(&configuration)?;
    let opening = SqliteOptions { epoch_floor: directory.epoch(), ..SqliteOptions::default() };
    let sqlite = SqliteRecords::open(&configuration.records_path, opening).await;
    let sqlite = sqlite.map_err(|error| error.to_string())?;
    let epoch = sqlite.epoch();
    let records: Arc<dyn Records> = Arc::new(sqlite);
    let (clock, random) = (Arc::new(SystemClock), Arc::new(OsRandom));
    let account = alluvium_access::fixed_account(&configuration.data_dir, None)
        .map_err(|error| error.to_string())?;
    let streams = Streams::open(records.clone(), clock.clone(), random.clone(), account).await;
    let streams = streams.map_err(|error| error.to_string())?;
    let stream = streams.get(&options.region, &options.stream).ok_or_else(|| {
        format!("there is no delivery stream '{}' in {}", options.stream, options.region)
    })?;
    let cut_to = redelivery::cut_to(records.as_ref(), stream.incarnation).await;
    let cut_to = cut_to.map_err(|error| error.to_string())?;
    let reach = Reachable::of(&configuration, stream.lane)?;
    let oldest = reach.oldest;
    let mut floors = engines::journal_options(
        &configuration,
        &records,
        JournalOptions::new(epoch, clock, random),
    )
    .await?;
    if let Some(floor) = floors.lanes.get_mut(&stream.lane) {
        // The log keeps what is beyond this, and so can be read.
        floor.released = before(oldest).min(floor.released);
    }
    let log_dir = configuration.log_dir.clone();
    let opened = tokio::task::spawn_blocking(move || {
        Journal::open(&log_dir, floors, Arc::new(|_: &[_]| {}))
    });
    let (journal, _) =
        opened.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    let found = locate(&journal, stream.lane, options.from, reach, cut_to).await;
    let found = match found {
        Ok(found) if !options.dry_run => {
            redelivery::set_back(records.as_ref(), stream.incarnation, found.after)
                .await
                .map(|()| found)
                .map_err(|error| error.to_string())
        }
        other => other,
    };
    journal.close().await;
    drop(directory);
    found.map(|found| found.describe(options))
}

fn before(sequence: SequenceNumber) -> SequenceNumber {
    SequenceNumber::new(sequence.generation, sequence.offset.saturating_sub(1))
}

/// What of a lane the log still holds.
#[derive(Debug, Clone, Copy)]
struct Reachable {
    oldest: SequenceNumber,
    /// There were older ones.
    had_older: bool,
}

impl Reachable {
    fn of(configuration: &Configuration, lane: LaneId) -> Result<Self, String> {
        let device =
            LocalDevice::open(&configuration.log_dir).map_err(|error| error.to_string())?;
        let device: Arc<dyn Device> = Arc::new(device);
        let report = check(&device, &Default::default()).map_err(|error| error.to_string())?;
        let held = report.lanes.get(&lane).map(|held| Self {
            oldest: held.first,
            had_older: held.before_first > SequenceNumber::ZERO,
        });
        held.ok_or_else(|| {
            "the log holds no record of this stream any more: what was delivered is reused"
                .to_string()
        })
    }
}

/// What would be delivered again.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    after: SequenceNumber,
    records: u64,
    bytes: u64,
}

impl Found {
    fn describe(&self, options: &RedeliverOptions) -> String {
        let Self { records, bytes, after } = self;
        let stream = &options.stream;
        if options.dry_run {
            return format!(
                "{records} records ({bytes} bytes) after {after} would go through '{stream}' again; \
                 nothing was changed\n"
            );
        }
        format!(
            "{records} records ({bytes} bytes) after {after} go through '{stream}' again at the \
             next start.\nRows of them that are in the table already will be there twice.\n"
        )
    }
}

/// The block that holds the asked record, and how much follows up to what was cut.
async fn locate(
    journal: &Journal,
    lane: LaneId,
    from: From,
    reach: Reachable,
    cut_to: SequenceNumber,
) -> Result<Found, String> {
    let Reachable { oldest, had_older } = reach;
    if let From::Sequence(sequence) = from
        && sequence < oldest
    {
        return Err(format!(
            "the log holds this stream's records from {oldest} on; {sequence} is gone"
        ));
    }
    let mut found: Option<Found> = None;
    let mut position = before(oldest);
    loop {
        let blocks = journal.read(lane, position, Some(cut_to), STEP_BYTES).await;
        let blocks = blocks.map_err(|error| error.to_string())?;
        let Some(last) = blocks.last().map(|block| block.last) else { break };
        for block in &blocks {
            if let (From::ArrivalMs(time), true) = (from, had_older && block.first == oldest)
                && time < block.arrival_ms
            {
                let at = chrono::DateTime::from_timestamp_millis(block.arrival_ms);
                let at = at.map_or_else(|| block.arrival_ms.to_string(), |at| at.to_rfc3339());
                return Err(format!(
                    "the log holds this stream's records from {oldest} on, which arrived {at}; \
                     older ones are gone"
                ));
            }
            let begins = match from {
                From::Sequence(sequence) => block.last >= sequence,
                From::ArrivalMs(time) => block.arrival_ms >= time,
            };
            if found.is_none() && begins {
                found = Some(Found { after: before(block.first), records: 0, bytes: 0 });
            }
            if let Some(found) = &mut found {
                found.records += u64::from(block.count);
                found.bytes += block.frames.len() as u64;
            }
        }
        if last <= position || last >= cut_to {
            break;
        }
        position = last;
    }
    found.ok_or_else(|| "no delivered record of the stream is that new".to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_a_sequence_or_a_time() {
        assert_eq!("0-4096".parse(), Ok(From::Sequence(SequenceNumber::new(0, 4096))));
        assert_eq!("1970-01-01T00:00:01Z".parse(), Ok(From::ArrivalMs(1000)));
        for bad in ["", "yesterday", "4096", "2026-01-31"] {
            assert!(bad.parse::<From>().is_err(), "{bad}");
        }
    }
}
