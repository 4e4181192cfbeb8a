//! Where the rows of rewritten files are now: known without looking when rows were copied in order,
//! or when the order that they came into was kept.

use std::collections::HashMap;
use std::sync::Arc;

/// Rows of one file, read in order.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The number of its first copied row among all copied rows, as they were read.
    pub first: u64,
    /// The rows that the file has, deleted ones too.
    pub rows: u64,
    /// Positions that were not copied, ascending.
    pub gone: Arc<Vec<u64>>,
}

/// Where rows are that were copied from some files to others.
#[derive(Debug, Clone, Default)]
pub struct Moved {
    /// By the path of the file that they came from.
    pub from: HashMap<String, Origin>,
    /// By the number of a row as it was read its number as it was written, if rows were sorted.
    pub order: Option<Vec<u32>>,
    /// The files that they went to, in order, with their rows.
    pub to: Vec<(String, u64)>,
}

impl Moved {
    /// The path and position of a row now; `None` if it was not copied, `Some(None)` if that file
    /// is not known.
    pub(super) fn place(&self, path: &str, position: u64) -> Option<Option<(&str, u64)>> {
        let origin = self.from.get(path)?;
        if position >= origin.rows {
            // Others may delete what never was.
            return Some(None);
        }
        let Err(before) = origin.gone.binary_search(&position) else { return Some(None) };
        let mut number = origin.first + (position - before as u64);
        if let Some(order) = &self.order {
            number = u64::from(*order.get(usize::try_from(number).ok()?)?);
        }
        for (path, rows) in &self.to {
            if number < *rows {
                return Some(Some((path, number)));
            }
            number -= rows;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_copied_row_is_found_where_it_went(
            files in proptest::collection::vec(proptest::collection::vec(any::<bool>(), 0..20), 1..6),
            cut in 1..15u64,
            shuffle in proptest::option::of(1..1000usize),
        ) {
            let mut moved = Moved::default();
            let mut rows: Vec<(String, u64)> = Vec::new();
            for (at, file) in files.iter().enumerate() {
                let gone: Vec<u64> = (0..file.len() as u64).filter(|p| !file[*p as usize]).collect();
                let (first, has) = (rows.len() as u64, file.len() as u64);
                let origin = Origin { first, rows: has, gone: Arc::new(gone) };
                moved.from.insert(at.to_string(), origin);
                let kept = (0..file.len() as u64).filter(|p| file[*p as usize]);
                rows.extend(kept.map(|p| (at.to_string(), p)));
            }
            if let Some(by) = shuffle {
                let mut numbers: Vec<usize> = (0..rows.len()).collect();
                numbers.sort_by_key(|number| (number * by) % 17);
                let mut order = vec![0; rows.len()];
                numbers.iter().enumerate().for_each(|(now, was)| order[*was] = now as u32);
                rows = numbers.iter().map(|was| rows[*was].clone()).collect();
                moved.order = Some(order);
            }
            let parts: Vec<_> = rows.chunks(cut as usize).collect();
            moved.to = parts.iter().enumerate()
                .map(|(at, part)| (format!("new-{at}"), part.len() as u64)).collect();
            for (at, file) in files.iter().enumerate() {
                let beyond = file.len() as u64;
                prop_assert_eq!(moved.place(&at.to_string(), beyond), Some(None));
                for position in 0..beyond {
                    let place = moved.place(&at.to_string(), position);
                    if !file[position as usize] {
                        prop_assert_eq!(place, Some(None));
                        continue;
                    }
                    let (path, now) = place.unwrap().unwrap();
                    let part: usize = path.strip_prefix("new-").unwrap().parse().unwrap();
                    prop_assert_eq!(&parts[part][now as usize], &(at.to_string(), position));
                }
            }
            prop_assert_eq!(moved.place("unknown", 0), None);
        }
    }
}
