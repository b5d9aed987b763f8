//! The header of a GGUF file: metadata and the place of each tensor.

use std::collections::BTreeMap;
use std::ops::Range;

use super::blocks::BlockType;
use super::cursor::Cursor;
use super::value::{Metadata, Value};
use crate::error::{Error, Result};

/// Most tensors have one or two axes; the format allows four.
const MOST_AXES: u32 = 4;
const DEFAULT_ALIGNMENT: usize = 32;

/// A tensor of the file.
#[derive(Debug, Clone)]
pub(super) struct TensorInfo {
    /// Row-major: the slowest axis first, against the order in the file.
    pub(super) shape: Vec<usize>,
    /// How its numbers are packed.
    pub(super) blocks: BlockType,
    /// Its bytes in the file.
    pub(super) bytes: Range<usize>,
}

/// All that stands before the weights.
#[derive(Debug)]
pub(super) struct Header<'a> {
    /// Metadata of the model and its tokenizer.
    pub(super) metadata: Metadata<'a>,
    /// The tensors by name, all within the file, none upon another.
    pub(super) tensors: BTreeMap<&'a str, TensorInfo>,
}

impl<'a> Header<'a> {
    /// Reads the header of a complete file.
    ///
    /// # Errors
    /// It is not a GGUF of version 2 or 3, or a length or offset in it is impossible.
    pub(super) fn read(file: &'a [u8]) -> Result<Self> {
        let mut cursor = Cursor::new(file);
        check_version(&mut cursor)?;
        let (tensor_count, key_count) = (cursor.u64()?, cursor.u64()?);
        let mut metadata = Metadata::default();
        for _ in 0..key_count {
            let key = cursor.text()?;
            let kind = cursor.u32()?;
            metadata.insert(key, Value::read(&mut cursor, kind)?)?;
        }
        let mut tensors = BTreeMap::new();
        for _ in 0..tensor_count {
            let name = cursor.text()?;
            let info = read_tensor(&mut cursor, name)?;
            if tensors.insert(name, info).is_some() {
                return Err(Error::input(format!("the file has the tensor `{name}` twice")));
            }
        }
        place(&mut tensors, &metadata, cursor.position(), file.len())?;
        Ok(Self { metadata, tensors })
    }
}

fn check_version(cursor: &mut Cursor) -> Result<()> {
    let magic: [u8; 4] = cursor.array()?;
    match &magic {
        b"GGUF" => {}
        b"FUGG" => return Err(big_endian()),
        b"lmgg" | b"tjgg" | b"fmgg" | b"algg" => {
            return Err(Error::input("this is an old GGML file, from before GGUF")
                .hint("convert the model again with a llama.cpp of today"));
        }
        other => {
            return Err(Error::input(format!("this is not a GGUF file: it starts with {other:?}")));
        }
    }
    match cursor.u32()? {
        2 | 3 => Ok(()),
        1 => Err(Error::input("this is GGUF version 1, expected 2 or 3")
            .hint("convert the model again with a llama.cpp of today")),
        // The low half is empty when a small number stands the wrong way round.
        version if version.trailing_zeros() >= 16 => Err(big_endian()),
        version => Err(Error::input(format!("this is GGUF version {version}, expected 2 or 3"))),
    }
}

fn big_endian() -> Error {
    Error::input("this GGUF file is big-endian").hint("fetch the little-endian file of the model")
}

/// One entry of the tensor table; its `bytes` start at 0 of the weights until `place` moves them.
fn read_tensor(cursor: &mut Cursor, name: &str) -> Result<TensorInfo> {
    let axes = cursor.u32()?;
    if !(1..=MOST_AXES).contains(&axes) {
        return Err(Error::input(format!(
            "the tensor `{name}` has {axes} axes, expected 1 to {MOST_AXES}"
        )));
    }
    let mut shape = Vec::with_capacity(axes as usize);
    for _ in 0..axes {
        shape.push(usize::try_from(cursor.u64()?).unwrap_or(usize::MAX));
    }
    shape.reverse();
    let blocks = BlockType::from_code(cursor.u32()?).map_err(|kind| {
        Error::input(format!("the tensor `{name}` is of type {kind}, which cannot be read"))
            .hint("take a file in F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K or Q6_K")
    })?;
    let offset = cursor.u64()?;
    let overflow = || {
        Error::input(format!("the tensor `{name}`, {shape:?}, does not fit in any memory"))
            .hint("the file is damaged: fetch it again")
    };
    let count = shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size));
    let count = count.ok_or_else(overflow)?;
    let row = shape.last().copied().unwrap_or(0);
    if count == 0 || !row.is_multiple_of(blocks.numbers()) {
        return Err(Error::input(format!(
            "the tensor `{name}`, {shape:?}, does not divide into {blocks:?} blocks of {}",
            blocks.numbers()
        )));
    }
    let length = (count / blocks.numbers()).checked_mul(blocks.bytes()).ok_or_else(overflow)?;
    let start = usize::try_from(offset).map_err(|_| overflow())?;
    let end = start.checked_add(length).ok_or_else(overflow)?;
    Ok(TensorInfo { shape, blocks, bytes: start..end })
}

/// Moves offsets behind the header, and checks that all is in the file and nothing overlaps.
fn place(
    tensors: &mut BTreeMap<&str, TensorInfo>,
    metadata: &Metadata,
    header_bytes: usize,
    file_bytes: usize,
) -> Result<()> {
    let alignment = metadata.size("general.alignment")?.unwrap_or(DEFAULT_ALIGNMENT);
    let aligned = header_bytes.checked_next_multiple_of(alignment.max(1));
    let Some(first) = aligned.filter(|_| alignment.is_power_of_two()) else {
        return Err(Error::input(format!("an alignment of {alignment}, expected a power of two")));
    };
    let mut ordered = Vec::with_capacity(tensors.len());
    for (&name, info) in tensors.iter_mut() {
        let Range { start, end } = info.bytes.clone();
        if !start.is_multiple_of(alignment) {
            return Err(Error::input(format!(
                "the tensor `{name}` starts at byte {start} of the \
                 weights, expected a multiple of {alignment}"
            )));
        }
        let Some(end) = end.checked_add(first).filter(|&end| end <= file_bytes) else {
            return Err(Error::input(format!(
                "the tensor `{name}` lies at bytes {start} to {end} \
                 of the weights, but the file has only {} for all of them",
                file_bytes.saturating_sub(first)
            ))
            .hint("the file is truncated or damaged: fetch it again"));
        };
        info.bytes = first + start..end;
        ordered.push((info.bytes.clone(), name));
    }
    ordered.sort_unstable_by_key(|(bytes, _)| bytes.start);
    for pair in ordered.windows(2) {
        if pair[1].0.start < pair[0].0.end {
            return Err(Error::input(format!(
                "the tensors `{}` and `{}` lie upon each other",
                pair[0].1, pair[1].1
            )));
        }
    }
    Ok(())
}
