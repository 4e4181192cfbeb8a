//! SQL over a lake in a temporary directory.

mod bench;
mod bounds;
mod deletes;
mod dialect;
mod statements;
mod tables;
