//! The tables that a batch's records go to: found by their names, each with a decoder and a writer.
//!
//! Names are looked up once a batch. A table that a record names and that is not there, or cannot be
//! written, is an error of that record and of no other; the table of a stream that has only one is
//! waited for (`RetryOptions`). Memory is bounded over all tables of the batch: when their sum passes
//! a bound, the largest one is written out (I8). When that happens depends on the records and their
//! order alone (I3).
//!
//! The file is long because a table's whole way in a batch is read together.

use super::error::{of_catalog, of_load, unsupported};
use super::growth::{Growth, Making};
use super::{ConvertError, NO_TABLE, Try};
use crate::batch::{BatchDocument, PartDocument};
use crate::data_files;
use crate::destination::{self, CatalogName};
use crate::processing::{RecordOperation, Routing};
use crate::stream::{IcebergDestination, TableName};
use alluvium_base::{Region, TableId};
use alluvium_lake::Lake;
use alluvium_lake::decode::DecodeCode;
use alluvium_lake::delta::{ChangeDecoder, DeltaWriter, KeyColumns, OperationCounts, RowOperation};
use alluvium_lake::evolve::{Inference, proposed};
use alluvium_lake::lake::LoadedTable;
use alluvium_lake::write::{PendingFile, WriteOptions};
use iceberg::spec::{DataContentType, DataFile};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::runtime::Handle;

/// Rows are handed to the Parquet writer when their JSON has this much.
const DECODED_BYTES: usize = 4 << 20;
/// And when the JSON of all tables' rows and the nulls of what it leaves out have this much.
const HELD_BYTES: usize = 32 << 20;
/// Parquet in the making, over all tables of a batch: as much as one writer keeps by itself.
const WRITING_BYTES: usize = 256 << 20;
/// Writers that are open at once, each with buffers for every column.
const WRITERS_MAX: usize = 128;

/// AWS's code for a name that is null or empty.
const INVALID_TABLE_NAME: &str = "Iceberg.InvalidTableName";
/// Ours, for an operation that the stream's configuration does not allow.
const INVALID_OPERATION: &str = "Iceberg.InvalidOperation";

/// Why a record is not a row.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    pub(super) code: Cow<'static, str>,
    pub(super) message: Cow<'static, str>,
}

/// Where records of one name go.
#[derive(Debug, Clone, Copy)]
enum Route {
    Open(usize),
    Refused(usize),
    Making(usize),
}

/// Where a record goes.
pub(super) enum Routed {
    /// To an open table.
    Open(usize),
    /// To no table; with the place of its name in the destination's list.
    Refused(Option<u32>, Refusal),
    /// To a table that is made when the batch's records are known.
    Making(usize),
}

/// One table of the batch.
#[derive(Debug)]
pub(super) struct OpenTable {
    name: TableName,
    /// Its place in the destination's list.
    target: Option<u32>,
    loaded: Arc<LoadedTable>,
    /// What updates and deletes find rows by.
    keys: Option<KeyColumns>,
    /// Why there are none although the configuration names some.
    bad_keys: Option<String>,
    decoder: ChangeDecoder,
    /// What the decoder holds.
    held_bytes: usize,
    writer: Option<DeltaWriter>,
    /// Writers so far.
    writers: u32,
    /// What the writer holds.
    writing_bytes: usize,
    finished: Vec<PendingFile>,
    /// Published.
    pub(super) files: Vec<DataFile>,
    /// Records that were taken.
    taken: u64,
    /// What they became, of the writers that are ended.
    counts: OperationCounts,
    /// What records had that its columns do not take.
    missing: Option<Inference>,
}

/// Finds tables by their names.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) lake: Lake,
    pub(super) catalog: CatalogName,
    pub(super) region: Region,
}

impl Names {
    async fn load(&self, name: &TableName) -> Result<Arc<LoadedTable>, ConvertError> {
        let TableName { database, table } = name;
        let found =
            destination::resolve(&self.lake, &self.catalog, &self.region, database, table).await;
        let record = found.map_err(|error| of_catalog(&error))?;
        self.lake.load(record.id).await.map_err(|error| of_load(&error))
    }
}

