//! The services behind the door, and how each is found.

use alluvium_wire::{Protocol, RawService, Service};
use std::sync::Arc;

/// One service.
pub(crate) struct Registered {
    /// The name in logs and metrics, and the credential scope's service name.
    pub(crate) signing_name: &'static str,
    /// What precedes the operation in `X-Amz-Target`, for AWS JSON.
    pub(crate) target_prefix: Option<&'static str>,
    pub(crate) protocol: Protocol,
    pub(crate) body_bytes_max: usize,
    /// It checks requests without a version 4 signature itself.
    pub(crate) accepts_unsigned: bool,
    pub(crate) service: Arc<dyn Service>,
}

impl std::fmt::Debug for Registered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registered").field("name", &self.signing_name).finish_non_exhaustive()
    }
}

/// All services.
#[derive(Default)]
pub(crate) struct Registry {
    services: Vec<Arc<Registered>>,
    /// Verifies and answers by itself, on streams.
    pub(crate) s3: Option<Arc<dyn RawService>>,
    /// Found by its path under `/iceberg`, not by a name.
    pub(crate) iceberg: Option<Arc<Registered>>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry").field("services", &self.services).finish_non_exhaustive()
    }
}

impl Registry {
    /// Adds a service.
    pub(crate) fn add(&mut self, registered: Registered) {
        self.services.push(Arc::new(registered));
    }

    pub(crate) fn by_signing_name(&self, name: &str) -> Option<&Arc<Registered>> {
        self.services.iter().find(|service| service.signing_name == name)
    }

    pub(crate) fn by_target(&self, target: &str) -> Option<&Arc<Registered>> {
        let prefix = target.split('.').next().unwrap_or_default();
        self.services.iter().find(|service| service.target_prefix == Some(prefix))
    }

    pub(crate) fn by_protocol(&self, protocol: Protocol) -> Option<&Arc<Registered>> {
        self.services.iter().find(|service| service.protocol == protocol)
    }
}
