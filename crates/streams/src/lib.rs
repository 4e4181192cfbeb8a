//! Data streams: shards over lanes of the log, for Kinesis and whoever reads it.
