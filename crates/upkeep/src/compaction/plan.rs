//! What is worth rewriting: pure, over sizes and counts.
//!
//! A file is small below [`Policy::min_file_bytes`]. Small files are sorted into levels, each four
//! times the size of the one before, and the highest level that has enough files (counting all that
//! is below it as one) is merged with all below it. So a row is rewritten about once a level, five
//! times in its life, whatever the number of commits; and a table that has nothing to gain is left
//! alone. Whatever is below it can also fill a whole file: then it is merged at once, for good.
//!
//! A file with many deleted rows, one that is too large, one of an older partition spec and, when
//! rows are sorted, a large one that is not sorted are rewritten without waiting for others.

use std::collections::BTreeMap;

/// Levels of small files, each this many times the size of the one before.
const LEVEL_FACTOR: u64 = 4;
/// The part of the target size below which files are of the lowest level.
const FLOOR_PART: u64 = 256;
/// Deleted rows of one group: a scan holds their positions.
const GROUP_DELETED_ROWS: u64 = 10_000_000;

/// What makes a file worth rewriting.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Policy {
    /// How large files should be.
    pub(super) target_bytes: u64,
    /// Smaller ones are merged.
    pub(super) min_file_bytes: u64,
    /// Larger ones are split.
    pub(super) max_file_bytes: u64,
    /// Fewer small files are left alone, unless they fill a whole one.
    pub(super) min_input_files: usize,
    /// A file with so many delete files is rewritten.
    pub(super) delete_files_max: usize,
    /// A file with so many equality delete files is rewritten.
    pub(super) equality_files_max: usize,
    /// A file that has lost this part of its rows is rewritten.
    pub(super) deleted_share_max: f64,
    /// Whether large files that are not in the table's sort order are rewritten.
    pub(super) sort: bool,
    /// Whether all small files are taken as soon as they are enough, whatever their levels.
    pub(super) at_once: bool,
    /// Input of one group, so that a lost race loses little.
    pub(super) group_bytes: u64,
}

/// A data file, as far as planning looks.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Candidate {
    /// Files of one number may be merged.
    pub(super) partition: usize,
    /// Whether it is of another partition spec than the table's.
    pub(super) old_spec: bool,
    pub(super) size_bytes: u64,
    pub(super) rows: u64,
    pub(super) deleted_rows: u64,
    pub(super) delete_files: usize,
    pub(super) equality_files: usize,
    /// Whether its rows are in the table's sort order.
    pub(super) sorted: bool,
    /// Its data sequence number: rows that came together stay together.
    pub(super) sequence: i64,
}

impl Candidate {
    /// Whether it is rewritten without waiting for others.
    fn is_due(&self, policy: &Policy) -> bool {
        let large = self.size_bytes >= policy.min_file_bytes;
        let share = self.deleted_rows as f64 >= self.rows as f64 * policy.deleted_share_max;
        self.old_spec
            || (self.deleted_rows > 0 && share)
            || self.delete_files + self.equality_files >= policy.delete_files_max
            || self.equality_files >= policy.equality_files_max
            // One row cannot be split.
            || (self.size_bytes > policy.max_file_bytes && self.rows > 1)
            || (policy.sort && large && !self.sorted)
    }
}

