//! Rewrites small files and files with deletes into few large ones.
