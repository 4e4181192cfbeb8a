//! Opens the stores and engines in their order, and puts the services over them.

use crate::admin::Admin;
use crate::configuration::Configuration;
use crate::door::{Registered, Registry};
use crate::metrics_page;
use crate::upkeep::TableUpkeep;
use crate::{replay, table_tool};
use alluvium_base::{AccountId, Clock, Random, SequenceNumber};
use alluvium_delivery::claims::DeliveryClaims;
use alluvium_delivery::lane_log::{JournalLog, LaneLog};
use alluvium_delivery::pending::Pending;
use alluvium_delivery::s3::SpoolDir;
use alluvium_delivery::streams::Streams;
use alluvium_delivery::{Engine, EngineOptions, EngineParts, Intake, recovery};
use alluvium_lake::catalog::Catalog;
use alluvium_lake::{Lake, LakeOptions};
use alluvium_log::{Journal, JournalOptions, Observer};
use alluvium_services::athena::{AthenaDependencies, AthenaService};
use alluvium_services::firehose::{FirehoseParts, FirehoseService};
use alluvium_services::glue::GlueService;
use alluvium_services::iceberg_rest::IcebergRest;
use alluvium_services::kinesis::{Figures, KinesisService};
use alluvium_services::s3::{S3Dependencies, S3Gateway};
use alluvium_services::s3tables::S3TablesService;
use alluvium_services::sts::StsService;
use alluvium_store::data_dir::{DataDir, DataDirOptions};
use alluvium_store::objects::Objects;
use alluvium_store::objects::local::LocalObjects;
use alluvium_store::records::sqlite::{SqliteOptions, SqliteRecords};
use alluvium_store::records::{Key, Operation, Outcome, Records, Transaction};
use alluvium_store::space::{Room, Space, SpaceLimits};
use alluvium_streams::{Arrivals, DataStreams, DataStreamsOptions, DataStreamsParts};
use alluvium_wire::credentials::CredentialLookup;
use alluvium_wire::{Protocol, Service, limits};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What the engines and services share.
pub(crate) struct Ground {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) account: AccountId,
    pub(crate) lookup: Arc<dyn CredentialLookup>,
}

/// Everything below the services.
pub(crate) struct Engines {
    records: Arc<dyn Records>,
    /// As clients of S3 reach them: refused earlier than the lake's own when the disk is low.
    client_objects: Arc<dyn Objects>,
    lake: Lake,
    journal: Journal,
    streams: Arc<Streams>,
    data_streams: DataStreams,
    data_stream_figures: Arc<Figures>,
    delivery: Engine,
    log: Arc<dyn LaneLog>,
    athena: AthenaService,
    upkeep: TableUpkeep,
    /// Ends what runs beside the services.
    stop: CancellationToken,
    /// Held as long as anything may be written.
    _directory: DataDir,
}

/// The document that holds the log's reserved mark (DURABILITY section 2).
const RESERVED: &str = "log-reserved";

