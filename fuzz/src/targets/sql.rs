//! Athena's dialect: any statement is refused with a reason or translated, on a stack of the size
//! that the engine gives its threads, and the translation says the same when it is made again.

use alluvium_query::translate;
use std::collections::HashSet;
use std::sync::OnceLock;

/// Half of what a thread of the engine has: planning needs more than translating.
const STACK_BYTES: usize = 128 << 20;
const NOW_MS: i64 = 1_790_000_000_000;

/// The target.
pub(super) fn run(input: &[u8]) {
    let Ok(sql) = std::str::from_utf8(input) else { return };
    std::thread::scope(|scope| {
        let translating = std::thread::Builder::new()
            .stack_size(STACK_BYTES)
            .spawn_scoped(scope, || {
                let first = translate(sql, functions(), NOW_MS);
                if let Ok(first) = &first {
                    let again = translate(sql, functions(), NOW_MS);
                    assert_eq!(Some(first), again.as_ref().ok());
                }
            })
            .expect("a thread");
        translating.join().expect("the translation returns");
    });
}

fn functions() -> &'static HashSet<String> {
    static NAMES: OnceLock<HashSet<String>> = OnceLock::new();
    let names = "count sum avg min max date_trunc from_unixtime date_format approx_distinct now \
                 coalesce concat substr strpos at_timezone json_extract_scalar row_number unnest";
    NAMES.get_or_init(|| names.split_whitespace().map(String::from).collect())
}
