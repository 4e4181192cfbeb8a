//! Named points between two durable steps at which a crash test ends the process.
//!
//! Only builds with debug assertions have them; in a release build a call is empty. The
//! environment variable `ALLUVIUM_KILL_POINT=NAME[:N]` ends the process, as `kill -9` would, when
//! the point NAME is reached for the Nth time (the first when N is left out).

#[cfg(debug_assertions)]
mod active {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    static ARMED: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static REACHED: AtomicU64 = AtomicU64::new(0);

    fn parse(value: &str) -> (String, u64) {
        match value.rsplit_once(':') {
            Some((name, count)) => (name.to_string(), count.parse().unwrap_or(1)),
            None => (value.to_string(), 1),
        }
    }

    pub(super) fn reach(name: &str) {
        let armed =
            ARMED.get_or_init(|| std::env::var("ALLUVIUM_KILL_POINT").ok().map(|v| parse(&v)));
        let Some((wanted, count)) = armed else { return };
        if wanted == name && REACHED.fetch_add(1, Ordering::SeqCst) + 1 == *count {
            // abort() runs no destructor and flushes nothing: as a kill would.
            std::process::abort();
        }
    }
}

/// Marks a point between two durable steps. `name` is kebab-case and appears once in the code.
#[inline]
pub fn kill_point(name: &'static str) {
    #[cfg(debug_assertions)]
    active::reach(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}
