//! All error objects of a batch: lines sorted by where they go.
//!
//! A table's own `S3ErrorOutputPrefix` and the kind of error (`error-output-type`) each lead to
//! another place, so each pair is a group with objects of its own, whose part numbers no other group
//! has. Objects of an earlier try of the batch are removed from every group that there could be,
//! since that try may have found other errors (I2).

use crate::batch::BatchDocument;
use crate::error_object::{
    BatchNaming, ERROR_TYPES, ErrorLines, ErrorOutputError, ErrorWriter, Failure, Origin, Stage,
};
use crate::stream::ErrorTarget;
use alluvium_base::BatchNumber;
use alluvium_store::objects::Objects;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Part numbers of groups beyond the first begin here, above those of commits' error objects.
const GROUPS_FROM: u32 = 1 << 29;
/// Objects that a group may have: more than a batch's bytes make.
const GROUP_PARTS: u32 = 1 << 12;

/// Where lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ErrorGroup {
    /// The table with a prefix of its own, by its place in the destination's list from 1; 0 for the
    /// prefix that all others share.
    slot: u32,
    /// Its place in the list of types.
    kind: u32,
}

impl ErrorGroup {
    fn first_part(self) -> u32 {
        match self.slot * ERROR_TYPES.len() as u32 + self.kind {
            0 => 0,
            number => GROUPS_FROM + number * GROUP_PARTS,
        }
    }
}

/// The lines of one batch.
#[derive(Debug)]
pub struct BatchErrors {
    batch: BatchNumber,
    /// Which tables of the destination's list have a prefix of their own.
    own: Vec<bool>,
    groups: BTreeMap<ErrorGroup, ErrorLines>,
}

impl BatchErrors {
    /// None yet.
    pub fn new(batch: &BatchDocument) -> Self {
        let tables = batch.destination.iceberg().map_or(&[][..], |iceberg| &iceberg.tables);
        let own = tables.iter().map(|table| table.error_prefix.is_some()).collect();
        Self { batch: batch.number, own, groups: BTreeMap::new() }
    }

    /// Adds a record that failed on its way to a table of the destination's list, or to none.
    pub fn record(
        &mut self,
        table: Option<u32>,
        origin: &Origin<'_>,
        stage: Stage,
        raw: &[u8],
        failure: Failure<'_>,
    ) {
        let own = |place: &u32| self.own.get(*place as usize).copied().unwrap_or(false);
        let slot = table.filter(own).map_or(0, |place| place + 1);
        let kind = ERROR_TYPES.iter().position(|kind| *kind == stage.error_output_type());
        let group = ErrorGroup { slot, kind: kind.unwrap_or(0) as u32 };
        let lines = self.groups.entry(group).or_insert_with(|| ErrorLines::new(self.batch));
        lines.record(origin, stage, raw, failure);
    }

    /// How many lines there are.
    pub fn lines(&self) -> u64 {
        self.groups.values().map(ErrorLines::lines).sum()
    }

    /// How many records there are of each code.
    pub fn into_counts(self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for (code, count) in self.groups.into_values().flat_map(ErrorLines::into_counts) {
            *all.entry(code).or_default() += count;
        }
        all
    }

    /// Objects that are full, so that they can be written while more lines come.
    pub fn take_full(&mut self) -> Vec<(ErrorGroup, Bytes)> {
        let full = self.groups.iter_mut();
        full.flat_map(|(group, lines)| lines.take_full().into_iter().map(|b| (*group, b))).collect()
    }

    /// All that is left.
    pub fn take_all(&mut self) -> Vec<(ErrorGroup, Bytes)> {
        let all = self.groups.iter_mut();
        all.flat_map(|(group, lines)| lines.take_all().into_iter().map(|b| (*group, b))).collect()
    }
}

/// Writes the error objects of one batch.
#[derive(Debug)]
pub struct ErrorWriters {
    naming: BatchNaming,
    /// By slot.
    targets: Vec<Option<ErrorTarget>>,
    writers: BTreeMap<ErrorGroup, ErrorWriter>,
}

impl ErrorWriters {
    /// Of a batch of the stream of this name.
    pub fn new(batch: &BatchDocument, stream: &str) -> Self {
        let destination = &batch.destination;
        let tables = destination.iceberg().map_or(&[][..], |iceberg| &iceberg.tables);
        let mut targets = vec![Some(destination.error_target(None))];
        targets.extend(tables.iter().map(|table| {
            table.error_prefix.is_some().then(|| destination.error_target(Some(table)))
        }));
        Self { naming: BatchNaming::of(batch, stream), targets, writers: BTreeMap::new() }
    }

    fn writer(&mut self, group: ErrorGroup) -> Result<&mut ErrorWriter, ErrorOutputError> {
        use std::collections::btree_map::Entry;
        match self.writers.entry(group) {
            Entry::Occupied(there) => Ok(there.into_mut()),
            Entry::Vacant(vacant) => {
                let of = |slot: u32| self.targets.get(slot as usize)?.as_ref();
                let target = of(group.slot).or_else(|| of(0)).expect("slot 0 is always there");
                let kind = ERROR_TYPES[group.kind as usize % ERROR_TYPES.len()];
                let writer = ErrorWriter::new(&self.naming, target, kind, group.first_part())?;
                Ok(vacant.insert(writer))
            }
        }
    }

    /// Writes the next object of a group.
    pub async fn write(
        &mut self,
        objects: &dyn Objects,
        group: ErrorGroup,
        bytes: Bytes,
    ) -> Result<(), ErrorOutputError> {
        self.writer(group)?.write(objects, bytes).await
    }

    /// Removes what an earlier try wrote beyond this one.
    pub async fn remove_left_over(
        &mut self,
        objects: &dyn Objects,
    ) -> Result<(), ErrorOutputError> {
        let slots: Vec<u32> = (0..self.targets.len() as u32)
            .filter(|slot| self.targets[*slot as usize].is_some())
            .collect();
        for slot in slots {
            for kind in 0..ERROR_TYPES.len() as u32 {
                self.writer(ErrorGroup { slot, kind })?.remove_left_over(objects).await?;
            }
        }
        Ok(())
    }
}
