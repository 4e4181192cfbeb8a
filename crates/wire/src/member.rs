//! Members whose form depends on the protocol: blobs and times.
//!
//! JSON has base64 text and seconds with a fraction, CBOR has bytes and milliseconds. A shape names
//! [`Blob`] and [`Timestamp`], and is right in both.

use crate::cbor;
use crate::json_protocol::EpochSeconds;
use base64_simd::STANDARD;
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

/// Bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Blob(pub Vec<u8>);

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.serialize_str(&STANDARD.encode_to_string(&self.0));
        }
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return deserializer.deserialize_str(Base64);
        }
        deserializer.deserialize_byte_buf(Raw)
    }
}

struct Base64;

impl Visitor<'_> for Base64 {
    type Value = Blob;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("base64 (standard alphabet, padded)")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Blob, E> {
        let decoded = STANDARD.decode_to_vec(text.as_bytes());
        decoded.map(Blob).map_err(|_| E::custom("it is not base64 (standard alphabet, padded)"))
    }
}

struct Raw;

impl Visitor<'_> for Raw {
    type Value = Blob;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a byte string")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Blob, E> {
        Ok(Blob(bytes.to_vec()))
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Blob, E> {
        Ok(Blob(bytes))
    }
}

/// A time, in milliseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub i64);

/// The year 9999: beyond is no time that anybody means.
const SECONDS_MAX: f64 = 253_402_300_799.999;

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return EpochSeconds(self.0).serialize(serializer);
        }
        serializer.serialize_newtype_struct(cbor::EPOCH_MS, &self.0)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let in_seconds = deserializer.is_human_readable();
        deserializer.deserialize_any(Number { in_seconds })
    }
}

struct Number {
    in_seconds: bool,
}

impl Visitor<'_> for Number {
    type Value = Timestamp;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.in_seconds { "seconds" } else { "milliseconds" };
        write!(f, "a number of {unit} since the epoch")
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Timestamp, E> {
        let ms = if self.in_seconds { number.checked_mul(1000) } else { Some(number) };
        let within = |ms: &i64| {
            #[allow(clippy::cast_precision_loss)] // a bound
            let seconds = *ms as f64 / 1000.0;
            (-SECONDS_MAX..=SECONDS_MAX).contains(&seconds)
        };
        ms.filter(within).map(Timestamp).ok_or_else(|| E::custom("it is beyond all times"))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Timestamp, E> {
        let number = i64::try_from(number).map_err(|_| E::custom("it is beyond all times"))?;
        self.visit_i64(number)
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Timestamp, E> {
        let ms = if self.in_seconds { number * 1000.0 } else { number };
        if !(-SECONDS_MAX..=SECONDS_MAX).contains(&(ms / 1000.0)) {
            return Err(E::custom("it is beyond all times"));
        }
        #[allow(clippy::cast_possible_truncation)] // within the bounds of 46 bits
        Ok(Timestamp(ms.round() as i64))
    }
}
