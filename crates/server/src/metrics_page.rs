//! `/_alluvium/metrics`: the process's metrics, and each stream's, as Prometheus reads them.
//!
//! What is counted of the process is in the recorder of [`metrics`]. What is counted of a stream is
//! asked of the streams that there are (see [`alluvium_delivery::figures`] and
//! [`alluvium_services::kinesis::Figures`]): so a deleted stream's series end.

use alluvium_delivery::batch::EMPTY;
use alluvium_delivery::figures::{StreamFigures, TableFigures, VISIBLE_BOUNDS_MS, Written};
use alluvium_services::kinesis::DataStreamFigures;
use alluvium_upkeep::background::{Figures, UpkeepFigures};
use alluvium_upkeep::settings::JobKind;
use metrics::{describe_counter, describe_gauge, describe_histogram};
use std::fmt::Write;

/// Counters that are shown from the start, so that a rate is known before the first event.
const COUNTERS: &[(&str, &str)] = &[
    (
        "alluvium_log_repeated_calls_total",
        "Calls that repeated an acknowledged one and appended nothing",
    ),
    ("alluvium_log_failures_total", "Failures of the log, each of which ends the process"),
    ("alluvium_log_appends_full_total", "Calls refused because the log had no room"),
    (
        "alluvium_log_appends_over_share_total",
        "Calls refused because their stream holds half of the log",
    ),
    (
        "alluvium_log_appends_over_homes_budget_total",
        "Calls refused because data streams hold --streams-budget",
    ),
    ("alluvium_log_moved_bytes_total", "Bytes of Kinesis records moved out of the journal"),
    (
        "alluvium_log_invocations_evicted_early_total",
        "Invocation ids forgotten before their ten minutes ended",
    ),
    (
        "alluvium_put_calls_without_invocation_id_total",
        "Puts whose client sent no amz-sdk-invocation-id: its own retries may double them",
    ),
    ("alluvium_put_repeats_total", "Puts that were answered with their first outcome"),
    ("alluvium_delivery_batches_total", "Batches committed to their tables"),
    ("alluvium_delivery_retries_total", "Tries of a batch that failed and are repeated"),
    ("alluvium_delivery_failed_batches_total", "Batches whose files could not be committed"),
    (
        "alluvium_delivery_expired_ranges_total",
        "Ranges of data streams that retention took before a delivery stream read them",
    ),
    (
        "alluvium_delivery_lost_ranges_total",
        "Ranges of batches that were not there any more: an accepted loss, or an error object gone",
    ),
    ("alluvium_commits_total", "Table commits"),
    ("alluvium_deleted_rows_total", "Rows that commits of updates and deletes took away"),
    ("alluvium_schema_changes_total", "Columns added or widened for records, by commit"),
    ("alluvium_commit_conflicts_total", "Table commits that lost a race and were tried again"),
    ("alluvium_commit_unknown_total", "Table commits whose outcome had to be read back"),
    ("alluvium_object_read_bytes", "Bytes read from the object store"),
    ("alluvium_object_written_bytes", "Bytes written to the object store"),
    ("alluvium_object_swept_blobs", "Blobs without an index entry that were removed"),
    ("alluvium_records_failed_commits_total", "Commits of records that the database failed"),
    ("alluvium_compaction_files_before_total", "Data files that rewrites replaced"),
    ("alluvium_compaction_bytes_before_total", "Their bytes"),
    ("alluvium_compaction_files_after_total", "Data files that rewrites made"),
    ("alluvium_compaction_bytes_after_total", "Their bytes"),
    ("alluvium_compaction_conflicts_total", "Rewrites dropped because others changed their files"),
    ("alluvium_unreferenced_marked_total", "Files that nothing names and that were marked"),
    ("alluvium_unreferenced_removed_total", "Marked files that were deleted"),
    ("alluvium_unreferenced_removed_bytes_total", "Their bytes"),
    ("alluvium_upkeep_paced_bytes_total", "Bytes that rewrites read and wrote"),
    (
        "alluvium_upkeep_rested_milliseconds_total",
        "Time that rewrites rested, because clients put data",
    ),
    ("alluvium_snapshots_expired_total", "Snapshots that were let go of by age"),
    ("alluvium_records_refused_total", "Transactions of records refused for want of room"),
];

/// Counters of upkeep, by job and, of the first, outcome.
const UPKEEP_COUNTERS: &[(&str, &str)] = &[
    ("alluvium_upkeep_runs_total", "Runs of upkeep that ended, by job and outcome"),
    ("alluvium_upkeep_files_before_total", "Files (snapshots, of that job) that runs took up"),
    ("alluvium_upkeep_bytes_before_total", "Their bytes"),
    ("alluvium_upkeep_files_after_total", "Files (snapshots) that are there in their place"),
    ("alluvium_upkeep_bytes_after_total", "Their bytes"),
];