/// All tables of the batch.
#[derive(Debug)]
pub(super) struct Tables {
    names: Names,
    runtime: Handle,
    destination: IcebergDestination,
    /// What the names of data files begin with.
    file_prefix: String,
    /// By database, then by table.
    routes: HashMap<String, HashMap<String, Route>>,
    refused: Vec<(Option<u32>, Refusal)>,
    making: Vec<Making>,
    unmade: Vec<(TableName, String)>,
    pub(super) open: Vec<OpenTable>,
    by_id: HashMap<TableId, usize>,
    sole: Option<usize>,
    held_bytes: usize,
    writing_bytes: usize,
    writers: usize,
}

impl Tables {
    /// No table yet.
    pub(super) fn new(
        lake: &Lake,
        batch: &BatchDocument,
        destination: &IcebergDestination,
        attempt: Try<'_>,
    ) -> Result<Self, ConvertError> {
        let stream = attempt.stream;
        let catalog = CatalogName::parse(&destination.catalog_arn, &stream.region, &stream.account)
            .map_err(unsupported)?;
        let mut file_prefix = format!("{}-{:010}", batch.incarnation.0.simple(), batch.number.0);
        if attempt.salt > 0 {
            file_prefix.push_str(&format!("-r{}", attempt.salt));
        }
        Ok(Self {
            names: Names { lake: lake.clone(), catalog, region: stream.region.clone() },
            runtime: Handle::current(),
            destination: destination.clone(),
            file_prefix,
            routes: HashMap::new(),
            refused: Vec::new(),
            making: Vec::new(),
            unmade: attempt.unmade.to_vec(),
            open: Vec::new(),
            by_id: HashMap::new(),
            sole: None,
            held_bytes: 0,
            writing_bytes: 0,
            writers: 0,
        })
    }

    /// Opens the only table of the destination, where all records go: it is waited for.
    pub(super) async fn open_sole(mut self) -> Result<Self, ConvertError> {
        let Some(target) = self.destination.tables.first() else {
            let message = "the stream names no table: records need a MetadataExtraction filter \
                           that gives destinationDatabaseName and destinationTableName";
            return Err(ConvertError::Table {
                code: INVALID_TABLE_NAME,
                message: message.to_string(),
            });
        };
        let name = TableName::of(target);
        let names = self.names.clone();
        match names.load(&name).await {
            Ok(loaded) => self.sole = Some(self.add(name, Some(0), loaded)?),
            // Made from the batch's records.
            Err(ConvertError::Table { code: NO_TABLE, .. }) if self.destination.table_creation => {}
            Err(error) => return Err(error),
        }
        Ok(self)
    }

    /// Where all records go, if that is one table.
    pub(super) fn sole(&self) -> Option<usize> {
        self.sole
    }

    /// The place in the destination's list of an open table.
    pub(super) fn target_of(&self, place: usize) -> Option<u32> {
        self.open[place].target
    }

    fn add(
        &mut self,
        name: TableName,
        target: Option<u32>,
        loaded: Arc<LoadedTable>,
    ) -> Result<usize, ConvertError> {
        let id = loaded.record.id;
        // Two names may lead to one table.
        if let Some(place) = self.by_id.get(&id) {
            return Ok(*place);
        }
        let metadata = &loaded.metadata;
        let schema = metadata.current_schema();
        let unique_keys = target.and_then(|at| self.destination.tables.get(at as usize));
        let unique_keys = unique_keys.map_or(&[][..], |target| &target.unique_keys);
        let (keys, bad_keys) = match self.destination.append_only {
            true => (None, None),
            false => match KeyColumns::of(schema, unique_keys) {
                Ok(keys) => (keys, None),
                Err(error) => (None, Some(error.to_string())),
            },
        };
        let decoder = ChangeDecoder::new(schema, keys.as_ref()).map_err(unsupported)?;
        let mut table = OpenTable {
            name,
            target,
            keys,
            bad_keys,
            decoder,
            loaded,
            held_bytes: 0,
            writer: None,
            writers: 0,
            writing_bytes: 0,
            finished: Vec::new(),
            files: Vec::new(),
            taken: 0,
            counts: OperationCounts::default(),
            missing: self.destination.schema_evolution.then(Inference::new),
        };
        if table.missing.is_some() {
            table.decoder.notice_unknown();
        }
        // At once, so that a table that cannot be written refuses before anything was read.
        table.begin_writer(&self.file_prefix)?;
        self.writers += 1;
        let place = self.open.len();
        self.open.push(table);
        self.by_id.insert(id, place);
        Ok(place)
    }

