//! Who may sign: the root user, the only principal of this release.

use alluvium_access::RootCredentials;
use alluvium_base::AccountId;
use alluvium_wire::Caller;
use alluvium_wire::credentials::{Credential, CredentialLookup};
use std::sync::Arc;

/// Knows one access key.
#[derive(Debug)]
pub(crate) struct RootOnly {
    access_key_id: String,
    credential: Arc<Credential>,
}

impl RootOnly {
    pub(crate) fn new(root: RootCredentials, account: &AccountId) -> Self {
        let caller = Caller {
            access_key_id: root.access_key_id.clone(),
            account: account.clone(),
            arn: format!("arn:aws:iam::{account}:root"),
            user_id: account.to_string(),
        };
        let credential = Arc::new(Credential { secret: root.secret_access_key, caller });
        Self { access_key_id: root.access_key_id, credential }
    }
}

impl CredentialLookup for RootOnly {
    fn find(&self, access_key_id: &str) -> Option<Arc<Credential>> {
        (access_key_id == self.access_key_id).then(|| self.credential.clone())
    }
}
