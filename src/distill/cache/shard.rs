//! One file of the cache: reading a mapped shard, and drafting a new one.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo, View};

use super::format::{Column, Format, Item, Pieces, RowKey, digest};
use crate::disk::map_cached;

/// The keys of the rows, (rows, 16).
const ROWS: &str = "rows";
/// The checksum of each row and item, (rows, items, 16).
const DIGESTS: &str = "digests";
const HASH_BYTES: usize = size_of::<RowKey>();
/// Most bytes of a tensor in a header: its name, type, shape and offsets.
const HEADER_BYTES_OF_TENSOR: usize = 160;

/// A finished file, memory-mapped.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) path: PathBuf,
    bytes: Mmap,
    rows: usize,
    tokens: usize,
    /// For each tensor of an item, its offset and the bytes of one row.
    items: BTreeMap<Item, Vec<(usize, usize)>>,
    rows_offset: usize,
    digests_offset: usize,
}

impl Shard {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// The file cannot be read, which does not mean that it is damaged.
    pub(super) fn map(path: &Path) -> std::io::Result<Mmap> {
        map_cached(&File::open(path)?)
    }

    /// Parses the header of the mapped file at `path`; its rows are not read yet.
    ///
    /// # Errors
    /// A description of the damage.
    pub(super) fn new(path: &Path, bytes: Mmap, format: &Format) -> Result<Self, String> {
        // The safetensors crate checks that the tensors fill the file without gaps.
        let (header, metadata) =
            SafeTensors::read_metadata(&bytes).map_err(|error| error.to_string())?;
        let table = Table { start: size_of::<u64>() + header, metadata };
        let (rows, rows_offset) = match table.info(ROWS)? {
            (Dtype::U8, [rows, HASH_BYTES], offset) if *rows > 0 => (*rows, offset),
            (dtype, shape, _) => return Err(format!("`{ROWS}` is {dtype:?} {shape:?}")),
        };
        let tokens = table.tokens()?;
        let mut items = BTreeMap::new();
        for item in format.items() {
            let columns = format.columns(item, tokens);
            if table.metadata.info(&columns[0].name).is_some() {
                let column = |column: &Column| {
                    Ok((
                        table.offset(&column.name, column.dtype, rows, &column.shape)?,
                        column.row_bytes(),
                    ))
                };
                items.insert(item, columns.iter().map(column).collect::<Result<_, String>>()?);
            }
        }
        let digests_offset = table.offset(DIGESTS, Dtype::U8, rows, &[items.len(), HASH_BYTES])?;
        Ok(Self { path: path.to_owned(), bytes, rows, tokens, items, rows_offset, digests_offset })
    }

    /// The keys of its rows, in order.
    pub(super) fn rows(&self) -> impl Iterator<Item = RowKey> {
        let hashes = &self.bytes[self.rows_offset..self.rows_offset + self.rows * HASH_BYTES];
        hashes.as_chunks::<HASH_BYTES>().0.iter().copied()
    }

    /// The pieces of an item of a row of `tokens` tokens; None if the shard lacks the item.
    ///
    /// # Errors
    /// A description of the damage.
    pub(super) fn pieces(
        &self,
        key: &RowKey,
        row: usize,
        item: Item,
        tokens: usize,
    ) -> Result<Option<Vec<&[u8]>>, String> {
        let Some(columns) = self.items.get(&item) else { return Ok(None) };
        if tokens != self.tokens {
            return Err(format!(
                "a row of {tokens} tokens is in a file of rows of {}",
                self.tokens
            ));
        }
        let piece =
            |(offset, bytes): &(usize, usize)| &self.bytes[offset + row * bytes..][..*bytes];
        let pieces: Vec<&[u8]> = columns.iter().map(piece).collect();
        let index = self.items.keys().position(|other| *other == item).unwrap_or(0);
        let offset = self.digests_offset + (row * self.items.len() + index) * HASH_BYTES;
        if self.bytes[offset..offset + HASH_BYTES] != digest(key, pieces.iter().copied()) {
            return Err(format!("the checksum of row {row} is wrong"));
        }
        Ok(Some(pieces))
    }
}

/// The header of a file.
struct Table {
    /// First byte of the tensors.
    start: usize,
    metadata: Metadata,
}

impl Table {
    fn info(&self, name: &str) -> Result<(Dtype, &[usize], usize), String> {
        let info: &TensorInfo =
            self.metadata.info(name).ok_or_else(|| format!("`{name}` is missing"))?;
        Ok((info.dtype, &info.shape, self.start + info.data_offsets.0))
    }

