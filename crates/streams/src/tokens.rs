//! Tokens that clients hold for us: shard iterators and the tokens of pages.
//!
//! # The format
//!
//! Base64 (URL alphabet, no padding) of: format version (1), kind (1), time of issue in ms (8,
//! little-endian), body, HMAC-SHA-256 of all before it under a secret of this installation, cut to
//! 16 bytes. A token is valid for five minutes, as on AWS, and only where it was made.

use crate::error::StreamError;
use alluvium_base::{LaneId, SequenceNumber, StreamIncarnation};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use uuid::Uuid;

/// Iterators and tokens are valid for this long (Kinesis API reference, `GetShardIterator`).
pub(crate) const VALID_MS: i64 = 300_000;
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 10;
const TAG_BYTES: usize = 16;
/// A page's token holds a name of 128 bytes at most; nothing near this is ours.
const TEXT_BYTES_MAX: usize = 2048;

/// What a token is for: one kind is never taken for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Iterator = 1,
    Shards = 2,
    Streams = 3,
    Consumers = 4,
}

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadToken {
    Forged,
    Expired,
}

impl BadToken {
    pub(crate) fn of_iterator(self) -> StreamError {
        match self {
            Self::Forged => StreamError::InvalidArgument("Invalid ShardIterator.".into()),
            Self::Expired => StreamError::ExpiredIterator(
                "Iterator expired. A shard iterator is valid for 5 minutes; get a new one with \
                 GetShardIterator, AFTER_SEQUENCE_NUMBER of the last record that was read."
                    .into(),
            ),
        }
    }

    pub(crate) fn of_page(self) -> StreamError {
        match self {
            Self::Forged => StreamError::InvalidArgument("Invalid NextToken.".into()),
            Self::Expired => StreamError::ExpiredNextToken(
                "NextToken expired. It is valid for 5 minutes; begin the list again.".into(),
            ),
        }
    }
}

/// Seals and opens tokens.
#[derive(Clone)]
pub(crate) struct Sealer {
    mac: Hmac<Sha256>,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(…)")
    }
}

impl Sealer {
    /// With the secret of this installation.
    pub(crate) fn new(secret: &[u8; 32]) -> Self {
        let mac = Hmac::new_from_slice(secret).expect("HMAC takes keys of any length");
        Self { mac }
    }

    pub(crate) fn seal(&self, kind: Kind, now_ms: i64, body: &[u8]) -> String {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len() + TAG_BYTES);
        bytes.extend_from_slice(&[VERSION, kind as u8]);
        bytes.extend_from_slice(&now_ms.to_le_bytes());
        bytes.extend_from_slice(body);
        let tag = self.mac.clone().chain_update(&bytes).finalize().into_bytes();
        bytes.extend_from_slice(&tag[..TAG_BYTES]);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The body of a token of this kind.
    pub(crate) fn open(&self, kind: Kind, now_ms: i64, text: &str) -> Result<Vec<u8>, BadToken> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(BadToken::Forged);
        }
        let mut bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| BadToken::Forged)?;
        if bytes.len() < HEADER_BYTES + TAG_BYTES {
            return Err(BadToken::Forged);
        }
        let tag = bytes.split_off(bytes.len() - TAG_BYTES);
        let mac = self.mac.clone().chain_update(&bytes);
        mac.verify_truncated_left(&tag).map_err(|_| BadToken::Forged)?;
        let issued: [u8; 8] = bytes[2..HEADER_BYTES].try_into().map_err(|_| BadToken::Forged)?;
        if bytes[0] != VERSION || bytes[1] != kind as u8 {
            return Err(BadToken::Forged);
        }
        if now_ms.saturating_sub(i64::from_le_bytes(issued)) > VALID_MS {
            return Err(BadToken::Expired);
        }
        Ok(bytes.split_off(HEADER_BYTES))
    }
}

/// Where a reader of a shard is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) incarnation: StreamIncarnation,
    pub(crate) lane: LaneId,
    /// All up to here is read, or not wanted.
    pub(crate) after: SequenceNumber,
    /// Until the first record that arrived at or after this moment, none is wanted.
    pub(crate) from_ms: Option<i64>,
}

const POSITION_BYTES: usize = 44;

impl Position {
    pub(crate) fn encode(&self) -> [u8; POSITION_BYTES] {
        let mut bytes = [0; POSITION_BYTES];
        bytes[..16].copy_from_slice(self.incarnation.0.as_bytes());
        bytes[16..24].copy_from_slice(&self.lane.0.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.after.generation.to_le_bytes());
        bytes[28..36].copy_from_slice(&self.after.offset.to_le_bytes());
        bytes[36..].copy_from_slice(&self.from_ms.unwrap_or(i64::MIN).to_le_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; POSITION_BYTES] = bytes.try_into().ok()?;
        let incarnation = Uuid::from_slice(bytes.get(..16)?).ok()?;
        let lane = u64::from_le_bytes(bytes.get(16..24)?.try_into().ok()?);
        let generation = u32::from_le_bytes(bytes.get(24..28)?.try_into().ok()?);
        let offset = u64::from_le_bytes(bytes.get(28..36)?.try_into().ok()?);
        let from_ms = i64::from_le_bytes(bytes.get(36..)?.try_into().ok()?);
        Some(Self {
            incarnation: StreamIncarnation(incarnation),
            lane: LaneId(lane),
            after: SequenceNumber::new(generation, offset),
            from_ms: (from_ms != i64::MIN).then_some(from_ms),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sealer() -> Sealer {
        Sealer::new(&[7; 32])
    }

    #[test]
    fn tokens_expire_after_five_minutes_and_are_of_one_kind() {
        let token = sealer().seal(Kind::Iterator, 1000, b"body");
        assert_eq!(sealer().open(Kind::Iterator, 301_000, &token).unwrap(), b"body");
        assert_eq!(sealer().open(Kind::Iterator, 301_001, &token), Err(BadToken::Expired));
        assert_eq!(sealer().open(Kind::Shards, 1000, &token), Err(BadToken::Forged));
        let other = Sealer::new(&[8; 32]);
        assert_eq!(other.open(Kind::Iterator, 1000, &token), Err(BadToken::Forged));
    }

    proptest! {
        #[test]
        fn positions_round_trip(
            uuid: u128, lane: u64, generation: u32, offset: u64, from_ms: Option<u32>
        ) {
            let position = Position {
                incarnation: StreamIncarnation(Uuid::from_u128(uuid)),
                lane: LaneId(lane),
                after: SequenceNumber::new(generation, offset),
                from_ms: from_ms.map(i64::from),
            };
            prop_assert_eq!(Position::decode(&position.encode()), Some(position));
        }

        #[test]
        fn a_changed_character_is_refused(at in 0usize..60, to in "[A-Za-z0-9_-]") {
            let token = sealer().seal(Kind::Iterator, 1000, &[5; 36]);
            let mut changed = token.clone();
            changed.replace_range(at..at + 1, &to);
            let opened = sealer().open(Kind::Iterator, 1000, &changed);
            prop_assert_eq!(opened.is_ok(), changed == token);
        }

        #[test]
        fn any_text_is_opened_without_panic(text in ".{0,200}|[A-Za-z0-9_-]{0,200}") {
            let _ = sealer().open(Kind::Iterator, 1000, &text);
        }
    }
}
