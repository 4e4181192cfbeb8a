//! What the compressor of `CompressionFormat` `GZIP` takes alone: the floor that `bench/` compares
//! delivery with.
//!
//! `cargo run --release -p alluvium-delivery --example gzip_speed FILE` compresses a file's bytes as
//! delivery does (the level, and pieces of the size of a spool's), in memory, and prints one JSON line:
//! the best of three rounds, in time that the thread was on a CPU, so that a busy machine does not
//! count.

use flate2::{Compression, GzBuilder};
use std::error::Error;
use std::io::Write as _;
use std::time::Duration;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// As `s3::spool::PIECE_BYTES`.
const PIECE_BYTES: usize = 64 << 10;
const ROUNDS: usize = 3;

fn main() -> Outcome<()> {
    let path = std::env::args().nth(1).ok_or("say which file's bytes to compress")?;
    let bytes = std::fs::read(path)?;
    let (mut best, mut compressed_bytes) = (Duration::MAX, 0);
    for _ in 0..ROUNDS {
        let begun = on_cpu()?;
        let mut encoder = GzBuilder::new().write(Vec::new(), Compression::default());
        for piece in bytes.chunks(PIECE_BYTES) {
            encoder.write_all(piece)?;
        }
        compressed_bytes = encoder.finish()?.len();
        best = best.min(on_cpu()? - begun);
    }
    println!(
        "{{\"bytes\":{},\"compressed_bytes\":{compressed_bytes},\"cpu_seconds\":{:.4}}}",
        bytes.len(),
        best.as_secs_f64()
    );
    Ok(())
}

/// How long this thread was on a CPU (the first number of Linux's `schedstat`, in nanoseconds).
fn on_cpu() -> Outcome<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let first = text.split_whitespace().next().ok_or("schedstat is empty")?;
    Ok(Duration::from_nanos(first.parse()?))
}