const GAUGES: &[(&str, &str)] = &[
    ("alluvium_build_info", "The version, as a label"),
    ("alluvium_log_size_bytes", "Bytes of the log's segments that are in use"),
    ("alluvium_log_lane_segment_bytes", "Bytes of Kinesis records outside the journal"),
    ("alluvium_log_durable_offset", "Where the log's synced part ends"),
    ("alluvium_delivery_lag_seconds", "The largest lag of all streams"),
    ("alluvium_delivery_stuck_streams", "Streams whose last try of a batch failed"),
    ("alluvium_delivery_stuck_tables", "Tables whose last commit of a stream's batches failed"),
    ("alluvium_delivery_waiting_bytes", "Bytes in the log that no batch has yet"),
    ("alluvium_delivery_converting_batches", "Batches in conversion"),
    ("alluvium_upkeep_running", "Runs of upkeep under way, by job"),
    ("alluvium_queries_active", "Queries that are queued or run"),
    ("alluvium_disk_free_bytes", "Free space under the objects"),
    ("alluvium_records_version", "The version of the newest record"),
];

const HISTOGRAMS: &[(&str, &str)] = &[
    ("alluvium_request_seconds", "Time from a request's head to its answer's, by service"),
    ("alluvium_log_sync_seconds", "Time of the log's fdatasync, one for a group of calls"),
    ("alluvium_log_group_bytes", "Bytes of a group"),
    ("alluvium_log_group_blocks", "Calls of a group"),
    ("alluvium_commit_seconds", "Time of a table commit"),
    ("alluvium_commit_appends", "Batches that shared a table commit"),
    ("alluvium_records_commit_seconds", "Time of a transaction of records"),
    ("alluvium_records_group_transactions", "Transactions of records that shared a sync"),
    ("alluvium_resolve_files", "Data files in which a commit looked for keys"),
    ("alluvium_object_sync_seconds", "Time of syncing an object"),
    ("alluvium_upkeep_seconds", "Time of a run of upkeep, by job"),
    ("alluvium_query_seconds", "Engine time of a query"),
    ("alluvium_query_scan_files", "Data files that a table scan reads"),
];

/// Says what the process's metrics mean.
pub(crate) fn describe() {
    for (name, meaning) in COUNTERS {
        describe_counter!(*name, *meaning);
        metrics::counter!(*name).increment(0);
    }
    describe_counter!("alluvium_requests_total", "Requests answered, by service and outcome");
    describe_counter!("alluvium_s3_requests_total", "S3 calls, by operation and status");
    describe_counter!("alluvium_queries_total", "Queries ended, by state");
    describe_counter!("alluvium_put_refusals_total", "Puts that the log refused, by kind");
    describe_counter!("alluvium_object_puts_refused_total", "Objects refused, by reason");
    for (name, meaning) in UPKEEP_COUNTERS {
        describe_counter!(*name, *meaning);
    }
    for (name, meaning) in GAUGES {
        describe_gauge!(*name, *meaning);
    }
    for (name, meaning) in HISTOGRAMS {
        describe_histogram!(*name, *meaning);
    }
}

/// The series of the streams.
pub(crate) fn streams(figures: &[StreamFigures]) -> String {
    let mut page = String::new();
    let mut counter = |name: &str, meaning: &str, value: fn(&StreamFigures) -> u64| {
        family(&mut page, name, "counter", meaning);
        for stream in figures {
            let _ = writeln!(page, "{name}{{{}}} {}", labels(stream), value(stream));
        }
    };
    counter("alluvium_stream_records_total", "Records acknowledged", |s| s.records);
    counter("alluvium_stream_bytes_total", "Bytes of records acknowledged", |s| s.bytes);
    counter("alluvium_delivery_rows_total", "Rows committed to the table", |s| s.rows);
    counter(
        "alluvium_delivery_failed_rows_total",
        "Rows whose files could not be committed and are named in error objects",
        |s| s.failed_rows,
    );
    counter("alluvium_delivery_empty_records_total", "Empty records, dropped as declared", |s| {
        s.dropped.get(EMPTY).copied().unwrap_or(0)
    });
    counter(
        "alluvium_stream_expired_ranges_total",
        "Ranges of the data stream that retention took before they were delivered",
        |s| s.expired_ranges,
    );
    objects(&mut page, figures);
    dropped(&mut page, figures);
    errors(&mut page, figures);
    gauges(&mut page, figures);
    tables(&mut page, figures);
    put_to_visible(&mut page, figures);
    page
}

