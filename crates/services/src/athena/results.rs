//! Results as objects: CSV or text, `.metadata` beside it, and a manifest for what was written.
//!
//! CSV: every value that is not null in double quotes, null empty, lines end with LF, a header first.
//! Text: columns separated by tabs, no header. Bytes stream into the store as rows come (I8).

use super::documents::{Execution, Place, ResultColumn};
use alluvium_query::{QueryError, Rows, render};
use alluvium_store::objects::{Objects, ObjectsError, PutOptions};
use bytes::Bytes;
use futures::StreamExt as _;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Bytes gathered before they are handed to the store.
const CHUNK_BYTES: usize = 256 << 10;
/// Chunks between rendering and storing.
const CHUNKS_AHEAD: usize = 2;

/// Writes the result of one query.
pub(super) struct Writer<'a> {
    objects: &'a Arc<dyn Objects>,
    place: &'a Place,
}

/// What a result took.
#[derive(Debug, Default, Clone)]
pub(super) struct Size {
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) etag: String,
}

fn failed(error: ObjectsError) -> QueryError {
    QueryError::Storage(format!("the result could not be written: {error}"))
}

impl<'a> Writer<'a> {
    pub(super) fn new(objects: &'a Arc<dyn Objects>, place: &'a Place) -> Self {
        Self { objects, place }
    }

    async fn put(&self, key: &str, bytes: Bytes) -> Result<(), QueryError> {
        if self.place.managed {
            // What stands beside a result is for readers of the client's bucket.
            return Ok(());
        }
        let put = self.objects.put_bytes(&self.place.bucket, key, bytes, PutOptions::default());
        put.await.map(|_| ()).map_err(failed)
    }

    /// Streams rows into the result object.
    pub(super) async fn rows(
        &self,
        ending: &str,
        csv: bool,
        columns: &[ResultColumn],
        rows: &mut Rows,
    ) -> Result<Size, QueryError> {
        let key = format!("{}{ending}", self.place.stem);
        let (chunks, received) = mpsc::channel::<Result<Bytes, std::io::Error>>(CHUNKS_AHEAD);
        let body = futures::stream::unfold(received, |mut received| async move {
            received.recv().await.map(|chunk| (chunk, received))
        });
        let finish = Box::new(|_: &mut _| Ok(()));
        let put =
            self.objects.put(&self.place.bucket, &key, body.boxed(), PutOptions::default(), finish);
        let feed = feed(csv, columns, rows, chunks);
        let (put, fed) = tokio::join!(put, feed);
        match fed {
            Ok(size) => Ok(Size { etag: put.map_err(failed)?.etag, ..size }),
            // A query that failed closes the body with an error, so nothing is published.
            Err(Unfinished::Query(error)) => Err(error),
            Err(Unfinished::StoreEnded) => match put {
                Err(error) => Err(failed(error)),
                Ok(_) => Err(QueryError::Storage("the result was cut off".into())),
            },
        }
    }

    /// The data files that a statement wrote, one to a line.
    pub(super) async fn manifest(&self, files: &[String]) -> Result<(), QueryError> {
        let mut text = String::new();
        for file in files {
            text.push_str(file);
            text.push('\n');
        }
        self.put(&format!("{}-manifest.csv", self.place.stem), text.into()).await
    }

    /// The columns, in the binary form that Athena writes beside a result.
    pub(super) async fn metadata(
        &self,
        ending: &str,
        execution: &Execution,
    ) -> Result<(), QueryError> {
        let bytes = metadata(&execution.id.to_string(), &execution.columns);
        self.put(&format!("{}{ending}.metadata", self.place.stem), bytes.into()).await
    }
}

/// Why the rows did not all reach the store.
enum Unfinished {
    Query(QueryError),
    /// The store took no more; its own answer says why.
    StoreEnded,
}

