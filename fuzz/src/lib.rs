//! Fuzz targets: one for every decoder of bytes from outside.
//!
//! A target is a function of bytes that must return, within bounded time and memory, whatever the
//! bytes are; each module under [`targets`] says what else must hold. All are in one program, so
//! that they are linked once; the environment variable [`CHOICE`] picks one. The inputs under
//! `corpus/TARGET/` are where fuzzing starts, and the tests of this crate run each of them, so that
//! an input that once failed never does again. `scripts/fuzz` builds with coverage and runs.
//!
//! Left out: what libraries decode behind checks of their own (HTTP in `hyper`, signed S3 requests
//! and `aws-chunked` bodies in `s3s`, Parquet pages).

pub mod targets;

pub use targets::{TARGETS, Target};

use std::sync::OnceLock;

/// The environment variable that names the target.
pub const CHOICE: &str = "ALLUVIUM_FUZZ_TARGET";

/// The target of this name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Runs the target that [`CHOICE`] names; panics, as every failure of a target does, if there is
/// none of that name.
pub fn run_chosen(input: &[u8]) {
    static CHOSEN: OnceLock<&'static Target> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let name = std::env::var(CHOICE).unwrap_or_default();
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        target(&name).unwrap_or_else(|| panic!("{CHOICE}='{name}' is none of {names:?}"))
    });
    (chosen.run)(input);
}
