//! Where state lives: *records* (small versioned documents, moved by compare-and-set transactions)
//! and *objects* (buckets of immutable bytes), both under one *data directory* that one process
//! owns at a time.
//!
//! Both are traits, so that a server can move off one machine; the embedded backends are SQLite
//! and the local file system. What both promise: an answer of success means stable storage (I1),
//! and an answer that was lost is a value of its own, never a guess (I9).

pub mod data_dir;
pub mod objects;
pub mod records;
pub mod space;
