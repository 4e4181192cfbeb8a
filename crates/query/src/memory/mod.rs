//! What a query may hold: bounds that DataFusion's memory pool does not give by itself (I8).
//!
//! The pool counts what sorts, joins and aggregations hold. It does not count a batch on its way, and one
//! step may make a batch of any size: an `UNNEST`, a padded string, an array joined to itself, a window over
//! all rows. Here every step is small and what gathers is counted:
//!
//! - [`values`]: no value is larger than [`VALUE_MAX_BYTES`]; functions that make large ones are checked.
//! - [`pieces`]: expressions that make large values see batches of few rows ([`width`] estimates).
//! - [`unnest`]: `UNNEST` gives its rows in batches of bounded size, however long the arrays.
//! - [`held`]: windows hold their partition; that is counted in the pool.
//! - [`watch`]: the process's resident memory, as the last resort for what nobody counted.
//! - [`rules`]: puts these into physical plans, and chooses how many rows a batch has.

mod held;
mod node;
mod pieces;
mod rules;
mod unnest;
pub(crate) mod values;
mod watch;
mod width;

pub(crate) use rules::{batch_rows, optimizer_rules};
pub(crate) use watch::{QueryWatch, Watch};

/// The largest value, and the largest row of a step (Athena's own limit of a row or its columns).
pub(crate) const VALUE_MAX_BYTES: usize = 32 << 20;
/// What one step makes at a time, unless a single row is larger.
pub(crate) const STEP_BYTES: usize = 8 << 20;
/// What one call of a function over many rows may make where its input was not cut into pieces.
pub(crate) const CALL_MAX_BYTES: usize = 128 << 20;
/// Rows of a batch of narrow rows (DataFusion's default).
pub(crate) const BATCH_ROWS: usize = 8192;

/// The error of a value that is too large.
pub(crate) fn too_large(bytes: usize, what: &str) -> crate::QueryError {
    crate::QueryError::Exceeded(format!(
        "{what} would take {} MiB; a value, a row and its columns may take {} MiB",
        bytes >> 20,
        VALUE_MAX_BYTES >> 20
    ))
}
