//! What upkeep did last, kept with the table.
