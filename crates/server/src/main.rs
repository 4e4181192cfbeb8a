//! The `alluvium` command: a streaming data lake in one binary.
//!
//! Owns the command line, the configuration, the wiring of engines and services, the listener and
//! shutdown. Exit codes: 0 done, 1 failed, 2 wrong usage.

mod admin;
mod byte_size;
mod cli;
mod configuration;
mod data_directory;
mod demo;
mod door;
mod engines;
mod environment;
mod failed;
mod generate;
mod identity;
mod log_tool;
mod metrics_page;
mod redeliver;
mod reference;
mod replay;
mod serve;
mod sql;
mod standard_output;
mod stopped;
mod table_tool;
mod telemetry;
mod upkeep;

use std::process::ExitCode;

/// Returns freed memory to the system soon, and allocates request bodies without a lock. Without huge
/// pages (`no_thp`): an idle server had 18 MB of them for 4 MB of its own, and loads were no faster.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