    /// Offset of a tensor, which must have the given type and shape.
    fn offset(
        &self,
        name: &str,
        dtype: Dtype,
        rows: usize,
        shape: &[usize],
    ) -> Result<usize, String> {
        let (actual_dtype, actual_shape, offset) = self.info(name)?;
        let expected = [&[rows], shape].concat();
        if (actual_dtype, actual_shape) != (dtype, &expected) {
            return Err(format!(
                "`{name}` is {actual_dtype:?} {actual_shape:?}, expected {dtype:?} {expected:?}"
            ));
        }
        Ok(offset)
    }

    /// T, the second axis of the tensors of items.
    fn tokens(&self) -> Result<usize, String> {
        let tensors = self.metadata.tensors().into_iter();
        let items = tensors.filter(|(name, _)| name != ROWS && name != DIGESTS);
        let tokens = items.map(|(_, info)| info.shape.get(1).copied().unwrap_or(0)).max();
        tokens.filter(|tokens| *tokens > 0).ok_or_else(|| "it has no items".to_owned())
    }
}

/// Rows that are not written yet, with the same number of tokens and the same items.
#[derive(Debug, Default)]
pub(super) struct Draft {
    rows: Vec<RowKey>,
    /// Index of each key in `rows`.
    indices: HashMap<RowKey, usize>,
    digests: Vec<u8>,
    /// The bytes of each tensor, row by row.
    columns: Vec<Vec<u8>>,
}

impl Draft {
    /// An upper bound of the size of the file.
    pub(super) fn bytes(&self) -> usize {
        let data = self.columns.iter().map(Vec::len).sum::<usize>();
        let hashes = self.digests.len() + self.rows.as_flattened().len();
        data + hashes + HEADER_BYTES_OF_TENSOR * (self.columns.len() + 3)
    }

    /// Adds a row; `items` must be the draft's items, in order.
    pub(super) fn push(&mut self, key: RowKey, items: &[(Item, Pieces)]) {
        let tensors = items.iter().map(|(_, pieces)| pieces.len()).sum();
        self.columns.resize(tensors, Vec::new());
        let mut columns = self.columns.iter_mut();
        for (_, pieces) in items {
            self.digests.extend(digest(&key, pieces.iter().map(Vec::as_slice)));
            for (piece, column) in pieces.iter().zip(&mut columns) {
                column.extend_from_slice(piece);
            }
        }
        self.indices.insert(key, self.rows.len());
        self.rows.push(key);
    }

    /// The pieces of an item of a row; None if the draft lacks it.
    pub(super) fn pieces(
        &self,
        format: &Format,
        signature: &Signature,
        key: &RowKey,
        item: Item,
    ) -> Option<Vec<&[u8]>> {
        let row = *self.indices.get(key)?;
        signature.items.contains(&item).then_some(())?;
        let before = signature.items.iter().take_while(|other| **other != item);
        let first = before.map(|item| format.columns(*item, signature.tokens).len()).sum::<usize>();
        let columns = format.columns(item, signature.tokens);
        let piece = |(index, column): (usize, &Column)| {
            let bytes = column.row_bytes();
            &self.columns[first + index][row * bytes..(row + 1) * bytes]
        };
        Some(columns.iter().enumerate().map(piece).collect())
    }

    /// Writes the file at `path` without syncing it to the disk.
    pub(super) fn write(
        &self,
        path: &Path,
        format: &Format,
        signature: &Signature,
    ) -> Result<(), safetensors::SafeTensorError> {
        let count = self.rows.len();
        let rows = self.rows.as_flattened();
        let digest_shape = vec![count, signature.items.len(), HASH_BYTES];
        let hashes = [
            (ROWS, rows, vec![count, HASH_BYTES]),
            (DIGESTS, self.digests.as_slice(), digest_shape),
        ];
        let hashes = hashes.into_iter().map(|(name, bytes, shape)| {
            (name.to_owned(), TensorBytes { dtype: Dtype::U8, shape, bytes })
        });
        let columns =
            signature.items.iter().flat_map(|item| format.columns(*item, signature.tokens));
        let tensors = columns.zip(&self.columns).map(|(column, bytes)| {
            let shape = [&[count], column.shape.as_slice()].concat();
            (column.name, TensorBytes { dtype: column.dtype, shape, bytes })
        });
        safetensors::serialize_to_file(hashes.chain(tensors), None, path)
    }
}

/// Number of tokens and items that the rows of a draft share.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Signature {
    pub(super) tokens: usize,
    pub(super) items: Vec<Item>,
}

/// The bytes of a tensor to be written.
struct TensorBytes<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: &'a [u8],
}

impl View for TensorBytes<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.bytes.into()
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}
