//! SipHash-2-4 with 128 bits: keys of records become numbers that nobody can make collide.
//!
//! *Owns*: the function. *Does not own*: its secret; a pass draws one.
//!
//! Two keys with one number would make the older one's value disappear. 128 bits make that
//! improbable by chance, the secret by intent. (Aumasson and Bernstein, 2012.)
//!
//! *IO: none*

/// The number of `bytes` under `secret`.
pub(super) fn siphash128(secret: [u64; 2], bytes: &[u8]) -> [u64; 2] {
    let mut state = State([
        secret[0] ^ 0x736f_6d65_7073_6575,
        secret[1] ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        secret[0] ^ 0x6c79_6765_6e65_7261,
        secret[1] ^ 0x7465_6462_7974_6573,
    ]);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state.take(u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    // The low byte of the length alone, as the function has it.
    last[7] = bytes.len().to_le_bytes()[0];
    state.take(u64::from_le_bytes(last));
    state.0[2] ^= 0xee;
    let first = state.finish();
    state.0[1] ^= 0xdd;
    [first, state.finish()]
}

struct State([u64; 4]);

impl State {
    fn take(&mut self, word: u64) {
        self.0[3] ^= word;
        self.rounds(2);
        self.0[0] ^= word;
    }

    fn finish(&mut self) -> u64 {
        self.rounds(4);
        self.0.iter().fold(0, |all, part| all ^ part)
    }

    fn rounds(&mut self, count: u32) {
        let [mut a, mut b, mut c, mut d] = self.0;
        for _ in 0..count {
            a = a.wrapping_add(b);
            b = b.rotate_left(13) ^ a;
            a = a.rotate_left(32);
            c = c.wrapping_add(d);
            d = d.rotate_left(16) ^ c;
            a = a.wrapping_add(d);
            d = d.rotate_left(21) ^ a;
            c = c.wrapping_add(b);
            b = b.rotate_left(17) ^ c;
            c = c.rotate_left(32);
        }
        self.0 = [a, b, c, d];
    }
}

#[cfg(test)]
mod tests {
    use super::siphash128;

    #[test]
    fn the_published_vectors_come_out() {
        let secret = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];
        let bytes = |count: u8| (0..count).collect::<Vec<_>>();
        let expected: [(u8, u128); 3] = [
            (0, 0xa381_7f04_ba25_a8e6_6df6_7214_c755_0293),
            (1, 0xda87_c1d8_6b99_af44_3476_5911_9b22_fc45),
            (2, 0x8177_228d_a4a4_5dc7_fca3_8bde_f60a_ffe4),
        ];
        for (count, expected) in expected {
            let [low, high] = siphash128(secret, &bytes(count));
            let found = [low.to_le_bytes(), high.to_le_bytes()].concat();
            assert_eq!(found, expected.to_be_bytes(), "{count} bytes");
        }
        assert_ne!(
            siphash128(secret, &bytes(16)),
            siphash128(secret, &bytes(15))
        );
        assert_ne!(siphash128(secret, b"k"), siphash128([1, 2], b"k"));
    }
}
