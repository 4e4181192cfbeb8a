//! What the commit path promises, tried in memory.

mod checkpoints;
mod clients;
mod cost;
mod lost_answers;
