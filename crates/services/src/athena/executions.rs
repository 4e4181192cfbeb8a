//! Queries: started, looked at, listed, stopped.

use super::documents::{
    self, BY_TIME, Changed, EXECUTIONS, Execution, Failure, OPEN, Place, State, TOKENS,
};
use super::error::{self, internal, invalid, missing};
use super::{AthenaService, model, runner, workgroups};
use alluvium_base::Region;
use alluvium_query::STATEMENT_MAX_BYTES;
use alluvium_store::records::{Key, Operation, Precondition};
use alluvium_wire::json_protocol::EpochSeconds;
use alluvium_wire::{Call, Problem};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

/// Athena's limit of ids in one `BatchGetQueryExecution`.
const BATCH_MAX: usize = 50;

/// What a request token started.
#[derive(Debug, Serialize, Deserialize)]
struct Token {
    id: Uuid,
    request: String,
}

fn check_token(token: &str) -> Result<(), Problem> {
    let length = token.chars().count();
    if (32..=128).contains(&length) {
        return Ok(());
    }
    Err(invalid(format!("ClientRequestToken has {length} characters; it must have 32 to 128")))
}

/// The identity of a request: what must agree when its token comes again.
fn fingerprint(input: &model::StartQueryExecution) -> String {
    let mut hash = Sha256::new();
    for part in [
        Some(&input.query_string),
        input.query_execution_context.catalog.as_ref(),
        input.query_execution_context.database.as_ref(),
        input.work_group.as_ref(),
        input.result_configuration.output_location.as_ref(),
    ] {
        let text = part.map_or("", String::as_str);
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    for parameter in input.execution_parameters.iter().flatten() {
        hash.update((parameter.len() as u64).to_le_bytes());
        hash.update(parameter);
    }
    hex::encode(hash.finalize())
}

/// The limits of the shape, and what of it is not supported.
fn check(input: &model::StartQueryExecution) -> Result<(), Problem> {
    if input.query_string.trim().is_empty() {
        return Err(invalid("QueryString is empty"));
    }
    if input.query_string.len() > STATEMENT_MAX_BYTES {
        return Err(invalid(format!(
            "QueryString has {} bytes; at most {STATEMENT_MAX_BYTES} are allowed",
            input.query_string.len()
        )));
    }
    if let Some(token) = &input.client_request_token {
        check_token(token)?;
    }
    if let Some(parameters) = &input.execution_parameters {
        if parameters.is_empty() {
            return Err(invalid("ExecutionParameters is empty; leave it out"));
        }
        let length = |p: &String| p.chars().count();
        if let Some(odd) = parameters.iter().find(|p| !(1..=1024).contains(&length(p))) {
            return Err(invalid(format!(
                "a value of ExecutionParameters has {} characters; it must have 1 to 1024",
                length(odd)
            )));
        }
    }
    let reuse = &input.result_reuse_configuration.result_reuse_by_age_configuration;
    if reuse.as_ref().is_some_and(|reuse| reuse.enabled) {
        return Err(invalid(
            "ResultReuseConfiguration.ResultReuseByAgeConfiguration.Enabled = true is not supported",
        ));
    }
    Ok(())
}

pub(super) async fn start(service: &AthenaService, call: &Call) -> Result<Value, Problem> {
    let input: model::StartQueryExecution = service.input(call)?;
    check(&input)?;
    let name = input.work_group.clone().unwrap_or_else(|| workgroups::PRIMARY.into());
    let group = workgroups::find(service, &call.region, &name).await?;
    if !group.enabled {
        return Err(invalid(format!("WorkGroup {name} is disabled")));
    }
    let request = fingerprint(&input);
    let token_key = input
        .client_request_token
        .as_ref()
        .map(|token| Key::new(TOKENS, format!("{}/{token}", call.region)));
    if let Some(key) = &token_key
        && let Some((_, known)) = documents::get::<Token>(&*service.parts.records, key).await?
    {
        return repeated(known, &request);
    }
    let parameters = input.execution_parameters.unwrap_or_default();
    let (kind, writes) = service
        .parts
        .engine
        .classify(input.query_string.clone(), parameters.clone())
        .await
        .map_err(error::statement)?;
    let id = service.parts.random.uuid();
    let place = workgroups::place(service, &group, &input.result_configuration, id).await?;
    let execution = Execution {
        id,
        region: call.region.clone(),
        statement_type: kind.as_str().into(),
        query: input.query_string,
        parameters,
        catalog: input.query_execution_context.catalog,
        database: input.query_execution_context.database,
        work_group: name,
        place,
        state: State::Queued,
        submitted_ms: service.parts.clock.now_ms(),
        completed_ms: None,
        queued_ms: 0,
        engine_ms: 0,
        scanned_bytes: 0,
        output_rows: 0,
        output_bytes: 0,
        failure: None,
        columns: Vec::new(),
        update_count: None,
        ending: None,
        has_manifest: false,
        etag: None,
        token: input.client_request_token,
        writes,
    };
    let slot = service.queue.admit(id)?;
    if let Some(known) = store(service, &execution, token_key, &request).await? {
        return repeated(known, &request);
    }
    service.retention.started_one();
    runner::spawn(service.clone(), execution, slot);
    Ok(json!({ "QueryExecutionId": id.to_string() }))
}

fn repeated(known: Token, request: &str) -> Result<Value, Problem> {
    if known.request == request {
        return Ok(json!({ "QueryExecutionId": known.id.to_string() }));
    }
    Err(invalid(
        "Idempotent parameters do not match: this ClientRequestToken came with another query",
    ))
}

/// Stores a new query; if another call with the same token was first, what that one started.
async fn store(
    service: &AthenaService,
    execution: &Execution,
    token: Option<Key>,
    request: &str,
) -> Result<Option<Token>, Problem> {
    let mut preconditions = vec![Precondition::Absent(execution.key())];
    let mut operations = vec![
        Operation::Put(execution.key(), documents::body(execution)?),
        Operation::Put(execution.time_key(), documents::body(&execution.id)?),
        Operation::Put(execution.open_key(), documents::body(&execution.id)?),
    ];
    if let Some(key) = &token {
        preconditions.push(Precondition::Absent(key.clone()));
        let document = Token { id: execution.id, request: request.into() };
        operations.push(Operation::Put(key.clone(), documents::body(&document)?));
    }
    let records = &*service.parts.records;
    match documents::change(records, preconditions, operations).await? {
        Changed::Done => Ok(None),
        Changed::Conflict => {
            // Ours, from a try whose answer was lost, or another's with the same token.
            if documents::get::<Execution>(records, &execution.key()).await?.is_some() {
                return Ok(None);
            }
            let Some(key) = token else {
                return Err(internal("the query could not be stored"));
            };
            let known = documents::get::<Token>(records, &key).await?;
            Ok(Some(
                known
                    .map(|(_, known)| known)
                    .ok_or_else(|| internal("the query could not be stored; try again"))?,
            ))
        }
    }
}

/// The query of that id, with what is known of it while it runs.
pub(super) async fn find(
    service: &AthenaService,
    region: &Region,
    id: &str,
) -> Result<Execution, Problem> {
    let absent = || missing("QueryExecution", id);
    let uuid: Uuid = id.parse().map_err(|_| absent())?;
    let key = Key::new(EXECUTIONS, format!("{region}/{uuid}"));
    // Asked first: a query leaves the queue after its end is recorded.
    let running = service.queue.is_running(uuid);
    let found = documents::get::<Execution>(&*service.parts.records, &key).await?;
    let (_, mut execution) = found.ok_or_else(absent)?;
    match running {
        _ if execution.state.is_final() => {}
        Some(true) => execution.state = State::Running,
        Some(false) => {}
        None => {
            execution.state = State::Failed;
            execution.failure = Some(Failure {
                category: 1,
                kind: 1,
                retryable: true,
                message: "The end of the query could not be recorded: its outcome is not known"
                    .into(),
            });
        }
    }
    Ok(execution)
}

pub(super) async fn get(service: &AthenaService, call: &Call) -> Result<Value, Problem> {
    let input: model::OneExecution = service.input(call)?;
    let execution = find(service, &call.region, &input.query_execution_id).await?;
    Ok(json!({ "QueryExecution": shown(&execution) }))
}

pub(super) async fn batch_get(service: &AthenaService, call: &Call) -> Result<Value, Problem> {
    let input: model::ManyExecutions = service.input(call)?;
    let ids = input.query_execution_ids;
    if ids.is_empty() || ids.len() > BATCH_MAX {
        return Err(invalid(format!("QueryExecutionIds must have 1 to {BATCH_MAX} entries")));
    }
    let (mut found, mut unprocessed) = (Vec::new(), Vec::new());
    for id in ids {
        match find(service, &call.region, &id).await {
            Ok(execution) => found.push(shown(&execution)),
            Err(problem) if problem.status.is_server_error() => return Err(problem),
            Err(problem) => unprocessed.push(json!({
                "QueryExecutionId": id,
                "ErrorCode": "INVALID_INPUT",
                "ErrorMessage": problem.message,
            })),
        }
    }
    Ok(json!({ "QueryExecutions": found, "UnprocessedQueryExecutionIds": unprocessed }))
}

/// `MaxResults` of a listing within its limits.
pub(super) fn limit(given: Option<i64>, max: i64) -> Result<usize, Problem> {
    let limit = given.unwrap_or(max);
    if !(1..=max).contains(&limit) {
        return Err(invalid(format!("MaxResults is {limit}; it must be 1 to {max}")));
    }
    usize::try_from(limit).map_err(|_| invalid("MaxResults"))
}

pub(super) async fn list(service: &AthenaService, call: &Call) -> Result<Value, Problem> {
    let input: model::Listing = service.input(call)?;
    let limit = limit(input.max_results, 50)?;
    let name = input.work_group.unwrap_or_else(|| workgroups::PRIMARY.into());
    workgroups::find(service, &call.region, &name).await?;
    let prefix = format!("{}/{name}/", call.region);
    let after = input.next_token.map(|token| format!("{prefix}{token}"));
    let records = &*service.parts.records;
    let (found, next) = documents::page(records, BY_TIME, prefix.clone(), after, limit).await?;
    let ids = found.iter().map(documents::parse::<Uuid>).collect::<Result<Vec<_>, _>>()?;
    let mut answer = json!({ "QueryExecutionIds": ids });
    if let Some(next) = next {
        answer["NextToken"] = next.strip_prefix(&prefix).unwrap_or_default().into();
    }
    Ok(answer)
}

pub(super) async fn stop(service: &AthenaService, call: &Call) -> Result<Value, Problem> {
    let input: model::OneExecution = service.input(call)?;
    let execution = find(service, &call.region, &input.query_execution_id).await?;
    if !execution.state.is_final() {
        service.queue.cancel(execution.id);
    }
    Ok(json!({}))
}

pub(super) async fn runtime_statistics(
    service: &AthenaService,
    call: &Call,
) -> Result<Value, Problem> {
    let input: model::OneExecution = service.input(call)?;
    let execution = find(service, &call.region, &input.query_execution_id).await?;
    Ok(json!({ "QueryRuntimeStatistics": {
        "Timeline": {
            "QueryQueueTimeInMillis": execution.queued_ms,
            "EngineExecutionTimeInMillis": execution.engine_ms,
            "TotalExecutionTimeInMillis": total_ms(&execution),
        },
        "Rows": { "OutputRows": execution.output_rows, "OutputBytes": execution.output_bytes,
                  "InputBytes": execution.scanned_bytes },
    }}))
}

fn total_ms(execution: &Execution) -> i64 {
    execution.completed_ms.map_or(0, |end| end - execution.submitted_ms)
}

fn location(place: &Place, key: &str) -> Option<String> {
    (!place.managed).then(|| format!("s3://{}/{key}", place.bucket))
}

fn context(execution: &Execution) -> Value {
    let mut context = json!({});
    if let Some(database) = &execution.database {
        context["Database"] = database.clone().into();
    }
    if let Some(catalog) = &execution.catalog {
        context["Catalog"] = catalog.clone().into();
    }
    context
}

/// A query as `GetQueryExecution` shows it.
fn shown(execution: &Execution) -> Value {
    let mut status = json!({
        "State": execution.state,
        "SubmissionDateTime": EpochSeconds(execution.submitted_ms),
    });
    if let Some(end) = execution.completed_ms {
        status["CompletionDateTime"] = json!(EpochSeconds(end));
    }
    if let Some(failure) = &execution.failure {
        status["StateChangeReason"] = failure.message.clone().into();
        if execution.state == State::Failed {
            status["AthenaError"] = json!({
                "ErrorCategory": failure.category,
                "ErrorType": failure.kind,
                "Retryable": failure.retryable,
                "ErrorMessage": failure.message,
            });
        }
    }
    let mut statistics = json!({
        "EngineExecutionTimeInMillis": execution.engine_ms,
        "DataScannedInBytes": execution.scanned_bytes,
        "TotalExecutionTimeInMillis": total_ms(execution),
        "QueryQueueTimeInMillis": execution.queued_ms,
        "ServiceProcessingTimeInMillis": 0,
        "ResultReuseInformation": { "ReusedPreviousResult": false },
    });
    let place = &execution.place;
    if execution.has_manifest
        && let Some(manifest) = location(place, &format!("{}-manifest.csv", place.stem))
    {
        statistics["DataManifestLocation"] = manifest.into();
    }
    let key = execution.result_key().unwrap_or_else(|| expected_key(execution));
    let mut results = json!({});
    if let Some(location) = location(place, &key) {
        results["OutputLocation"] = location.into();
    }
    let mut shown = json!({
        "QueryExecutionId": execution.id,
        "Query": execution.query,
        "StatementType": execution.statement_type,
        "ManagedQueryResultsConfiguration": { "Enabled": place.managed },
        "ResultConfiguration": results,
        "QueryExecutionContext": context(execution),
        "Status": status,
        "Statistics": statistics,
        "WorkGroup": execution.work_group,
        "EngineVersion": {
            "SelectedEngineVersion": "AUTO",
            "EffectiveEngineVersion": workgroups::ENGINE_VERSION,
        },
    });
    if !execution.parameters.is_empty() {
        shown["ExecutionParameters"] = json!(execution.parameters);
    }
    shown
}

/// Where the result of a query will be.
fn expected_key(execution: &Execution) -> String {
    let ending = match execution.statement_type.as_str() {
        "DML" if execution.writes => "",
        "DML" => ".csv",
        _ => ".txt",
    };
    format!("{}{ending}", execution.place.stem)
}

/// Queries that were under way when the last process ended are FAILED.
pub(super) async fn end_orphans(service: &AthenaService) -> Result<(), Problem> {
    let records = &*service.parts.records;
    loop {
        let (open, _) = documents::page(records, OPEN, String::new(), None, 100).await?;
        if open.is_empty() {
            return Ok(());
        }
        for document in open {
            let key = Key::new(EXECUTIONS, document.key.id.clone());
            let mut operations = vec![Operation::Delete(document.key)];
            if let Some((_, mut execution)) = documents::get::<Execution>(records, &key).await? {
                execution.state = State::Failed;
                execution.completed_ms = Some(service.parts.clock.now_ms());
                execution.failure = Some(Failure {
                    category: 1,
                    kind: 1,
                    retryable: true,
                    message: "The server ended while the query ran; start it again".into(),
                });
                operations.push(Operation::Put(key, documents::body(&execution)?));
            }
            documents::change(records, Vec::new(), operations).await?;
        }
    }
}