/// Takes the data directory, and what lies elsewhere: the first thing that a server does.
pub(crate) fn own(configuration: &Configuration) -> Result<DataDir, String> {
    let options = DataDirOptions { allow_any_file_system: configuration.allow_unsafe_file_system };
    let mut directory = DataDir::open(&configuration.data_dir, options).map_err(text)?;
    let Configuration { records_path, objects_dir, log_dir, .. } = configuration;
    for part in [records_path, objects_dir, log_dir] {
        directory.take_part(part, options).map_err(text)?;
    }
    Ok(directory)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Engines {
    /// Opens what the configuration names.
    pub(crate) async fn open(
        configuration: &Configuration,
        ground: &Ground,
        directory: DataDir,
    ) -> Result<Self, String> {
        let options = SqliteOptions { epoch_floor: directory.epoch(), ..SqliteOptions::default() };
        let sqlite =
            SqliteRecords::open(&configuration.records_path, options).await.map_err(text)?;
        let epoch = sqlite.epoch();
        let records: Arc<dyn Records> = Arc::new(sqlite);
        let (clock, random) = (ground.clock.clone(), ground.random.clone());
        let objects = LocalObjects::open(
            &configuration.objects_dir,
            records.clone(),
            clock.clone(),
            random.clone(),
        )
        .await
        .map_err(text)?;
        let client_objects: Arc<dyn Objects> = Arc::new(objects.for_clients());
        let (objects, account) = (Arc::new(objects) as Arc<dyn Objects>, ground.account.clone());
        let catalog =
            Catalog::new(records.clone(), objects, clock.clone(), random.clone(), account);
        let lake = open_lake(catalog, configuration);
        let (pending, arrivals) = (Pending::new(), Arrivals::new());
        let options = JournalOptions::new(epoch, clock.clone(), random.clone());
        let observer = arrivals.observer(pending.observer());
        let journal = open_journal(configuration, &records, options, observer).await?;
        let data_streams =
            open_data_streams(configuration, ground, &records, &journal, arrivals).await?;
        let stop = CancellationToken::new();
        tokio::spawn(data_streams.clone().reclaim_until(stop.clone()));
        tokio::spawn(data_streams.clone().grow_until(stop.clone()));
        let log: Arc<dyn LaneLog> = Arc::new(JournalLog(journal.clone()));
        let account = ground.account.clone();
        let streams = Streams::open(records.clone(), clock.clone(), random.clone(), account);
        let streams = Arc::new(streams.await.map_err(text)?);
        let parts = EngineParts {
            streams: streams.clone(),
            log: log.clone(),
            pending,
            data_streams: Some(data_streams.clone()),
            lake: lake.clone(),
            clock: clock.clone(),
            options: delivery_options(configuration)?,
        };
        let delivery = Engine::start(parts).await.map_err(text)?;
        let upkeep = TableUpkeep::start(configuration, &lake, put_bytes(&journal))?;
        let engine = query_engine(configuration, &lake, ground)?;
        engine.upkeep_by(Arc::new(upkeep.handle.clone()));
        let athena = open_athena(engine, &records, &client_objects, ground).await?;
        Ok(Self {
            records,
            client_objects,
            lake,
            journal,
            streams,
            data_streams,
            data_stream_figures: Arc::default(),
            delivery,
            log,
            athena,
            upkeep,
            stop,
            _directory: directory,
        })
    }

    /// What can wait until the server listens.
    pub(crate) fn make_ready(&self) {
        self.journal.make_ready();
    }

    /// Why the process must end, when it must: the log failed, or another process took over.
    pub(crate) fn failure(&self) -> impl Future<Output = String> + Send + 'static {
        let (journal, delivery) = (self.journal.clone(), self.delivery.clone());
        async move {
            tokio::select! {
                why = journal.failed() => format!("the log failed: {why}"),
                () = delivery.fenced() => "another process owns the data directory".to_string(),
            }
        }
    }

    /// Adds the streams to `metrics`, and the log's state to `health`: red when it failed, or when a
    /// part of it is damaged.
    pub(crate) fn show(&self, admin: &mut Admin) {
        let delivery = self.delivery.clone();
        let (figures, streams) = (self.data_stream_figures.clone(), self.data_streams.clone());
        let upkept = self.upkeep.figures();
        admin.ask(move || {
            metrics_page::streams(&delivery.figures())
                + &metrics_page::data_streams(&figures.look(&streams))
                + &metrics_page::upkeep(&upkept())
        });
        let (engine, streams) = (self.delivery.clone(), self.streams.clone());
        admin.act_by(replay::PATH, move |body| {
            let (engine, streams) = (engine.clone(), streams.clone());
            Box::pin(async move { replay::answer(&engine, &streams, &body).await })
        });
        let upkeep = self.upkeep.handle.clone();
        admin.act_by(table_tool::PATH, move |body| {
            let upkeep = upkeep.clone();
            Box::pin(async move { table_tool::answer(&upkeep, &body).await })
        });
        let journal = self.journal.clone();
        admin.check("log", move || {
            if let Some(why) = journal.failure() {
                return Err(why);
            }
            let (lanes, segments) = (journal.quarantined().len(), journal.damaged().len());
            if lanes == 0 && segments == 0 {
                return Ok(());
            }
            Err(format!(
                "{lanes} quarantined lanes, {segments} damaged segments: run `alluvium log check`"
            ))
        });
    }

    /// Delivers what is cut, within the limit, and closes the log. The rest is safe in the log.
    pub(crate) async fn close(&self, limit: Duration) {
        // Queries are stopped, their ends recorded; one that does not stop is FAILED at next start.
        if tokio::time::timeout(limit, self.athena.close()).await.is_err() {
            tracing::warn!("some queries did not stop in time");
        }
        self.stop.cancel();
        self.upkeep.close(limit).await;
        self.delivery.drain(limit).await;
        self.journal.close().await;
    }

    /// The services over the engines; answers that go on end when `closing` is cancelled.
    pub(crate) fn registry(
        &self,
        configuration: &Configuration,
        ground: &Ground,
        closing: &CancellationToken,
    ) -> Registry {
        let mut registry = Registry::default();
        registry.add(Registered {
            signing_name: "sts",
            target_prefix: None,
            protocol: Protocol::Query,
            body_bytes_max: limits::STS_BODY_BYTES_MAX,
            accepts_unsigned: false,
            service: Arc::new(StsService),
        });
        registry.add(Registered {
            signing_name: "s3tables",
            target_prefix: None,
            protocol: Protocol::RestJson,
            body_bytes_max: limits::S3TABLES_BODY_BYTES_MAX,
            accepts_unsigned: false,
            service: Arc::new(S3TablesService::new(self.lake.clone())),
        });
        registry.add(Registered {
            signing_name: "athena",
            target_prefix: Some("AmazonAthena"),
            protocol: Protocol::AwsJson11,
            body_bytes_max: limits::ATHENA_BODY_BYTES_MAX,
            accepts_unsigned: false,
            service: Arc::new(self.athena.clone()),
        });
        registry.add(Registered {
            signing_name: "glue",
            target_prefix: Some("AWSGlue"),
            protocol: Protocol::AwsJson11,
            body_bytes_max: limits::GLUE_BODY_BYTES_MAX,
            accepts_unsigned: false,
            service: Arc::new(GlueService::new(self.lake.clone())),
        });
        self.streaming(&mut registry, ground, closing);
        registry.iceberg = Some(Arc::new(Registered {
            signing_name: "s3tables",
            target_prefix: None,
            protocol: Protocol::Iceberg,
            body_bytes_max: limits::ICEBERG_BODY_BYTES_MAX,
            accepts_unsigned: true,
            service: Arc::new(IcebergRest::new(
                self.lake.clone(),
                self.records.clone(),
                ground.lookup.clone(),
                ground.clock.clone(),
            )) as Arc<dyn Service>,
        }));
        let s3 = self.s3(configuration, ground);
        tokio::spawn(s3.lifecycles().run_until(self.stop.clone()));
        registry.s3 = Some(Arc::new(s3));
        registry
    }

    /// The services that take records.
    fn streaming(&self, registry: &mut Registry, ground: &Ground, closing: &CancellationToken) {
        registry.add(Registered {
            signing_name: "firehose",
            target_prefix: Some("Firehose_20150804"),
            protocol: Protocol::AwsJson11,
            body_bytes_max: limits::FIREHOSE_BODY_BYTES_MAX,
            accepts_unsigned: false,
            service: Arc::new(FirehoseService::new(FirehoseParts {
                streams: self.streams.clone(),
                intake: Arc::new(Intake::new(self.log.clone(), self.delivery.clone())),
                data_streams: self.data_streams.clone(),
                lake: self.lake.clone(),
                account: ground.account.clone(),
            })),
        });
        registry.add(Registered {
            signing_name: "kinesis",
            target_prefix: Some("Kinesis_20131202"),
            protocol: Protocol::AwsJson11,
            body_bytes_max: limits::KINESIS_BODY_BYTES_MAX,
            accepts_unsigned: false,
            service: Arc::new(KinesisService::new(
                self.data_streams.clone(),
                self.data_stream_figures.clone(),
                closing.clone(),
            )),
        });
    }

    fn s3(&self, configuration: &Configuration, ground: &Ground) -> S3Gateway {
        S3Gateway::new(S3Dependencies {
            objects: self.client_objects.clone(),
            records: self.records.clone(),
            clock: ground.clock.clone(),
            random: ground.random.clone(),
            credentials: ground.lookup.clone(),
            account: ground.account.clone(),
            domain: configuration.s3_domain.clone(),
            regions: configuration.regions.clone(),
            body_timeout: configuration.body_timeout,
        })
    }
}

