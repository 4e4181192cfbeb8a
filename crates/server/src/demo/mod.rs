//! `alluvium demo`: a throw-away lake, the IoT sensors' pipeline in it, readings through it, and
//! what came out.
//!
//! It is the ordinary server in this process, on a free port and in a temporary directory, and
//! ordinary signed calls to it: nothing here reaches into the engine.

mod calls;

use crate::configuration::{Configuration, ServeOptions};
use crate::environment::Target;
use crate::generate::{self, Load, Rate, Service, Summary};
use crate::sql::{self, Format, SqlOptions};
use crate::standard_output::say;
use crate::{data_directory, serve, telemetry};
use alluvium_base::{OsRandom, Random};
use alluvium_wire::client::Connection;
use calls::Pipeline;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// What to show.
#[derive(Debug, clap::Args)]
pub(crate) struct DemoOptions {
    /// How many readings to stream
    #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    records: u64,
    /// Readings a second, or `max`
    #[arg(long, default_value = "2000", value_name = "N|max")]
    rate: Rate,
    /// Keep the lake in this directory, which must not exist yet [default: a temporary one, removed at the end]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// End after the queries, even on a terminal, instead of serving until Enter is pressed
    #[arg(long)]
    no_wait: bool,
}

/// The delivery stream's and the table bucket's name.
pub(crate) const NAME: &str = "iot-demo";
/// The namespace and the table.
pub(crate) const NAMESPACE: &str = "sensors";
pub(crate) const TABLE: &str = "readings";

/// Delivery at interval 0 takes a second or so; a machine that needs longer than this has a fault.
const VISIBLE_WITHIN: Duration = Duration::from_secs(120);
const INTERRUPTED: &str = "interrupted";
const READY_WITHIN: Duration = Duration::from_secs(60);

/// The queries of the IoT sample's document.
const QUERIES: &[(&str, &str)] = &[
    ("How many readings are there?", "SELECT count(*) AS readings FROM sensors.readings"),
    (
        "Average temperature by location",
        "SELECT location, avg(temperature) AS avg_temp, count(*) AS reading_count \
         FROM sensors.readings GROUP BY location ORDER BY avg_temp DESC",
    ),
    (
        "High temperatures, newest first",
        "SELECT sensor_id, temperature, humidity, timestamp, from_unixtime(timestamp) AS reading_time \
         FROM sensors.readings WHERE temperature > 25 ORDER BY timestamp DESC LIMIT 5",
    ),
    (
        "Activity by sensor",
        "SELECT sensor_id, location, count(*) AS total_readings, avg(temperature) AS avg_temp, \
         avg(humidity) AS avg_humidity, min(timestamp) AS first_reading, \
         max(timestamp) AS last_reading FROM sensors.readings \
         GROUP BY sensor_id, location ORDER BY sensor_id LIMIT 5",
    ),
];

/// Runs the demonstration.
pub(crate) fn run(options: &DemoOptions) -> Result<(), String> {
    let home = Home::make(options.data_dir.as_deref())?;
    let configuration = Configuration::resolve(ServeOptions {
        listen: Some(([127, 0, 0, 1], 0).into()),
        data_dir: Some(home.path.clone()),
        log_level: Some("warn".into()),
        // What is thrown away needs no disk that keeps it; many systems have /tmp in memory.
        allow_unsafe_file_system: Some(home.temporary),
        ..ServeOptions::default()
    })
    .map_err(|error| error.to_string())?;
    serve::private_files();
    telemetry::start_logs(configuration.log_format, &configuration.log_level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("threads cannot be started: {error}"))?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        let mut server = tokio::spawn(serve::serve(configuration, stop.clone()));
        let shown = tokio::select! {
            biased;
            shown = show(options, &home, &stop) => shown,
            ended = &mut server => {
                ended.map_err(|error| error.to_string())??;
                return Err(INTERRUPTED.to_string());
            }
        };
        // A signal stops the server before its clients know.
        let interrupted = stop.is_cancelled();
        stop.cancel();
        server.await.map_err(|error| error.to_string())??;
        shown.map_err(|why| if interrupted { INTERRUPTED.to_string() } else { why })
    })?;
    if home.temporary {
        say("\nThe throw-away lake is gone. Keep one with `alluvium demo --data-dir DIR`.");
    } else {
        say(&format!("\nThe lake is kept: alluvium serve --data-dir {}", home.path.display()));
    }
    Ok(())
}

/// The lake's directory, removed at the end if it is a temporary one.
struct Home {
    path: PathBuf,
    temporary: bool,
}