/// Files to be merged, by their places in `files`; each group is of one partition.
pub(super) fn plan(files: &[Candidate], policy: &Policy) -> Vec<Vec<usize>> {
    let mut partitions: BTreeMap<usize, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
    for (at, file) in files.iter().enumerate() {
        let (due, small) = partitions.entry(file.partition).or_default();
        if file.is_due(policy) {
            due.push(at);
        } else if file.size_bytes < policy.min_file_bytes {
            small.push(at);
        }
    }
    let mut groups = Vec::new();
    for (due, small) in partitions.into_values() {
        let sizes: Vec<u64> = small.iter().map(|at| files[*at].size_bytes).collect();
        let floor = (policy.target_bytes / FLOOR_PART).max(1);
        let total: u64 = sizes.iter().sum();
        // Small ones that are rewritten anyway are company, too.
        let company = due.iter().filter(|at| files[**at].size_bytes < policy.min_file_bytes);
        let enough = small.len() + company.count() >= policy.min_input_files;
        let fills = total >= policy.target_bytes && small.len() > 1;
        let chosen = if (policy.at_once && enough) || fills {
            (0..small.len()).collect()
        } else {
            choose_levels(&sizes, floor, policy.min_input_files)
        };
        let mut chosen: Vec<usize> = chosen.into_iter().map(|at| small[at]).collect();
        let is_due: Vec<usize> = due.clone();
        chosen.extend(due);
        chosen.sort_by_key(|at| (files[*at].sequence, *at));
        groups.extend(
            chunks(&chosen, files, policy.group_bytes)
                .into_iter()
                .filter(|group| group.len() > 1 || group.iter().any(|at| is_due.contains(at))),
        );
    }
    groups
}

/// The files of the highest level that has enough of them, and of all levels below it.
pub(super) fn choose_levels(sizes: &[u64], floor: u64, min_count: usize) -> Vec<usize> {
    let level = |size: u64| {
        let mut level = 0u32;
        let mut limit = floor;
        while size >= limit && level < 64 {
            level += 1;
            limit = limit.saturating_mul(LEVEL_FACTOR);
        }
        level
    };
    let mut levels: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
    for (at, size) in sizes.iter().enumerate() {
        levels.entry(level(*size)).or_default().push(at);
    }
    let (mut best, mut below) = (None, 0u64);
    for (number, files) in &levels {
        // What is below comes as one file, if it is as large as one of this level.
        let carried = usize::from(below > 0 && level(below) >= *number);
        if files.len() + carried >= min_count.max(2) {
            best = Some(*number);
        }
        below += files.iter().map(|at| sizes[*at]).sum::<u64>();
    }
    let Some(best) = best else { return Vec::new() };
    levels.range(..=best).flat_map(|(_, files)| files.iter().copied()).collect()
}

