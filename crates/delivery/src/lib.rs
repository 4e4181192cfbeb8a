//! Delivery: from the log to the table, exactly once.
//!
//! A delivery stream owns one lane of the log, or reads those of a data stream's shards. The
//! [`Engine`] cuts what they hold into batches, converts each to Parquet files of every table that its
//! records name, or to objects of a bucket, and to error objects, records that it is *prepared*, and
//! commits each table's part together with the stream's checkpoint there. Each step is durable before the next begins, so that a
//! process that dies between any two goes on from the documents (invariants I2, I3, I4, I6, I8;
//! DURABILITY, "A batch").
//!
//! Parts: [`stream`] what a stream is; [`streams`] all of them, as documents and in memory;
//! [`destination`] which table a configuration names; [`lane_log`] what delivery asks of the log;
//! [`batch`] the documents of a batch, [`claims`] which files they need; [`prefix`] and [`java_time`] where objects go;
//! [`error_object`] and [`error_groups`] what they hold; [`s3`] records into objects of a bucket;
//! [`kpl`] and [`processing`] what happens to records on their way; `convert` log to files;
//! `data_files` files as text; [`engine`] the scheduler; [`pending`] what no batch has yet;
//! [`intake`] the way into the log; [`figures`] what the exporter shows; [`recovery`] what a start
//! needs to know; [`redelivery`] delivering again, [`replay`] sending again what failed, and
//! [`failed_batches`] what to do with files that could not be committed, on an operator's word.
//!
//! Left to others: HTTP and AWS's shapes (`services/firehose`), table commits and the catalog
//! (`lake`), group commit (`log`).

pub mod batch;
pub mod claims;
mod convert;
mod data_files;
pub mod destination;
pub mod engine;
pub mod error_groups;
pub mod error_object;
pub mod failed_batches;
pub mod figures;
pub mod intake;
pub mod java_time;
pub mod kpl;
pub mod lane_log;
pub mod pending;
pub mod prefix;
pub mod processing;
pub mod recovery;
pub mod redelivery;
pub mod replay;
pub mod s3;
pub mod source;
pub mod stream;
pub mod streams;

pub use engine::{Engine, EngineOptions, EngineParts};
pub use intake::Intake;
