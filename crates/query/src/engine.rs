//! The engine: runs statements on threads of its own, within bounds.
//!
//! A statement is parsed, planned and executed on the engine's runtime, whose threads have large stacks;
//! request threads only wait. Memory comes from one pool shared fairly by all queries, what does not fit
//! spills into one directory with a cap, a query ends at its deadline, and one that is cancelled, or whose
//! output is dropped, is dropped with all its tasks (I8).

use crate::dialect::rewrite::{self, Context, UNNAMED};
use crate::dialect::statement::{self, Statement};
use crate::directory::Directory;
use crate::memory::{self, QueryWatch, Watch};
use crate::names::{ANY_CATALOG, CatalogName, LakeCatalogs, Names};
use crate::output::{Column, QueryOutput, Rows, Sender, StatementKind};
use crate::request::{EngineOptions, QueryRequest};
use crate::table::{FileReaders, STORE_URL};
use crate::unnest::UnnestPlanner;
use crate::upkeep::{ByHand, TableUpkeep};
use crate::{QueryError, create, functions, insert, meaning, show};
use alluvium_base::{Clock, Random, Region};
use alluvium_lake::Lake;
use arrow::record_batch::RecordBatch;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{
    FunctionRegistry, SendableRecordBatchStream, SessionState, SessionStateBuilder,
};
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionConfig;
use datafusion::sql::sqlparser::ast;
use futures::StreamExt as _;
use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// Planning recurses; a debug build needs about 30 KB for each level of a statement. Address space only.
const STACK_BYTES: usize = 256 << 20;
/// Batches between a query and whoever takes its rows.
const BATCHES_AHEAD: usize = 4;

/// Runs statements. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    readers: FileReaders,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    options: EngineOptions,
    environment: Arc<RuntimeEnv>,
    /// Made when a statement first asks: a server that only takes records never pays for them.
    functions: OnceLock<HashSet<String>>,
    watch: Arc<Watch>,
    /// What `OPTIMIZE` and `VACUUM` do, once it is known.
    upkeep: OnceLock<ByHand>,
    /// Taken when the engine is dropped.
    runtime: Option<tokio::runtime::Runtime>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // A runtime that is dropped on another runtime's thread would wait there.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What one statement works with.
pub(crate) struct Session {
    pub(crate) state: SessionState,
    pub(crate) names: Arc<Names>,
    pub(crate) functions: Arc<Engine>,
    pub(crate) now_ms: i64,
    pub(crate) random: Arc<dyn Random>,
    /// Over the process's memory while the statement runs.
    pub(crate) watch: Arc<QueryWatch>,
}

