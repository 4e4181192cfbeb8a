//! What the commit path promises, tried in memory.

mod checkpoints;
mod clients;
mod cost;
mod expiry;
mod foreign_metadata;
mod lineage;
mod lost_answers;
