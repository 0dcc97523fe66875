//! Memory aligned for direct I/O.
//!
//! *Owns*: allocation at a given alignment, and how much of it is filled.
//! *Does not own*: what is in it.
//!
//! Invariants
//! 1. Every byte up to `capacity` is initialised.
//! 2. `len` ≤ `capacity`; both capacity and address are multiples of the alignment.
//!
//! *IO: none*

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::fmt;
use std::ptr::NonNull;

/// A buffer whose address and capacity are multiples of an alignment.
pub struct AlignedBuf {
    memory: NonNull<u8>,
    layout: Layout,
    len: usize,
    /// Two buffers have this memory: neither frees it.
    #[cfg(feature = "mutants")]
    aliased: bool,
}

// SAFETY: the buffer owns its memory alone; nothing in it is tied to a thread.
unsafe impl Send for AlignedBuf {}
// SAFETY: shared references only read.
unsafe impl Sync for AlignedBuf {}

impl AlignedBuf {
    /// Zeroed memory of `capacity` bytes at a multiple of `align`, none of it filled.
    ///
    /// # Panics
    /// If `align` is no power of two or `capacity` is not a positive multiple of it.
    #[must_use]
    pub fn new(capacity: usize, align: usize) -> Self {
        assert!(align.is_power_of_two(), "alignment {align}");
        assert!(
            capacity > 0 && capacity.is_multiple_of(align),
            "capacity {capacity} at alignment {align}"
        );
        let layout = Layout::from_size_align(capacity, align)
            .expect("a capacity that fits the address space");
        // SAFETY: the layout has a size above zero.
        let memory = unsafe { alloc_zeroed(layout) };
        let Some(memory) = NonNull::new(memory) else {
            handle_alloc_error(layout)
        };
        Self {
            memory,
            layout,
            len: 0,
            #[cfg(feature = "mutants")]
            aliased: false,
        }
    }

    /// Bytes it can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.layout.size()
    }

    /// Bytes filled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is filled.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The filled part.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.whole()[..self.len]
    }

    /// The whole memory, filled or not, to write into; then call [`AlignedBuf::set_len`].
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: the memory is ours alone, of that size, and initialised since allocation.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.capacity()) }
    }

    /// Declares the first `len` bytes filled.
    ///
    /// # Panics
    /// If that is more than the capacity.
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity(), "{len} of {} bytes", self.capacity());
        self.len = len;
    }

    /// Empties it; the bytes stay until they are overwritten.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Drops the first `num_bytes` of the filled part; the rest moves to the front.
    ///
    /// # Panics
    /// If less is filled.
    pub fn drop_front(&mut self, num_bytes: usize) {
        let len = self.len;
        self.as_mut_slice().copy_within(num_bytes..len, 0);
        self.len = len - num_bytes;
    }

    /// Appends `bytes` to the filled part.
    ///
    /// # Panics
    /// If they do not fit.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) {
        let start = self.len;
        self.set_len(start + bytes.len());
        self.as_mut_slice()[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// Fills up to `len` with zeros.
    ///
    /// # Panics
    /// If `len` exceeds the capacity or lies below the filled part.
    pub fn pad_to(&mut self, len: usize) {
        let start = self.len;
        assert!(start <= len, "cannot pad {start} bytes to {len}");
        self.set_len(len);
        self.as_mut_slice()[start..len].fill(0);
    }

    /// A second buffer on the same memory, for the seeded bug that uses one too early; only the
    /// simulator turns it on, which runs on one thread. The memory is never freed.
    #[cfg(feature = "mutants")]
    pub(crate) fn alias(&mut self) -> Self {
        self.aliased = true;
        Self {
            memory: self.memory,
            layout: self.layout,
            len: self.len,
            aliased: true,
        }
    }

    fn whole(&self) -> &[u8] {
        // SAFETY: the memory is ours, of that size, and initialised since allocation.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.capacity()) }
    }
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        #[cfg(feature = "mutants")]
        if self.aliased {
            return;
        }
        // SAFETY: allocated in `new` with this very layout, freed once.
        unsafe { dealloc(self.memory.as_ptr(), self.layout) }
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlignedBuf")
            .field("len", &self.len)
            .field("capacity", &self.capacity())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::AlignedBuf;

    #[test]
    fn address_and_capacity_are_aligned() {
        for align in [512, 4096, 16384] {
            let mut buf = AlignedBuf::new(align * 3, align);
            assert_eq!(buf.as_mut_slice().as_ptr() as usize % align, 0);
            assert_eq!((buf.capacity(), buf.len()), (align * 3, 0));
        }
    }

    #[test]
    fn padding_overwrites_what_an_earlier_use_left() {
        let mut buf = AlignedBuf::new(1024, 512);
        buf.extend_from_slice(&[7; 1024]);
        buf.clear();
        buf.extend_from_slice(b"ab");
        buf.pad_to(512);
        assert_eq!(&buf.as_slice()[..3], b"ab\0");
        assert!(buf.as_slice()[2..].iter().all(|&b| b == 0));
    }

    #[test]
    #[should_panic(expected = "of 512 bytes")]
    fn more_than_the_capacity_is_refused() {
        AlignedBuf::new(512, 512).extend_from_slice(&[0; 513]);
    }
}
