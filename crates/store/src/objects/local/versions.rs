//! Looks at versions: one, and listings of all.

use super::Shared;
use super::index::{self, Entry, Found};
use super::listing::{MORE_CHARS, PAGE_DOCUMENTS, PAGE_DOCUMENTS_DELIMITED, group_of};
use crate::objects::ObjectsError;
use crate::objects::versions::{
    NULL_VERSION, VersionMarker, VersionMeta, Versioning, VersionsPage, VersionsRequest, order_of,
};
use crate::records::{Scan, after_prefix};
use std::sync::Arc;

/// A page that grows.
struct Page {
    request: VersionsRequest,
    versioning: Versioning,
    page: VersionsPage,
    last: Option<VersionMarker>,
}

impl Page {
    fn is_full(&self) -> bool {
        self.page.versions.len() + self.page.common_prefixes.len() >= self.request.limit
    }

    /// Ends a page that has no room for what comes now.
    fn end(mut self) -> VersionsPage {
        self.page.next = self.last.take();
        self.page
    }

    fn push(&mut self, key: &str, version: u64, entry: &Entry, is_latest: bool) {
        let name = entry.version_id.clone().unwrap_or_else(|| NULL_VERSION.to_string());
        self.last = Some(VersionMarker::Version(key.to_string(), name));
        self.page.versions.push(entry.version_meta(key, version, self.versioning, is_latest));
    }
}

/// Where a listing begins.
#[derive(Default)]
struct Start {
    /// In the index.
    after: Option<String>,
    /// The common prefix that was listed last.
    group: Option<String>,
    /// The key and the version that were listed last.
    within: Option<(String, String)>,
}

/// What was listed before ended in a version, in a key, or in a common prefix.
fn start(
    bucket: &str,
    request: &VersionsRequest,
    group_of: impl Fn(&str) -> Option<String>,
) -> Start {
    match &request.after {
        None => Start::default(),
        Some(VersionMarker::Version(key, version)) if group_of(key).is_none() => {
            let after = Some(format!("{bucket}/{key}"));
            Start { after, group: None, within: Some((key.clone(), version.clone())) }
        }
        Some(VersionMarker::Key(key) | VersionMarker::Version(key, _)) => {
            let group = group_of(key);
            let after = Some(match &group {
                Some(group) => after_prefix(&format!("{bucket}/{group}"), MORE_CHARS),
                None => format!("{bucket}/{key}"),
            });
            Start { after, group, within: None }
        }
    }
}

impl Shared {
    pub(super) async fn look(
        &self,
        bucket: &str,
        key: &str,
        version: Option<&str>,
    ) -> Result<Option<VersionMeta>, ObjectsError> {
        let versioning = self.versioning(bucket).await?;
        let located = self.locate(bucket, key, version).await?;
        Ok(located.map(|located| {
            let (at, entry) = &*located.found;
            entry.version_meta(key, *at, versioning, located.is_current())
        }))
    }

    pub(super) async fn list_versions(
        &self,
        bucket: &str,
        request: VersionsRequest,
    ) -> Result<VersionsPage, ObjectsError> {
        let versioning = self.versioning(bucket).await?;
        if request.limit == 0 {
            return Ok(VersionsPage::default());
        }
        let prefix = format!("{bucket}/{}", request.prefix);
        let delimiter = request.delimiter.clone().filter(|d| !d.is_empty());
        let behind = |key: &str| group_of(key, &request.prefix, delimiter.as_deref());
        let Start { mut after, mut group, within } = start(bucket, &request, behind);
        let page_documents =
            if delimiter.is_some() { PAGE_DOCUMENTS_DELIMITED } else { PAGE_DOCUMENTS };
        let limit = page_documents.min(request.limit.saturating_add(1));
        let page = VersionsPage::default();
        let mut page = Page { request: request.clone(), versioning, page, last: None };
        if let Some((key, version)) = within
            && key.starts_with(&request.prefix)
            && !self.rest_of_key(bucket, &key, &version, &mut page).await?
        {
            return Ok(page.end());
        }
        loop {
            let scan = Scan { collection: index::OBJECT, prefix: prefix.clone(), after, limit };
            let documents = self.records.scan(scan).await.map_err(index::read_error)?;
            for document in &documents {
                let key = &document.key.id[bucket.len() + 1..];
                if group.as_ref().is_some_and(|group: &String| key.starts_with(group)) {
                    continue;
                }
                if page.is_full() {
                    return Ok(page.end());
                }
                group = behind(key);
                if let Some(group) = &group {
                    page.page.common_prefixes.push(group.clone());
                    page.last = Some(VersionMarker::Key(group.clone()));
                    continue;
                }
                let current: Found = Arc::new((document.version, index::decode(document)?));
                if !self.whole_key(bucket, key, current, &mut page).await? {
                    return Ok(page.end());
                }
            }
            let Some(last) = documents.last().filter(|_| documents.len() == limit) else {
                return Ok(page.page);
            };
            after = match &group {
                Some(group) => Some(after_prefix(&format!("{bucket}/{group}"), MORE_CHARS)),
                None => Some(last.key.id.clone()),
            };
        }
    }

    /// Takes all versions of a key: `false` when the page is full and there is more.
    async fn whole_key(
        &self,
        bucket: &str,
        key: &str,
        mut current: Found,
        page: &mut Page,
    ) -> Result<bool, ObjectsError> {
        let object = index::object_key(bucket, key)?;
        for _ in 0..super::publish::ROUNDS_MAX {
            if !current.1.older {
                page.push(key, current.0, &current.1, true);
                return Ok(true);
            }
            let room = page.request.limit - page.page.versions.len();
            let room = room.saturating_sub(page.page.common_prefixes.len() + 1);
            let older = self.older_after(bucket, key, None, room + 1).await?;
            // All of them are of one moment: that in which the current one was current.
            let now = self.records.get(&object).await.map_err(index::read_error)?;
            match now {
                None => return Ok(true),
                Some(now) if now.version == current.0 => {
                    page.push(key, current.0, &current.1, true);
                    return Ok(self.take_older(key, &older, room, page));
                }
                Some(now) => current = Arc::new((now.version, index::decode(&now)?)),
            }
        }
        Err(self.too_busy(key))
    }

    fn take_older(
        &self,
        key: &str,
        older: &[super::history::Older],
        room: usize,
        page: &mut Page,
    ) -> bool {
        for (at, entry) in older.iter().take(room) {
            page.push(key, *at, entry, false);
        }
        older.len() <= room
    }

    /// Takes the versions of a key behind one of them.
    async fn rest_of_key(
        &self,
        bucket: &str,
        key: &str,
        version: &str,
        page: &mut Page,
    ) -> Result<bool, ObjectsError> {
        let Some(current) = self.entry(&index::object_key(bucket, key)?).await? else {
            return Ok(true);
        };
        let order = match version {
            _ if current.1.is_version(version) => Some(current.1.order),
            NULL_VERSION => current.1.null_at,
            id => order_of(id),
        };
        let Some(order) = order else { return Ok(true) };
        if order > current.1.order {
            // What was listed last is gone, and what came after it is current now.
            return self.whole_key(bucket, key, current, page).await;
        }
        let room = page.request.limit;
        let older = self.older_after(bucket, key, Some(order), room + 1).await?;
        Ok(self.take_older(key, &older, room, page))
    }
}
