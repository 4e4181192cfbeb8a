//! Many position delete files of a partition into one: a table that is updated all the time gets
//! one with each commit, and every scan reads them all. Data files are not touched.

use super::contents::Contents;
use super::plan::choose_levels;
use super::{Run, summary};
use crate::UpkeepError;
use alluvium_base::kill_point;
use alluvium_lake::commit::{Append, MergedDeletes, Rewrite};
use alluvium_lake::delta::{only_target, position_delete_file};
use alluvium_lake::write::publish;
use alluvium_query::LiveFile;
use iceberg::spec::Struct;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Fewer are left alone.
const FILES_MIN: usize = 10;
/// Positions of one merge: 160 MB.
const POSITIONS_MAX: u64 = 20_000_000;
/// Files of fewer positions are of the lowest level.
const FLOOR_POSITIONS: u64 = 10_000;

/// Delete files that are worth merging, each group of one partition.
pub(super) fn plan(contents: &Contents) -> Vec<Vec<&LiveFile>> {
    let mut partitions: HashMap<(i32, &Struct), Vec<&LiveFile>> = HashMap::new();
    let places = contents.files.files.iter().map(|f| (f.data().file_path(), f.partition()));
    let places: HashMap<&str, (i32, &Struct)> = places.collect();
    for delete in &contents.files.position_deletes {
        let target = only_target(delete.data()).and_then(|path| places.get(&*path).copied());
        // What is listed in another partition than its target's is no company for others.
        if target.is_none_or(|partition| partition == delete.partition()) {
            partitions.entry(delete.partition()).or_default().push(delete);
        }
    }
    let mut groups: Vec<Vec<&LiveFile>> = Vec::new();
    for deletes in partitions.into_values() {
        let counts: Vec<u64> = deletes.iter().map(|d| d.data().record_count()).collect();
        let mut chosen = choose_levels(&counts, FLOOR_POSITIONS, FILES_MIN);
        chosen.sort_by_key(|at| counts[*at]);
        let mut positions = 0;
        chosen.retain(|at| {
            positions += counts[*at];
            positions <= POSITIONS_MAX
        });
        if chosen.len() >= FILES_MIN {
            groups.push(chosen.into_iter().map(|at| deletes[at]).collect());
        }
    }
    groups.sort_by_key(|group| group.first().map(|d| d.data().file_path().to_string()));
    groups
}

impl Run {
    /// Merges position delete files, as they are now.
    pub(super) async fn merge_deletes(&mut self) -> Result<(), UpkeepError> {
        let Some(contents) = Contents::load(&self.upkeep, self.table, None).await? else {
            return Ok(());
        };
        for group in plan(&contents) {
            match self.merge(&contents, &group).await {
                Ok(()) => {}
                Err(UpkeepError::Conflict(reason)) => {
                    tracing::info!(table = %self.table, "merging deletes was dropped: {reason}");
                    self.report.conflicts += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn merge(&mut self, contents: &Contents, group: &[&LiveFile]) -> Result<(), UpkeepError> {
        let Some(first) = group.first() else { return Ok(()) };
        let (spec_id, partition) = first.partition();
        let within = contents.files.files.iter().filter(|f| f.partition() == (spec_id, partition));
        let live: HashMap<&str, i64> =
            within.map(|file| (file.data().file_path(), file.sequence)).collect();
        let all = contents.files.files.iter().map(|file| file.data().file_path());
        let all: HashSet<&str> = all.collect();
        let mut positions: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for delete in group {
            let gone = self.upkeep.scanner().positions(delete).await?;
            if gone.keys().any(|path| all.contains(&**path) && !live.contains_key(&**path)) {
                // It names a file of another partition, to which it does not apply: left as it is.
                return Ok(());
            }
            // A file that was added again since has all its rows.
            let applies = |path: &str| live.get(path).is_some_and(|of| *of <= delete.sequence);
            for (path, list) in gone.iter().filter(|(path, _)| applies(path)) {
                positions.entry(path.clone()).or_default().extend(list);
            }
        }
        let number = |path: &String| Some((path.clone(), *live.get(path.as_str())?));
        let targets: HashMap<String, i64> = positions.keys().filter_map(number).collect();
        let mut added = Vec::new();
        if !positions.is_empty() {
            let name = format!("{}-{:05}", self.writing.file_prefix(), self.parts);
            self.parts += 1;
            let positions =
                positions.into_iter().map(|(path, list)| (path, list.into_iter().collect()));
            let metadata = &contents.table.metadata;
            let place = (spec_id, partition);
            let file = position_delete_file(metadata, &name, place, &positions.collect())?;
            publish(self.upkeep.lake().objects().as_ref(), std::slice::from_ref(&file), 1).await?;
            kill_point("compaction-deletes-written");
            added.push(Append { spec_id, files: vec![file.data_file] });
        }
        let merged = MergedDeletes {
            removed: group.iter().map(|d| d.data().file_path().to_string()).collect(),
            sequence_number: group.iter().map(|d| d.sequence).max().unwrap_or_default(),
            added,
            targets,
        };
        let summary = summary();
        let rewrite = Rewrite { merged: Some(merged), summary, ..Rewrite::default() };
        self.commit(rewrite).await
    }
}
