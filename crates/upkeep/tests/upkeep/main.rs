//! Upkeep as a whole: every order of what changes a table against a model of its rows, and an hour of
//! commits with the days after it.

#![allow(clippy::unwrap_used)] // tests unwrap

mod hour;
mod model;
mod steps;
mod world;
