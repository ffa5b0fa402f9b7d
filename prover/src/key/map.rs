//! Files in memory without reading them: the system brings a page when it is first touched, and may drop it again.
//!
//! file → [`Map`] → [`Slice`] of points or numbers; [`Kept`] is such a slice, or a vector of this process's own
//!
//! # Soundness
//! A key file is written under another name and renamed, never changed in place, so what is mapped stays as it is. Whoever
//! truncates a mapped file in place ends the processes that use it (SIGBUS), as with any program that is mapped.
#![allow(unsafe_code)]

use crate::fast::point::{G1Point, G2Point};
use memmap2::Mmap;
use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

/// A file's bytes.
#[derive(Clone)]
pub struct Map(Arc<Mmap>);

impl Map {
    /// Maps a whole file for reading.
    ///
    /// # Errors
    /// If the system cannot map it.
    pub fn of(file: &File) -> io::Result<Self> {
        // SAFETY: the map is read-only and private to `Slice`s and byte slices of plain data. Key files are replaced by
        // renaming, not written in place (see the head of this file).
        let map = unsafe { Mmap::map(file)? };
        Ok(Self(Arc::new(map)))
    }

    /// Part of the file as values of a type; nothing if it lies outside, unaligned, or holds no whole number of them.
    pub fn slice<T: Plain>(&self, start: u64, bytes: u64) -> Option<Slice<T>> {
        let start = usize::try_from(start).ok()?;
        let end = start.checked_add(usize::try_from(bytes).ok()?)?;
        let part = self.0.get(start..end)?;
        let whole = part.len().is_multiple_of(size_of::<T>());
        let aligned = part.as_ptr().cast::<T>().is_aligned();
        (whole && aligned).then(|| Slice {
            map: self.clone(),
            start,
            length: part.len() / size_of::<T>(),
            kind: PhantomData,
        })
    }
}

impl Deref for Map {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Types whose values are just their bytes, in files and in memory.
///
/// # Safety
/// Any bytes must be a value, without padding between them.
pub unsafe trait Plain: Copy + Send + Sync + 'static {}

// SAFETY: any four bytes are a number.
unsafe impl Plain for u32 {}
// SAFETY: eight words fill the 64 bytes that its alignment asks for; the kernels take any words.
unsafe impl Plain for G1Point {}
// SAFETY: sixteen words fill the 128 bytes that its alignment asks for; the kernels take any words.
unsafe impl Plain for G2Point {}

/// Values that lie in a mapped file.
#[derive(Clone)]
pub struct Slice<T> {
    map: Map,
    start: usize,
    length: usize,
    kind: PhantomData<T>,
}

impl<T: Plain> Deref for Slice<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        let start = self.map[self.start..].as_ptr().cast::<T>();
        // SAFETY: `Map::slice` has checked bounds and alignment, the map does not move or end before its last clone, any
        // bytes are values of a plain type, and files' integers are little-endian as this processor's (asserted below).
        unsafe { std::slice::from_raw_parts(start, self.length) }
    }
}

const _: () = assert!(
    cfg!(target_endian = "little"),
    "key files are mapped as they lie, in little-endian order"
);

/// Values in memory of this process or in a mapped file.
#[derive(Clone)]
pub enum Kept<T: Plain> {
    /// Its own.
    Owned(Vec<T>),
    /// A file's.
    Mapped(Slice<T>),
}

impl<T: Plain> Kept<T> {
    /// Bytes of memory of its own.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Owned(values) => values.capacity() * size_of::<T>(),
            Self::Mapped(_) => 0,
        }
    }
}

impl<T: Plain> Deref for Kept<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::Owned(values) => values,
            Self::Mapped(slice) => slice,
        }
    }
}

impl<T: Plain> Default for Kept<T> {
    fn default() -> Self {
        Self::Owned(vec![])
    }
}

impl<T: Plain> From<Vec<T>> for Kept<T> {
    fn from(values: Vec<T>) -> Self {
        Self::Owned(values)
    }
}

impl<T: Plain> From<Slice<T>> for Kept<T> {
    fn from(slice: Slice<T>) -> Self {
        Self::Mapped(slice)
    }
}

impl<T: Plain + PartialEq> PartialEq for Kept<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Plain + Eq> Eq for Kept<T> {}

impl<T: Plain + std::fmt::Debug> std::fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        (**self).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn slices_outside_unaligned_or_of_parts_are_refused() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 512]).unwrap();
        let map = Map::of(&file).unwrap();
        let numbers: Slice<u32> = map.slice(4, 8).unwrap();
        assert_eq!(*numbers, [0x0707_0707; 2]);
        assert_eq!(map.slice::<G2Point>(128, 256).unwrap().len(), 2);
        for (start, bytes) in [
            (2, 8),
            (0, 6),
            (512, 4),
            (0, 516),
            (u64::MAX, 4),
            (4, u64::MAX),
        ] {
            assert!(map.slice::<u32>(start, bytes).is_none(), "{start}, {bytes}");
        }
        assert!(map.slice::<G1Point>(32, 64).is_none());
        assert!(map.slice::<G2Point>(64, 128).is_none());
    }

    #[test]
    fn kept_values_are_equal_wherever_they_lie() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[1, 0, 0, 0, 2, 0, 0, 0]).unwrap();
        let map = Map::of(&file).unwrap();
        let mapped = Kept::from(map.slice::<u32>(0, 8).unwrap());
        drop(map);
        assert_eq!(mapped, Kept::from(vec![1, 2]));
        assert_eq!((mapped.bytes(), Kept::<u32>::default().len()), (0, 0));
    }
}
