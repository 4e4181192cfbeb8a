//! Files that somebody needs though no metadata of their table names them yet: those of delivery's
//! batches on their way to a commit.
//!
//! The removal of unreferenced files asks for claims before it reads a table's metadata. A file goes
//! from work that is not recorded yet, to recorded work, to the table's metadata; whoever looks at
//! the three in that order misses none (I6).

use alluvium_base::TableId;
use alluvium_store::records::ReadError;
use async_trait::async_trait;

/// Why it is not known who needs what: nothing may be removed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClaimsError {
    /// The documents cannot be read now.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A document does not parse.
    #[error("a document of delivery is damaged: {0}")]
    Damaged(String),
}

/// Takes the location of a claimed file.
pub type Claim<'a> = &'a mut (dyn FnMut(&str) + Send);

/// Who needs files of tables beside the tables themselves.
#[async_trait]
pub trait FileClaims: Send + Sync + std::fmt::Debug {
    /// Files that were written since then may belong to work that is not recorded yet; `None` when
    /// there is no such work.
    async fn writing_since_ms(&self) -> Result<Option<i64>, ClaimsError>;

    /// Calls `claim` with the location of every file of a table that recorded work names.
    async fn claimed(&self, table: TableId, claim: Claim<'_>) -> Result<(), ClaimsError>;
}

/// Nobody else: of a lake that no delivery stands on.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoClaims;

#[async_trait]
impl FileClaims for NoClaims {
    async fn writing_since_ms(&self) -> Result<Option<i64>, ClaimsError> {
        Ok(None)
    }

    async fn claimed(&self, _: TableId, _: Claim<'_>) -> Result<(), ClaimsError> {
        Ok(())
    }
}
