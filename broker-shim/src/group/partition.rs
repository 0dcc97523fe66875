//! Which partition of `__consumer_offsets` a group belongs to.
//!
//! *Owns*: Kafka's rule: Java's `String.hashCode`, its magnitude, modulo.
//! *Does not own*: the number of partitions.
//!
//! *IO: none*

/// The partition of group `group_id` among `num_partitions`.
///
/// # Panics
/// If `num_partitions` is not positive.
pub(crate) fn partition_for(group_id: &str, num_partitions: i32) -> i32 {
    assert!(num_partitions > 0, "the offsets topic has partitions");
    let hash = group_id.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    // Kafka's Utils.abs: the one number without a magnitude becomes 0.
    let magnitude = if hash == i32::MIN { 0 } else { hash.abs() };
    magnitude % num_partitions
}

#[cfg(test)]
mod tests {
    use super::partition_for;

    #[test]
    fn hashes_as_java_does() {
        // "polygenelubricants".hashCode() is Integer.MIN_VALUE.
        assert_eq!(partition_for("polygenelubricants", 50), 0);
        assert_eq!(partition_for("", 50), 0);
        // "abc".hashCode() = 96354; "hello".hashCode() = 99162322; "Aa" and "BB" collide.
        assert_eq!(partition_for("abc", 50), 96_354 % 50);
        assert_eq!(partition_for("hello", 1000), 322);
        assert_eq!(partition_for("Aa", 997), partition_for("BB", 997));
        // Characters beyond the BMP count as two UTF-16 units: 0xD83D * 31 + 0xDE00.
        assert_eq!(partition_for("\u{1F600}", i32::MAX), 0xD83D * 31 + 0xDE00);
    }
}
