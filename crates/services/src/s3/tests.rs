//! In-process tests of the service over stores in memory.
