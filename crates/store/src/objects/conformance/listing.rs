//! Cases about listings: compared with a listing made the plain way.

use super::{BUCKET, put};
use crate::objects::{ListPage, ListRequest, Objects};
use std::collections::BTreeSet;

const KEYS: [&str; 18] = [
    "a",
    "a/",
    "a/1",
    "a/2",
    "a/b/1",
    "a/b/2",
    "a0",
    "aa/x",
    "b",
    "b/1",
    "b//1",
    "c/",
    "c/x/y/z",
    "é/1",
    "z",
    "z-",
    "z/\u{10ffff}/1",
    "z/\u{10ffff}\u{10ffff}",
];

pub(super) async fn run(objects: &dyn Objects) {
    for key in KEYS {
        put(objects, key, "x").await;
    }
    for n in 0..230 {
        put(objects, &format!("many/{n:04}"), "x").await;
    }
    let mut keys: BTreeSet<String> = KEYS.iter().map(|key| key.to_string()).collect();
    keys.extend((0..230).map(|n| format!("many/{n:04}")));
    for prefix in ["", "a", "a/", "a/b", "b/", "many/", "z/", "nothing", "é"] {
        for delimiter in [None, Some("/"), Some("b/"), Some("")] {
            for limit in [1, 2, 3, 7, 1000] {
                let whole = plainly(&keys, prefix, delimiter, None);
                assert_eq!(paged(objects, prefix, delimiter, limit).await, whole, "{prefix}");
            }
            for after in ["", "a/", "a/1", "a/b/", "b", "many/0100", "zz"] {
                let request = request(prefix, delimiter, Some(after), 1000);
                let page = objects.list(BUCKET, request).await.expect("listed");
                let wanted = plainly(&keys, prefix, delimiter, Some(after));
                assert_eq!(items(&page), wanted, "{prefix} {delimiter:?} after {after}");
            }
        }
    }
    let none = objects.list(BUCKET, request("", None, None, 0)).await.expect("listed");
    assert!(items(&none).is_empty() && none.next.is_none());
}

fn request(
    prefix: &str,
    delimiter: Option<&str>,
    after: Option<&str>,
    limit: usize,
) -> ListRequest {
    ListRequest {
        prefix: prefix.to_string(),
        after: after.map(str::to_string),
        delimiter: delimiter.map(str::to_string),
        limit,
    }
}

/// Keys and common prefixes of a page, in order.
fn items(page: &ListPage) -> Vec<String> {
    let mut items: Vec<String> = page.objects.iter().map(|object| object.key.clone()).collect();
    assert!(items.is_sorted() && page.common_prefixes.is_sorted());
    items.extend(page.common_prefixes.iter().cloned());
    items.sort();
    items
}

async fn paged(
    objects: &dyn Objects,
    prefix: &str,
    delimiter: Option<&str>,
    limit: usize,
) -> Vec<String> {
    let mut all = vec![];
    let mut after: Option<String> = None;
    loop {
        let request = request(prefix, delimiter, after.as_deref(), limit);
        let page = objects.list(BUCKET, request).await.expect("listed");
        let items = items(&page);
        assert!(items.len() <= limit);
        assert!(page.next.is_none() || items.len() == limit, "only full pages go on");
        all.extend(items);
        match page.next {
            Some(next) => after = Some(next),
            None => return all,
        }
    }
}

fn plainly(
    keys: &BTreeSet<String>,
    prefix: &str,
    delimiter: Option<&str>,
    after: Option<&str>,
) -> Vec<String> {
    let mut items = BTreeSet::new();
    for key in keys {
        let Some(behind) = key.strip_prefix(prefix) else { continue };
        let delimiter = delimiter.filter(|delimiter| !delimiter.is_empty());
        match delimiter.and_then(|d| behind.find(d).map(|at| at + d.len())) {
            Some(length) => items.insert(key[..prefix.len() + length].to_string()),
            None => items.insert(key.clone()),
        };
    }
    items.into_iter().filter(|item| after.is_none_or(|after| item.as_str() > after)).collect()
}