impl Home {
    fn make(given: Option<&Path>) -> Result<Self, String> {
        match given {
            Some(path) if path.exists() => Err(format!(
                "{} exists already: name a directory that does not, or serve it with `alluvium serve`",
                path.display()
            )),
            Some(path) => Ok(Self { path: path.to_path_buf(), temporary: false }),
            None => {
                let name = format!("alluvium-demo-{}", OsRandom.uuid().simple());
                Ok(Self { path: std::env::temp_dir().join(name), temporary: true })
            }
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if self.temporary
            && let Err(error) = std::fs::remove_dir_all(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            eprintln!("alluvium: {} was not removed: {error}", self.path.display());
        }
    }
}

async fn show(options: &DemoOptions, home: &Home, stop: &CancellationToken) -> Result<(), String> {
    let started = Instant::now();
    let target = ready(&home.path).await?;
    let took_ms = started.elapsed().as_millis();
    say(&format!("A lake is running at {} (ready in {took_ms} ms).", target.endpoint));
    let mut connection =
        Connection::new(target.destination()).map_err(|error| error.to_string())?;
    let pipeline = Pipeline::create(&mut connection).await?;
    say(&format!(
        "Made the table bucket '{NAME}', the table {NAMESPACE}.{TABLE} in it, the error bucket\n\
         '{}' and the delivery stream '{NAME}' into the table.\n",
        pipeline.error_bucket
    ));
    stream(options, &target, &pipeline, &mut connection, stop).await?;
    for (question, statement) in QUERIES {
        let answer = query(&mut connection, statement, Format::Table).await?;
        say(&format!("{question}\n  {statement}\n{answer}"));
    }
    let errors = pipeline.errors(&mut connection).await?;
    say(&format!("The reading that could not become a row, with its reason:\n{errors}\n"));
    let waits = !options.no_wait && std::io::stdin().is_terminal();
    if waits || !home.temporary {
        look(&target, home, &pipeline, waits);
    }
    if waits {
        say("\nThe lake goes on running; press Enter to end it.");
        // Ending it by a signal ends it as well.
        stop.run_until_cancelled(enter()).await;
    }
    Ok(())
}

async fn stream(
    options: &DemoOptions,
    target: &Target,
    pipeline: &Pipeline,
    connection: &mut Connection,
    stop: &CancellationToken,
) -> Result<(), String> {
    say(&format!(
        "Streaming {} sensor readings with PutRecordBatch, and one that lacks its sensor_id …",
        options.records
    ));
    pipeline.put_bad_record(connection).await?;
    let load = Load {
        stream: NAME.into(),
        streams: None,
        rate: options.rate,
        duration: None,
        records: Some(options.records),
        connections: 1,
        batch: 500,
        to: Service::Firehose,
        sensors: generate::SENSORS,
        routes: None,
        progress: true,
    };
    let done = generate::run(load, target.destination(), stop.clone()).await?;
    if stop.is_cancelled() {
        return Err(INTERRUPTED.to_string());
    }
    if let Some(why) = done.failure {
        return Err(why);
    }
    let Summary { records, seconds, ack_ms_p50, ack_ms_p99, failed, .. } = done.summary;
    if failed > 0 {
        return Err(format!("{failed} readings were not acknowledged, {records} were"));
    }
    say(&format!(
        "Synced to disk and acknowledged: {records} readings in {seconds:.1} s, each call within \
         {ack_ms_p50:.1} ms (median), {ack_ms_p99:.1} ms (99 of 100)."
    ));
    let sent = Instant::now();
    until_visible(connection, options.records).await?;
    let took_ms = sent.elapsed().as_millis();
    say(&format!("All of them were rows of the table {took_ms} ms later.\n"));
    Ok(())
}

/// Waits for a line on a thread that nobody waits for: a signal ends the command all the same.
async fn enter() {
    let (pressed, waited) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_line(&mut String::new());
        let _ = pressed.send(());
    });
    let _ = waited.await;
}

/// Prints where to look. A lake that does not wait is served again first.
fn look(target: &Target, home: &Home, pipeline: &Pipeline, runs: bool) {
    let dir = home.path.display();
    // As it was called: `cargo run` puts the binary on nobody's path.
    let own = std::env::args_os().next();
    let own = own.map_or("alluvium".into(), |own| own.to_string_lossy().into_owned());
    if runs {
        say("Where to look, in another shell while it runs:");
    } else {
        say(&format!("Where to look, once `{own} serve --data-dir {dir}` runs:"));
    }
    say(&format!("  eval \"$({own} env --data-dir {dir})\""));
    say(&format!("  {own} sql 'SELECT * FROM {NAMESPACE}.{TABLE} LIMIT 10'"));
    say(&format!("  aws firehose describe-delivery-stream --delivery-stream-name {NAME}"));
    say(&format!("  aws s3 ls --recursive s3://{}/", pipeline.error_bucket));
    let endpoint = if runs { &target.endpoint } else { "$AWS_ENDPOINT_URL" };
    say(&format!("  curl {endpoint}/_alluvium/metrics"));
    say(&format!("  Iceberg REST: {endpoint}/iceberg, warehouse {}", pipeline.bucket_arn));
}

/// The server's target, once it has written where it listens.
async fn ready(dir: &Path) -> Result<Target, String> {
    let deadline = Instant::now() + READY_WITHIN;
    loop {
        match data_directory::read_endpoint(dir) {
            Ok(_) => return Target::of_data_dir(dir, None),
            Err(why) if Instant::now() > deadline => return Err(why),
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

async fn query(
    connection: &mut Connection,
    statement: &str,
    format: Format,
) -> Result<String, String> {
    sql::run(&SqlOptions::plain(statement, format), connection).await
}

async fn until_visible(connection: &mut Connection, records: u64) -> Result<(), String> {
    let deadline = Instant::now() + VISIBLE_WITHIN;
    let statement = format!("SELECT count(*) AS n FROM {NAMESPACE}.{TABLE}");
    loop {
        let answer = query(connection, &statement, Format::Csv).await?;
        let count = answer.lines().last().unwrap_or_default().trim_matches('"');
        if count.parse::<u64>().is_ok_and(|count| count >= records) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!(
                "only {count} of {records} readings are in the table after {VISIBLE_WITHIN:?}"
            ));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
