//! URLs.

use super::row_function::Kind::Text;
use super::row_function::{Out, Returns, Spec};

/// The parts of a URL that the functions ask for (RFC 3986).
struct Url<'a> {
    scheme: &'a str,
    host: &'a str,
    port: Option<i64>,
    path: &'a str,
    query: &'a str,
    fragment: &'a str,
}

fn parse(text: &str) -> Option<Url<'_>> {
    let (scheme, rest) = text.split_once(':')?;
    let letter = scheme.bytes().next().is_some_and(|b| b.is_ascii_alphabetic());
    if !letter || text.bytes().any(|b| b <= b' ') {
        return None;
    }
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let Some(after) = rest.strip_prefix("//") else {
        return Some(Url { scheme, host: "", port: None, path: rest, query, fragment });
    };
    let (authority, path) = after.split_at(after.find('/').unwrap_or(after.len()));
    let host_port = authority.rsplit_once('@').map_or(authority, |(_, h)| h);
    let (host, port) = match host_port.rsplit_once(':') {
        Some((host, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => {
            (host, port.parse().ok())
        }
        _ => (host_port, None),
    };
    Some(Url { scheme, host, port, path, query, fragment })
}

macro_rules! part {
    ($name:literal, $field:ident) => {
        Spec {
            name: $name,
            forms: &[&[Text]],
            returns: Returns::Text,
            body: |a| Ok(parse(a[0].text()).map_or(Out::Null, |u| Out::Text(u.$field.to_string()))),
        }
    };
}

pub(super) const SPECS: &[Spec] = &[
    part!("url_extract_protocol", scheme),
    part!("url_extract_host", host),
    part!("url_extract_path", path),
    part!("url_extract_query", query),
    part!("url_extract_fragment", fragment),
    Spec {
        name: "url_extract_port",
        forms: &[&[Text]],
        returns: Returns::Int,
        body: |a| Ok(parse(a[0].text()).and_then(|u| u.port).map_or(Out::Null, Out::Int)),
    },
    Spec {
        name: "url_extract_parameter",
        forms: &[&[Text, Text]],
        returns: Returns::Text,
        body: |a| {
            let Some(url) = parse(a[0].text()) else { return Ok(Out::Null) };
            for pair in url.query.split('&') {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                if decode(key) == a[1].text() {
                    return Ok(Out::Text(decode(value)));
                }
            }
            Ok(Out::Null)
        },
    },
    Spec {
        name: "url_decode",
        forms: &[&[Text]],
        returns: Returns::Text,
        body: |a| Ok(Out::Text(decode(a[0].text()))),
    },
    Spec {
        name: "url_encode",
        forms: &[&[Text]],
        returns: Returns::Text,
        body: |a| Ok(Out::Text(encode(a[0].text()))),
    },
];

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = text.get(at + 1..at + 3).and_then(|h| u8::from_str_radix(h, 16).ok());
        match (bytes[at], hex) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn encode(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'*' => {
                out.push(byte as char);
            }
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
