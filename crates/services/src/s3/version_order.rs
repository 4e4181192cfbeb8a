//! The order of `Version` and `DeleteMarker` elements in an answer to `ListObjectVersions`.
//!
//! S3 lists both as one sequence, by key and from the newest to the oldest; the protocol library
//! writes all of one kind and then all of the other. Its answer is put in order here, whole elements
//! at a time: text in it is escaped, so a tag is a tag wherever it stands.

use bytes::Bytes;
use s3s::Body;

/// What each entry of the listing is, in its order; put beside the answer by who made it.
#[derive(Debug, Clone)]
pub(super) struct EntryOrder {
    /// Whether it is a delete marker.
    pub(super) is_marker: Vec<bool>,
}

const VERSION: (&str, &str) = ("<Version>", "</Version>");
const MARKER: (&str, &str) = ("<DeleteMarker>", "</DeleteMarker>");
const GROUP: (&str, &str) = ("<CommonPrefixes>", "</CommonPrefixes>");
const END: &str = "</ListVersionsResult>";

/// Puts the entries of an answer in order, if it is one of a listing of versions.
pub(super) fn restore(response: http::Response<Body>) -> http::Response<Body> {
    let (mut head, body) = response.into_parts();
    let Some(order) = head.extensions.remove::<EntryOrder>() else {
        return http::Response::from_parts(head, body);
    };
    let ordered = body.bytes().and_then(|bytes| {
        let text = std::str::from_utf8(&bytes).ok()?;
        in_order(text, &order.is_marker)
    });
    let body = match ordered {
        Some(text) => {
            head.headers.remove(http::header::CONTENT_LENGTH);
            Body::from(Bytes::from(text))
        }
        // What the library wrote says the same, in another order.
        None => body,
    };
    http::Response::from_parts(head, body)
}

fn in_order(xml: &str, is_marker: &[bool]) -> Option<String> {
    let mut head = String::with_capacity(xml.len());
    let (mut versions, mut markers, mut groups) = (Vec::new(), Vec::new(), Vec::new());
    let mut rest = xml.strip_suffix(END)?;
    // From tag to tag, so that no text is looked at twice.
    while let Some(at) = rest.find('<') {
        let kind = [VERSION, MARKER, GROUP].into_iter().find(|kind| rest[at..].starts_with(kind.0));
        let Some(kind) = kind else {
            head.push_str(&rest[..=at]);
            rest = &rest[at + 1..];
            continue;
        };
        let end = at + rest[at..].find(kind.1)? + kind.1.len();
        head.push_str(&rest[..at]);
        let found = match kind {
            VERSION => &mut versions,
            MARKER => &mut markers,
            _ => &mut groups,
        };
        found.push(&rest[at..end]);
        rest = &rest[end..];
    }
    head.push_str(rest);
    if versions.len() + markers.len() != is_marker.len() {
        return None;
    }
    let (mut versions, mut markers) = (versions.into_iter(), markers.into_iter());
    for is_marker in is_marker {
        head.push_str(if *is_marker { markers.next() } else { versions.next() }?);
    }
    groups.into_iter().for_each(|group| head.push_str(group));
    head.push_str(END);
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(id: &str) -> String {
        format!("<Version><Key>&lt;Version&gt;</Key><VersionId>{id}</VersionId></Version>")
    }

    fn marker(id: &str) -> String {
        format!("<DeleteMarker><VersionId>{id}</VersionId></DeleteMarker>")
    }

    fn library(entries: &[String]) -> String {
        let open = "<?xml version=\"1.0\"?><ListVersionsResult xmlns=\"x\">";
        let (markers, versions): (Vec<&String>, Vec<&String>) =
            entries.iter().partition(|entry| entry.starts_with(MARKER.0));
        let join = |entries: Vec<&String>| entries.into_iter().cloned().collect::<String>();
        let group = "<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>";
        let (markers, versions) = (join(markers), join(versions));
        format!("{open}{group}{markers}<Name>b</Name>{versions}{END}")
    }

    #[test]
    fn entries_stand_in_the_order_of_the_listing_and_groups_behind_them() {
        let entries = [version("3"), marker("2"), version("1"), marker("9"), marker("8")];
        let kinds: Vec<bool> = entries.iter().map(|e| e.starts_with(MARKER.0)).collect();
        let told = in_order(&library(&entries), &kinds).unwrap();
        let (_, told) = told.split_once("<Name>b</Name>").unwrap();
        let group = "<CommonPrefixes><Prefix>p/</Prefix></CommonPrefixes>";
        assert_eq!(told, format!("{}{group}{END}", entries.concat()));
    }

    #[test]
    fn what_is_not_what_was_listed_is_left_as_it_is() {
        let xml = library(&[version("1"), marker("2")]);
        assert_eq!(in_order(&xml, &[false]), None);
        assert_eq!(in_order(&xml, &[true, true]), None);
        assert_eq!(in_order("<Error></Error>", &[]), None);
        let empty = library(&[]);
        assert!(in_order(&empty, &[]).is_some());
    }
}
