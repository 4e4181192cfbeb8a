//! The command line.

use crate::configuration::{self, Configuration, ServeOptions};
use crate::demo::{self, DemoOptions};
use crate::environment::Target;
use crate::failed::{self, ChosenOptions, ListOptions};
use crate::generate::{self, Load, SensorOptions};
use crate::log_tool::{self, LogOptions, RepairOptions};
use crate::redeliver::{self, RedeliverOptions};
use crate::replay::{self, ReplayOptions};
use crate::sql::{self, SqlOptions};
use crate::standard_output::print;
use crate::table_tool::{self, CheckOptions, InspectOptions};
use crate::{environment, reference, serve};
use alluvium_base::Region;
use alluvium_wire::client::Connection;
use clap::{CommandFactory, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio_util::sync::CancellationToken;

/// A streaming data lake in one binary: send records, query Iceberg tables.
#[derive(Debug, Parser)]
#[command(name = "alluvium", version, propagate_version = true, after_long_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  alluvium demo                         see what it does, in a lake that is thrown away
  alluvium serve                        everything, on 127.0.0.1:4566, data in ./alluvium-data
  eval \"$(alluvium env)\"                point the AWS CLI, boto3 and CDK at it
  aws sts get-caller-identity           see that it answers
  alluvium generate sensors --stream sensors --for 50s
  alluvium sql \"SELECT count(*) FROM sensors.readings\"

Exit codes: 0 done, 1 failed, 2 wrong usage.";

const SERVE_EXAMPLES: &str = "\
Examples:
  alluvium serve
  alluvium serve --listen 127.0.0.1:0 --data-dir /var/lib/alluvium
  ALLUVIUM_LOG_FORMAT=json alluvium serve --config /etc/alluvium.toml

A flag wins over its environment variable, and that over the file. The root credentials are taken
from ALLUVIUM_ROOT_ACCESS_KEY_ID and ALLUVIUM_ROOT_SECRET_ACCESS_KEY, or else generated at the
first start into DATA/credentials. SIGTERM and SIGINT drain: calls in flight end, then exit 0.";

const ENV_EXAMPLES: &str = "\
Examples:
  eval \"$(alluvium env)\"
  eval \"$(alluvium env --data-dir /var/lib/alluvium --region eu-central-1)\"";

const GENERATE_EXAMPLES: &str = "\
Examples:
  alluvium generate sensors --stream sensors                    200 readings a second
  alluvium generate sensors --stream sensors --rate max --connections 4 --for 30s

The stream must exist. The last line is JSON: records, bytes, seconds, records_per_s, ack_ms_p50,
ack_ms_p99, ack_ms_max, failed.";

const SQL_EXAMPLES: &str = "\
Examples:
  alluvium sql \"SELECT location, avg(temperature) FROM sensors.readings GROUP BY location\"
  alluvium sql --format csv --catalog s3tablescatalog/lake --database sensors \"SHOW TABLES\"

A name of two parts is looked for in AwsDataCatalog, then in the only table bucket that has the
namespace. Interrupting stops the query.";

/// What there is to generate.
#[derive(Debug, Subcommand)]
enum Generate {
    /// Sensor readings into a delivery stream, at a rate or as fast as they are acknowledged
    #[command(after_long_help = GENERATE_EXAMPLES)]
    Sensors(SensorOptions),
}

/// What to do with the log.
#[derive(Debug, Subcommand)]
enum Log {
    /// Read all of the log and say whether it is sound: exit 0, or 1 with what was found
    Check(LogOptions),
    /// Accept what `check` found as lost, so that the next start goes on without it
    Repair(RepairOptions),
}

const REDELIVER_EXAMPLES: &str = "\
Examples:
  alluvium redeliver --stream sensors --from 2026-01-31T12:00:00Z --dry-run
  alluvium redeliver --stream sensors --from 0-4096

For a table that was rolled back or lost rows by another hand; rows that are in the table already
will be there twice. The log holds what is not delivered and, of what is, the newest segment (64 MiB,
of all streams together) and those that records not yet delivered keep. The first record that is
appended after a start lets go of everything delivered before. What the log does not hold any more is
refused, with where it begins.";

const REPLAY_EXAMPLES: &str = "\
Examples:
  alluvium replay --stream sensors --dry-run
  alluvium replay --stream sensors --since 2026-01-31T12:00:00Z --until 2026-01-31T18:00:00Z

Reads the stream's error objects at the prefixes of its configuration and sends each record again, behind
the stages that it had passed. A record is sent once, however often this is run and wherever it is
interrupted; one that fails again is in a new error object. Files that could not be committed are committed
as they are. A running server does it at once, a stopped one at its next start.";

const FAILED_EXAMPLES: &str = "\
Examples:
  alluvium failed list --stream sensors
  alluvium failed commit --stream sensors --batch 17
  alluvium failed discard --stream sensors --all

The server must be stopped. A batch fails when its table refuses its files until RetryOptions end, or
is dropped; its files are kept, and an error object names them. Commit adds them to the table as they
are, once and only once; discard lets go of them.";

/// What to do with failed batches.
#[derive(Debug, Subcommand)]
enum Failed {
    /// Show the failed batches of a stream
    List(ListOptions),
    /// Commit their files to the table after all
    Commit(ChosenOptions),
    /// Let go of their files
    Discard(ChosenOptions),
}

const TABLE_EXAMPLES: &str = "\
Examples:
  alluvium table inspect sensors.readings
  alluvium table check lake/sensors.readings
  alluvium table check --json 's3tablescatalog/lake.sensors.readings'

NAME is namespace.table, looked for as `alluvium sql` does, or bucket/namespace.table. A running server is
asked, a stopped one's data directory is opened. Check reads every snapshot's metadata and the end of every
file, not the rows, and changes nothing: exit 0 when all is sound, 1 with what was found.";

/// What to do with a table.
#[derive(Debug, Subcommand)]
enum Table {
    /// Show files by size, deletes, snapshots, metadata, and what upkeep would do and did last
    Inspect(InspectOptions),
    /// Verify that every referenced file is there and that all counts agree: exit 0, or 1 with what was found
    Check(CheckOptions),
}

const LOG_EXAMPLES: &str = "\
Examples:
  alluvium log check --data-dir /var/lib/alluvium
  alluvium log repair --data-dir /var/lib/alluvium --accept-damage 3:4096-8192

The server must be stopped. Repair cuts and rewrites nothing: it records what is given up.";

/// How a command reaches a server and signs for it.
#[derive(Debug, clap::Args)]
pub(crate) struct Reach {
    /// The server's data directory [default: the AWS_* variables, else ALLUVIUM_DATA_DIR, else ./alluvium-data]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Region to sign for [default: AWS_REGION, else us-east-1]
    #[arg(long)]
    pub(crate) region: Option<Region>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    #[command(after_long_help = SERVE_EXAMPLES)]
    Serve(Box<ServeOptions>),
    /// Print the variables that point AWS's tools at a running server
    #[command(after_long_help = ENV_EXAMPLES)]
    Env(EnvOptions),
    /// Generate records
    #[command(subcommand)]
    Generate(Generate),
    /// Query a running server
    #[command(after_long_help = SQL_EXAMPLES)]
    Sql(SqlOptions),
    /// Check or repair the log of a stopped server
    #[command(subcommand, after_long_help = LOG_EXAMPLES)]
    Log(Log),
    /// Deliver again what the log of a stopped server still holds of a stream
    #[command(after_long_help = REDELIVER_EXAMPLES)]
    Redeliver(RedeliverOptions),
    /// Send what a stream could not deliver through it again
    #[command(after_long_help = REPLAY_EXAMPLES)]
    Replay(ReplayOptions),
    /// Show, commit or discard batches of a stopped server whose files could not be committed
    #[command(subcommand, after_long_help = FAILED_EXAMPLES)]
    Failed(Failed),
    /// Inspect or check a table
    #[command(subcommand, after_long_help = TABLE_EXAMPLES)]
    Table(Table),
    /// Show it all: a throw-away lake, sensor readings through it, and what came out
    Demo(DemoOptions),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the reference of all options, as in docs/configuration.md
    #[command(hide = true)]
    ConfigReference,
}

#[derive(Debug, clap::Args)]
struct EnvOptions {
    /// The server's data directory [default: ./alluvium-data]
    #[arg(long, env = "ALLUVIUM_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Region to export [default: us-east-1]
    #[arg(long)]
    region: Option<Region>,
}

/// Runs the command and says how it ended.
pub(crate) fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are printed to stdout and are no failure.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    match cli.command {
        Command::Serve(options) => match serve_configuration(*options) {
            Ok(configuration) => finish(serve::run(configuration)),
            Err(why) => fail(2, &why),
        },
        Command::Env(options) => finish(env(options)),
        Command::Generate(Generate::Sensors(options)) => finish(generate_sensors(&options)),
        Command::Sql(options) => finish(query(&options)),
        Command::Log(Log::Check(options)) => {
            sound(one_thread().and_then(|runtime| runtime.block_on(log_tool::run_check(&options))))
        }
        Command::Log(Log::Repair(options)) => {
            sound(one_thread().and_then(|runtime| runtime.block_on(log_tool::run_repair(&options))))
        }
        Command::Redeliver(options) => finish(redeliver_records(&options)),
        Command::Replay(options) => finish(replay_errors(&options)),
        Command::Failed(what) => finish(failed_batches(&what)),
        Command::Table(Table::Inspect(options)) => finish(inspect_table(&options)),
        Command::Table(Table::Check(options)) => sound(check_table(&options)),
        Command::Demo(options) => finish(demo::run(&options)),
        Command::ConfigReference => finish(print(&reference::configuration())),
        Command::Completions { shell } => finish(print(&completions(shell))),
    }
}