    /// The table of a record's routing, or why there is none and the place in the destination's
    /// list of the name that it has.
    pub(super) fn route(&mut self, routing: Option<&Routing<'_>>) -> Result<Routed, ConvertError> {
        let own = match self.destination.tables.as_slice() {
            [own] => Some(own),
            _ => None,
        };
        let database = routing.and_then(|r| r.database).filter(|name| !name.is_empty());
        let database = database.or(own.map(|own| own.database.as_str()));
        let table = routing.and_then(|r| r.table).filter(|name| !name.is_empty());
        let table = table.or(own.map(|own| own.table.as_str()));
        let (Some(database), Some(table)) = (database, table) else {
            let missing =
                if database.is_none() { "destinationDatabaseName" } else { "destinationTableName" };
            let message = format!(
                "{missing} is not given, and DestinationTableConfigurationList does not have \
                 exactly one table"
            );
            let refusal = Refusal { code: INVALID_TABLE_NAME.into(), message: message.into() };
            return Ok(Routed::Refused(None, refusal));
        };
        let known = self.routes.get(database).and_then(|tables| tables.get(table)).copied();
        let route = match known {
            Some(route) => route,
            None => {
                let name = TableName { database: database.into(), table: table.into() };
                let routed = routing.is_some_and(|r| r.database.is_some() || r.table.is_some());
                self.open_route(name, routed)?
            }
        };
        Ok(match route {
            Route::Open(place) => Routed::Open(place),
            Route::Making(place) => Routed::Making(place),
            Route::Refused(at) => {
                let (target, refusal) = self.refused[at].clone();
                Routed::Refused(target, refusal)
            }
        })
    }

    fn open_route(&mut self, name: TableName, routed: bool) -> Result<Route, ConvertError> {
        let targets = &self.destination.tables;
        let target = targets
            .iter()
            .position(|target| target.database == name.database && target.table == name.table)
            .and_then(|place| u32::try_from(place).ok());
        let opened = self
            .runtime
            .block_on(self.names.load(&name))
            .and_then(|loaded| self.add(name.clone(), target, loaded));
        let unmade = self.unmade.iter().find(|(other, _)| *other == name);
        let route = match opened {
            Ok(place) => Route::Open(place),
            Err(ConvertError::Table { code: NO_TABLE, .. })
                if self.destination.table_creation && unmade.is_none() =>
            {
                let targets = &self.destination.tables;
                let partition_by = target.and_then(|at| targets.get(at as usize));
                let partition_by = partition_by.map(|target| target.partition_by.clone());
                self.making.push(Making {
                    name: name.clone(),
                    partition_by: partition_by.unwrap_or_default(),
                    inference: Inference::new(),
                });
                Route::Making(self.making.len() - 1)
            }
            Err(ConvertError::Table { code, message }) if unmade.is_some() => {
                let message = match unmade {
                    Some((_, why)) => format!("{message}; it could not be made: {why}"),
                    None => message,
                };
                let refusal = Refusal { code: code.into(), message: message.into() };
                self.refused.push((target, refusal));
                Route::Refused(self.refused.len() - 1)
            }
            Err(ConvertError::Table { code, message }) if routed => {
                let refusal = Refusal { code: code.into(), message: message.into() };
                self.refused.push((target, refusal));
                Route::Refused(self.refused.len() - 1)
            }
            Err(error) => return Err(error),
        };
        self.routes.entry(name.database).or_default().insert(name.table, route);
        Ok(route)
    }

