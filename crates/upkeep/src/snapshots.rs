//! Lets go of snapshots that are too old (`icebergSnapshotManagement`).
