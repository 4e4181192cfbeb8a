//! Who holds which secret: the question the wire asks of whoever keeps the access keys.

use crate::Caller;
use alluvium_base::Secret;
use std::sync::Arc;

/// An access key's secret and the principal that it signs for.
#[derive(Debug)]
pub struct Credential {
    /// The secret access key.
    pub secret: Secret,
    /// The principal.
    pub caller: Caller,
}

/// Finds credentials. Answers from memory: it is asked for every request.
pub trait CredentialLookup: Send + Sync + std::fmt::Debug {
    /// The credential of this access key, or `None` when no such key exists.
    fn find(&self, access_key_id: &str) -> Option<Arc<Credential>>;
}
