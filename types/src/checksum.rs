//! CRC-32C (Castagnoli), the checksum of every Tidewater format and of Kafka's
//! record batches.
//!
//! *Owns*: the one way to compute it, over parts that need not be contiguous.
//! *Does not own*: what a format covers with it; each page in docs/formats says so.
//!
//! *IO: none*

use crc_fast::{CrcAlgorithm, Digest};

/// CRC-32C of the concatenation of `parts`, without joining them.
///
/// ```
/// use tidewater_types::crc32c;
/// assert_eq!(crc32c(&[b"123456789"]), 0xe306_9283);
/// assert_eq!(crc32c(&[b"1234", b"56789"]), 0xe306_9283);
/// ```
#[must_use]
pub fn crc32c(parts: &[&[u8]]) -> u32 {
    let value = match parts {
        [one] => crc_fast::checksum(CrcAlgorithm::Crc32Iscsi, one),
        many => {
            let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
            for part in many {
                digest.update(part);
            }
            digest.finalize()
        }
    };
    u32::try_from(value).expect("a 32-bit checksum fits 32 bits")
}

#[cfg(test)]
mod tests {
    use super::crc32c;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_an_independent_implementation(bytes in proptest::collection::vec(any::<u8>(), 0..5000), cut in 0usize..5000) {
            let cut = cut.min(bytes.len());
            let oracle = ::crc32c::crc32c(&bytes);
            prop_assert_eq!(crc32c(&[&bytes]), oracle);
            prop_assert_eq!(crc32c(&[&bytes[..cut], &bytes[cut..]]), oracle);
        }
    }
}
