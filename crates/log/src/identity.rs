//! Who this log is, and what an operator accepted about it: two small JSON files.
//!
//! `identity` is written once, before the first segment: `{"format":1, "log_id":…, "salt":…,
//! "segment_bytes":…}`. The log id is what checkpoints name; the salt seeds the CRC of headers and
//! is told to nobody; the segment size is fixed for the life of the log.
//!
//! `repairs` exists only after `alluvium log repair`: the damages and gaps whose loss an operator
//! accepted. Recovery counts them as known holes; nothing is cut or rewritten for them.
//!
//! Both are replaced whole: temporary file, sync, rename, directory sync.

use crate::SegmentId;
use crate::block::Seed;
use crate::device::{Device, read_file, replace_file};
use crate::directory::Directory;
use crate::options::{JournalOptions, OpenError};
use crate::segment::{SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
use alluvium_base::{LaneId, Random, SequenceNumber};
use serde::{Deserialize, Serialize};
use std::io;
use uuid::Uuid;

const IDENTITY_FILE: &str = "identity";
const REPAIRS_FILE: &str = "repairs";
const FORMAT: u32 = 1;

/// The log's identity.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Identity {
    format: u32,
    pub(crate) log_id: Uuid,
    salt: Uuid,
    pub(crate) segment_bytes: u64,
}

/// Why there is no identity to go on with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadIdentity {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it is not the JSON this release writes: {0}")]
    Json(#[from] serde_json::Error),
    #[error("its format {0} is newer than this release knows")]
    Newer(u32),
}

impl Identity {
    pub(crate) fn load(device: &dyn Device) -> Result<Option<Self>, BadIdentity> {
        #[derive(Deserialize)]
        struct Format {
            format: u32,
        }
        let Some(bytes) = read_file(device, IDENTITY_FILE)? else { return Ok(None) };
        let Format { format } = serde_json::from_slice(&bytes)?;
        if format > FORMAT {
            return Err(BadIdentity::Newer(format));
        }
        Ok(Some(serde_json::from_slice(&bytes)?))
    }

    pub(crate) fn create(
        device: &dyn Device,
        random: &dyn Random,
        segment_bytes: u64,
    ) -> io::Result<Self> {
        let identity =
            Self { format: FORMAT, log_id: random.uuid(), salt: random.uuid(), segment_bytes };
        let bytes = serde_json::to_vec_pretty(&identity)?;
        replace_file(device, IDENTITY_FILE, &bytes)?;
        Ok(identity)
    }

    pub(crate) fn seed(&self) -> Seed {
        Seed::of(self.salt.as_bytes())
    }
}

pub(crate) fn bad_identity(bad: BadIdentity) -> OpenError {
    match bad {
        BadIdentity::Io(source) => OpenError::Io { what: "reading of identity".into(), source },
        BadIdentity::Json(error) => OpenError::Identity(error.to_string()),
        BadIdentity::Newer(format) => {
            OpenError::Newer { what: "identity".into(), detail: format!("format {format}") }
        }
    }
}

/// Reads or makes the identity; the flag says whether it was made.
pub(crate) fn identify(
    device: &dyn Device,
    options: &JournalOptions,
) -> Result<(Identity, bool), OpenError> {
    let sizes = SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX;
    if !sizes.contains(&options.segment_bytes) || !options.segment_bytes.is_multiple_of(4096) {
        let text = format!(
            "segments of {} bytes: use a multiple of 4096 from {SEGMENT_BYTES_MIN} to \
             {SEGMENT_BYTES_MAX}",
            options.segment_bytes
        );
        return Err(OpenError::Invalid(text));
    }
    let loss = |text: String| {
        if options.accept_log_loss { Ok(()) } else { Err(OpenError::LogLoss(text)) }
    };
    if let Some(identity) = Identity::load(device).map_err(bad_identity)? {
        let found = identity.log_id;
        match options.expected_log_id {
            Some(expected) if expected != found => {
                loss(format!("checkpoints name log {expected}, but this is log {found}"))?;
            }
            Some(_) | None => {}
        }
        return Ok((identity, false));
    }
    if Directory::list(device)?.newest.0 > 0 {
        let text = "there are segments, but no file `identity`";
        return Err(OpenError::Identity(text.to_string()));
    }
    if let Some(expected) = options.expected_log_id {
        loss(format!("checkpoints name log {expected}, but the log's directory is empty"))?;
    }
    let identity = Identity::create(device, &*options.random, options.segment_bytes)
        .map_err(OpenError::io("creation"))?;
    Ok((identity, true))
}

/// A damaged range whose loss was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedDamage {
    /// The segment.
    pub segment: SegmentId,
    /// The first damaged byte of its file.
    pub from: u64,
    /// The first byte after.
    pub to: u64,
}

/// A gap in a lane's chain whose loss was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedGap {
    /// The lane.
    pub lane: LaneId,
    /// The sequence that the block after the gap names as its predecessor.
    pub previous: SequenceNumber,
}

/// All that was accepted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Repairs {
    pub(crate) damages: Vec<AcceptedDamage>,
    pub(crate) gaps: Vec<AcceptedGap>,
}

impl Repairs {
    pub(crate) fn load(device: &dyn Device) -> Result<Self, BadIdentity> {
        match read_file(device, REPAIRS_FILE)? {
            Some(bytes) => Ok(serde_json::from_slice(&bytes)?),
            None => Ok(Self::default()),
        }
    }

    pub(crate) fn save(&self, device: &dyn Device) -> io::Result<()> {
        replace_file(device, REPAIRS_FILE, &serde_json::to_vec_pretty(self)?)
    }

    pub(crate) fn accepts(&self, segment: SegmentId, from: u64, to: u64) -> bool {
        let covers = |d: &AcceptedDamage| d.segment == segment && d.from <= from && to <= d.to;
        self.damages.iter().any(covers)
    }

    pub(crate) fn accepts_gap(&self, lane: LaneId, previous: SequenceNumber) -> bool {
        self.gaps.contains(&AcceptedGap { lane, previous })
    }
}
