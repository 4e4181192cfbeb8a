//! Tests of the real binary: its door, its life, its commands.

mod door;
mod lifecycle;
mod support;
