//! `alluvium log check` and `repair`: what is sound in the log of a stopped server.