/// The lake, told which files delivery needs.
fn open_lake(catalog: Catalog, configuration: &Configuration) -> Lake {
    let claims = DeliveryClaims::new(catalog.records().clone());
    let commit_interval = configuration.table_commit_interval;
    let lake = Lake::new(catalog, LakeOptions { commit_interval, ..LakeOptions::default() });
    lake.set_claims(Arc::new(claims));
    lake
}

/// As many batches at once as the memory allows.
fn delivery_options(configuration: &Configuration) -> Result<EngineOptions, String> {
    let usual = EngineOptions::default();
    let memory_bytes = configuration.delivery_memory_bytes;
    let spool = SpoolDir::open(&configuration.data_dir.join("spill").join("s3"));
    let spool = Some(spool.map_err(text)?);
    let batches = usize::try_from(memory_bytes / usual.batch_bytes_max).unwrap_or(usize::MAX);
    Ok(EngineOptions { batches_max: batches.max(1), spool, ..usual })
}

/// The engine of SQL; what it spills lies in the data directory and is of no use after the process.
fn query_engine(
    configuration: &Configuration,
    lake: &Lake,
    ground: &Ground,
) -> Result<alluvium_query::Engine, String> {
    // The data directory emptied it when it was taken, and keeps it private.
    let spill = configuration.data_dir.join("spill");
    let mut options = alluvium_query::EngineOptions::new(spill);
    options.memory_limit_bytes =
        usize::try_from(configuration.query_memory_bytes).unwrap_or(usize::MAX);
    let (clock, random) = (ground.clock.clone(), ground.random.clone());
    alluvium_query::Engine::new(lake.clone(), clock, random, options).map_err(text)
}

