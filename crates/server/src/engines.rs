//! Opens the stores and engines in their order, and puts the services over them.

use crate::configuration::Configuration;
use crate::door::{Registered, Registry};
use alluvium_base::{AccountId, Clock, Random, RequestId};
use alluvium_lake::catalog::Catalog;
use alluvium_lake::{Lake, LakeOptions};
use alluvium_services::iceberg_rest::IcebergRest;
use alluvium_services::s3::{S3Credential, S3Credentials, S3Dependencies, S3Gateway};
use alluvium_services::sts::StsService;
use alluvium_store::objects::Objects;
use alluvium_store::objects::local::LocalObjects;
use alluvium_store::records::Records;
use alluvium_store::records::sqlite::{SqliteOptions, SqliteRecords};
use alluvium_wire::credentials::CredentialLookup;
use alluvium_wire::{Protocol, RawService, Reply, Service, limits};
use async_trait::async_trait;
use std::sync::Arc;

/// What the engines and services share.
pub(crate) struct Ground {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) account: AccountId,
    pub(crate) lookup: Arc<dyn CredentialLookup>,
}

/// Everything below the services.
pub(crate) struct Engines {
    records: Arc<dyn Records>,
    objects: Arc<dyn Objects>,
    lake: Lake,
}

impl Engines {
    /// Opens what the configuration names.
    pub(crate) async fn open(
        configuration: &Configuration,
        ground: &Ground,
    ) -> Result<Self, String> {
        let records = SqliteRecords::open(&configuration.records_path, SqliteOptions::default())
            .await
            .map_err(|error| error.to_string())?;
        let records: Arc<dyn Records> = Arc::new(records);
        let objects = LocalObjects::open(
            &configuration.objects_dir,
            records.clone(),
            ground.clock.clone(),
            ground.random.clone(),
        )
        .await
        .map_err(|error| error.to_string())?;
        let objects: Arc<dyn Objects> = Arc::new(objects);
        let catalog = Catalog::new(
            records.clone(),
            objects.clone(),
            ground.clock.clone(),
            ground.random.clone(),
            ground.account.clone(),
        );
        let options = LakeOptions {
            commit_interval: configuration.table_commit_interval,
            ..LakeOptions::default()
        };
        Ok(Self { records, objects, lake: Lake::new(catalog, options) })
    }

    /// The services over the engines.
    pub(crate) fn registry(&self, configuration: &Configuration, ground: &Ground) -> Registry {
        let mut registry = Registry::default();
        registry.add(Registered {
            signing_name: "sts",
            target_prefix: None,
            protocol: Protocol::Query,
            body_bytes_max: limits::STS_BODY_BYTES_MAX,
            accepts_unsigned: false,
            service: Arc::new(StsService),
        });
        registry.iceberg = Some(Arc::new(Registered {
            signing_name: "s3tables",
            target_prefix: None,
            protocol: Protocol::Iceberg,
            body_bytes_max: limits::ICEBERG_BODY_BYTES_MAX,
            accepts_unsigned: true,
            service: Arc::new(IcebergRest::new(
                self.lake.clone(),
                self.records.clone(),
                ground.lookup.clone(),
                ground.clock.clone(),
            )) as Arc<dyn Service>,
        }));
        registry.s3 = Some(Arc::new(S3Door(S3Gateway::new(S3Dependencies {
            objects: self.objects.clone(),
            records: self.records.clone(),
            clock: ground.clock.clone(),
            random: ground.random.clone(),
            credentials: Arc::new(S3Keys(ground.lookup.clone())),
            account: ground.account.clone(),
            domain: configuration.s3_domain.clone(),
        }))));
        registry
    }
}

/// The wire's credentials in the form that S3 asks for.
struct S3Keys(Arc<dyn CredentialLookup>);

#[async_trait]
impl S3Credentials for S3Keys {
    async fn find(&self, access_key_id: &str) -> Option<S3Credential> {
        let found = self.0.find(access_key_id)?;
        let account = found.caller.account.clone();
        Some(S3Credential { secret: found.secret.clone(), account })
    }
}

/// S3 at the door: its bodies are streams, and it verifies signatures itself.
struct S3Door(S3Gateway);

#[async_trait]
impl RawService for S3Door {
    async fn call(
        &self,
        mut request: http::Request<hyper::body::Incoming>,
        request_id: RequestId,
    ) -> Reply {
        request.extensions_mut().insert(request_id);
        self.0.call(request).await
    }
}
