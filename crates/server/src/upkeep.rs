//! Upkeep of tables, started with the server and ended with it.

use crate::configuration::Configuration;
use alluvium_lake::Lake;
use alluvium_upkeep::background::{Background, BackgroundOptions, UpkeepFigures};
use alluvium_upkeep::pacing::Arrivals;
use alluvium_upkeep::table_jobs::TableJobs;
use alluvium_upkeep::{Upkeep, UpkeepOptions};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// The handle, and what runs in the background unless it is switched off.
pub(crate) struct TableUpkeep {
    pub(crate) handle: Upkeep,
    background: Option<Background>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// Upkeep over a lake; its spill directory is its own.
pub(crate) fn open(
    configuration: &Configuration,
    lake: &Lake,
    arrivals: Arrivals,
) -> Result<Upkeep, String> {
    let mut options = UpkeepOptions::new(configuration.data_dir.join("spill").join("upkeep"));
    options.memory_limit_bytes =
        usize::try_from(configuration.upkeep_memory_bytes).unwrap_or(usize::MAX);
    options.io_bytes_per_s = configuration.upkeep_io_bytes;
    options.arrivals = arrivals;
    Upkeep::new(lake.clone(), options).map_err(|error| error.to_string())
}

impl TableUpkeep {
    /// Starts it.
    pub(crate) fn start(
        configuration: &Configuration,
        lake: &Lake,
        arrivals: Arrivals,
    ) -> Result<Self, String> {
        let handle = open(configuration, lake, arrivals)?;
        if !configuration.upkeep {
            return Ok(Self { handle, background: None, task: Mutex::new(None) });
        }
        let background = Background::new(
            lake.clone(),
            handle.clock().clone(),
            Arc::new(TableJobs(handle.clone())),
            BackgroundOptions::every(configuration.upkeep_interval),
            handle.stop().clone(),
        );
        let task = Mutex::new(Some(tokio::spawn(background.clone().run())));
        Ok(Self { handle, background: Some(background), task })
    }

    /// What it did of each table since the start.
    pub(crate) fn figures(&self) -> impl Fn() -> Vec<UpkeepFigures> + Send + Sync + 'static {
        let background = self.background.clone();
        move || background.as_ref().map(Background::figures).unwrap_or_default()
    }

    /// Gives up what is under way; what it wrote is named by nothing, or committed.
    pub(crate) async fn close(&self, limit: Duration) {
        self.handle.stop().cancel();
        let task = self.task.lock().take();
        let Some(task) = task else { return };
        if tokio::time::timeout(limit, task).await.is_err() {
            tracing::warn!("upkeep did not stop in time");
        }
    }
}
