//! How a command finds a server: the `AWS_*` variables, else the data directory.

use crate::cli::Reach;
use crate::{configuration, data_directory};
use alluvium_access::RootCredentials;
use alluvium_base::{Region, SystemClock};
use alluvium_wire::client::Destination;
use alluvium_wire::sigv4::sign::Signer;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The region unless something names one.
pub(crate) const DEFAULT_REGION: &str = "us-east-1";

const ROOT_ID: &str = "ALLUVIUM_ROOT_ACCESS_KEY_ID";
const ROOT_SECRET: &str = "ALLUVIUM_ROOT_SECRET_ACCESS_KEY";

fn default_region() -> Region {
    DEFAULT_REGION.parse().expect("the default region has a region's form")
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The root credentials of the environment, if both variables are set.
pub(crate) fn given_root() -> Result<Option<RootCredentials>, String> {
    let (id, secret) = (variable(ROOT_ID), variable(ROOT_SECRET));
    match (id, secret) {
        (Some(id), Some(secret)) => {
            RootCredentials::given(&id, &secret).map(Some).map_err(|error| error.to_string())
        }
        (None, None) => Ok(None),
        (Some(_), None) | (None, Some(_)) => {
            Err(format!("{ROOT_ID} and {ROOT_SECRET} must be set together"))
        }
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
        let takes = data_directory::read_access_key_id(dir)?;
        let root = match given_root()? {
            Some(root) => Ok(root),
            None => RootCredentials::load(dir).map_err(|error| error.to_string()),
        };
        if let Some(takes) = takes
            && root.as_ref().map_or(true, |root| root.access_key_id != takes)
        {
            return Err(format!(
                "the server on {} was started with credentials of its environment (access key \
                 {takes}): set {ROOT_ID} and {ROOT_SECRET} here as there",
                dir.display()
            ));
        }
        let root = root?;
        Ok(Self { endpoint, root, region: region.unwrap_or_else(default_region) })
    }

    /// The server that a command was told of: its data directory, else the `AWS_*` variables, else
    /// the data directory of `ALLUVIUM_DATA_DIR`, else the default one.
    pub(crate) fn reach(reach: &Reach) -> Result<Self, String> {
        let region = match (&reach.region, variable("AWS_REGION"), variable("AWS_DEFAULT_REGION")) {
            (Some(region), _, _) => Some(region.clone()),
            (None, Some(region), _) | (None, None, Some(region)) => {
                Some(region.parse().map_err(|error| format!("AWS_REGION: {error}"))?)
            }
            (None, None, None) => None,
        };
        if let Some(dir) = &reach.data_dir {
            return Self::of_data_dir(dir, region);
        }
        let named = (
            variable("AWS_ENDPOINT_URL"),
            variable("AWS_ACCESS_KEY_ID"),
            variable("AWS_SECRET_ACCESS_KEY"),
        );
        let (Some(endpoint), Some(id), Some(secret)) = named else {
            let dir = variable("ALLUVIUM_DATA_DIR").map(PathBuf::from);
            let dir = dir.unwrap_or_else(|| configuration::default_data_dir().to_path_buf());
            return Self::of_data_dir(&dir, region);
        };
        let root = RootCredentials::given(&id, &secret).map_err(|error| error.to_string())?;
        Ok(Self { endpoint, root, region: region.unwrap_or_else(default_region) })
    }

    /// Where and as whom a client calls.
    pub(crate) fn destination(&self) -> Destination {
        Destination {
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            signer: Signer::new(
                self.root.access_key_id.clone(),
                self.root.secret_access_key.clone(),
            ),
            clock: Arc::new(SystemClock),
        }
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