/// A series of each data stream: its name, what it means, and its value.
type OfDataStreams = (&'static str, &'static str, fn(&DataStreamFigures) -> f64);

/// The series of the data streams.
pub(crate) fn data_streams(figures: &[DataStreamFigures]) -> String {
    let mut page = String::new();
    let mut family_of =
        |kind: &str, name: &str, meaning: &str, value: fn(&DataStreamFigures) -> f64| {
            family(&mut page, name, kind, meaning);
            for stream in figures {
                let (region, name_of) = (escaped(stream.region.as_str()), escaped(&stream.stream));
                let labels = format!("region=\"{region}\",stream=\"{name_of}\"");
                let _ = writeln!(page, "{name}{{{labels}}} {}", value(stream));
            }
        };
    #[allow(clippy::cast_precision_loss)] // samples are f64
    const COUNTED: &[OfDataStreams] = &[
        ("incoming_records", "Records put", |s| s.incoming_records as f64),
        ("incoming_bytes", "Bytes put, partition keys included", |s| s.incoming_bytes as f64),
        ("throttled_records", "Records that a shard's quota refused", |s| {
            s.throttled_records as f64
        }),
        ("outgoing_records", "Records read", |s| s.outgoing_records as f64),
        ("outgoing_bytes", "Bytes read, partition keys included", |s| s.outgoing_bytes as f64),
        ("throttled_reads", "Reads of a named stream that a shard's quota refused", |s| {
            s.throttled_reads as f64
        }),
    ];
    for (name, meaning, value) in COUNTED {
        family_of("counter", &format!("alluvium_kinesis_{name}_total"), meaning, *value);
    }
    #[allow(clippy::cast_precision_loss)] // samples are f64
    const NOW: &[OfDataStreams] = &[
        ("open_shards", "Shards that take records", |s| s.open_shards as f64),
        ("subscriptions", "Subscriptions that go on", |s| s.subscriptions as f64),
        ("iterator_age_seconds", "How far the last read was behind its shard's newest", |s| {
            s.iterator_age_ms as f64 / 1000.0
        }),
    ];
    for (name, meaning, value) in NOW {
        family_of("gauge", &format!("alluvium_kinesis_{name}"), meaning, *value);
    }
    page
}

/// A series of a table and a kind of upkeep: its name, what it means, and its value.
type OfUpkeep = (&'static str, &'static str, fn(&Figures) -> u64);

/// The series of the tables that upkeep looked after, by job.
pub(crate) fn upkeep(tables: &[UpkeepFigures]) -> String {
    const COUNTED: &[OfUpkeep] = &[
        ("runs", "Runs of upkeep that succeeded", |f| f.runs),
        ("failures", "Runs of upkeep that failed", |f| f.failures),
        ("files_before", "Files (snapshots) that runs took up", |f| f.before.files),
        ("bytes_before", "Bytes that runs took up", |f| f.before.bytes),
        ("files_after", "Files (snapshots) in their place", |f| f.after.files),
        ("bytes_after", "Bytes in their place", |f| f.after.bytes),
    ];
    let mut page = String::new();
    for (name, meaning, value) in COUNTED {
        let name = format!("alluvium_table_upkeep_{name}_total");
        family(&mut page, &name, "counter", meaning);
        for table in tables {
            let [bucket, namespace, of] = table.name.each_ref().map(|part| escaped(part));
            for (kind, figures) in JobKind::ALL.iter().zip(&table.kinds) {
                let (job, value) = (kind.label(), value(figures));
                let _ = writeln!(
                    page,
                    "{name}{{bucket=\"{bucket}\",namespace=\"{namespace}\",table=\"{of}\",\
                     job=\"{job}\"}} {value}"
                );
            }
        }
    }
    page
}

/// What streams wrote to buckets: AWS's `DeliveryToS3.*` and `BackupToS3.*`.
fn objects(page: &mut String, figures: &[StreamFigures]) {
    for (kind, place) in [("delivery", "S3 destinations"), ("backup", "raw backups")] {
        let written = |stream: &StreamFigures| match kind {
            "delivery" => stream.objects.delivered,
            _ => stream.objects.backup,
        };
        let mut counter = |of: &str, meaning: &str, value: fn(Written) -> u64| {
            let name = format!("alluvium_{kind}_{of}_total");
            family(page, &name, "counter", &format!("{meaning} in {place}"));
            for stream in figures {
                let _ = writeln!(page, "{name}{{{}}} {}", labels(stream), value(written(stream)));
            }
        };
        counter("objects", "Objects", |written| written.objects);
        counter("object_records", "Records", |written| written.records);
        counter("object_bytes", "Bytes before compression", |written| written.bytes);
    }
}

