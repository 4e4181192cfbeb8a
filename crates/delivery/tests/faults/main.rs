//! Random faults under a ledger, on every way that a record can go: whatever failed, every
//! acknowledged record is where it belongs once, or once in an error object, and no record is
//! anywhere twice (I1, I2, I3, I9).
//!
//! A failure names its seed; `ALLUVIUM_FAULT_SEED=7 cargo test -p alluvium-delivery --test faults`
//! replays it, and `ALLUVIUM_FAULT_SEEDS=100..200` runs many.

#![allow(clippy::unwrap_used)] // tests unwrap

#[path = "../rig/mod.rs"]
mod rig;

mod changes;
mod objects;
mod rows;

use rig::chaos::survives;

#[tokio::test(flavor = "multi_thread")]
async fn records_into_a_table_are_neither_lost_nor_doubled() {
    survives(|_| rows::Rows::direct()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_into_many_tables_are_neither_lost_nor_doubled() {
    survives(|_| rows::Rows::routed()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_data_stream_that_is_resharded_are_neither_lost_nor_doubled() {
    survives(|_| rows::Rows::from_shards()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_key_ends_as_its_last_change_says() {
    survives(|_| changes::Changes::direct()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_key_ends_as_its_last_change_says_over_reshards() {
    survives(|_| changes::Changes::from_shards()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_into_objects_and_their_copies_are_neither_lost_nor_doubled() {
    survives(|seed| objects::InObjects::new(seed % 2 == 0)).await;
}
