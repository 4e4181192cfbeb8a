//! The compressions of `CompressionFormat`, as streams into an [`Output`].
//!
//! Bytes are a function of the input alone: no time, no name of a machine, and blocks of
//! [`PIECE_BYTES`] whatever the pieces that the input came in were (I3).
//!
//! - `GZIP`: RFC 1952, one member, without a time.
//! - `ZIP`: an archive of one deflated entry, sizes behind it as a stream must have them.
//! - `Snappy`: the framing format (google/snappy, `framing_format.txt`).
//! - `HADOOP_SNAPPY`: Hadoop's block format. Each block is its length before compression (u32, big
//!   endian), then chunks of their own length (u32, big endian) and raw Snappy.

use super::spool::{Output, PIECE_BYTES, Piece};
use crate::stream::Compression;
use flate2::write::GzEncoder;
use std::fmt;
use std::io::{self, Write};
use zip::write::{SimpleFileOptions, StreamWriter, ZipWriter};

/// What Firehose appends to a name unless `FileExtension` says otherwise.
pub(super) fn extension(compression: Compression) -> &'static str {
    match compression {
        Compression::Uncompressed => "",
        Compression::Gzip => ".gz",
        Compression::Zip => ".zip",
        Compression::Snappy => ".snappy",
        Compression::HadoopSnappy => ".hsnappy",
    }
}

/// A compression at work on one object.
pub(super) struct Encoder {
    /// Input that does not fill a block yet.
    block: Vec<u8>,
    codec: Codec,
}

enum Codec {
    Plain(Output),
    Gzip(Box<GzEncoder<Output>>),
    Zip(Box<ZipWriter<StreamWriter<Output>>>),
    Snappy(Box<snap::write::FrameEncoder<Output>>),
    Hadoop(Box<HadoopSnappy>),
}

struct HadoopSnappy {
    output: Output,
    encoder: snap::raw::Encoder,
    chunk: Vec<u8>,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("block", &self.block.len()).finish_non_exhaustive()
    }
}

impl Encoder {
    /// One object's encoder. The name is that of a ZIP archive's entry.
    pub(super) fn new(compression: Compression, output: Output, name: &str) -> io::Result<Self> {
        let codec = match compression {
            Compression::Uncompressed => Codec::Plain(output),
            Compression::Gzip => {
                let level = flate2::Compression::default();
                Codec::Gzip(Box::new(flate2::GzBuilder::new().write(output, level)))
            }
            Compression::Zip => {
                let mut archive = ZipWriter::new_stream(output);
                archive.start_file(name, entry_options()).map_err(io::Error::other)?;
                Codec::Zip(Box::new(archive))
            }
            Compression::Snappy => Codec::Snappy(Box::new(snap::write::FrameEncoder::new(output))),
            Compression::HadoopSnappy => Codec::Hadoop(Box::new(HadoopSnappy {
                output,
                encoder: snap::raw::Encoder::new(),
                chunk: vec![0; snap::raw::max_compress_len(PIECE_BYTES)],
            })),
        };
        Ok(Self { block: Vec::new(), codec })
    }

    /// More of the object's bytes.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        if let Codec::Plain(output) = &mut self.codec {
            return output.write_all(bytes);
        }
        while !bytes.is_empty() {
            let taken = bytes.len().min(PIECE_BYTES - self.block.len());
            if self.block.is_empty() && taken == PIECE_BYTES {
                self.codec.encode(&bytes[..taken])?;
            } else {
                self.block.extend_from_slice(&bytes[..taken]);
                if self.block.len() == PIECE_BYTES {
                    self.codec.encode(&self.block)?;
                    self.block.clear();
                }
            }
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// The object, whole.
    pub(super) fn finish(mut self) -> io::Result<Vec<Piece>> {
        if !self.block.is_empty() {
            self.codec.encode(&self.block)?;
        }
        let output = match self.codec {
            Codec::Plain(output) => output,
            Codec::Gzip(encoder) => encoder.finish()?,
            Codec::Zip(archive) => archive.finish().map_err(io::Error::other)?.into_inner(),
            Codec::Snappy(encoder) => {
                encoder.into_inner().map_err(|e| io::Error::other(e.to_string()))?
            }
            Codec::Hadoop(hadoop) => hadoop.output,
        };
        Ok(output.finish())
    }
}

impl Codec {
    /// A block of [`PIECE_BYTES`], or the last one.
    fn encode(&mut self, block: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(output) => output.write_all(block),
            Self::Gzip(encoder) => encoder.write_all(block),
            Self::Zip(archive) => archive.write_all(block),
            Self::Snappy(encoder) => encoder.write_all(block),
            Self::Hadoop(hadoop) => hadoop.encode(block),
        }
    }
}

impl HadoopSnappy {
    fn encode(&mut self, block: &[u8]) -> io::Result<()> {
        let length = self.encoder.compress(block, &mut self.chunk).map_err(io::Error::other)?;
        for number in [block.len(), length] {
            let number = u32::try_from(number).map_err(io::Error::other)?;
            self.output.write_all(&number.to_be_bytes())?;
        }
        self.output.write_all(&self.chunk[..length])
    }
}

/// An entry without a time, readable by its owner.
fn entry_options() -> SimpleFileOptions {
    SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated)
        .last_modified_time(zip::DateTime::DEFAULT)
        .unix_permissions(0o644)
}