impl Engine {
    /// An engine over a lake.
    pub fn new(
        lake: Lake,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        options: EngineOptions,
    ) -> Result<Self, QueryError> {
        std::fs::create_dir_all(&options.spill_dir).map_err(|e| {
            QueryError::Storage(format!("spill directory {}: {e}", options.spill_dir.display()))
        })?;
        let disk = DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::Directories(vec![options.spill_dir.clone()]))
            .with_max_temp_directory_size(options.spill_limit_bytes);
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(options.memory_limit_bytes)))
            .with_disk_manager_builder(disk)
            .build_arc()?;
        let url = url_of(STORE_URL)?;
        // Bytes come through our own readers; DataFusion only wants to find a store here.
        environment.register_object_store(&url, Arc::new(object_store::memory::InMemory::new()));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(options.threads.max(1))
            .thread_name("alluvium-query")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()
            .map_err(|e| QueryError::Internal(format!("query threads: {e}")))?;
        let readers = FileReaders::new(lake, options.footer_cache_bytes);
        let inner = Inner {
            readers,
            clock,
            random,
            watch: Arc::new(Watch::new(options.memory_limit_bytes)),
            options,
            environment,
            functions: OnceLock::new(),
            upkeep: OnceLock::new(),
            runtime: Some(runtime),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// The kind of a statement, without running it; a statement that cannot be read is an error.
    pub fn kind_of(sql: &str) -> Result<StatementKind, QueryError> {
        statement::parse(sql, &[]).map(|s| StatementKind::of(&s))
    }

    /// Runs a future on the engine's threads, not on those that answer requests.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        if let Some(runtime) = &self.inner.runtime {
            runtime.spawn(work);
        }
    }

    /// Says who does what `OPTIMIZE` and `VACUUM` ask for; the first word counts.
    pub fn upkeep_by(&self, upkeep: Arc<dyn TableUpkeep>) {
        let _ = self.inner.upkeep.set(ByHand(upkeep));
    }

    fn upkeep(&self) -> Result<&ByHand, QueryError> {
        self.inner.upkeep.get().ok_or_else(|| {
            QueryError::Unsupported("this engine has nobody who looks after tables".into())
        })
    }

    /// What catalogs hold, in a region.
    pub fn directory(&self, region: Region) -> Directory {
        Directory(Names {
            readers: self.inner.readers.clone(),
            region,
            catalog: CatalogName::AwsData,
            database: "default".into(),
        })
    }

    /// As [`Self::kind_of`], on the engine's threads, whose stacks suit any statement; and whether
    /// the statement changes tables or databases.
    pub async fn classify(
        &self,
        sql: String,
        parameters: Vec<String>,
    ) -> Result<(StatementKind, bool), QueryError> {
        let Some(runtime) = &self.inner.runtime else {
            return Err(QueryError::Internal("the engine has ended".into()));
        };
        let work = runtime.spawn(async move {
            let statement = statement::parse(&sql, &parameters)?;
            let kind = StatementKind::of(&statement);
            let reads = matches!(statement, Statement::Query(_)) || kind == StatementKind::Utility;
            Ok((kind, !reads))
        });
        work.await.map_err(|e| QueryError::Internal(format!("the statement was not read: {e}")))?
    }

    /// Names of all functions.
    pub(crate) fn functions(&self) -> &HashSet<String> {
        self.inner.functions.get_or_init(|| {
            functions::names_of(&SessionStateBuilder::new().with_default_features().build())
        })
    }

    /// Runs a statement. Returns when its first rows are known to come, or when it is done. It stops when
    /// `cancel` is cancelled or the output is dropped.
    pub async fn run(
        &self,
        request: QueryRequest,
        cancel: CancellationToken,
    ) -> Result<QueryOutput, QueryError> {
        let Some(runtime) = &self.inner.runtime else {
            return Err(QueryError::Internal("the engine has ended".into()));
        };
        let (head, answer) = oneshot::channel();
        let (rows, receiver) = mpsc::channel(BATCHES_AHEAD);
        let cancel = cancel.child_token();
        let guard = cancel.clone().drop_guard();
        let engine = self.clone();
        let deadline = self.inner.options.deadline;
        runtime.spawn(async move {
            let sender = Sender { head: Some(head), rows };
            let work = engine.work(request, sender.rows.clone());
            let outcome = tokio::select! {
                biased;
                () = cancel.cancelled() => Err(QueryError::Cancelled),
                () = tokio::time::sleep(deadline) => Err(QueryError::Exceeded(format!(
                    "the query ran longer than {} seconds", deadline.as_secs()
                ))),
                outcome = work.run(sender.head) => outcome,
            };
            if let Err(error) = outcome {
                // Whoever waited may be gone: then nobody needs to know.
                let _ = sender.rows.send(Err(error)).await;
            }
        });
        let started = answer.await;
        let mut rows = Rows { receiver, _guard: guard };
        match started {
            Ok(output) => Ok(output.with_rows(rows)),
            // The head was never sent, so the error is the only thing in the channel.
            Err(_) => Err(match rows.next().await {
                Some(Err(error)) => error,
                _ => QueryError::Internal("the query ended without an answer".into()),
            }),
        }
    }

    fn work(
        &self,
        request: QueryRequest,
        rows: mpsc::Sender<Result<RecordBatch, QueryError>>,
    ) -> Work {
        Work { engine: self.clone(), request, rows }
    }

    fn session(&self, request: &QueryRequest) -> Result<Session, QueryError> {
        let inner = &self.inner;
        let catalog = match request.catalog.as_deref().filter(|c| !c.is_empty()) {
            None => CatalogName::Any,
            Some(name) => CatalogName::parse(name).ok_or_else(|| QueryError::NotFound {
                code: "CATALOG_NOT_FOUND",
                message: format!("Catalog '{name}' does not exist"),
            })?,
        };
        let database = request.database.as_deref().filter(|d| !d.is_empty()).unwrap_or("default");
        let names = Arc::new(Names {
            readers: inner.readers.for_query(),
            region: request.region.clone(),
            catalog: catalog.clone(),
            database: database.to_lowercase(),
        });
        let default = match &catalog {
            CatalogName::Any => ANY_CATALOG.to_string(),
            other => other.to_string(),
        };
        let mut config = SessionConfig::new()
            .with_create_default_catalog_and_schema(false)
            .with_default_catalog_and_schema(default, names.database.clone())
            .with_information_schema(false)
            .with_target_partitions(inner.options.threads.max(1));
        config.options_mut().sql_parser.parse_float_as_decimal = true;
        config.options_mut().execution.time_zone = Some("UTC".into());
        let watch = inner.watch.query();
        let mut state = SessionStateBuilder::new()
            .with_config(config)
            .with_runtime_env(Arc::clone(&inner.environment))
            .with_default_features()
            .with_optimizer_rules(meaning::optimizer_rules())
            .with_physical_optimizer_rules(memory::optimizer_rules(&watch))
            .with_catalog_list(Arc::new(LakeCatalogs(Arc::clone(&names))))
            .build();
        state.register_relation_planner(Arc::new(UnnestPlanner))?;
        state.register_expr_planner(Arc::new(memory::values::ConcatPlanner))?;
        state.register_expr_planner(Arc::new(meaning::ArithmeticPlanner))?;
        state.register_expr_planner(Arc::new(meaning::ComparisonPlanner))?;
        state.register_function_rewrite(Arc::new(meaning::Meaning::new()))?;
        state.register_function_rewrite(Arc::new(memory::values::Checks))?;
        for function in functions::all() {
            state.register_udf(Arc::new(function))?;
        }
        for function in meaning::aggregates::all() {
            state.register_udaf(Arc::new(function))?;
        }
        Ok(Session {
            state,
            names,
            functions: Arc::new(self.clone()),
            now_ms: inner.clock.now_ms(),
            random: Arc::clone(&inner.random),
            watch,
        })
    }
}

