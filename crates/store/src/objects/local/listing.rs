//! Listings in byte order, with common prefixes that are stepped over, not read through. Keys whose
//! current version is a delete marker are read through: they are in no listing of objects.

use super::Shared;
use super::index::{self, Entry, KEY_BYTES_MAX};
use crate::objects::versions::Versioning;
use crate::objects::{ListPage, ListRequest, ObjectsError};
use crate::records::{Document, Scan, after_prefix};

/// Documents read at a time. With a delimiter most of a page may lie under one common prefix.
pub(super) const PAGE_DOCUMENTS: usize = 1000;
pub(super) const PAGE_DOCUMENTS_DELIMITED: usize = 100;

/// More of the greatest character than a key has room for.
pub(super) const MORE_CHARS: usize = KEY_BYTES_MAX / char::MAX.len_utf8() + 1;

/// A page that grows.
struct Listing {
    request: ListRequest,
    versioning: Versioning,
    page: ListPage,
    /// The last key or common prefix in the page.
    last: Option<String>,
    /// The common prefix whose other keys are to be left out.
    group: Option<String>,
}

/// The common prefix of a key: up to and with the first delimiter behind the prefix.
pub(super) fn group_of(key: &str, prefix: &str, delimiter: Option<&str>) -> Option<String> {
    let delimiter = delimiter.filter(|d| !d.is_empty())?;
    let at = key.strip_prefix(prefix)?.find(delimiter)?;
    Some(key[..prefix.len() + at + delimiter.len()].to_string())
}

impl Listing {
    fn group_of(&self, key: &str) -> Option<String> {
        group_of(key, &self.request.prefix, self.request.delimiter.as_deref())
    }

    fn is_full(&self) -> bool {
        self.page.objects.len() + self.page.common_prefixes.len() >= self.request.limit
    }

    /// Takes one document: `false` when the page is full and there is more.
    fn take(&mut self, key: &str, document: &Document) -> Result<bool, ObjectsError> {
        if self.group.as_ref().is_some_and(|group| key.starts_with(group)) {
            return Ok(true);
        }
        let entry: Entry = index::decode(document)?;
        if entry.marker {
            return Ok(true);
        }
        if self.is_full() {
            self.page.next = self.last.take();
            return Ok(false);
        }
        self.group = self.group_of(key);
        match &self.group {
            Some(group) => {
                self.page.common_prefixes.push(group.clone());
                self.last = Some(group.clone());
            }
            None => {
                self.page.objects.push(entry.meta(key, document.version, self.versioning));
                self.last = Some(key.to_string());
            }
        }
        Ok(true)
    }
}

impl Shared {
    pub(super) async fn list(
        &self,
        bucket: &str,
        request: ListRequest,
    ) -> Result<ListPage, ObjectsError> {
        let versioning = self.versioning(bucket).await?;
        if request.limit == 0 {
            return Ok(ListPage::default());
        }
        let prefix = format!("{bucket}/{}", request.prefix);
        let page_documents = match request.delimiter {
            Some(_) => PAGE_DOCUMENTS_DELIMITED,
            None => PAGE_DOCUMENTS,
        };
        let limit = page_documents.min(request.limit.saturating_add(1));
        let page = ListPage::default();
        let mut listing = Listing { page, last: None, group: None, request, versioning };
        // What was listed before ended in `after`, or in a common prefix that begins it.
        listing.group = listing.request.after.clone().and_then(|after| listing.group_of(&after));
        let mut after = match &listing.group {
            Some(group) => Some(after_prefix(&format!("{bucket}/{group}"), MORE_CHARS)),
            None => listing.request.after.as_ref().map(|after| format!("{bucket}/{after}")),
        };
        loop {
            let scan = Scan { collection: index::OBJECT, prefix: prefix.clone(), after, limit };
            let documents = self.records.scan(scan).await.map_err(index::read_error)?;
            for document in &documents {
                let key = &document.key.id[bucket.len() + 1..];
                if !listing.take(key, document)? {
                    return Ok(listing.page);
                }
            }
            let Some(last) = documents.last().filter(|_| documents.len() == limit) else {
                return Ok(listing.page);
            };
            after = match &listing.group {
                Some(group) => Some(after_prefix(&format!("{bucket}/{group}"), MORE_CHARS)),
                None => Some(last.key.id.clone()),
            };
        }
    }
}
