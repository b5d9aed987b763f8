//! Which tensors does a shard hold, and in which shapes?

use safetensors::Dtype;

use super::precision::StatePrecision;

/// Of all that is written below; another number is another folder.
const VERSION: u32 = 1;

/// What is kept of a row of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::distill) enum Item {
    /// The teacher's state of this index, 0 for the embedding.
    State(usize),
    /// Its likeliest tokens.
    Outputs,
}

/// The bytes of one item of one row, a piece for each of its tensors.
pub(super) type Pieces = Vec<Vec<u8>>;

/// 128 bits of the blake3 of a row's tokens.
pub(super) type RowKey = [u8; 16];

/// The hash that a row of input tokens is found by.
pub(super) fn row_key(tokens: &[u32]) -> RowKey {
    let mut hasher = blake3::Hasher::new();
    for token in tokens {
        hasher.update(&token.to_le_bytes());
    }
    first_half(&hasher.finalize())
}

/// The hash that tells whether the pieces of an item are those that were written.
pub(super) fn digest<'p>(row: &RowKey, pieces: impl Iterator<Item = &'p [u8]>) -> RowKey {
    let mut hasher = blake3::Hasher::new();
    hasher.update(row);
    for piece in pieces {
        hasher.update(piece);
    }
    first_half(&hasher.finalize())
}

fn first_half(hash: &blake3::Hash) -> RowKey {
    let mut half = [0; 16];
    half.copy_from_slice(&hash.as_bytes()[..16]);
    half
}

/// One tensor of a shard; its first axis, the rows, is left out.
pub(super) struct Column {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
}

impl Column {
    fn new(name: impl Into<String>, dtype: Dtype, shape: &[usize]) -> Self {
        Self { name: name.into(), dtype, shape: shape.to_vec() }
    }

    /// Bytes of one row.
    pub(super) fn row_bytes(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// What all shards of a folder have in common.
#[derive(Debug, Clone, Copy)]
pub(super) struct Format {
    pub(super) precision: StatePrecision,
    /// D of the teacher.
    pub(super) width: usize,
    /// L of the teacher.
    pub(super) layers: usize,
    /// V.
    pub(super) vocabulary: usize,
    /// k.
    pub(super) kept: usize,
    /// Of the likeliest tokens.
    pub(super) temperature: f32,
}

impl Format {
    /// The name of the folder.
    pub(super) fn key(&self, fingerprint: &str) -> String {
        let said = format!(
            "factorexe teacher {VERSION} {fingerprint} {} {} {:08x}",
            self.precision.name(),
            self.kept,
            self.temperature.to_bits()
        );
        blake3::hash(said.as_bytes()).to_hex()[..32].to_owned()
    }

    /// The tensors of an item in rows of `tokens` tokens.
    pub(super) fn columns(&self, item: Item, tokens: usize) -> Vec<Column> {
        match item {
            Item::State(index) => {
                let values = Column::new(
                    format!("state.{index}"),
                    self.precision.dtype(),
                    &[tokens, self.width],
                );
                match self.precision.scales(self.width) {
                    0 => vec![values],
                    scales => {
                        let name = format!("scale.{index}");
                        vec![values, Column::new(name, Dtype::F32, &[tokens, scales])]
                    }
                }
            }
            Item::Outputs => vec![
                Column::new("top.ids", Dtype::U32, &[tokens, self.kept]),
                Column::new("top.log_p", Dtype::F32, &[tokens, self.kept]),
                Column::new("top.log_tail", Dtype::F32, &[tokens]),
            ],
        }
    }

    /// All that can be kept.
    pub(super) fn items(&self) -> impl Iterator<Item = Item> {
        (0..=self.layers).map(Item::State).chain([Item::Outputs])
    }
}
