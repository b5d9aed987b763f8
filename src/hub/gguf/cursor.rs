//! A bounds-checked reader of a GGUF header.

use crate::error::{Error, Result};

/// A place in bytes that never passes their end.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    /// At the first byte.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// How many bytes were read.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// The bytes from `start` to here.
    pub(super) fn since(&self, start: usize) -> &'a [u8] {
        &self.bytes[start..self.position]
    }

    /// The next `count` bytes.
    pub(super) fn take(&mut self, count: u64) -> Result<&'a [u8]> {
        let rest = &self.bytes[self.position..];
        let taken = usize::try_from(count).ok().and_then(|count| rest.get(..count));
        let taken = taken.ok_or_else(|| {
            Error::input(format!(
                "the header needs {count} bytes at byte {}, but only {} are left",
                self.position,
                rest.len()
            ))
            .hint("the file is truncated or damaged: fetch it again")
        })?;
        self.position += taken.len();
        Ok(taken)
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let bytes = self.take(N as u64)?;
        Ok(bytes.try_into().expect("take gives exactly the requested number of bytes"))
    }

    /// A little-endian number of 4 bytes.
    pub(super) fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    /// A little-endian number of 8 bytes.
    pub(super) fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A text after its length.
    pub(super) fn text(&mut self) -> Result<&'a str> {
        let (length, start) = (self.u64()?, self.position);
        std::str::from_utf8(self.take(length)?)
            .map_err(|_| Error::input(format!("the text at byte {start} is not UTF-8")))
    }
}