fn errors(page: &mut String, figures: &[StreamFigures]) {
    let name = "alluvium_delivery_error_records_total";
    family(page, name, "counter", "Records in error objects, by the reason that they carry");
    for stream in figures {
        for (reason, count) in &stream.errors {
            let reason = escaped(reason);
            let _ = writeln!(page, "{name}{{{},reason=\"{reason}\"}} {count}", labels(stream));
        }
    }
}

fn dropped(page: &mut String, figures: &[StreamFigures]) {
    let name = "alluvium_delivery_dropped_records_total";
    family(page, name, "counter", "Records that are dropped as declared, by reason");
    for stream in figures {
        for (reason, count) in &stream.dropped {
            let _ = writeln!(page, "{name}{{{},reason=\"{reason}\"}} {count}", labels(stream));
        }
    }
}

/// What waits for a table, while something does.
fn tables(page: &mut String, figures: &[StreamFigures]) {
    let mut gauge = |name: &str, meaning: &str, value: fn(&TableFigures) -> String| {
        family(page, name, "gauge", meaning);
        for stream in figures {
            for table in &stream.tables {
                let (labels, name_of) = (labels(stream), escaped(&table.table));
                let _ = writeln!(page, "{name}{{{labels},table=\"{name_of}\"}} {}", value(table));
            }
        }
    };
    gauge("alluvium_table_waiting_batches", "Batches prepared for a table", |table| {
        table.parts.to_string()
    });
    gauge("alluvium_table_waiting_rows", "Rows prepared for a table", |table| {
        table.rows.to_string()
    });
    gauge("alluvium_table_waiting_bytes", "Bytes of the files prepared for a table", |table| {
        table.bytes.to_string()
    });
    gauge("alluvium_table_lag_seconds", "Age of the oldest record prepared for a table", |table| {
        seconds(table.lag_ms).to_string()
    });
    gauge("alluvium_table_stuck", "1 when the last commit of what waits failed", |table| {
        u8::from(table.stuck.is_some()).to_string()
    });
}

fn gauges(page: &mut String, figures: &[StreamFigures]) {
    let name = "alluvium_stream_lag_seconds";
    family(
        page,
        name,
        "gauge",
        "Age of the oldest record that is in no table and no error object yet",
    );
    for stream in figures {
        let _ = writeln!(page, "{name}{{{}}} {}", labels(stream), seconds(stream.lag_ms));
    }
    let name = "alluvium_stream_stuck";
    family(page, name, "gauge", "1 when the last try of a batch or of a commit failed");
    for stream in figures {
        let _ = writeln!(page, "{name}{{{}}} {}", labels(stream), u8::from(stream.stuck));
    }
    let name = "alluvium_stream_active_partitions";
    family(page, name, "gauge", "Partitions of the newest batch for an S3 destination");
    for stream in figures {
        let _ = writeln!(page, "{name}{{{}}} {}", labels(stream), stream.objects.partitions);
    }
    let name = "alluvium_stream_waiting_bytes";
    family(page, name, "gauge", "Bytes in the log that no batch has yet");
    for stream in figures {
        let _ = writeln!(page, "{name}{{{}}} {}", labels(stream), stream.waiting_bytes);
    }
}

fn put_to_visible(page: &mut String, figures: &[StreamFigures]) {
    let name = "alluvium_put_to_visible_seconds";
    let meaning = "Time from a batch's oldest put until its rows or objects were there";
    family(page, name, "histogram", meaning);
    for stream in figures {
        let labels = labels(stream);
        for (bound_ms, count) in VISIBLE_BOUNDS_MS.iter().zip(stream.visible_within) {
            let bound = seconds(*bound_ms);
            let _ = writeln!(page, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
        }
        let total = stream.visible_total;
        let _ = writeln!(page, "{name}_bucket{{{labels},le=\"+Inf\"}} {total}");
        let _ = writeln!(page, "{name}_sum{{{labels}}} {}", seconds(stream.visible_sum_ms));
        let _ = writeln!(page, "{name}_count{{{labels}}} {total}");
    }
}

fn family(page: &mut String, name: &str, kind: &str, meaning: &str) {
    let _ = writeln!(page, "# HELP {name} {meaning}\n# TYPE {name} {kind}");
}

fn labels(stream: &StreamFigures) -> String {
    let (region, name) = (escaped(stream.region.as_str()), escaped(&stream.stream));
    format!("region=\"{region}\",stream=\"{name}\"")
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// Milliseconds as seconds.
#[allow(clippy::cast_precision_loss)] // samples are f64
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
