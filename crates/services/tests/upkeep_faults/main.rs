//! Random faults under a ledger, as in delivery's own tests, with upkeep beside delivery that never
//! rests and lets nothing grow old: files are rewritten, snapshots let go of and files removed while
//! batches are on their way, and upkeep's own writes fail, too (I1, I2, I3, I6).
//!
//! Here because delivery knows nothing of upkeep. `ALLUVIUM_FAULT_SEED=7 cargo test -p
//! alluvium-services --test upkeep_faults` replays a seed, `ALLUVIUM_FAULT_SEEDS=100..200` runs many.

#![allow(clippy::unwrap_used)] // tests unwrap

#[path = "../../../delivery/tests/rig/mod.rs"]
mod rig;

#[path = "../../../delivery/tests/faults/changes.rs"]
mod changes;
#[path = "../../../delivery/tests/faults/rows.rs"]
mod rows;

mod beside;

use beside::survives_kept_up;

#[tokio::test(flavor = "multi_thread")]
async fn records_into_a_table_are_neither_lost_nor_doubled_while_it_is_kept_up() {
    survives_kept_up(rows::Rows::direct).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_into_many_tables_are_neither_lost_nor_doubled_while_they_are_kept_up() {
    survives_kept_up(rows::Rows::routed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_data_stream_are_neither_lost_nor_doubled_while_its_table_is_kept_up() {
    survives_kept_up(rows::Rows::from_shards).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_key_ends_as_its_last_change_says_while_the_table_is_kept_up() {
    survives_kept_up(changes::Changes::direct).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_key_ends_as_its_last_change_says_over_reshards_while_the_table_is_kept_up() {
    survives_kept_up(changes::Changes::from_shards).await;
}