    /// Adds a record to a table; the inner error is the record's own.
    pub(super) fn push(
        &mut self,
        place: usize,
        record: &[u8],
        operation: Option<RecordOperation>,
    ) -> Result<Result<(), Refusal>, ConvertError> {
        let table = &mut self.open[place];
        let operation = match operation {
            None | Some(RecordOperation::Insert) => RowOperation::Insert,
            Some(other) if self.destination.append_only => {
                let message =
                    format!("the stream is AppendOnly: it takes no {}", other.as_str()).into();
                return Ok(Err(Refusal { code: INVALID_OPERATION.into(), message }));
            }
            Some(RecordOperation::Update) => RowOperation::Update,
            Some(RecordOperation::Delete) => RowOperation::Delete,
        };
        let pushed = table.decoder.push(record, operation);
        table.taken += u64::from(pushed.is_ok());
        if let Some(missing) = &mut table.missing {
            let unknown = table.decoder.take_unknown();
            let mismatch =
                pushed.as_ref().is_err_and(|error| error.code == DecodeCode::SchemaTypeMismatch);
            if unknown || mismatch {
                missing.observe(record);
            }
        }
        let held_bytes = table.decoder.held_bytes();
        self.held_bytes = self.held_bytes + held_bytes - table.held_bytes;
        table.held_bytes = held_bytes;
        if table.decoder.input_bytes() >= DECODED_BYTES {
            self.flush(place)?;
        } else if self.held_bytes >= HELD_BYTES {
            // What records leave out may weigh far more than they.
            let largest = (0..self.open.len()).max_by_key(|at| self.open[*at].held_bytes);
            self.flush(largest.unwrap_or(place))?;
        }
        Ok(pushed.map_err(|error| {
            let bad_keys = match error.code {
                DecodeCode::UniqueKeysNotFound => self.open[place].bad_keys.clone(),
                _ => None,
            };
            let message = bad_keys.unwrap_or_else(|| error.message.to_string());
            Refusal { code: error.code.as_str().into(), message: message.into() }
        }))
    }

    /// Looks at a record of a table that is to be made.
    pub(super) fn observe(&mut self, place: usize, record: &[u8]) {
        self.making[place].inference.observe(record);
    }

    /// What must be made or grown so that the batch's records have their place.
    pub(super) fn take_growth(&mut self) -> Option<Growth> {
        let grown = self.open.iter_mut().filter_map(|table| {
            let missing = table.missing.take().filter(|missing| !missing.is_empty())?;
            proposed(&table.loaded.metadata, &missing)?;
            Some((table.loaded.record.id, missing))
        });
        let grown: Vec<_> = grown.collect();
        let making = std::mem::take(&mut self.making);
        let any = !grown.is_empty() || !making.is_empty();
        any.then(|| Growth { names: self.names.clone(), making, grown })
    }

    /// Hands a table's rows to its writer.
    fn flush(&mut self, place: usize) -> Result<(), ConvertError> {
        let table = &mut self.open[place];
        let changes = table.decoder.finish().map_err(unsupported)?;
        self.held_bytes -= table.held_bytes;
        table.held_bytes = 0;
        if changes.records() == 0 {
            return Ok(());
        }
        if table.writer.is_none() {
            table.begin_writer(&self.file_prefix)?;
            self.writers += 1;
        }
        let Some(writer) = &mut table.writer else { return Ok(()) };
        writer.write(changes).map_err(unsupported)?;
        table.finished.extend(writer.take_finished());
        let writing_bytes = writer.buffered_bytes();
        self.writing_bytes = self.writing_bytes + writing_bytes - table.writing_bytes;
        table.writing_bytes = writing_bytes;
        while self.writers > 1 && (self.writing_bytes > WRITING_BYTES || self.writers > WRITERS_MAX)
        {
            let open = (0..self.open.len()).filter(|at| self.open[*at].writer.is_some());
            let Some(largest) = open.max_by_key(|at| self.open[*at].writing_bytes) else { break };
            self.end_writer(largest)?;
        }
        Ok(())
    }

