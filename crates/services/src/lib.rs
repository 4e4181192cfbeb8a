//! One folder per AWS service: its shapes, its calls into the engine, its error codes. No folder
//! imports another.

pub mod athena;
pub mod firehose;
pub mod glue;
pub mod iceberg_rest;
pub mod kinesis;
pub mod s3;
pub mod s3tables;
pub mod sts;

#[cfg(test)]
mod testing;