fn url_of(text: &str) -> Result<url::Url, QueryError> {
    url::Url::parse(text).map_err(|e| QueryError::Internal(format!("{text}: {e}")))
}

/// The column that statements which write show.
fn rows_column() -> Vec<Column> {
    vec![Column::of("rows", &arrow::datatypes::DataType::Int64)]
}

/// One statement under way.
struct Work {
    engine: Engine,
    request: QueryRequest,
    rows: mpsc::Sender<Result<RecordBatch, QueryError>>,
}

impl Work {
    async fn run(self, head: Option<oneshot::Sender<QueryOutput>>) -> Result<(), QueryError> {
        let session = self.engine.session(&self.request)?;
        let statement = statement::parse(&self.request.sql, &self.request.parameters)?;
        let kind = StatementKind::of(&statement);
        let scanned = session.names.readers.scanned_bytes();
        let answer = |output: QueryOutput| {
            if let Some(head) = head {
                // The caller may be gone; then the rows' channel is closed, too.
                let _ = head.send(output);
            }
        };
        match statement {
            Statement::Query(query) => {
                let (plan, columns) = session.plan(query).await?;
                let physical = session.state.create_physical_plan(&plan).await?;
                answer(QueryOutput::new(kind, columns, None, scanned));
                self.stream(&session, physical).await
            }
            Statement::Insert(insert) => {
                let written = insert::insert(&session, insert).await?;
                answer(QueryOutput::new(kind, rows_column(), None, scanned).with_written(written));
                Ok(())
            }
            Statement::CreateTable(table) => {
                let ctas = table.query.is_some();
                let written = create::create_table(&session, *table).await?;
                let output = QueryOutput::new(kind, Vec::new(), None, scanned);
                answer(if ctas { output.with_written(written) } else { output });
                Ok(())
            }
            definition @ (Statement::AlterTable(_)
            | Statement::CreateDatabase { .. }
            | Statement::DropDatabase { .. }
            | Statement::DropTable { .. }) => {
                create::define(&session, definition).await?;
                answer(QueryOutput::new(kind, Vec::new(), None, scanned));
                Ok(())
            }
            Statement::Optimize(optimize) => {
                let rewritten = self.engine.upkeep()?.optimize(&session, optimize).await?;
                scanned.fetch_add(rewritten, Ordering::Relaxed);
                answer(QueryOutput::new(kind, Vec::new(), None, scanned));
                Ok(())
            }
            Statement::Vacuum { table } => {
                self.engine.upkeep()?.vacuum(&session, &table).await?;
                answer(QueryOutput::new(kind, Vec::new(), None, scanned));
                Ok(())
            }
            Statement::Explain { analyze, query } => {
                let text = session.explain(analyze, query).await?;
                let (columns, batch) = show::one_column("Query Plan", text.lines())?;
                answer(QueryOutput::new(kind, columns, None, scanned));
                self.send(batch).await
            }
            utility => {
                let (columns, batch) = show::show(&session, utility).await?;
                answer(QueryOutput::new(kind, columns, None, scanned));
                self.send(batch).await
            }
        }
    }

