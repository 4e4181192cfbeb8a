//! `GetQueryResults`: pages of a stored result, read from where the last one ended.

use super::documents::{Execution, ResultColumn, State};
use super::error::{internal, invalid};
use super::{AthenaService, executions, model};
use alluvium_store::objects::{Body, ObjectsError, RangeOf};
use alluvium_wire::{Call, Problem};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::StreamExt as _;
use serde_json::{Value, json};
use uuid::Uuid;

/// Rows of a page and their limit.
const ROWS_MAX: i64 = 1000;
/// A page ends early when its values take more than this (I8).
const PAGE_BYTES_MAX: usize = 4 << 20;

pub(super) async fn get_query_results(
    service: &AthenaService,
    call: &Call,
) -> Result<Value, Problem> {
    let input: model::GetQueryResults = service.input(call)?;
    match input.query_result_type.as_deref() {
        None | Some("DATA_ROWS") => {}
        Some(other) => {
            return Err(invalid(format!(
                "QueryResultType {other} is not supported; use DATA_ROWS"
            )));
        }
    }
    let limit = executions::limit(input.max_results, ROWS_MAX)?;
    let execution = executions::find(service, &call.region, &input.query_execution_id).await?;
    match execution.state {
        State::Succeeded => {}
        State::Failed | State::Cancelled => {
            let why = execution.failure.map(|f| f.message).unwrap_or_default();
            let state = if execution.state == State::Failed { "FAILED" } else { "CANCELLED" };
            return Err(invalid(format!(
                "Query did not finish successfully. Final query state: {state}. {why}"
            )));
        }
        State::Queued | State::Running => {
            return Err(invalid(format!(
                "Query has not yet finished. Current state: {}",
                if execution.state == State::Queued { "QUEUED" } else { "RUNNING" }
            )));
        }
    }
    let start = match &input.next_token {
        None => 0,
        Some(token) => offset(execution.id, token)?,
    };
    let (rows, next) = match execution.result_key() {
        Some(key) => page(service, &execution, &key, start, limit).await?,
        None => (Vec::new(), None),
    };
    let columns: Vec<Value> = execution.columns.iter().map(column_info).collect();
    let mut answer = json!({
        "ResultSet": { "Rows": rows, "ResultSetMetadata": { "ColumnInfo": columns } },
        "UpdateCount": execution.update_count.unwrap_or(0),
    });
    if let Some(next) = next {
        answer["NextToken"] = token(execution.id, next).into();
    }
    Ok(answer)
}

/// A page's token: the query, and where in its result the page begins.
fn token(id: Uuid, offset: u64) -> String {
    URL_SAFE_NO_PAD.encode(format!("{id}:{offset}"))
}

fn offset(id: Uuid, token: &str) -> Result<u64, Problem> {
    let text = URL_SAFE_NO_PAD.decode(token).ok().and_then(|text| String::from_utf8(text).ok());
    text.as_deref()
        .and_then(|text| text.strip_prefix(&id.to_string())?.strip_prefix(':')?.parse().ok())
        .ok_or_else(|| invalid("NextToken is not one of this query's"))
}

fn column_info(column: &ResultColumn) -> Value {
    json!({
        "CatalogName": "hive",
        "SchemaName": "",
        "TableName": "",
        "Name": column.name,
        "Label": column.name,
        "Type": column.athena_type,
        "Precision": column.precision,
        "Scale": column.scale,
        "Nullable": "UNKNOWN",
        "CaseSensitive": column.athena_type == "varchar",
    })
}