/// Neighbours together, up to so many bytes and deleted rows.
fn chunks(chosen: &[usize], files: &[Candidate], bytes_max: u64) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let (mut bytes, mut deleted) = (0, 0);
    for at in chosen {
        let (size, gone) = (files[*at].size_bytes, files[*at].deleted_rows);
        match groups.last_mut() {
            Some(group) if bytes + size <= bytes_max && deleted + gone <= GROUP_DELETED_ROWS => {
                group.push(*at);
                bytes += size;
                deleted += gone;
            }
            _ => {
                groups.push(vec![*at]);
                (bytes, deleted) = (size, gone);
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn policy() -> Policy {
        Policy {
            target_bytes: 512 * MIB,
            min_file_bytes: 384 * MIB,
            max_file_bytes: 921 * MIB,
            min_input_files: 5,
            delete_files_max: usize::MAX,
            equality_files_max: 5,
            deleted_share_max: 0.2,
            sort: false,
            at_once: false,
            group_bytes: 2048 * MIB,
        }
    }

    fn file(size_bytes: u64, sequence: i64) -> Candidate {
        Candidate { size_bytes, rows: 100, sequence, sorted: true, ..Candidate::default() }
    }

    fn sizes(sizes: &[u64]) -> Vec<Candidate> {
        sizes.iter().enumerate().map(|(at, size)| file(*size, at as i64)).collect()
    }

    #[test]
    fn one_row_is_never_split_and_many_deleted_rows_are_several_groups() {
        let huge = Candidate { rows: 1, ..file(2_000 * MIB, 0) };
        assert!(plan(&[huge], &policy()).is_empty());
        let worn = |at| Candidate { rows: 9_000_000, deleted_rows: 6_000_000, ..file(MIB, at) };
        let groups = plan(&[worn(0), worn(1), worn(2)], &policy());
        assert_eq!(groups, [[0], [1], [2]]);
    }

    #[test]
    fn a_table_with_nothing_to_gain_is_left_alone() {
        assert!(plan(&[], &policy()).is_empty());
        assert!(plan(&sizes(&[MIB; 4]), &policy()).is_empty());
        assert!(plan(&sizes(&[500 * MIB; 20]), &policy()).is_empty());
        let mut apart = sizes(&[MIB; 20]);
        apart.iter_mut().enumerate().for_each(|(at, file)| file.partition = at);
        assert!(plan(&apart, &policy()).is_empty());
    }

    #[test]
    fn small_files_wait_for_each_other_and_do_not_drag_large_ones_along() {
        assert_eq!(plan(&sizes(&[MIB; 5]), &policy()), [vec![0, 1, 2, 3, 4]]);
        let files = sizes(&[300 * MIB, MIB, MIB, MIB, MIB, MIB]);
        assert_eq!(plan(&files, &policy()), [vec![1, 2, 3, 4, 5]]);
        // Together they fill a whole file: for good.
        assert_eq!(plan(&sizes(&[300 * MIB, 250 * MIB]), &policy()), [vec![0, 1]]);
    }

    #[test]
    fn files_with_a_reason_of_their_own_do_not_wait() {
        let large = file(500 * MIB, 1);
        let deleted = Candidate { deleted_rows: 20, ..large.clone() };
        let old = Candidate { old_spec: true, partition: 1, ..large.clone() };
        let equality = Candidate { equality_files: 5, partition: 2, ..large.clone() };
        let huge = Candidate { size_bytes: 1000 * MIB, partition: 3, ..large.clone() };
        let few = Candidate { deleted_rows: 19, partition: 4, ..large.clone() };
        let files = [deleted, old, equality, huge, few];
        assert_eq!(plan(&files, &policy()), [vec![0], vec![1], vec![2], vec![3]]);
        let unsorted = [Candidate { sorted: false, ..large }];
        assert!(plan(&unsorted, &policy()).is_empty());
        assert_eq!(plan(&unsorted, &Policy { sort: true, ..policy() }), [vec![0]]);
    }

    #[test]
    fn groups_are_bounded() {
        let groups = plan(&sizes(&[100 * MIB; 50]), &policy());
        assert!(groups.iter().all(|group| group.len() <= 20));
        assert_eq!(groups.concat().len(), 50);
    }

    proptest! {
        #[test]
        fn rows_are_rewritten_about_once_a_level(count in 100..2000u64, size in 1..4u64) {
            let policy = policy();
            let (mut files, mut written): (Vec<u64>, u64) = (Vec::new(), 0);
            for at in 0..count {
                files.push(MIB * (1 + at % size));
                loop {
                    let groups = plan(&sizes(&files), &policy);
                    if groups.is_empty() { break; }
                    let mut merged: Vec<u64> = Vec::new();
                    let gone: Vec<usize> = groups.concat();
                    for group in groups {
                        let mut bytes: u64 = group.iter().map(|at| files[*at]).sum();
                        written += bytes;
                        while bytes > 0 {
                            let part = bytes.min(policy.target_bytes);
                            merged.push(part);
                            bytes -= part;
                        }
                    }
                    files = files.iter().enumerate().filter(|(at, _)| !gone.contains(at))
                        .map(|(_, size)| *size).chain(merged).collect();
                }
            }
            let all: u64 = (0..count).map(|at| MIB * (1 + at % size)).sum();
            prop_assert_eq!(files.iter().sum::<u64>(), all);
            prop_assert!(written <= 6 * all, "{written} of {all}");
            let small = files.iter().filter(|size| **size < policy.min_file_bytes).count();
            prop_assert!(small <= 25, "{small} small files stay");
        }
    }
}
