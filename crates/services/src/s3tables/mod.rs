//! s3tables