/// What is wrong here is wrong usage.
fn serve_configuration(options: ServeOptions) -> Result<Configuration, String> {
    environment::given_root()?;
    Configuration::resolve(options).map_err(|error| error.to_string())
}

/// The script for a shell, without the commands that help does not show either.
fn completions(shell: clap_complete::Shell) -> String {
    let whole = Cli::command();
    let shown: Vec<_> = whole.get_subcommands().filter(|c| !c.is_hide_set()).cloned().collect();
    let mut script = Vec::new();
    let mut command = clap::Command::new("alluvium").version(env!("CARGO_PKG_VERSION"));
    command = command.subcommands(shown).args(whole.get_arguments().cloned());
    clap_complete::generate(shell, &mut command, "alluvium", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

fn finish(done: Result<(), String>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}

/// A log that is not sound was reported already.
fn sound(done: Result<bool, String>) -> ExitCode {
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => fail(1, &error),
    }
}

fn fail(code: u8, why: &str) -> ExitCode {
    eprintln!("alluvium: {why}");
    ExitCode::from(code)
}

fn env(options: EnvOptions) -> Result<(), String> {
    let dir = options.data_dir.unwrap_or_else(|| configuration::default_data_dir().to_path_buf());
    let target = Target::of_data_dir(&dir, options.region)?;
    print(&target.exports())
}

/// One thread: the machine's others belong to the server.
fn one_thread() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("threads cannot be started: {error}"))
}