    fn end_writer(&mut self, place: usize) -> Result<(), ConvertError> {
        let table = &mut self.open[place];
        let Some(writer) = table.writer.take() else { return Ok(()) };
        let (files, counts) = writer.finish().map_err(unsupported)?;
        table.finished.extend(files);
        table.counts.inserted += counts.inserted;
        table.counts.applied += counts.applied;
        table.counts.superseded += counts.superseded;
        table.counts.rows += counts.rows;
        table.counts.deleted_keys += counts.deleted_keys;
        self.writing_bytes -= table.writing_bytes;
        table.writing_bytes = 0;
        self.writers -= 1;
        Ok(())
    }

    /// Ends every file.
    pub(super) fn finish(&mut self) -> Result<(), ConvertError> {
        for place in 0..self.open.len() {
            self.flush(place)?;
            self.end_writer(place)?;
        }
        Ok(())
    }

    /// Files that are whole, by their table's place.
    pub(super) fn take_finished(&mut self) -> Vec<(usize, Vec<PendingFile>)> {
        let tables = self.open.iter_mut().enumerate();
        let finished = tables.filter(|(_, table)| !table.finished.is_empty());
        finished.map(|(place, table)| (place, std::mem::take(&mut table.finished))).collect()
    }

    /// Records that became operations on tables; an error says that files hold others.
    pub(super) fn operations(&self) -> Result<u64, ConvertError> {
        for table in &self.open {
            let data = |file: &&DataFile| file.content_type() == DataContentType::Data;
            let in_files: u64 = table.files.iter().filter(data).map(DataFile::record_count).sum();
            let (counts, taken) = (table.counts, table.taken);
            if in_files != counts.rows || counts.records() != taken {
                let name = &table.name;
                let reason =
                    format!("{taken} records for {name} became {counts:?}, {in_files} in files");
                return Err(ConvertError::Held(reason));
            }
        }
        Ok(self.open.iter().map(|table| table.taken).sum())
    }

    /// The parts of the batch, one for each table that gets something.
    pub(super) fn into_parts(
        self,
        batch: &BatchDocument,
    ) -> Result<Vec<super::ConvertedPart>, ConvertError> {
        let mut parts = Vec::new();
        for table in self.open.into_iter().filter(|table| !table.files.is_empty()) {
            let metadata = &table.loaded.metadata;
            let schema_id = metadata.current_schema_id();
            let spec_id = metadata.default_partition_spec_id();
            let files = table.files;
            let target = table.target.and_then(|at| self.destination.tables.get(at as usize));
            let document = PartDocument {
                incarnation: batch.incarnation,
                batch: batch.number,
                table: table.loaded.record.id,
                ordinal: u32::try_from(parts.len()).unwrap_or(u32::MAX),
                name: table.name,
                ranges: batch.ranges.clone(),
                log_id: batch.log_id,
                stream_version: batch.stream_version,
                errors: batch.destination.error_target(target),
                retry_duration_s: batch.destination.retry_duration_s(),
                oldest_arrival_ms: batch.oldest_arrival_ms,
                schema_id,
                spec_id,
                files: data_files::describe(&files, metadata, schema_id, spec_id)?,
                paths: files.iter().map(|file| file.file_path().to_string()).collect(),
                size_bytes: files.iter().map(DataFile::file_size_in_bytes).sum(),
                rows: table.counts.rows,
                deleted_keys: table.counts.deleted_keys,
                error_objects: Vec::new(),
                failure: None,
            };
            parts.push(super::ConvertedPart { document, files });
        }
        Ok(parts)
    }
}

impl OpenTable {
    /// Each of a table's writers has names of its own.
    fn begin_writer(&mut self, file_prefix: &str) -> Result<(), ConvertError> {
        let prefix = match self.writers {
            0 => file_prefix.to_string(),
            number => format!("{file_prefix}-w{number}"),
        };
        let (metadata, options) = (&self.loaded.metadata, WriteOptions::new(prefix));
        let writer = DeltaWriter::new(metadata, self.keys.clone(), options);
        self.writer = Some(writer.map_err(unsupported)?);
        self.writers += 1;
        Ok(())
    }
}
