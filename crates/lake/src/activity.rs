//! Which tables were committed to since upkeep last asked: a number a table, no I/O.
//!
//! Nothing is counted before somebody asks for the first time. At most [`TABLES_MAX`] tables are kept
//! (I8): what is beyond is found by whoever looks at all tables now and then.

use alluvium_base::TableId;
use parking_lot::Mutex;
use std::collections::HashMap;

/// Tables that are kept between two questions.
const TABLES_MAX: usize = 100_000;

/// The counts.
#[derive(Debug, Default)]
pub struct Activity(Mutex<Option<HashMap<TableId, u64>>>);

impl Activity {
    /// A table was committed to.
    pub(crate) fn committed(&self, table: TableId) {
        let mut tables = self.0.lock();
        let Some(tables) = tables.as_mut() else { return };
        if let Some(commits) = tables.get_mut(&table) {
            *commits += 1;
        } else if tables.len() < TABLES_MAX {
            tables.insert(table, 1);
        }
    }

    /// Commits by table since the last call; the first begins the counting.
    pub fn take(&self) -> HashMap<TableId, u64> {
        self.0.lock().replace(HashMap::new()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn commits_are_counted_from_the_first_question_on() {
        let (activity, table) = (Activity::default(), TableId(Uuid::from_u128(7)));
        activity.committed(table);
        assert!(activity.take().is_empty());
        activity.committed(table);
        activity.committed(table);
        assert_eq!(activity.take(), HashMap::from([(table, 2)]));
        assert!(activity.take().is_empty());
    }
}
