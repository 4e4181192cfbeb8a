//! Record batches to Parquet data files.
