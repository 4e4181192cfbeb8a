//! A stopped server's data, for the operator's commands.

use crate::configuration::{Configuration, ServeOptions};
use crate::engines;
use alluvium_base::{AccountId, Clock, OsRandom, Random, SystemClock};
use alluvium_lake::catalog::Catalog;
use alluvium_lake::{Lake, LakeOptions};
use alluvium_store::data_dir::DataDir;
use alluvium_store::objects::local::LocalObjects;
use alluvium_store::records::Records;
use alluvium_store::records::sqlite::{SqliteOptions, SqliteRecords};
use std::path::PathBuf;
use std::sync::Arc;

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

/// The data directory of a stopped server, owned by this process until it is closed.
pub(crate) struct OpenedDirectory {
    pub(crate) configuration: Configuration,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) account: AccountId,
    pub(crate) records: Arc<dyn Records>,
    pub(crate) objects: Arc<LocalObjects>,
    pub(crate) lake: Lake,
    sqlite: Arc<SqliteRecords>,
    directory: DataDir,
}

impl OpenedDirectory {
    /// Takes the directory; refused while a server has it.
    pub(crate) async fn open(server: &StoppedServer) -> Result<Self, String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let configuration = server.configuration()?;
        let directory = engines::own(&configuration)?;
        let opening = SqliteOptions { epoch_floor: directory.epoch(), ..SqliteOptions::default() };
        let sqlite = SqliteRecords::open(&configuration.records_path, opening).await;
        let sqlite = Arc::new(sqlite.map_err(|error| text(&error))?);
        let records: Arc<dyn Records> = sqlite.clone();
        let (clock, random): (Arc<dyn Clock>, Arc<dyn Random>) =
            (Arc::new(SystemClock), Arc::new(OsRandom));
        let (root, shared) = (&configuration.objects_dir, records.clone());
        let objects = LocalObjects::open_unswept(root, shared, clock.clone(), random.clone()).await;
        let objects = Arc::new(objects.map_err(|error| text(&error))?);
        let account = alluvium_access::fixed_account(&configuration.data_dir, None);
        let account = account.map_err(|error| text(&error))?;
        let catalog = Catalog::new(
            records.clone(),
            objects.clone(),
            clock.clone(),
            random.clone(),
            account.clone(),
        );
        let lake = Lake::new(catalog, LakeOptions::default());
        Ok(Self {
            configuration,
            clock,
            random,
            account,
            records,
            objects,
            lake,
            sqlite,
            directory,
        })
    }

    /// Lets go of the directory, when all that was written is durable.
    pub(crate) async fn close(self) {
        self.sqlite.close().await;
        drop(self.directory);
    }
}
