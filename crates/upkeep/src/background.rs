//! Runs each table's upkeep by its settings, a few tables at a time.
