//! Which catalog a call means, and where a database of it leads.

use super::Request;
use super::error::{catalog, invalid, not_found};
use alluvium_base::Region;
use alluvium_lake::catalog::TableBucketRecord;
use alluvium_wire::Problem;

/// Entries of one page (Glue API, `MaxResults`).
const PAGE_MAX: usize = 100;

/// A catalog of the account.
pub(super) enum CatalogOf {
    /// The default one: resource links.
    Links,
    /// A table bucket's.
    Bucket(TableBucketRecord),
}

/// The catalog that `CatalogId` names; the account's default one when it is not given.
pub(super) async fn resolve(request: &Request<'_>, id: Option<&str>) -> Result<CatalogOf, Problem> {
    let account = request.lake.catalog().account().as_str();
    let Some(id) = id.filter(|id| *id != account) else { return Ok(CatalogOf::Links) };
    let absent = || not_found(format!("catalog '{id}' does not exist in account {account}"));
    let own = id.strip_prefix(account).and_then(|rest| rest.strip_prefix(':')).unwrap_or(id);
    let bucket = own.strip_prefix("s3tablescatalog/").ok_or_else(absent)?;
    let region = &request.call.region;
    let found = request.lake.catalog().table_bucket(region, bucket).await;
    Ok(CatalogOf::Bucket(found.map_err(|_| absent())?))
}

/// The bucket and namespace behind a database: itself, or through a link.
pub(super) async fn behind(
    request: &Request<'_>,
    catalog_id: Option<&str>,
    database: &str,
) -> Result<(TableBucketRecord, String), Problem> {
    let lake = request.lake.catalog();
    let name = database.to_ascii_lowercase();
    if let CatalogOf::Bucket(bucket) = resolve(request, catalog_id).await? {
        lake.namespace(bucket.id, &name).await.map_err(catalog)?;
        return Ok((bucket, name));
    }
    let link = lake.resource_link(&request.call.region, &name).await.map_err(catalog)?;
    let target = || not_found(format!("the target of resource link '{name}' does not exist"));
    let region: Region = match &link.target_region {
        Some(region) => region.parse().map_err(|_| target())?,
        None => link.region.clone(),
    };
    let bucket = link.target_bucket().ok_or_else(target)?;
    let bucket = lake.table_bucket(&region, bucket).await.map_err(|_| target())?;
    lake.namespace(bucket.id, &link.target_database).await.map_err(|_| target())?;
    Ok((bucket, link.target_database))
}

/// How many entries a page has.
pub(super) fn page_limit(asked: Option<usize>) -> Result<usize, Problem> {
    let limit = asked.unwrap_or(PAGE_MAX);
    match (1..=PAGE_MAX).contains(&limit) {
        true => Ok(limit),
        false => Err(invalid(format!("MaxResults is a number from 1 to {PAGE_MAX}"))),
    }
}

/// Cuts a list that holds one entry more than the page, and names where the next begins.
pub(super) fn cut<T>(
    list: &mut Vec<T>,
    limit: usize,
    name: impl Fn(&T) -> String,
) -> Option<String> {
    if list.len() <= limit {
        return None;
    }
    list.truncate(limit);
    list.last().map(name)
}

/// Epoch seconds, as AWS JSON has times.
pub(super) fn seconds(time_ms: i64) -> f64 {
    time_ms as f64 / 1_000.0
}
