//! Upkeep: tables stay fast and small by themselves.
//!
//! A stream that commits every second makes 86,400 snapshots, manifests and small files a day.
//! This crate rewrites small files ([`compaction`]), lets go of old snapshots ([`snapshots`]),
//! removes what no table names ([`unreferenced`]), runs all three in the background by each
//! table's settings ([`background`], [`table_jobs`]) or by hand (`by_hand`), remembers what each run
//! did ([`job`]), and shows and verifies a table ([`inspect`], [`check`]). [`elapsed`] is the time by
//! which things grow old, [`pacing`] how fast files are read and written. [`Upkeep`] is what they all work with.
//!
//! Invariants: every change of a table goes through the lake's one commit path (I3, I5); a rewrite
//! keeps each row once and revives none; a file is removed only when no snapshot, running query,
//! running commit or stream's checkpoint can still need it (I6); memory, processors and disk are
//! bounded and paced, so that delivery keeps its latency (I8).

pub mod background;
mod by_hand;
pub mod check;
pub mod compaction;
pub mod elapsed;
mod error;
pub mod inspect;
pub mod job;
pub mod pacing;
pub mod settings;
pub mod snapshots;
pub mod table_jobs;
#[cfg(test)]
mod testing;
pub mod unreferenced;
mod upkeep;

pub use error::UpkeepError;
pub use upkeep::{InFlight, Upkeep, UpkeepOptions, Writing};
