//! `alluvium serve`: opens everything, wires the services, listens, drains.

use crate::admin::Admin;
use crate::configuration::Configuration;
use crate::door::{BodyLimits, Door, DoorParts, ListenLimits, Listener};
use crate::engines::{Engines, Ground};
use crate::identity::RootOnly;
use crate::{data_directory, engines, environment, telemetry};
use alluvium_access::RootCredentials;
use alluvium_base::{AccountId, OsRandom, Random, SystemClock};
use alluvium_wire::sigv4::Verifier;
use parking_lot::Mutex;
use rustix::fs::Mode;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Histograms are folded this often.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// Serves until a signal; an error says why it could not, or had to end.
pub(crate) fn run(configuration: Configuration) -> Result<(), String> {
    private_files();
    telemetry::start_logs(configuration.log_format, &configuration.log_level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("threads cannot be started: {error}"))?;
    runtime.block_on(serve(configuration, CancellationToken::new()))
}

/// What libraries make (a query's spill, SQLite's files) is as private as what we make, whatever the
/// caller's umask.
pub(crate) fn private_files() {
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
}

/// Serves until a signal, or until `stop` is cancelled.
pub(crate) async fn serve(
    configuration: Configuration,
    stop: CancellationToken,
) -> Result<(), String> {
    let dir = configuration.data_dir.clone();
    let unusable = |error: std::io::Error| format!("{} cannot be used: {error}", dir.display());
    let directory = engines::own(&configuration)?;
    data_directory::remove_endpoint(&dir).map_err(unusable)?;
    let (ground, access_key_id) = ground(&configuration)?;
    let engines = Engines::open(&configuration, &ground, directory).await?;
    let metrics = telemetry::start_metrics()?;
    let limits = ListenLimits {
        connections_max: configuration.max_connections,
        head_timeout: configuration.head_timeout,
        stall_timeout: configuration.body_timeout,
    };
    let listener = Listener::bind(configuration.listen, limits)
        .await
        .map_err(|error| format!("cannot listen on {}: {error}", configuration.listen))?;
    let local = listener.local();
    let mut admin = Admin::new(metrics, !local.ip().is_loopback());
    engines.show(&mut admin);
    let admin = Arc::new(admin);
    let door = Arc::new(Door::new(DoorParts {
        verifier: Verifier::new(ground.lookup.clone(), ground.clock.clone()),
        registry: engines.registry(&configuration, &ground, &stop),
        admin: admin.clone(),
        clock: ground.clock.clone(),
        random: ground.random.clone(),
        regions: configuration.regions.clone(),
        limits: BodyLimits {
            memory_bytes: configuration.request_memory_bytes,
            timeout: configuration.body_timeout,
        },
        requests_max: configuration.max_requests,
    }));
    let hurry = stop_at_signal(&stop)?;
    tokio::spawn(upkeep(admin.clone()));
    data_directory::write_endpoint(&dir, &url(local), &access_key_id).map_err(unusable)?;
    admin.set_ready(true);
    engines.make_ready();
    announce(&configuration, local, &ground.account);
    let failure = failure_stops(engines.failure(), &stop);
    tokio::spawn(not_ready_from(stop.clone(), admin, dir.clone()));
    let drained = async {
        if !listener.serve(door, stop, configuration.drain_timeout).await {
            tracing::warn!("calls were still in flight after {:?}", configuration.drain_timeout);
        }
        if let Some(why) = failure.lock().take() {
            // What the log holds is recovered by the next start; nothing more may be written.
            return Err(why);
        }
        engines.close(configuration.drain_timeout).await;
        Ok(())
    };
    let drained = hurry.run_until_cancelled(drained).await;
    data_directory::remove_endpoint(&dir).map_err(unusable)?;
    drained.unwrap_or_else(|| Err("ended by a second signal, without draining".into()))?;
    tracing::info!("stopped");
    Ok(())
}

/// From `stop` on nobody shall come any more.
async fn not_ready_from(stop: CancellationToken, admin: Arc<Admin>, dir: PathBuf) {
    stop.cancelled().await;
    admin.set_ready(false);
    if let Err(error) = data_directory::remove_endpoint(&dir) {
        tracing::warn!("{}: the endpoint cannot be taken back: {error}", dir.display());
    }
}

/// What everything stands on, and the id of the access key that is taken.
fn ground(configuration: &Configuration) -> Result<(Ground, String), String> {
    let random: Arc<dyn Random> = Arc::new(OsRandom);
    let dir = &configuration.data_dir;
    let account = alluvium_access::fixed_account(dir, configuration.account_id.as_ref())
        .map_err(|error| error.to_string())?;
    let root = match environment::given_root()? {
        Some(root) => root,
        None => RootCredentials::load_or_create(dir, random.as_ref())
            .map_err(|error| error.to_string())?,
    };
    let access_key_id = root.access_key_id.clone();
    let lookup = Arc::new(RootOnly::new(root, &account));
    Ok((Ground { clock: Arc::new(SystemClock), random, account, lookup }, access_key_id))
}

/// The URL by which clients on this machine reach the listener.
fn url(local: SocketAddr) -> String {
    let mut reach = local;
    if local.ip().is_unspecified() {
        let loopback: std::net::IpAddr = match local {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        reach.set_ip(loopback);
    }
    format!("http://{reach}")
}

fn announce(configuration: &Configuration, local: SocketAddr, account: &AccountId) {
    tracing::info!(
        endpoint = url(local), data_dir = %configuration.data_dir.display(), %account,
        "listening"
    );
    if !local.ip().is_loopback() {
        tracing::warn!(
            "{local} is not a loopback address: traffic is plain text, signatures are checked but \
             data can be read on the way; put TLS in front of it"
        );
    }
}

/// Stops the server when it must end, and keeps the reason.
fn failure_stops(
    failure: impl Future<Output = String> + Send + 'static,
    stop: &CancellationToken,
) -> Arc<Mutex<Option<String>>> {
    let reason = Arc::new(Mutex::new(None));
    let (kept, stop) = (reason.clone(), stop.clone());
    tokio::spawn(async move {
        let why = failure.await;
        tracing::error!("{why}");
        *kept.lock() = Some(why);
        stop.cancel();
    });
    reason
}

async fn upkeep(admin: Arc<Admin>) {
    let mut ticks = tokio::time::interval(METRICS_UPKEEP);
    loop {
        ticks.tick().await;
        admin.upkeep();
    }
}

/// Cancels `stop` at a signal, and the token that it returns at a second one.
fn stop_at_signal(stop: &CancellationToken) -> Result<CancellationToken, String> {
    let listen = |kind| signal(kind).map_err(|error| format!("signals cannot be heard: {error}"));
    let (mut terminate, mut interrupt) =
        (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let (stop, hurry) = (stop.clone(), CancellationToken::new());
    let again = hurry.clone();
    tokio::spawn(async move {
        for (next, then) in [(stop, "draining"), (again, "ending without draining")] {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            tracing::info!("{name}: {then}");
            next.cancel();
        }
    });
    Ok(hurry)
}