async fn open_athena(
    engine: alluvium_query::Engine,
    records: &Arc<dyn Records>,
    objects: &Arc<dyn Objects>,
    ground: &Ground,
) -> Result<AthenaService, String> {
    AthenaService::open(AthenaDependencies {
        engine,
        records: records.clone(),
        objects: objects.clone(),
        clock: ground.clock.clone(),
        random: ground.random.clone(),
        account: ground.account.clone(),
    })
    .await
}

/// Opens the streams of Kinesis over the log.
async fn open_data_streams(
    configuration: &Configuration,
    ground: &Ground,
    records: &Arc<dyn Records>,
    journal: &Journal,
    arrivals: Arc<Arrivals>,
) -> Result<DataStreams, String> {
    let enforce_quotas = configuration.enforce_quotas;
    let parts = DataStreamsParts {
        records: records.clone(),
        journal: journal.clone(),
        arrivals,
        clock: ground.clock.clone(),
        random: ground.random.clone(),
        account: ground.account.clone(),
        options: DataStreamsOptions { enforce_quotas, ..DataStreamsOptions::default() },
    };
    DataStreams::open(parts).await.map_err(text)
}

/// Opens the log above everything that the documents say was handed out.
/// What clients have put so far, for whoever yields to them.
fn put_bytes(journal: &Journal) -> alluvium_upkeep::pacing::Arrivals {
    let journal = journal.clone();
    alluvium_upkeep::pacing::Arrivals::new(move || journal.durable().offset)
}

async fn open_journal(
    configuration: &Configuration,
    records: &Arc<dyn Records>,
    options: JournalOptions,
    observer: Observer,
) -> Result<Journal, String> {
    let options = journal_options(configuration, records, options).await?;
    let directory = configuration.log_dir.clone();
    // Recovery reads files: not on the threads that answer requests.
    let opened = tokio::task::spawn_blocking(move || Journal::open(&directory, options, observer));
    let (journal, report) = opened.await.map_err(text)?.map_err(text)?;
    tracing::info!(
        log_id = %report.log_id, segments = report.segments, blocks = report.blocks,
        unreleased_bytes = report.unreleased_bytes, torn_tail = report.torn_tail,
        "the log is open"
    );
    for (lane, why) in &report.quarantined {
        tracing::error!("lane {lane} is quarantined: {why}; run `alluvium log check`");
    }
    for lane in report.unknown_lanes {
        tracing::warn!("lane {lane} is in the log and belongs to no stream");
    }
    Ok(journal)
}

/// What the documents know that the log must not fall behind.
pub(crate) async fn journal_options(
    configuration: &Configuration,
    records: &Arc<dyn Records>,
    mut options: JournalOptions,
) -> Result<JournalOptions, String> {
    let floors = recovery::floors(records.as_ref()).await.map_err(text)?;
    let reserved = records.get(&Key::new(RESERVED, "mark")).await.map_err(text)?;
    options.reserved = match reserved {
        Some(document) => Some(serde_json::from_slice(&document.body).map_err(text)?),
        None => None,
    };
    options.reserve = Some(reserve(records.clone()));
    options.lanes = floors.lanes;
    let of_shards = alluvium_streams::recovery::floors(records.as_ref()).await.map_err(text)?;
    options.lanes.extend(of_shards);
    options.expected_log_id = floors.log_id;
    options.accept_log_loss = configuration.accept_log_loss;
    options.budget_bytes = configuration.log_budget_bytes;
    options.homes_budget_bytes = configuration.streams_budget_bytes;
    options.check_room = Some(check_room(&configuration.log_dir));
    Ok(options)
}

/// Records are refused before the disk is so low that what they become could not be written.
fn check_room(log_dir: &std::path::Path) -> alluvium_log::options::CheckRoom {
    let space = Space::new(log_dir, SpaceLimits::default());
    Arc::new(move || match space.room() {
        Room::Plenty => Ok(()),
        Room::Low | Room::Critical => Err(space.explain()),
    })
}

/// Stores the log's mark in the records; called from the log's own threads, which may block.
fn reserve(records: Arc<dyn Records>) -> alluvium_log::options::Reserve {
    let runtime = tokio::runtime::Handle::current();
    Arc::new(move |mark: SequenceNumber| {
        let body = serde_json::to_vec(&mark).map_err(text)?;
        let operation = Operation::Put(Key::new(RESERVED, "mark"), body.into());
        let transaction = Transaction { preconditions: Vec::new(), operations: vec![operation] };
        match runtime.block_on(records.transact(transaction)) {
            Outcome::Committed { .. } => Ok(()),
            other => Err(format!("the log's mark could not be stored: {other:?}")),
        }
    })
}
