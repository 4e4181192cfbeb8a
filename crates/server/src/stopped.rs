//! A stopped server's data, for the operator's commands.

use crate::configuration::{Configuration, ServeOptions};
use std::path::PathBuf;

/// Which server. As for `alluvium serve`, a flag wins over its variable, and that over the file.
#[derive(Debug, clap::Args)]
pub(crate) struct StoppedServer {
    /// The data directory of a stopped server [default: ./alluvium-data]
    #[arg(long, env = "ALLUVIUM_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// A TOML file as for `alluvium serve`
    #[arg(long, env = "ALLUVIUM_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where its records live, if it was told [default: sqlite://DATA/records.sqlite]
    #[arg(long, env = "ALLUVIUM_RECORDS", value_name = "URL")]
    records: Option<String>,
    /// Where its log lives, if it was told [default: file://DATA/log]
    #[arg(long, env = "ALLUVIUM_LOG", value_name = "URL")]
    log: Option<String>,
}

impl StoppedServer {
    /// The data directory that was named.
    pub(crate) fn data_dir(&self) -> Option<PathBuf> {
        self.data_dir.clone()
    }

    /// Its configuration; refused when there is no log.
    pub(crate) fn configuration(&self) -> Result<Configuration, String> {
        let configuration = Configuration::resolve(ServeOptions {
            data_dir: self.data_dir.clone(),
            config: self.config.clone(),
            records: self.records.clone(),
            log: self.log.clone(),
            allow_unsafe_file_system: Some(true), // what is there can only be looked after
            ..ServeOptions::default()
        });
        let configuration = configuration.map_err(|error| error.to_string())?;
        if configuration.log_dir.is_dir() {
            return Ok(configuration);
        }
        Err(format!(
            "there is no log in {}: name the --data-dir (or --log, --config) of the server",
            configuration.log_dir.display()
        ))
    }
}
