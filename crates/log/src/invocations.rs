//! Calls that SDKs repeat: which invocation had which outcome.
//!
//! A call is known by (invocation id, caller); the caller's hash already holds access key,
//! operation and stream. A repeat with the same body gets the first outcome; while the first
//! attempt is under way it waits for it; with another body it is refused. Only acknowledged
//! outcomes are remembered, for [`REMEMBER_MS`] by the injected clock, at most [`CALLS_MAX`] of them: the
//! oldest go first and an eviction before its time is counted.
//!
//! Memory: about 170 bytes a call, 170 MB with a full table (a million calls in ten minutes).
//! Bodies are compared by the first half of their SHA-256 (128 bits).

use crate::{AppendError, Appended, Invocation};
use alluvium_base::{LaneId, SequenceNumber};
use std::collections::{HashMap, VecDeque};
use tokio::sync::oneshot;

/// Ten minutes: far longer than any SDK goes on repeating one call.
pub const REMEMBER_MS: i64 = 600_000;
/// The newest million.
pub const CALLS_MAX: usize = 1_000_000;

/// (invocation id, caller).
pub(crate) type CallKey = ([u8; 16], [u8; 16]);

/// Who waits for an append.
pub(crate) type Waiter = oneshot::Sender<Result<Appended, AppendError>>;

/// A remembered call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) key: CallKey,
    pub(crate) body: [u8; 16],
    pub(crate) arrival_ms: i64,
    pub(crate) outcome: Outcome,
}

/// First sequences and counts; one lane is by far the usual case and needs no allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    One((LaneId, SequenceNumber, u32)),
    Many(Box<[(LaneId, SequenceNumber, u32)]>),
}

impl Outcome {
    pub(crate) fn of(first: &[(LaneId, SequenceNumber, u32)]) -> Self {
        match first {
            [one] => Self::One(*one),
            many => Self::Many(many.into()),
        }
    }

    pub(crate) fn lanes(&self) -> &[(LaneId, SequenceNumber, u32)] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(many) => many,
        }
    }
}

#[derive(Debug)]
enum State {
    InFlight { body: [u8; 16], waiters: Vec<Waiter> },
    Done { body: [u8; 16], arrival_ms: i64, outcome: Outcome },
}

/// What to do with a call.
#[derive(Debug)]
pub(crate) enum Admission {
    /// It is new and now under way: submit it.
    New,
    /// It was acknowledged before.
    Repeated(Appended),
    /// Its first attempt is under way: wait.
    Wait(oneshot::Receiver<Result<Appended, AppendError>>),
    /// Its id was used with another body.
    Reused,
}

/// The table.
#[derive(Debug)]
pub(crate) struct Invocations {
    calls: HashMap<CallKey, State>,
    order: VecDeque<(i64, CallKey)>,
    calls_max: usize,
    evicted_early: u64,
}

/// The key and the body's mark of an invocation.
pub(crate) fn key_of(invocation: &Invocation) -> (CallKey, [u8; 16]) {
    let mut body = [0; 16];
    body.copy_from_slice(&invocation.body_sha256[..16]);
    ((invocation.id, invocation.caller), body)
}

impl Invocations {
    pub(crate) fn new(calls_max: usize) -> Self {
        Self { calls: HashMap::new(), order: VecDeque::new(), calls_max, evicted_early: 0 }
    }

    /// Looks a call up. With `begin` a new call is marked as under way.
    pub(crate) fn admit(&mut self, invocation: &Invocation, now_ms: i64, begin: bool) -> Admission {
        let (key, body) = key_of(invocation);
        match self.calls.get_mut(&key) {
            Some(State::InFlight { body: known, .. }) if *known != body => Admission::Reused,
            Some(State::InFlight { waiters, .. }) => {
                let (send, receive) = oneshot::channel();
                waiters.push(send);
                Admission::Wait(receive)
            }
            Some(State::Done { body: known, arrival_ms, outcome })
                if arrival_ms.saturating_add(REMEMBER_MS) > now_ms =>
            {
                if *known != body {
                    return Admission::Reused;
                }
                Admission::Repeated(Appended { first: outcome.lanes().to_vec(), repeated: true })
            }
            Some(State::Done { .. }) | None => {
                if begin {
                    self.calls.insert(key, State::InFlight { body, waiters: Vec::new() });
                }
                Admission::New
            }
        }
    }

