//! Tests of the real binary: its door, its life, its commands.

mod door;
mod event_stream;
mod lifecycle;
mod support;
