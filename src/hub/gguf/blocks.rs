//! Dequantisation of the block formats of GGUF.

use half::{bf16, f16};
use rayon::prelude::*;

/// The block format of a tensor. The layouts are those of ggml-quants.c.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(non_camel_case_types, reason = "these are the published names")]
#[expect(missing_docs, reason = "the names are those of ggml")]
pub enum BlockType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4_K,
    Q5_K,
    Q6_K,
}

/// Types that exist but are not read here, by their number in the file.
const REFUSED: [(u32, &str); 22] = [
    (9, "Q8_1"),
    (10, "Q2_K"),
    (11, "Q3_K"),
    (15, "Q8_K"),
    (16, "IQ2_XXS"),
    (17, "IQ2_XS"),
    (18, "IQ3_XXS"),
    (19, "IQ1_S"),
    (20, "IQ4_NL"),
    (21, "IQ3_S"),
    (22, "IQ2_S"),
    (23, "IQ4_XS"),
    (24, "I8"),
    (25, "I16"),
    (26, "I32"),
    (27, "I64"),
    (28, "F64"),
    (29, "IQ1_M"),
    (34, "TQ1_0"),
    (35, "TQ2_0"),
    (39, "MXFP4"),
    (40, "NVFP4"),
];

/// Blocks one thread unpacks at a time.
const BLOCKS_AT_ONCE: usize = 4096;

impl BlockType {
    /// The type behind its number in the file.
    ///
    /// # Errors
    /// The name of the type, when it is not one that is read here.
    pub fn from_code(code: u32) -> Result<Self, String> {
        Ok(match code {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            12 => Self::Q4_K,
            13 => Self::Q5_K,
            14 => Self::Q6_K,
            30 => Self::BF16,
            other => {
                let named = REFUSED.iter().find(|(code, _)| *code == other);
                let name =
                    named.map_or_else(|| format!("number {other}"), |(_, n)| (*n).to_owned());
                return Err(name);
            }
        })
    }

    /// How many numbers a block holds.
    #[must_use]
    pub fn numbers(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 => 1,
            Self::Q4_0 | Self::Q4_1 | Self::Q5_0 | Self::Q5_1 | Self::Q8_0 => 32,
            Self::Q4_K | Self::Q5_K | Self::Q6_K => 256,
        }
    }

    /// How many bytes a block takes.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
            Self::Q4_0 => 2 + 16,
            Self::Q4_1 => 4 + 16,
            Self::Q5_0 => 2 + 4 + 16,
            Self::Q5_1 => 4 + 4 + 16,
            Self::Q8_0 => 2 + 32,
            Self::Q4_K => 4 + 12 + 128,
            Self::Q5_K => 4 + 12 + 32 + 128,
            Self::Q6_K => 128 + 64 + 16 + 2,
        }
    }

    /// Dequantises complete blocks.
    ///
    /// # Panics
    /// `bytes` is not a whole number of blocks.
    #[must_use]
    pub fn unpack(self, bytes: &[u8]) -> Vec<f32> {
        assert!(bytes.len().is_multiple_of(self.bytes()), "blocks are complete");
        let (numbers, size) = (self.numbers(), self.bytes());
        let mut out = vec![0f32; bytes.len() / size * numbers];
        let chunks = out.par_chunks_mut(numbers * BLOCKS_AT_ONCE);
        chunks.zip(bytes.par_chunks(size * BLOCKS_AT_ONCE)).for_each(|(out, bytes)| {
            for (out, block) in out.chunks_exact_mut(numbers).zip(bytes.chunks_exact(size)) {
                self.unpack_block(block, out);
            }
        });
        out
    }

    fn unpack_block(self, block: &[u8], out: &mut [f32]) {
        match self {
            Self::F32 => out[0] = f32::from_le_bytes([block[0], block[1], block[2], block[3]]),
            Self::F16 => out[0] = half_at(block, 0),
            Self::BF16 => out[0] = bf16::from_le_bytes([block[0], block[1]]).to_f32(),
            Self::Q4_0 => nibbles(&block[2..], [0; 4], half_at(block, 0), Zero::Code(8), out),
            Self::Q4_1 => {
                let zero = Zero::Offset(half_at(block, 2));
                nibbles(&block[4..], [0; 4], half_at(block, 0), zero, out);
            }
            Self::Q5_0 => {
                nibbles(&block[6..], four(block, 2), half_at(block, 0), Zero::Code(16), out);
            }
            Self::Q5_1 => {
                let zero = Zero::Offset(half_at(block, 2));
                nibbles(&block[8..], four(block, 4), half_at(block, 0), zero, out);
            }
            Self::Q8_0 => {
                let scale = half_at(block, 0);
                for (out, &code) in out.iter_mut().zip(&block[2..]) {
                    *out = f32::from(code.cast_signed()) * scale;
                }
            }
            Self::Q4_K => k_nibbles(block, &[0; 32], &block[16..], out),
            Self::Q5_K => k_nibbles(block, &block[16..48], &block[48..], out),
            Self::Q6_K => six_bits(block, out),
        }
    }
}