    /// Remembers an acknowledged call; returns who else waits for it.
    pub(crate) fn remember(&mut self, call: Call, now_ms: i64) -> Vec<Waiter> {
        let Call { key, body, arrival_ms, outcome } = call;
        let before = self.calls.insert(key, State::Done { body, arrival_ms, outcome });
        self.order.push_back((arrival_ms, key));
        self.forget_old(now_ms);
        match before {
            Some(State::InFlight { waiters, .. }) => waiters,
            Some(State::Done { .. }) | None => Vec::new(),
        }
    }

    /// Forgets a call that was refused; returns who else waits for it.
    pub(crate) fn refuse(&mut self, key: &CallKey) -> Vec<Waiter> {
        if let Some(State::InFlight { .. }) = self.calls.get(key)
            && let Some(State::InFlight { waiters, .. }) = self.calls.remove(key)
        {
            return waiters;
        }
        Vec::new()
    }

    /// The remembered call, if it is young enough to matter still.
    pub(crate) fn carry(&self, key: &CallKey, now_ms: i64) -> Option<Call> {
        match self.calls.get(key)? {
            State::Done { body, arrival_ms, outcome }
                if arrival_ms.saturating_add(REMEMBER_MS) > now_ms =>
            {
                Some(Call {
                    key: *key,
                    body: *body,
                    arrival_ms: *arrival_ms,
                    outcome: outcome.clone(),
                })
            }
            State::Done { .. } | State::InFlight { .. } => None,
        }
    }

    fn forget_old(&mut self, now_ms: i64) {
        while let Some(&(arrival_ms, key)) = self.order.front() {
            let expired = arrival_ms.saturating_add(REMEMBER_MS) <= now_ms;
            if !expired && self.order.len() <= self.calls_max {
                break;
            }
            self.order.pop_front();
            // A call that was repeated after it expired has a younger entry: not this one's.
            let same = matches!(self.calls.get(&key),
                Some(State::Done { arrival_ms: known, .. }) if *known == arrival_ms);
            if same {
                self.calls.remove(&key);
                if !expired {
                    self.evicted_early += 1;
                    metrics::counter!("alluvium_log_invocations_evicted_early_total").increment(1);
                }
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.calls.len()
    }

    pub(crate) fn evicted_early(&self) -> u64 {
        self.evicted_early
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invocation(id: u8, body: u8) -> Invocation {
        Invocation { id: [id; 16], caller: [0; 16], body_sha256: [body; 32] }
    }

    fn call(id: u8, arrival_ms: i64) -> Call {
        let (key, body) = key_of(&invocation(id, 1));
        let first = [(LaneId(1), SequenceNumber::new(0, u64::from(id)), 1)];
        Call { key, body, arrival_ms, outcome: Outcome::of(&first) }
    }

    #[test]
    fn call_is_forgotten_after_ten_minutes() {
        let mut table = Invocations::new(10);
        table.remember(call(1, 1000), 1000);
        let again = |table: &mut Invocations, now| table.admit(&invocation(1, 1), now, false);
        assert!(matches!(again(&mut table, 600_999), Admission::Repeated(_)));
        assert!(matches!(again(&mut table, 601_000), Admission::New));
    }

    #[test]
    fn oldest_call_goes_first_and_is_counted_when_the_table_is_full() {
        let mut table = Invocations::new(2);
        for id in 1..=3 {
            table.remember(call(id, 1000), 1000);
        }
        assert!(matches!(table.admit(&invocation(1, 1), 1000, false), Admission::New));
        assert!(matches!(table.admit(&invocation(2, 1), 1000, false), Admission::Repeated(_)));
        assert_eq!((table.len(), table.evicted_early()), (2, 1));
    }

    #[test]
    fn refused_call_can_be_made_again_with_another_body() {
        let mut table = Invocations::new(2);
        assert!(matches!(table.admit(&invocation(1, 1), 0, true), Admission::New));
        assert!(matches!(table.admit(&invocation(1, 2), 0, true), Admission::Reused));
        assert!(table.refuse(&key_of(&invocation(1, 1)).0).is_empty());
        assert!(matches!(table.admit(&invocation(1, 2), 0, true), Admission::New));
    }
}
