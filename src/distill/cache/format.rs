//! The file format of the cache: the tensors of a shard, their shapes and hashes.

use safetensors::Dtype;

use super::precision::StatePrecision;

/// Version of the format, part of the folder's name.
const VERSION: u32 = 1;

/// A part of the teacher's outputs for a row of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::distill) enum Item {
    /// The hidden state of this index, 0 for the embedding.
    State(usize),
    /// The top tokens of the output.
    Outputs,
}

/// The bytes of one item of one row, one piece for each of its tensors.
pub(super) type Pieces = Vec<Vec<u8>>;

/// The first 128 bits of a blake3 hash.
pub(super) type RowKey = [u8; 16];

/// The hash of a row of input tokens, the key of the cache.
pub(super) fn row_key(tokens: &[u32]) -> RowKey {
    let mut hasher = blake3::Hasher::new();
    for token in tokens {
        hasher.update(&token.to_le_bytes());
    }
    first_half(&hasher.finalize())
}

/// The checksum of the pieces of an item of a row.
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

/// One tensor of a shard.
pub(super) struct Column {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    /// Shape without the first axis, the rows.
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

/// The parameters that all shards of a folder share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Format {
    pub(super) precision: StatePrecision,
    /// D of the teacher.
    pub(super) width: usize,
    /// L of the teacher.
    pub(super) layers: usize,
    /// V.
    pub(super) vocabulary: usize,
    /// k, top tokens of a position.
    pub(super) top_k: usize,
    /// Temperature of the stored probabilities.
    pub(super) temperature: f32,
}

impl Format {
    /// The name of the folder.
    pub(super) fn key(&self, fingerprint: &str) -> String {
        let identity = format!(
            "factorexe teacher {VERSION} {fingerprint} {} {} {:08x}",
            self.precision.name(),
            self.top_k,
            self.temperature.to_bits()
        );
        blake3::hash(identity.as_bytes()).to_hex()[..32].to_owned()
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
                Column::new("top.ids", Dtype::U32, &[tokens, self.top_k]),
                Column::new("top.log_p", Dtype::F32, &[tokens, self.top_k]),
                Column::new("top.log_tail", Dtype::F32, &[tokens]),
            ],
        }
    }

    /// All items that a shard can hold.
    pub(super) fn items(&self) -> impl Iterator<Item = Item> {
        (0..=self.layers).map(Item::State).chain([Item::Outputs])
    }
}
