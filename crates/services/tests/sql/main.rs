//! SQL over a lake in a temporary directory.

#![allow(clippy::unwrap_used)] // a test that cannot prepare must stop

mod bench;
mod bounds;
mod deletes;
mod dialect;
mod pruning;
mod statements;
mod tables;
