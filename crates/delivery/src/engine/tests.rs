//! The engine over real stores and a real log, crashed between its steps.