async fn page(
    service: &AthenaService,
    execution: &Execution,
    key: &str,
    start: u64,
    limit: usize,
) -> Result<(Vec<Value>, Option<u64>), Problem> {
    let objects = &service.parts.objects;
    let bucket = &execution.place.bucket;
    let (meta, _, body) = match objects.get(bucket, key, Some(RangeOf::From(start))).await {
        Ok(got) => got,
        Err(ObjectsError::NotFound { .. } | ObjectsError::NoBucket(_)) => {
            return Err(invalid(format!("Could not find results: s3://{bucket}/{key} is gone")));
        }
        Err(error) => return Err(internal(error.to_string())),
    };
    if execution.etag.as_ref().is_some_and(|etag| *etag != meta.etag) {
        return Err(invalid(format!(
            "The results at s3://{bucket}/{key} were overwritten: run the query again"
        )));
    }
    let size = meta.size_bytes;
    if start >= size {
        return Ok((Vec::new(), None));
    }
    let csv = key.ends_with(".csv");
    let mut reader = Lines { body, buffer: Vec::new(), at: 0, consumed: start, ended: false };
    let (mut rows, mut held) = (Vec::new(), 0);
    while rows.len() < limit && held < PAGE_BYTES_MAX {
        let Some(line) = reader.next(csv).await? else { break };
        held += line.len();
        let values =
            if csv { csv_values(&line) } else { text_values(&line, execution.columns.len()) };
        let data: Vec<Value> = values
            .into_iter()
            .map(|value| value.map_or(json!({}), |text| json!({ "VarCharValue": text })))
            .collect();
        rows.push(json!({ "Data": data }));
    }
    let next = (reader.consumed < size).then_some(reader.consumed);
    Ok((rows, next))
}

/// Lines of a stored result; in CSV a line feed within quotes is part of a value.
struct Lines {
    body: Body,
    buffer: Vec<u8>,
    /// Where the next line begins in the buffer.
    at: usize,
    /// Where it begins in the object.
    consumed: u64,
    ended: bool,
}

impl Lines {
    async fn next(&mut self, csv: bool) -> Result<Option<String>, Problem> {
        let (mut scan, mut quoted) = (self.at, false);
        loop {
            while scan < self.buffer.len() {
                match self.buffer[scan] {
                    b'"' if csv => quoted = !quoted,
                    b'\n' if !quoted => {
                        let line =
                            String::from_utf8_lossy(&self.buffer[self.at..scan]).into_owned();
                        self.consumed += (scan + 1 - self.at) as u64;
                        self.at = scan + 1;
                        return Ok(Some(line));
                    }
                    _ => {}
                }
                scan += 1;
            }
            if self.ended {
                return Ok(None);
            }
            // What was read is dropped, so a page holds one value beyond its limit at most.
            self.buffer.drain(..self.at);
            scan -= self.at;
            self.at = 0;
            match self.body.next().await {
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                Some(Err(error)) => return Err(internal(format!("the result: {error}"))),
                None => self.ended = true,
            }
        }
    }
}

/// The values of a CSV line that we wrote: quoted, or empty for null.
fn csv_values(line: &str) -> Vec<Option<String>> {
    let mut values = Vec::new();
    let mut rest = line;
    loop {
        if let Some(inside) = rest.strip_prefix('"') {
            let mut value = String::new();
            let mut left = inside;
            while let Some(end) = left.find('"') {
                value.push_str(&left[..end]);
                left = &left[end + 1..];
                match left.strip_prefix('"') {
                    Some(more) => {
                        value.push('"');
                        left = more;
                    }
                    None => break,
                }
            }
            values.push(Some(value));
            rest = left;
        } else {
            values.push(None);
        }
        match rest.strip_prefix(',') {
            Some(more) => rest = more,
            None => return values,
        }
    }
}

fn text_values(line: &str, columns: usize) -> Vec<Option<String>> {
    line.splitn(columns.max(1), '\t').map(|text| Some(text.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_lines_are_read_as_they_were_written() {
        let some = |text: &str| Some(text.to_string());
        assert_eq!(csv_values("\"a\",,\"\"\"x\"\", y\""), [some("a"), None, some("\"x\", y")]);
        assert_eq!(csv_values(""), [None]);
        assert_eq!(csv_values("\"\""), [some("")]);
        assert_eq!(csv_values("\"a\","), [some("a"), None]);
    }
}
