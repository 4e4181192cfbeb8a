//! The checksum of parts that stand one after another, from the checksums of the parts.
//!
//! A call that touches several shards has a checksum for each lane's frames and one for its whole
//! payload. Reading the payload a second time for the latter costs as much as the first, so it is
//! computed: bytes that follow multiply the checksum before them, a polynomial over GF(2), by a
//! power of `x`, and their own checksum is added. That is a handful of multiplications of 32 bits for
//! each part, whatever it holds.

/// CRC-32C's polynomial, its highest power first in the lowest bit.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// The polynomial `1`.
const ONE: u32 = 1 << 31;
/// `x^8`, squared so many times: the powers for 1, 2, 4, 8 … bytes.
const POWERS: [u32; 32] = powers();

const fn powers() -> [u32; 32] {
    let mut powers = [0; 32];
    let mut power = ONE >> 8;
    let mut index = 0;
    while index < 32 {
        powers[index] = power;
        power = multiply(power, power);
        index += 1;
    }
    powers
}

/// The product of two polynomials, reduced.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let (mut product, mut rest) = (0, a);
    while rest != 0 {
        // All ones where the term is there: the terms are as good as random to a branch.
        product ^= b & (rest >> 31).wrapping_neg();
        b = (b >> 1) ^ (POLYNOMIAL & (b & 1).wrapping_neg());
        rest <<= 1;
    }
    product
}

/// The CRC-32C of two parts, of which the second has so many bytes.
pub(crate) fn joined(first: u32, second: u32, second_bytes: u32) -> u32 {
    let mut power = ONE;
    let mut bytes = second_bytes;
    while bytes != 0 {
        power = multiply(POWERS[bytes.trailing_zeros() as usize], power);
        bytes &= bytes - 1;
    }
    multiply(first, power) ^ second
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_have_the_checksum_of_the_whole(
            first in proptest::collection::vec(any::<u8>(), 0..600),
            second in proptest::collection::vec(any::<u8>(), 0..600),
        ) {
            let crcs = [&first, &second].map(|part| crc32c::crc32c(part));
            let whole = crc32c::crc32c_append(crcs[0], &second);
            prop_assert_eq!(joined(crcs[0], crcs[1], second.len() as u32), whole);
        }

        #[test]
        fn any_length_is_as_the_library_has_it(first: u32, second: u32, bytes: u32) {
            let known = crc32c::crc32c_combine(first, second, bytes as usize);
            prop_assert_eq!(joined(first, second, bytes), known);
        }
    }
}
