//! How much time has surely passed, whatever the clock says.
//!
//! Snapshots expire and files are removed by age, and a clock may jump: by years when it is set
//! wrong, by weeks when the server was off or a backup was restored. So the time that upkeep has
//! seen pass is kept as a document. A look adds what passed since the last one, but never more than
//! [`STEP_MS_MAX`]; a clock that went back adds nothing. After a step that was larger, or a clock that
//! was set back by more than [`BACK_MS_MAX`], nothing is let go of by age until [`SETTLE_MS`] more
//! were seen to pass: time for somebody to set the clock right.
//!
//! Whatever runs in the background looks at least once a day.

use crate::{Upkeep, UpkeepError};
use alluvium_store::records::{Key, Operation, Outcome, Precondition, Transaction};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

const COLLECTION: &str = "upkeep-clock";

/// Longer was nobody's running server.
const STEP_MS_MAX: i64 = 2 * DAY_MS;
/// Clocks are corrected by seconds, and some are moved by an hour in spring.
const BACK_MS_MAX: i64 = 2 * 3_600_000;
/// How long upkeep waits after a jump.
const SETTLE_MS: i64 = DAY_MS;
const DAY_MS: i64 = 24 * 3_600_000;
/// A look that is so near to the last one is not written down.
const NEAR_MS: i64 = 60_000;
/// A lost race is run again at most this often.
const ATTEMPTS_MAX: usize = 32;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    /// What the clock said at the last look.
    at_ms: i64,
    /// The time that was seen to pass.
    passed_ms: i64,
    /// Nothing is let go of by age before so much has passed.
    #[serde(default)]
    settled_at_ms: i64,
    /// How far the clock jumped last.
    #[serde(default)]
    jump_ms: i64,
}

impl Seen {
    fn look(&mut self, now_ms: i64) {
        let step_ms = now_ms.saturating_sub(self.at_ms);
        self.at_ms = now_ms;
        self.passed_ms = self.passed_ms.saturating_add(step_ms.clamp(0, STEP_MS_MAX));
        if !(-BACK_MS_MAX..=STEP_MS_MAX).contains(&step_ms) {
            self.settled_at_ms = self.passed_ms.saturating_add(SETTLE_MS);
            self.jump_ms = step_ms;
        }
    }

    fn elapsed(&self) -> Elapsed {
        let waits_ms = self.settled_at_ms.saturating_sub(self.passed_ms);
        let hours = |ms: i64| (ms + 3_599_999).div_euclid(3_600_000);
        let unsettled = (waits_ms > 0).then(|| {
            format!(
                "the clock jumped by {} hours (or the server was off): nothing is let go of by \
                 age for {} hours more",
                self.jump_ms / 3_600_000,
                hours(waits_ms)
            )
        });
        Elapsed { passed_ms: self.passed_ms, unsettled }
    }
}

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elapsed {
    /// The time that was seen to pass since the first look.
    pub passed_ms: i64,
    /// Why nothing is let go of by age for now.
    pub unsettled: Option<String>,
}

/// Looks at the clock.
pub async fn look(upkeep: &Upkeep) -> Result<Elapsed, UpkeepError> {
    let records = upkeep.lake().catalog().records();
    let key = Key::new(COLLECTION, "seen");
    let unavailable =
        |e: &dyn std::fmt::Display| UpkeepError::Unavailable(format!("upkeep's clock: {e}"));
    for _ in 0..ATTEMPTS_MAX {
        let now_ms = upkeep.clock().now_ms();
        let found = records.get(&key).await.map_err(|e| unavailable(&e))?;
        let (mut seen, precondition) = match &found {
            Some(found) => {
                let seen = serde_json::from_slice(&found.body)
                    .map_err(|e| UpkeepError::Damaged(format!("the document {key:?}: {e}")))?;
                (seen, Precondition::AtVersion(key.clone(), found.version))
            }
            None => {
                let seen = Seen { at_ms: now_ms, ..Seen::default() };
                (seen, Precondition::Absent(key.clone()))
            }
        };
        let near = now_ms.saturating_sub(seen.at_ms).saturating_abs() < NEAR_MS;
        if found.is_some() && near {
            return Ok(seen.elapsed());
        }
        seen.look(now_ms);
        let body = serde_json::to_vec(&seen).map_err(|e| UpkeepError::Internal(e.to_string()))?;
        let transaction = Transaction {
            preconditions: vec![precondition],
            operations: vec![Operation::Put(key.clone(), Bytes::from(body))],
        };
        match records.transact(transaction).await {
            Outcome::Committed { .. } => return Ok(seen.elapsed()),
            // Another look was faster, or ours may have been: both are looked up again.
            Outcome::Conflict(_) | Outcome::Unknown(_) => {}
            Outcome::Fenced => return Err(UpkeepError::Fenced),
            Outcome::Unavailable(reason) => return Err(unavailable(&reason)),
        }
    }
    Err(UpkeepError::Busy("upkeep's clock".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 3_600_000;

    #[test]
    fn time_passes_as_it_is_seen_to_and_a_jump_counts_for_two_days() {
        let mut seen = Seen { at_ms: 1_000, ..Seen::default() };
        for _ in 0..30 {
            seen.look(seen.at_ms + 24 * HOUR_MS);
        }
        assert_eq!(seen.elapsed(), Elapsed { passed_ms: 30 * DAY_MS, unsettled: None });
        seen.look(seen.at_ms + 1_000 * DAY_MS);
        assert_eq!(seen.passed_ms, 32 * DAY_MS);
        assert!(seen.elapsed().unsettled.is_some());
        seen.look(seen.at_ms + 23 * HOUR_MS);
        assert!(seen.elapsed().unsettled.is_some());
        seen.look(seen.at_ms + HOUR_MS);
        assert_eq!(seen.elapsed().unsettled, None);
    }

    #[test]
    fn a_clock_that_goes_back_adds_nothing_and_unsettles_when_it_goes_far() {
        let mut seen = Seen { at_ms: 1_000 * DAY_MS, ..Seen::default() };
        seen.look(seen.at_ms - HOUR_MS);
        assert_eq!(seen.elapsed(), Elapsed { passed_ms: 0, unsettled: None });
        seen.look(seen.at_ms - 100 * DAY_MS);
        assert_eq!(seen.passed_ms, 0);
        assert!(seen.elapsed().unsettled.is_some());
        seen.look(i64::MIN);
        seen.look(i64::MAX);
        assert_eq!(seen.passed_ms, STEP_MS_MAX);
    }
}
