//! iceberg_rest
