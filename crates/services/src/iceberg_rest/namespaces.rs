//! Namespaces: listed, created, loaded, changed, dropped.

use super::error::{bad_request, no_namespace, of_catalog};
use super::idempotency::Started;
use super::route::Levels;
use super::warehouse::{Warehouse, one_level};
use super::{Answer, IcebergRest, Request};
use alluvium_lake::catalog::{CatalogError, NamespaceRecord};
use alluvium_wire::Problem;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;

/// Most entries of one page.
const PAGE_MAX: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateNamespace {
    namespace: Levels,
    #[serde(default)]
    properties: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UpdateProperties {
    #[serde(default)]
    removals: Option<Vec<String>>,
    #[serde(default)]
    updates: Option<BTreeMap<String, String>>,
}

/// The page that a list asks for: how many, and after which entry.
pub(super) fn page(request: &Request) -> Result<(usize, Option<String>), Problem> {
    let size = match request.parameter("pageSize") {
        None => PAGE_MAX,
        Some(text) => {
            text.parse().ok().filter(|n| (1..=PAGE_MAX).contains(n)).ok_or_else(|| {
                bad_request(format!("pageSize '{text}' is not a number from 1 to {PAGE_MAX}"))
            })?
        }
    };
    let after = request.parameter("pageToken").filter(|token| !token.is_empty());
    Ok((size, after.map(str::to_string)))
}

/// Cuts a list that was asked for one more entry than the page holds.
pub(super) fn cut<T>(
    found: &mut Vec<T>,
    size: usize,
    name: impl Fn(&T) -> String,
) -> Option<String> {
    if found.len() <= size {
        return None;
    }
    found.truncate(size);
    found.last().map(name)
}

fn shown(name: &str, record: &NamespaceRecord) -> serde_json::Value {
    json!({"namespace": [name], "properties": record.properties})
}

impl IcebergRest {
    pub(super) async fn list_namespaces(
        &self,
        request: &Request,
        warehouse: &Warehouse,
    ) -> Result<Answer, Problem> {
        let (size, after) = page(request)?;
        if let Some(parent) = request.parameter("parent").filter(|parent| !parent.is_empty()) {
            let levels = parent.split('\u{1f}').map(String::from).collect();
            self.load_namespace(warehouse, &levels).await?;
            return Ok(Answer::ok(json!({"namespaces": []})));
        }
        let catalog = self.lake.catalog();
        let mut names: Vec<String> = match warehouse {
            Warehouse::Bucket(bucket) => {
                let found =
                    catalog.list_namespaces(bucket.id, "", after.as_deref(), size + 1).await;
                found.map_err(of_catalog)?.into_iter().map(|record| record.name).collect()
            }
            Warehouse::Links(region) => {
                let found = catalog.list_resource_links(region, after.as_deref(), size + 1).await;
                found.map_err(of_catalog)?.into_iter().map(|link| link.name).collect()
            }
        };
        let next = cut(&mut names, size, String::clone);
        let namespaces: Vec<_> = names.into_iter().map(|name| vec![name]).collect();
        Ok(Answer::ok(json!({"namespaces": namespaces, "next-page-token": next})))
    }

    pub(super) async fn create_namespace(
        &self,
        request: &Request,
        warehouse: &Warehouse,
        once: Option<&Started>,
    ) -> Result<Answer, Problem> {
        let input: CreateNamespace = request.input()?;
        let name = one_level(&input.namespace)?;
        let bucket = self.own(warehouse, "a namespace")?;
        let properties = input.properties.unwrap_or_default();
        let (catalog, also) = (self.lake.catalog(), Started::mark(once));
        let created = catalog.create_namespace_with(bucket, name, properties, &also).await;
        Ok(Answer::ok(shown(name, &created.map_err(of_catalog)?)))
    }

    pub(super) async fn load_namespace(
        &self,
        warehouse: &Warehouse,
        levels: &Levels,
    ) -> Result<Answer, Problem> {
        let name = one_level(levels)?;
        let (bucket, namespace) = self.home(warehouse, levels).await?;
        match self.lake.catalog().namespace(bucket.id, &namespace).await {
            Err(CatalogError::NotFound { .. }) => Err(no_namespace(name)),
            found => Ok(Answer::ok(shown(name, &found.map_err(of_catalog)?))),
        }
    }

    pub(super) async fn update_namespace(
        &self,
        request: &Request,
        warehouse: &Warehouse,
        levels: &Levels,
    ) -> Result<Answer, Problem> {
        let input: UpdateProperties = request.input()?;
        let bucket = self.own(warehouse, "a namespace's properties")?;
        let name = one_level(levels)?;
        let (set, removed) =
            (input.updates.unwrap_or_default(), input.removals.unwrap_or_default());
        if let Some(both) = removed.iter().find(|key| set.contains_key(*key)) {
            let message = format!("the property '{both}' is both set and removed");
            return Err(Problem::new(
                "UnprocessableEntityException",
                http::StatusCode::UNPROCESSABLE_ENTITY,
                message,
            ));
        }
        let changed = self.lake.catalog().update_namespace(bucket.id, name, &set, &removed).await;
        let before = changed.map_err(of_catalog)?;
        let updated: Vec<&String> = set.keys().collect();
        let (gone, missing): (Vec<_>, Vec<_>) =
            removed.iter().partition(|key| before.properties.contains_key(*key));
        Ok(Answer::ok(json!({"updated": updated, "removed": gone, "missing": missing})))
    }

    pub(super) async fn drop_namespace(
        &self,
        warehouse: &Warehouse,
        levels: &Levels,
        once: Option<&Started>,
    ) -> Result<Answer, Problem> {
        let bucket = self.own(warehouse, "dropping a namespace")?;
        let name = one_level(levels)?;
        let (catalog, also) = (self.lake.catalog(), Started::mark(once));
        let dropped = catalog.delete_namespace_with(bucket.id, name, &also).await;
        dropped.map(|()| Answer::nothing()).map_err(of_catalog)
    }

    pub(super) async fn list_tables(
        &self,
        request: &Request,
        warehouse: &Warehouse,
        levels: &Levels,
    ) -> Result<Answer, Problem> {
        let (size, after) = page(request)?;
        let (bucket, namespace) = self.home(warehouse, levels).await?;
        let catalog = self.lake.catalog();
        catalog.namespace(bucket.id, &namespace).await.map_err(of_catalog)?;
        let after = after.as_deref().map(|name| (namespace.as_str(), name));
        let found = catalog.list_tables(bucket.id, Some(&namespace), "", after, size + 1).await;
        let mut names: Vec<String> =
            found.map_err(of_catalog)?.into_iter().map(|table| table.name).collect();
        let next = cut(&mut names, size, String::clone);
        let shown = one_level(levels)?;
        let identifiers: Vec<_> =
            names.iter().map(|name| json!({"namespace": [shown], "name": name})).collect();
        Ok(Answer::ok(json!({"identifiers": identifiers, "next-page-token": next})))
    }
}
