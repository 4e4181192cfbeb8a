//! Verifies that a table's files exist and are what its manifests say.