    async fn send(&self, batch: RecordBatch) -> Result<(), QueryError> {
        self.rows.send(Ok(batch)).await.map_err(|_| QueryError::Cancelled)
    }

    async fn stream(
        &self,
        session: &Session,
        plan: Arc<dyn ExecutionPlan>,
    ) -> Result<(), QueryError> {
        let mut stream = session.execute(plan)?;
        while let Some(batch) = stream.next().await {
            let batch = batch?;
            session.watch.moved(&batch)?;
            if batch.num_rows() > 0 {
                self.send(batch).await?;
            }
        }
        Ok(())
    }
}

impl Session {
    /// Plans a query; the columns have the names that Athena shows.
    pub(crate) async fn plan(
        &self,
        mut query: Box<ast::Query>,
    ) -> Result<(LogicalPlan, Vec<Column>), QueryError> {
        let names = rewrite::output_names(&query);
        rewrite::fold_case(&mut query);
        let context = Context { functions: self.functions.functions(), now_ms: self.now_ms };
        rewrite::rewrite(&mut query, &context)?;
        let statement =
            datafusion::sql::parser::Statement::Statement(Box::new(ast::Statement::Query(query)));
        let plan = meaning::integers(self.state.statement_to_plan(statement).await?)?;
        // The types that clients are told, and that a CTAS makes, are those after analysis.
        let options = self.state.config_options();
        let plan = self.state.analyzer().execute_and_check(plan, options, |_, _| {})?;
        let fields = plan.schema().fields();
        let columns = fields
            .iter()
            .enumerate()
            .map(|(at, field)| {
                let name = output_name(&names, at, fields.len(), field.name());
                Column::of(&name, field.data_type())
            })
            .collect();
        Ok((plan, columns))
    }

    /// Starts a plan, with batches of as many rows as suit its widest rows.
    pub(crate) fn execute(
        &self,
        plan: Arc<dyn ExecutionPlan>,
    ) -> Result<SendableRecordBatchStream, QueryError> {
        let mut state = self.state.clone();
        let stored = self.names.readers.widest_row_bytes();
        state.config_mut().options_mut().execution.batch_size = memory::batch_rows(&plan, stored);
        Ok(execute_stream(plan, state.task_ctx())?)
    }

    async fn explain(&self, analyze: bool, query: Box<ast::Query>) -> Result<String, QueryError> {
        let (plan, _) = self.plan(query).await?;
        let physical = self.state.create_physical_plan(&plan).await?;
        if !analyze {
            let shown = datafusion::physical_plan::displayable(physical.as_ref());
            return Ok(shown.indent(false).to_string());
        }
        let mut stream = self.execute(Arc::clone(&physical))?;
        while let Some(batch) = stream.next().await {
            batch?;
        }
        use datafusion::physical_plan::display::DisplayableExecutionPlan;
        let scanned = self.names.readers.scanned_bytes().load(Ordering::Relaxed);
        let shown = DisplayableExecutionPlan::with_metrics(physical.as_ref());
        Ok(format!("{}\nScanned: {scanned} bytes", shown.indent(false)))
    }
}

/// The name of output column `at` of `count`: what the text says where no wildcard hides it.
fn output_name(names: &[Option<String>], at: usize, count: usize, planned: &str) -> String {
    let first_wildcard = names.iter().position(Option::is_none).unwrap_or(names.len());
    let last_wildcard = names.iter().rposition(Option::is_none);
    let from_text = if at < first_wildcard {
        names.get(at).cloned().flatten()
    } else {
        let from_end = count - at;
        match last_wildcard {
            Some(last) if from_end < names.len() - last => {
                names.get(names.len() - from_end).cloned().flatten()
            }
            _ => None,
        }
    };
    match from_text {
        Some(name) if !name.is_empty() => name,
        Some(_) => format!("_col{at}"),
        None if planned.starts_with(UNNAMED) => format!("_col{at}"),
        None => planned.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_names_are_the_texts_and_numbers_for_expressions() {
        let names = [Some("A".into()), None, Some(String::new())];
        assert_eq!(output_name(&names, 0, 4, "a"), "A");
        assert_eq!(output_name(&names, 1, 4, "x"), "x");
        assert_eq!(output_name(&names, 2, 4, "y"), "y");
        assert_eq!(output_name(&names, 3, 4, "$unnamed$2"), "_col3");
    }
}
