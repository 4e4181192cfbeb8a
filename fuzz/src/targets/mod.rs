//! The targets, one a module.

mod aws_chunked;
mod calls;
mod error_lines;
mod inference;
mod kinesis_put_body;
mod kinesis_tokens;
mod kpl;
mod lane_segment;
mod log_block;
mod log_segment;
mod manifest_names;
mod names;
mod prefixes;
mod processing;
mod put_body;
mod records;
mod signature;
mod sql;
mod table_metadata;
mod wire_cbor;
mod wire_input;

/// A decoder under test.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Names its corpus.
    pub name: &'static str,
    /// Panics when what it checks does not hold.
    pub run: fn(&[u8]),
}

const fn of(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

/// All of them.
pub const TARGETS: &[Target] = &[
    of("aws_chunked", aws_chunked::run),
    of("calls", calls::run),
    of("error_lines", error_lines::run),
    of("inference", inference::run),
    of("kinesis_put_body", kinesis_put_body::run),
    of("kpl", kpl::run),
    of("kinesis_tokens", kinesis_tokens::run),
    of("lane_segment", lane_segment::run),
    of("log_block", log_block::run),
    of("log_segment", log_segment::run),
    of("manifest_names", manifest_names::run),
    of("names", names::run),
    of("prefixes", prefixes::run),
    of("processing", processing::run),
    of("put_body", put_body::run),
    of("records", records::run),
    of("signature", signature::run),
    of("sql", sql::run),
    of("table_metadata", table_metadata::run),
    of("wire_cbor", wire_cbor::run),
    of("wire_input", wire_input::run),
];

/// The input's first line and what comes after it.
fn split_line(input: &[u8]) -> (&[u8], &[u8]) {
    match input.iter().position(|byte| *byte == b'\n') {
        Some(at) => (&input[..at], &input[at + 1..]),
        None => (input, &[]),
    }
}

/// Takes bytes off the front of an input; zero when it is used up.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn u8(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.u8(), self.u8()])
    }

    fn take(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Waits for a future that ends by itself.
fn finish<F: Future>(future: F) -> F::Output {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime without I/O");
    }
    RUNTIME.with(|runtime| runtime.block_on(future))
}
