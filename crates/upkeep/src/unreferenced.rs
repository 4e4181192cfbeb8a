//! Removes files that no table names (`icebergUnreferencedFileRemoval`).
