//! Which table a destination names.
//!
//! A `CatalogARN` has one of two forms: `arn:aws:glue:R:A:catalog`, where a database is a Glue
//! resource link that leads to a namespace, and `…:catalog/s3tablescatalog/BUCKET`, where it is a
//! namespace itself. Names are looked up for each batch: a table that is renamed or created again
//! under its name is another table (DURABILITY section 6). Only the first hop of a link is followed.

use alluvium_base::{AccountId, Arn, ErrorKind, Region};
use alluvium_lake::Lake;
use alluvium_lake::catalog::{CatalogError, TableBucketRecord, TableRecord};

/// A catalog, as its ARN names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CatalogName {
    /// The default Glue catalog: databases are resource links.
    Default,
    /// A table bucket: databases are its namespaces.
    TableBucket(String),
}

/// Why a `CatalogARN` cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadCatalog {
    /// Not of a known form.
    #[error(
        "CatalogARN '{0}' is not supported: use arn:aws:glue:REGION:ACCOUNT:catalog or \
         arn:aws:glue:REGION:ACCOUNT:catalog/s3tablescatalog/BUCKET"
    )]
    Form(String),
    /// Of another region or account.
    #[error("CatalogARN '{arn}' is not of region {region} and account {account}")]
    Elsewhere {
        /// The ARN.
        arn: String,
        /// The stream's region.
        region: Region,
        /// The stream's account.
        account: AccountId,
    },
}

impl BadCatalog {
    /// What a caller can do about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Form(_) | Self::Elsewhere { .. } => ErrorKind::Invalid,
        }
    }
}

impl CatalogName {
    /// Reads a `CatalogARN` of a stream in this region and account.
    pub fn parse(text: &str, region: &Region, account: &AccountId) -> Result<Self, BadCatalog> {
        let bad = || BadCatalog::Form(text.chars().take(256).collect());
        let arn: Arn = text.parse().map_err(|_| bad())?;
        if arn.service != "glue" {
            return Err(bad());
        }
        let name = match arn.resource.strip_prefix("catalog") {
            Some("") => Self::Default,
            Some(child) => {
                let bucket = child.strip_prefix("/s3tablescatalog/").ok_or_else(bad)?;
                alluvium_lake::catalog::check_bucket_name(bucket).map_err(|_| bad())?;
                Self::TableBucket(bucket.to_string())
            }
            None => return Err(bad()),
        };
        if arn.region != region.as_str() || arn.account != account.as_str() {
            let (region, account) = (region.clone(), account.clone());
            return Err(BadCatalog::Elsewhere { arn: arn.to_string(), region, account });
        }
        Ok(name)
    }
}

/// The table that a database and a table name lead to now.
pub async fn resolve(
    lake: &Lake,
    catalog: &CatalogName,
    region: &Region,
    database: &str,
    table: &str,
) -> Result<TableRecord, CatalogError> {
    let (bucket, namespace) = place(lake, catalog, region, database).await?;
    lake.catalog().table(bucket.id, &namespace, table).await
}

/// The bucket and the namespace that a database leads to now.
pub(crate) async fn place(
    lake: &Lake,
    catalog: &CatalogName,
    region: &Region,
    database: &str,
) -> Result<(TableBucketRecord, String), CatalogError> {
    let (bucket, namespace) = match catalog {
        CatalogName::TableBucket(bucket) => (bucket.clone(), database.to_string()),
        CatalogName::Default => {
            // Glue keeps the names of databases in lower case.
            let link = lake.catalog().resource_link(region, &database.to_lowercase()).await?;
            let bucket = link.target_bucket().ok_or_else(|| CatalogError::NotFound {
                what: "target of resource link",
                name: format!("{database} (it leads to catalog '{}')", link.target_catalog),
            })?;
            (bucket.to_string(), link.target_database.clone())
        }
    };
    Ok((lake.catalog().table_bucket(region, &bucket).await?, namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<CatalogName, BadCatalog> {
        let region = "us-east-1".parse().unwrap();
        CatalogName::parse(text, &region, &"000000000000".parse().unwrap())
    }

    #[test]
    fn both_forms_of_the_arn_are_read() {
        let default = parse("arn:aws:glue:us-east-1:000000000000:catalog").unwrap();
        assert_eq!(default, CatalogName::Default);
        let bucket = parse("arn:aws:glue:us-east-1:000000000000:catalog/s3tablescatalog/b-1");
        assert_eq!(bucket.unwrap(), CatalogName::TableBucket("b-1".into()));
    }

    #[test]
    fn other_forms_regions_and_accounts_are_refused() {
        for text in [
            "arn:aws:glue:us-east-1:000000000000:catalog/other/b-1",
            "arn:aws:glue:us-east-1:000000000000:catalog/s3tablescatalog/../x",
            "arn:aws:glue:us-east-1:000000000000:database/x",
            "arn:aws:s3tables:us-east-1:000000000000:catalog",
            "catalog",
        ] {
            assert!(matches!(parse(text), Err(BadCatalog::Form(_))), "{text}");
        }
        for text in [
            "arn:aws:glue:us-east-2:000000000000:catalog",
            "arn:aws:glue:us-east-1:111111111111:catalog",
        ] {
            assert!(matches!(parse(text), Err(BadCatalog::Elsewhere { .. })), "{text}");
        }
    }
}
