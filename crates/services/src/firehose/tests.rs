//! The operations, called as the door calls them.
