//! The canonical request and the string to sign.
//!
//! Written for requests as they arrive: the path and the query are taken as the client sent them.

use super::ALGORITHM;
use http::request::Parts;
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::fmt::Write;

/// How a path becomes the canonical path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathForm {
    /// Dot segments removed and the encoded path encoded once more: every service but S3.
    Normalised,
    /// As it was sent: S3.
    AsSent,
    /// Decoded, then encoded by the book: S3, from clients that send less encoded than they sign.
    EncodedAgain,
}

/// The canonical request. `signed_headers` are lower-case; a header that is not there yields
/// `None`, because a signature over nothing covers nothing.
pub fn canonical_request(
    head: &Parts,
    signed_headers: &[String],
    payload_hash: &str,
    form: PathForm,
) -> Option<String> {
    let mut text = String::with_capacity(1024);
    text.push_str(head.method.as_str());
    text.push('\n');
    match form {
        PathForm::Normalised => encode(normalise(head.uri.path()).as_bytes(), true, &mut text),
        PathForm::AsSent => text.push_str(head.uri.path()),
        PathForm::EncodedAgain => {
            let decoded: Cow<'_, [u8]> = percent_decode_str(head.uri.path()).into();
            encode(&decoded, true, &mut text);
        }
    }
    text.push('\n');
    canonical_query(head.uri.query().unwrap_or_default(), &mut text);
    text.push('\n');
    let mut names: Vec<&str> = signed_headers.iter().map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    for name in &names {
        text.push_str(name);
        text.push(':');
        canonical_value(head, name, &mut text)?;
        text.push('\n');
    }
    text.push('\n');
    for (index, name) in names.iter().enumerate() {
        if index > 0 {
            text.push(';');
        }
        text.push_str(name);
    }
    text.push('\n');
    text.push_str(payload_hash);
    Some(text)
}

/// The string to sign.
pub fn string_to_sign(amz_date: &str, scope: &str, canonical_request: &str) -> String {
    let hash = hex::encode(Sha256::digest(canonical_request.as_bytes()));
    format!("{ALGORITHM}\n{amz_date}\n{scope}\n{hash}")
}

/// Trimmed, inner runs of spaces as one, several values joined by commas. HTTP/2 carries the host
/// as the URI's authority.
fn canonical_value(head: &Parts, name: &str, text: &mut String) -> Option<()> {
    let mut values = head.headers.get_all(name).iter().peekable();
    if values.peek().is_none() {
        let authority = head.uri.authority().filter(|_| name == "host")?;
        text.push_str(authority.as_str());
        return Some(());
    }
    for (index, value) in values.enumerate() {
        if index > 0 {
            text.push(',');
        }
        // Bytes beyond ASCII are signed as UTF-8 by every SDK that sends them.
        let value = std::str::from_utf8(value.as_bytes()).ok()?;
        for (index, word) in value.split_ascii_whitespace().enumerate() {
            if index > 0 {
                text.push(' ');
            }
            text.push_str(word);
        }
    }
    Some(())
}

fn normalise(path: &str) -> Cow<'_, str> {
    if path.is_empty() {
        return Cow::Borrowed("/");
    }
    if !path.contains("/.") && !path.contains("//") {
        return Cow::Borrowed(path);
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    let ends = ["/", "/.", "/.."].iter().any(|end| path.ends_with(end));
    let slash = if ends && !kept.is_empty() { "/" } else { "" };
    Cow::Owned(format!("/{}{slash}", kept.join("/")))
}

/// RFC 3986 encoding with upper-case digits; a slash stays in paths.
fn encode(text: &[u8], keep_slash: bool, out: &mut String) {
    for &byte in text {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            b'/' if keep_slash => out.push('/'),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
    }
}

/// Decoded, encoded again and sorted, without the signature of a presigned request.
fn canonical_query(query: &str, out: &mut String) {
    if query.is_empty() {
        return;
    }
    let mut pairs: Vec<(String, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if key != "X-Amz-Signature" {
            pairs.push((encode_again(key), encode_again(value)));
        }
    }
    pairs.sort();
    for (index, (key, value)) in pairs.iter().enumerate() {
        if index > 0 {
            out.push('&');
        }
        let _ = write!(out, "{key}={value}");
    }
}

/// A plus sign in a query is a space, as in forms.
fn encode_again(part: &str) -> String {
    let spaced = part.replace('+', " ");
    let mut out = String::with_capacity(part.len());
    let decoded: Cow<'_, [u8]> = percent_decode_str(&spaced).into();
    match std::str::from_utf8(&decoded) {
        Ok(text) => encode(text.as_bytes(), false, &mut out),
        // Not UTF-8: no SDK sends it; keep it as it came, so that it cannot match another text.
        Err(_) => out.push_str(part),
    }
    out
}
