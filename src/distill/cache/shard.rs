//! What is in one file of the cache?

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo, View};

use super::format::{Column, Format, Item, Pieces, RowKey, digest};
use crate::disk::map_cached;

/// The hashes of the rows, (rows, 16).
const ROWS: &str = "rows";
/// A digest for each row and item, (rows, items, 16).
const DIGESTS: &str = "digests";
const HASH_BYTES: usize = size_of::<RowKey>();
/// What a tensor takes in a header, at most: its name, type, shape and place.
const HEADER_BYTES_OF_TENSOR: usize = 160;

/// A whole file, mapped.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) path: PathBuf,
    bytes: Mmap,
    rows: usize,
    tokens: usize,
    /// Where the tensors of each item begin, and the bytes of a row of each.
    items: BTreeMap<Item, Vec<(usize, usize)>>,
    rows_at: usize,
    digests_at: usize,
}

impl Shard {
    /// Maps the file at `path`.
    ///
    /// # Errors
    /// It cannot be read, which says nothing of what is in it.
    pub(super) fn map(path: &Path) -> std::io::Result<Mmap> {
        map_cached(&File::open(path)?)
    }

    /// What the bytes of the file at `path` hold; none of its rows is read yet.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn new(path: &Path, bytes: Mmap, format: &Format) -> Result<Self, String> {
        // The crate checks that the tensors follow each other without gap and fill the file.
        let (header, metadata) =
            SafeTensors::read_metadata(&bytes).map_err(|error| error.to_string())?;
        let table = Table { start: size_of::<u64>() + header, metadata };
        let (rows, rows_at) = match table.info(ROWS)? {
            (Dtype::U8, [rows, HASH_BYTES], at) if *rows > 0 => (*rows, at),
            (dtype, shape, _) => return Err(format!("`{ROWS}` is {dtype:?} {shape:?}")),
        };
        let tokens = table.tokens()?;
        let mut items = BTreeMap::new();
        for item in format.items() {
            let columns = format.columns(item, tokens);
            if table.metadata.info(&columns[0].name).is_some() {
                let column = |column: &Column| {
                    Ok((
                        table.find(&column.name, column.dtype, rows, &column.shape)?,
                        column.row_bytes(),
                    ))
                };
                items.insert(item, columns.iter().map(column).collect::<Result<_, String>>()?);
            }
        }
        let digests_at = table.find(DIGESTS, Dtype::U8, rows, &[items.len(), HASH_BYTES])?;
        Ok(Self { path: path.to_owned(), bytes, rows, tokens, items, rows_at, digests_at })
    }

    /// The rows it holds, in order.
    pub(super) fn rows(&self) -> impl Iterator<Item = RowKey> {
        let hashes = &self.bytes[self.rows_at..self.rows_at + self.rows * HASH_BYTES];
        hashes.as_chunks::<HASH_BYTES>().0.iter().copied()
    }

    /// The pieces of an item of a row of `tokens` tokens; none: it is not here.
    ///
    /// # Errors
    /// The bytes are not those that were written.
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
            |(at, bytes): &(usize, usize)| &self.bytes[at + row * bytes..at + (row + 1) * bytes];
        let pieces: Vec<&[u8]> = columns.iter().map(piece).collect();
        let place = self.items.keys().position(|other| *other == item).unwrap_or(0);
        let at = self.digests_at + (row * self.items.len() + place) * HASH_BYTES;
        if self.bytes[at..at + HASH_BYTES] != digest(key, pieces.iter().copied()) {
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

    /// Where a tensor of the expected type and shape begins.
    fn find(
        &self,
        name: &str,
        dtype: Dtype,
        rows: usize,
        shape: &[usize],
    ) -> Result<usize, String> {
        let found = self.info(name)?;
        let expected = [&[rows], shape].concat();
        if (found.0, found.1) != (dtype, &expected) {
            return Err(format!(
                "`{name}` is {:?} {:?}, expected {dtype:?} {expected:?}",
                found.0, found.1
            ));
        }
        Ok(found.2)
    }

    /// T, the second axis of whatever is kept.
    fn tokens(&self) -> Result<usize, String> {
        let kept = self.metadata.tensors().into_iter();
        let shapes = kept.filter(|(name, _)| name != ROWS && name != DIGESTS);
        let found = shapes.map(|(_, info)| info.shape.get(1).copied().unwrap_or(0)).max();
        found.filter(|tokens| *tokens > 0).ok_or_else(|| "it keeps nothing of its rows".to_owned())
    }
}

/// Rows that wait for their file: all of as many tokens, with the same items.
#[derive(Debug, Default)]
pub(super) struct Draft {
    rows: Vec<RowKey>,
    places: HashMap<RowKey, usize>,
    digests: Vec<u8>,
    /// One a tensor, row by row.
    columns: Vec<Vec<u8>>,
}

impl Draft {
    /// No fewer than the file will have.
    pub(super) fn bytes(&self) -> usize {
        let data = self.columns.iter().map(Vec::len).sum::<usize>();
        let hashes = self.digests.len() + self.rows.as_flattened().len();
        data + hashes + HEADER_BYTES_OF_TENSOR * (self.columns.len() + 3)
    }

    /// Adds a row; `items` are those of the draft, in order.
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
        self.places.insert(key, self.rows.len());
        self.rows.push(key);
    }

    /// The pieces of one of `items`, of a row that is here.
    pub(super) fn pieces(
        &self,
        format: &Format,
        signature: &Signature,
        key: &RowKey,
        item: Item,
    ) -> Option<Vec<&[u8]>> {
        let row = *self.places.get(key)?;
        signature.items.contains(&item).then_some(())?;
        let before = signature.items.iter().take_while(|other| **other != item);
        let first = before.map(|item| format.columns(*item, signature.tokens).len()).sum::<usize>();
        let columns = format.columns(item, signature.tokens);
        let piece = |(place, column): (usize, &Column)| {
            let bytes = column.row_bytes();
            &self.columns[first + place][row * bytes..(row + 1) * bytes]
        };
        Some(columns.iter().enumerate().map(piece).collect())
    }

    /// Writes the file at `path`, which need not be on the disk yet when this returns.
    pub(super) fn write(
        &self,
        path: &Path,
        format: &Format,
        signature: &Signature,
    ) -> Result<(), safetensors::SafeTensorError> {
        let count = self.rows.len();
        let rows = self.rows.as_flattened();
        let hashes = [(ROWS, rows, vec![count, HASH_BYTES]), {
            (DIGESTS, self.digests.as_slice(), vec![count, signature.items.len(), HASH_BYTES])
        }];
        let hashes = hashes.into_iter().map(|(name, bytes, shape)| {
            (name.to_owned(), Stored { dtype: Dtype::U8, shape, bytes })
        });
        let columns =
            signature.items.iter().flat_map(|item| format.columns(*item, signature.tokens));
        let tensors = columns.zip(&self.columns).map(|(column, bytes)| {
            let shape = [&[count], column.shape.as_slice()].concat();
            (column.name, Stored { dtype: column.dtype, shape, bytes })
        });
        safetensors::serialize_to_file(hashes.chain(tensors), None, path)
    }
}

/// What the rows of a draft have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Signature {
    pub(super) tokens: usize,
    pub(super) items: Vec<Item>,
}

/// Bytes that become a tensor of a file.
struct Stored<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: &'a [u8],
}

impl View for Stored<'_> {
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
