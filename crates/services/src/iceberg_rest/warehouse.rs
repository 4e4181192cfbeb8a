//! What a prefix names: a table bucket, or the account's own catalog of resource links.

use super::error::{bad_request, forbidden, no_namespace, no_table, of_catalog, unsupported_value};
use super::route::{Levels, TablePath};
use super::{IcebergRest, Request};
use alluvium_base::{Arn, Region};
use alluvium_lake::catalog::{CatalogError, TableBucketRecord, TableRecord};
use alluvium_wire::Problem;

/// Where Glue keeps the table buckets of an account.
const S3_TABLES_CATALOG: &str = "s3tablescatalog/";

/// A warehouse that exists.
#[derive(Debug, Clone)]
pub(super) enum Warehouse {
    /// A table bucket: namespaces are its own.
    Bucket(TableBucketRecord),
    /// The account's `AwsDataCatalog`: its namespaces are resource links into table buckets.
    Links(Region),
}

impl Warehouse {
    /// The form in which clients send it back as the prefix of their paths.
    pub(super) fn prefix_of(name: &str) -> String {
        percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC).to_string()
    }
}

/// One level, by the rule of S3 Tables.
pub(super) fn one_level(levels: &Levels) -> Result<&str, Problem> {
    match levels.as_slice() {
        [name] if !name.is_empty() => Ok(name),
        [_] | [] => Err(bad_request("the namespace is empty: name one level")),
        many => Err(unsupported_value(format!(
            "the namespace '{}' has {} levels; more than one",
            many.join("."),
            many.len()
        ))),
    }
}

impl IcebergRest {
    /// The warehouse of a prefix, or of `config`'s parameter.
    pub(super) async fn warehouse(
        &self,
        request: &Request,
        name: &str,
    ) -> Result<Warehouse, Problem> {
        if name.starts_with("arn:") {
            let arn: Arn = name.parse().map_err(|e| bad_request(format!("{e}")))?;
            return self.bucket_of_arn(request, &arn).await;
        }
        let account = self.lake.catalog().account().as_str();
        let (of, catalog) = match name.split_once(':') {
            Some((of, catalog)) => (of, Some(catalog)),
            None => (name, None),
        };
        if of != account {
            return Err(bad_request(format!(
                "'{name}' is no warehouse: it is a table bucket's ARN, or, signed for glue, \
                 {account} or {account}:s3tablescatalog/BUCKET"
            )));
        }
        let Some(region) = request.region.clone().filter(|_| request.glue) else {
            return Err(bad_request(format!(
                "the warehouse '{name}' is reached by requests signed for 'glue'; otherwise name \
                 the table bucket's ARN"
            )));
        };
        match catalog.map(|catalog| catalog.strip_prefix(S3_TABLES_CATALOG)) {
            None => Ok(Warehouse::Links(region)),
            Some(Some(bucket)) => self.bucket(&region, bucket).await,
            Some(None) => Err(bad_request(format!("'{name}' is no catalog of this account"))),
        }
    }

    async fn bucket_of_arn(&self, request: &Request, arn: &Arn) -> Result<Warehouse, Problem> {
        let account = self.lake.catalog().account().as_str();
        let bucket = arn.resource.strip_prefix("bucket/").filter(|name| !name.contains('/'));
        let ours = arn.partition == "aws" && arn.service == "s3tables";
        let (true, Some(bucket)) = (ours, bucket) else {
            return Err(bad_request(format!("'{arn}' is not the ARN of a table bucket")));
        };
        if arn.account != account {
            return Err(forbidden(format!("'{arn}' is not of the account {account}")));
        }
        let region: Region = arn.region.parse().map_err(|e| bad_request(format!("{e}")))?;
        match &request.region {
            Some(signed) if *signed != region => Err(bad_request(format!(
                "the request is signed for {signed}, but '{arn}' is in {region}"
            ))),
            _ => self.bucket(&region, bucket).await,
        }
    }

    async fn bucket(&self, region: &Region, name: &str) -> Result<Warehouse, Problem> {
        let found = self.lake.catalog().table_bucket(region, name).await;
        found.map(Warehouse::Bucket).map_err(of_catalog)
    }

    /// The bucket and the namespace's name in it, following a resource link if there is one.
    /// The namespace itself need not exist.
    pub(super) async fn home(
        &self,
        warehouse: &Warehouse,
        levels: &Levels,
    ) -> Result<(TableBucketRecord, String), Problem> {
        let name = one_level(levels)?;
        let region = match warehouse {
            Warehouse::Bucket(bucket) => return Ok((bucket.clone(), name.to_string())),
            Warehouse::Links(region) => region,
        };
        let catalog = self.lake.catalog();
        let link = match catalog.resource_link(region, name).await {
            Err(CatalogError::NotFound { .. }) => return Err(no_namespace(name)),
            found => found.map_err(of_catalog)?,
        };
        let Some(target) = link.target_bucket() else { return Err(no_namespace(name)) };
        let region = match &link.target_region {
            Some(region) => region.parse().map_err(|e| bad_request(format!("{e}")))?,
            None => region.clone(),
        };
        match catalog.table_bucket(&region, target).await {
            // The link leads nowhere (any more).
            Err(CatalogError::NotFound { .. }) => Err(no_namespace(name)),
            found => Ok((found.map_err(of_catalog)?, link.target_database)),
        }
    }

    /// A namespace of a bucket: the only place where namespaces can be made or changed.
    pub(super) fn own<'a>(
        &self,
        warehouse: &'a Warehouse,
        what: &str,
    ) -> Result<&'a TableBucketRecord, Problem> {
        match warehouse {
            Warehouse::Bucket(bucket) => Ok(bucket),
            Warehouse::Links(_) => Err(unsupported_value(format!(
                "{what} in the account's own catalog, which holds resource links only; name a \
                 table bucket's catalog: it"
            ))),
        }
    }

    /// The table of a path.
    pub(super) async fn find_table(
        &self,
        warehouse: &Warehouse,
        table: &TablePath,
    ) -> Result<TableRecord, Problem> {
        let (bucket, namespace) = self.home(warehouse, &table.namespace).await?;
        match self.lake.catalog().table(bucket.id, &namespace, &table.name).await {
            Err(CatalogError::NotFound { .. }) => Err(no_table(&namespace, &table.name)),
            found => found.map_err(of_catalog),
        }
    }
}