fn half_at(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

fn four(block: &[u8], at: usize) -> [u8; 4] {
    [block[at], block[at + 1], block[at + 2], block[at + 3]]
}

/// Where zero lies among the codes.
#[derive(Clone, Copy)]
enum Zero {
    /// At this code.
    Code(i8),
    /// Code 0 is this number.
    Offset(f32),
}

/// `Q4_0`, `Q4_1`, `Q5_0`, `Q5_1`: 16 low nibbles, then the 16 high ones; a fifth bit each in `fifth`.
fn nibbles(codes: &[u8], fifth: [u8; 4], scale: f32, zero: Zero, out: &mut [f32]) {
    let fifth = u32::from_le_bytes(fifth);
    for (index, out) in out.iter_mut().enumerate() {
        let nibble = (codes[index % 16] >> (index / 16 * 4)) & 0x0f;
        let code = nibble | (((fifth >> index) & 1) as u8) << 4;
        *out = match zero {
            Zero::Code(zero) => f32::from(code.cast_signed() - zero) * scale,
            Zero::Offset(offset) => f32::from(code) * scale + offset,
        };
    }
}

/// The 6-bit scale and offset of the `index`-th of 8 groups: the first four in the low bits of
/// 8 bytes, the others' low halves in 4 bytes more and high bits in what the first left over.
fn scale_and_offset(packed: &[u8], index: usize) -> (f32, f32) {
    let (scale, offset) = if index < 4 {
        (packed[index] & 63, packed[index + 4] & 63)
    } else {
        let low = packed[index + 4];
        ((low & 0x0f) | (packed[index - 4] >> 6) << 4, (low >> 4) | (packed[index] >> 6) << 4)
    };
    (f32::from(scale), f32::from(offset))
}

/// `Q4_K` and `Q5_K`: 8 groups of 32, two to every 32 bytes of nibbles; the fifth bit of group g is
/// bit g of `fifth`.
fn k_nibbles(block: &[u8], fifth: &[u8], codes: &[u8], out: &mut [f32]) {
    let (scale, offset) = (half_at(block, 0), half_at(block, 2));
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (factor, shift) = scale_and_offset(&block[4..16], group);
        let (factor, shift) = (scale * factor, offset * shift);
        let nibbles = &codes[group / 2 * 32..];
        for ((out, &pair), &bits) in out.iter_mut().zip(nibbles).zip(fifth) {
            let code = ((pair >> (group % 2 * 4)) & 0x0f) | ((bits >> group) & 1) << 4;
            *out = factor * f32::from(code) - shift;
        }
    }
}

/// `Q6_K`: 16 groups of 16; the low nibbles as in `k_nibbles` with 64 to a half, two high bits
/// beside, and the scales and the common factor at the end.
fn six_bits(block: &[u8], out: &mut [f32]) {
    let (low, rest) = block.split_at(128);
    let (high, rest) = rest.split_at(64);
    let scale = half_at(rest, 16);
    for (index, out) in out.iter_mut().enumerate() {
        let (half, quarter, lane) = (index / 128, index / 32 % 4, index % 32);
        let nibble = (low[half * 64 + quarter % 2 * 32 + lane] >> (quarter / 2 * 4)) & 0x0f;
        let bits = (high[half * 32 + lane] >> (quarter * 2)) & 3;
        let code = (nibble | bits << 4).cast_signed() - 32;
        *out = scale * f32::from(rest[index / 16].cast_signed()) * f32::from(code);
    }
}