fn generate_sensors(options: &SensorOptions) -> Result<(), String> {
    let target = Target::reach(&options.reach)?;
    let stop = CancellationToken::new();
    let done = one_thread()?.block_on(async {
        generate::stop_at_signal(&stop)?;
        generate::run(Load::from(options), target.destination(), stop).await
    })?;
    print(&format!("{}\n", done.summary.json()))?;
    done.failure.map_or(Ok(()), Err)
}

/// Two threads: the log's and the lake's own threads call back into the runtime.
fn two_threads() -> Result<tokio::runtime::Runtime, String> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| format!("threads cannot be started: {error}"))
}

fn redeliver_records(options: &RedeliverOptions) -> Result<(), String> {
    print(&two_threads()?.block_on(redeliver::run(options))?)
}

fn replay_errors(options: &ReplayOptions) -> Result<(), String> {
    print(&two_threads()?.block_on(replay::run(options))?)
}

fn inspect_table(options: &InspectOptions) -> Result<(), String> {
    print(&two_threads()?.block_on(table_tool::inspect(options))?)
}

fn check_table(options: &CheckOptions) -> Result<bool, String> {
    let (sound, text) = two_threads()?.block_on(table_tool::check(options))?;
    print(&text)?;
    Ok(sound)
}

fn failed_batches(what: &Failed) -> Result<(), String> {
    let done = two_threads()?.block_on(async {
        match what {
            Failed::List(options) => failed::list(options).await,
            Failed::Commit(options) => failed::commit(options).await,
            Failed::Discard(options) => failed::discard(options).await,
        }
    });
    print(&done?)
}

fn query(options: &SqlOptions) -> Result<(), String> {
    let target = Target::reach(&options.reach)?;
    let answer = one_thread()?.block_on(async {
        let mut connection =
            Connection::new(target.destination()).map_err(|error| error.to_string())?;
        sql::run(options, &mut connection).await
    })?;
    print(&answer)
}
