//! A block's header: any bytes decode or are refused without panic, also when their checksum is made
//! right; a header that decodes is encoded to the bytes that it came from, and its lengths agree.

use alluvium_log::block::{CRC_AT, HEADER_BYTES, MAGIC, Seed, decode_header};

const SALT: [u8; 16] = [7; 16];

/// The target.
pub(super) fn run(input: &[u8]) {
    let seed = Seed::of(&SALT);
    let as_it_is = decode_header(input, seed);
    assert!(input.len() >= HEADER_BYTES || as_it_is.is_err());
    let mut bytes = input.to_vec();
    if bytes.len() < HEADER_BYTES {
        return;
    }
    bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
    make_right(&mut bytes);
    let Ok(mut header) = decode_header(&bytes, seed) else { return };
    assert!(header.block_bytes() >= header.header_bytes() as u64);
    assert!(header.payload_bytes() <= header.block_bytes());
    for lane in &header.lanes {
        assert!(lane.last().offset >= lane.first.offset);
    }
    let mut again = Vec::new();
    header.encode(seed, &mut again);
    assert_eq!(decode_header(&again, seed).as_ref(), Ok(&header), "a header encodes as it was");
}

/// Gives the header at the front of `bytes` the checksum that it would have been written with.
pub(super) fn make_right(bytes: &mut [u8]) {
    let length = u32::from_le_bytes(bytes[12..16].try_into().expect("four bytes")) as usize;
    let Some(header) = bytes.get_mut(..length).filter(|header| header.len() >= HEADER_BYTES) else {
        return;
    };
    header[CRC_AT..CRC_AT + 4].fill(0);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&SALT), header);
    header[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_le_bytes());
}
