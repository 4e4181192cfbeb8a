//! What a table is made of, and what upkeep would do to it.