impl From<QueryError> for Unfinished {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

type Chunks = mpsc::Sender<Result<Bytes, std::io::Error>>;

async fn feed(
    csv: bool,
    columns: &[ResultColumn],
    rows: &mut Rows,
    chunks: Chunks,
) -> Result<Size, Unfinished> {
    let fed = feed_rows(csv, columns, rows, &chunks).await;
    if fed.is_err() {
        let broken = std::io::Error::other("the query failed");
        // A store that ended first does not hear it.
        let _ = chunks.send(Err(broken)).await;
    }
    fed
}

async fn feed_rows(
    csv: bool,
    columns: &[ResultColumn],
    rows: &mut Rows,
    chunks: &Chunks,
) -> Result<Size, Unfinished> {
    let mut text = String::new();
    let mut size = Size::default();
    if csv {
        for (at, column) in columns.iter().enumerate() {
            separate(&mut text, at, ',');
            quote(&mut text, &column.name);
        }
        text.push('\n');
    }
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            for (at, column) in batch.columns().iter().enumerate() {
                separate(&mut text, at, if csv { ',' } else { '\t' });
                match render::value(column, row)? {
                    Some(value) if csv => quote(&mut text, &value),
                    // Tabs and line feeds end values and rows of a text.
                    Some(value) => text.extend(value.chars().map(plain)),
                    None => {}
                }
            }
            text.push('\n');
            size.rows += 1;
            if text.len() >= CHUNK_BYTES {
                send(&mut text, &mut size, chunks).await?;
            }
        }
    }
    send(&mut text, &mut size, chunks).await?;
    Ok(size)
}

async fn send(text: &mut String, size: &mut Size, chunks: &Chunks) -> Result<(), Unfinished> {
    if text.is_empty() {
        return Ok(());
    }
    size.bytes += text.len() as u64;
    let chunk = Bytes::from(std::mem::take(text));
    chunks.send(Ok(chunk)).await.map_err(|_| Unfinished::StoreEnded)
}

fn plain(c: char) -> char {
    if matches!(c, '\t' | '\n' | '\r') { ' ' } else { c }
}

fn separate(text: &mut String, at: usize, by: char) {
    if at > 0 {
        text.push(by);
    }
}

fn quote(text: &mut String, value: &str) {
    text.push('"');
    text.push_str(&value.replace('"', "\"\""));
    text.push('"');
}

/// The metadata message: 1 the query's id, 4 a column (see AWS JDBC drivers' readers).
fn metadata(id: &str, columns: &[ResultColumn]) -> Vec<u8> {
    let mut out = Vec::new();
    field_bytes(&mut out, 1, id.as_bytes());
    for column in columns {
        let mut inner = Vec::new();
        field_bytes(&mut inner, 1, b"hive");
        field_bytes(&mut inner, 4, column.name.as_bytes());
        field_bytes(&mut inner, 5, column.name.as_bytes());
        field_bytes(&mut inner, 6, column.athena_type.as_bytes());
        field_number(&mut inner, 7, u64::try_from(column.precision).unwrap_or(0));
        field_number(&mut inner, 8, u64::try_from(column.scale).unwrap_or(0));
        field_number(&mut inner, 9, NULLABLE_UNKNOWN);
        field_number(&mut inner, 10, u64::from(column.athena_type == "varchar"));
        field_bytes(&mut out, 4, &inner);
    }
    out
}

/// `UNKNOWN` of the message's enumeration of nullability.
const NULLABLE_UNKNOWN: u64 = 3;

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value as u8) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn field_bytes(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint(out, number << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn field_number(out: &mut Vec<u8>, number: u64, value: u64) {
    varint(out, number << 3);
    varint(out, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_a_message_of_id_and_columns() {
        let column = ResultColumn {
            name: "n".into(),
            athena_type: "bigint".into(),
            precision: 19,
            scale: 0,
        };
        let bytes = metadata("q", &[column]);
        let inner = b"\x0a\x04hive\x22\x01n\x2a\x01n\x32\x06bigint\x38\x13\x40\x00\x48\x03\x50\x00";
        let mut expected = b"\x0a\x01q\x22".to_vec();
        expected.push(inner.len() as u8);
        expected.extend_from_slice(inner);
        assert_eq!(bytes, expected);
    }
}
