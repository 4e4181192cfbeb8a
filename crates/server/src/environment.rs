//! How a command finds a server: the `AWS_*` variables, else the data directory.

use crate::data_directory;
use alluvium_access::RootCredentials;
use alluvium_base::Region;
use std::path::Path;

/// The region unless something names one.
pub(crate) const DEFAULT_REGION: &str = "us-east-1";

/// The root credentials of the environment, if both variables are set.
pub(crate) fn given_root() -> Result<Option<RootCredentials>, String> {
    let id = std::env::var("ALLUVIUM_ROOT_ACCESS_KEY_ID").ok().filter(|id| !id.is_empty());
    let secret =
        std::env::var("ALLUVIUM_ROOT_SECRET_ACCESS_KEY").ok().filter(|secret| !secret.is_empty());
    match (id, secret) {
        (Some(id), Some(secret)) => {
            RootCredentials::given(&id, &secret).map(Some).map_err(|error| error.to_string())
        }
        (None, None) => Ok(None),
        (Some(_), None) | (None, Some(_)) => Err(
            "ALLUVIUM_ROOT_ACCESS_KEY_ID and ALLUVIUM_ROOT_SECRET_ACCESS_KEY must be set together"
                .into(),
        ),
    }
}

/// How to reach and sign for a server.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) endpoint: String,
    pub(crate) root: RootCredentials,
    pub(crate) region: Region,
}

impl Target {
    /// The server of a data directory.
    pub(crate) fn of_data_dir(dir: &Path, region: Option<Region>) -> Result<Self, String> {
        let endpoint = data_directory::read_endpoint(dir)?;
        let root = match given_root()? {
            Some(root) => root,
            None => RootCredentials::load(dir).map_err(|error| error.to_string())?,
        };
        let region = region.unwrap_or_else(|| {
            DEFAULT_REGION.parse().expect("the default region has a region's form")
        });
        Ok(Self { endpoint, root, region })
    }

    /// The lines that point AWS's tools at the server.
    pub(crate) fn exports(&self) -> String {
        format!(
            "export AWS_ENDPOINT_URL={}\nexport AWS_ACCESS_KEY_ID={}\n\
             export AWS_SECRET_ACCESS_KEY='{}'\nexport AWS_REGION={}\n\
             export AWS_DEFAULT_REGION={}\nunset AWS_SESSION_TOKEN AWS_PROFILE\n",
            self.endpoint,
            self.root.access_key_id,
            self.root.secret_access_key.expose().replace('\'', "'\\''"), // printing it is the purpose
            self.region,
            self.region,
        )
    }
}
