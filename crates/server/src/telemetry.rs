//! Logs to stderr, metrics for Prometheus.

use crate::configuration::LogFormat;
use crate::metrics_page;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// Starts logging. Fails when the filter is not one.
pub(crate) fn start_logs(format: LogFormat, filter: &str) -> Result<(), String> {
    let filter = log_filter(filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| error.to_string())?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let text = panic.payload_as_str().unwrap_or("(no message)");
        tracing::error!(place, "panic: {text}");
    }));
    Ok(())
}

/// What is logged.
pub(crate) fn log_filter(filter: &str) -> Result<EnvFilter, String> {
    // The S3 library logs whole requests, signatures included, and every refusal as an error; the
    // S3 service logs its calls itself.
    EnvFilter::try_new(format!("{filter},s3s=off"))
        .map_err(|error| format!("{error}: write it as info or info,alluvium_delivery=debug"))
}

/// From a tenth of a millisecond to a minute.
const SECONDS_BUCKETS: [f64; 14] =
    [0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// Counts of things, and sizes up to the largest call.
const COUNTS_BUCKETS: [f64; 8] = [1.0, 2.0, 5.0, 10.0, 25.0, 100.0, 500.0, 2_500.0];
const BYTES_BUCKETS: [f64; 7] =
    [1_024.0, 8_192.0, 65_536.0, 262_144.0, 1_048_576.0, 4_194_304.0, 16_777_216.0];

/// Installs the recorder behind `/_alluvium/metrics`.
pub(crate) fn start_metrics() -> Result<PrometheusHandle, String> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS_BUCKETS)
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Suffix("_bytes".into()), &BYTES_BUCKETS)
        })
        .and_then(|builder| builder.set_buckets(&COUNTS_BUCKETS))
        .and_then(PrometheusBuilder::install_recorder)
        .map_err(|error| error.to_string())?;
    metrics_page::describe();
    metrics::gauge!("alluvium_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}
