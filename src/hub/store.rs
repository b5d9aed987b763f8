//! Writing of safetensors files.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::str::FromStr;

use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, json};

use crate::error::{Error, Result};

/// How a number is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StoredType {
    /// As it is computed with.
    #[default]
    F32,
    /// Half the size: the range of f32, 8 bits of precision.
    Bf16,
    /// Half the size: 11 bits of precision, up to 65,504.
    F16,
}

impl StoredType {
    const ALL: [Self; 3] = [Self::F32, Self::Bf16, Self::F16];

    /// Its name in `config.json`.
    #[must_use]
    pub fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
        }
    }

    fn safetensors_name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::Bf16 => "BF16",
            Self::F16 => "F16",
        }
    }

    pub(super) fn bytes(self) -> usize {
        if self == Self::F32 { 4 } else { 2 }
    }

    /// The bytes of a number, and the number that comes back from them.
    fn store(self, number: f32, bytes: &mut Vec<u8>) -> f32 {
        match self {
            Self::F32 => {
                bytes.extend(number.to_le_bytes());
                number
            }
            Self::Bf16 => {
                bytes.extend(bf16::from_f32(number).to_le_bytes());
                bf16::from_f32(number).to_f32()
            }
            Self::F16 => {
                bytes.extend(f16::from_f32(number).to_le_bytes());
                f16::from_f32(number).to_f32()
            }
        }
    }
}

impl fmt::Display for StoredType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.safetensors_name().to_lowercase())
    }
}

impl FromStr for StoredType {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|stored| stored.to_string() == text);
        found.ok_or_else(|| {
            Error::input(format!("`{text}` is not a type, expected f32, bf16 or f16"))
        })
    }
}

/// Writes a safetensors file at `path`: the same tensors and `metadata` give the same bytes.
///
/// # Errors
/// A number is not finite, or is too large for `stored`; or the disk does not take it.
pub fn write_tensors(
    path: &Path,
    tensors: &BTreeMap<String, Tensor>,
    metadata: &[(&str, String)],
    stored: StoredType,
) -> Result<()> {
    let failed = |error: std::io::Error| Error::io("writing", path, &error);
    let mut file = BufWriter::with_capacity(1 << 20, File::create(path).map_err(failed)?);
    let header = header(tensors, metadata, stored);
    file.write_all(&(header.len() as u64).to_le_bytes()).map_err(failed)?;
    file.write_all(header.as_bytes()).map_err(failed)?;
    for (name, tensor) in tensors {
        let host = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        let numbers: Vec<f32> = host.flatten_all()?.to_vec1()?;
        let mut bytes = Vec::with_capacity(numbers.len() * stored.bytes());
        for (index, &number) in numbers.iter().enumerate() {
            if !stored.store(number, &mut bytes).is_finite() {
                return Err(not_storable(name, index, number, stored));
            }
        }
        file.write_all(&bytes).map_err(failed)?;
    }
    file.flush().map_err(failed)
}

fn not_storable(name: &str, index: usize, number: f32, stored: StoredType) -> Error {
    let error = Error::input(format!("tensor `{name}` is {number} at {index}"));
    if number.is_finite() {
        error.at(format!("{stored} numbers")).hint("store it as bf16 or f32")
    } else {
        error.hint("the training diverged: lower the learning rate, or take an earlier checkpoint")
    }
}

/// Padded with spaces so that the numbers start at a multiple of 8 bytes.
fn header(
    tensors: &BTreeMap<String, Tensor>,
    metadata: &[(&str, String)],
    stored: StoredType,
) -> String {
    let metadata: Map<_, _> =
        metadata.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    let mut entries = Map::from_iter([("__metadata__".to_owned(), json!(metadata))]);
    let mut start = 0;
    for (name, tensor) in tensors {
        let end = start + tensor.elem_count() * stored.bytes();
        let entry = json!({
            "dtype": stored.safetensors_name(),
            "shape": tensor.dims(),
            "data_offsets": [start, end],
        });
        entries.insert(name.clone(), entry);
        start = end;
    }
    let mut header = json!(entries).to_string();
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    header
}
