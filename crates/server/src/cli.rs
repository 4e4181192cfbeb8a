//! The command line.

use crate::configuration::{self, Configuration, ServeOptions};
use crate::environment::Target;
use crate::serve;
use alluvium_base::Region;
use clap::{CommandFactory, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// A streaming data lake in one binary: send records, query Iceberg tables.
#[derive(Debug, Parser)]
#[command(name = "alluvium", version, propagate_version = true, after_long_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  alluvium serve                        everything, on 127.0.0.1:4566, data in ./alluvium-data
  eval \"$(alluvium env)\"                point the AWS CLI, boto3 and CDK at it
  aws sts get-caller-identity           see that it answers

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

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    #[command(after_long_help = SERVE_EXAMPLES)]
    Serve(Box<ServeOptions>),
    /// Print the variables that point AWS's tools at a running server
    #[command(after_long_help = ENV_EXAMPLES)]
    Env(EnvOptions),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Debug, clap::Args)]
struct EnvOptions {
    /// The server's data directory
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
        Command::Serve(options) => match Configuration::resolve(*options) {
            Ok(configuration) => finish(serve::run(configuration)),
            Err(error) => fail(2, &error.to_string()),
        },
        Command::Env(options) => finish(env(options)),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "alluvium", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
    }
}

fn finish(done: Result<(), String>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
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
    print!("{}", target.exports());
    Ok(())
}
