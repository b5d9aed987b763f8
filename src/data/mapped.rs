//! Memory-mapped tokens, stored as 16- or 32-bit integers.

use std::ops::Range;

use memmap2::Mmap;

/// How many bytes a stored token takes, little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// Vocabularies up to 65,536.
    Two,
    /// All others.
    Four,
}

impl Width {
    /// The narrowest for a vocabulary.
    pub(super) fn of(vocabulary: usize) -> Self {
        if vocabulary <= 1 << 16 { Self::Two } else { Self::Four }
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }
}

/// Tokens, one after the other.
#[derive(Debug)]
pub(super) enum Tokens {
    /// In a file: the operating system brings in the pages that are read.
    Mapped {
        /// The complete file.
        bytes: Mmap,
        /// Where in the file the first token is.
        offset: usize,
        /// Size of a token.
        width: Width,
    },
    /// In memory.
    Memory(Vec<u32>),
}

impl Tokens {
    /// Appends the tokens of `range` to `into`.
    pub(super) fn read(&self, range: Range<usize>, into: &mut Vec<u32>) {
        match self {
            Self::Memory(tokens) => into.extend_from_slice(&tokens[range]),
            Self::Mapped { bytes, offset, width } => {
                let place = |index: usize| offset + index * width.bytes();
                let bytes = &bytes[place(range.start)..place(range.end)];
                match width {
                    Width::Two => into.extend(
                        bytes.as_chunks().0.iter().map(|two| u32::from(u16::from_le_bytes(*two))),
                    ),
                    Width::Four => {
                        into.extend(
                            bytes.as_chunks().0.iter().map(|four| u32::from_le_bytes(*four)),
                        );
                    }
                }
            }
        }
    }
}
