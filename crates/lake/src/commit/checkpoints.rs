//! Checkpoint moves of one change, checked against the documents (DURABILITY section 6).

use super::CommitError;
use crate::catalog::{Catalog, Checkpoint, CheckpointMove, body_of, checkpoint_key};
use alluvium_base::{BatchNumber, StreamIncarnation, TableId};
use alluvium_store::records::{Operation, Precondition, Transaction};

/// What is to be done about checkpoint moves.
#[derive(Debug)]
pub(crate) enum Moves {
    /// All stand at or past their ends: the change was done before.
    Done,
    /// They move with this.
    Move(Transaction),
}

/// Looks at where the checkpoints stand. Several moves of one stream follow each other.
pub(crate) async fn plan_moves(
    catalog: &Catalog,
    table: TableId,
    moves: &[CheckpointMove],
) -> Result<Moves, CommitError> {
    let mut transaction = Transaction::default();
    let mut done = 0;
    // Where each stream stands after the moves so far.
    let mut reached: Vec<(StreamIncarnation, BatchNumber)> = Vec::new();
    for step in moves {
        let key = checkpoint_key(table, step.incarnation);
        let before =
            reached.iter().rev().find(|(stream, _)| *stream == step.incarnation).map(|(_, b)| *b);
        let standing = match before {
            Some(batch) => Some(batch),
            None => {
                let found = catalog.find_checkpoint(table, step.incarnation).await?;
                transaction.preconditions.push(match &found {
                    Some(found) => Precondition::AtVersion(key.clone(), found.version),
                    None => Precondition::Absent(key.clone()),
                });
                found.map(|found| found.value.batch)
            }
        };
        let incarnation = step.incarnation;
        if standing.is_some_and(|standing| standing >= step.to) {
            done += 1;
        } else if standing == step.from {
            let (log_id, batch, lanes) = (step.log_id, step.to, step.lanes.clone());
            let checkpoint = Checkpoint { incarnation, log_id, batch, lanes };
            transaction.operations.push(Operation::Put(key, body_of(&checkpoint)));
            reached.push((incarnation, step.to));
        } else {
            return Err(match (standing, step.from) {
                (None, Some(from)) => CommitError::CheckpointMissing { incarnation, from },
                (found, _) => {
                    let found = found.unwrap_or_default();
                    CommitError::CheckpointElsewhere { incarnation, found }
                }
            });
        }
    }
    match done {
        0 => Ok(Moves::Move(transaction)),
        done if done == moves.len() => Ok(Moves::Done),
        _ => Err(CommitError::Conflict("some of its checkpoints have moved and some not".into())),
    }
}
