//! How does a wide teacher become a narrow one to start from?
//!
//! Its states are projected onto the directions they use most, and the projection is folded into
//! the weights: y = P x, and what read x now reads P^T y. Norms only see how long a state is, so
//! their gains go into the matrices behind them, with the share of the length that P keeps
//! (Ashkboos et al. 2024, `SliceGPT`). Of heads and inner neurons those stay that write most.

use std::collections::BTreeMap;

use candle_core::{D, Device, Tensor};

use super::svd::eigen;
use crate::autograd::Tape;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::model::{CausalLm, Transformer, TransformerConfig};

/// The map from a narrow state to the teacher's width, (D of the teacher, D), among the parameters.
pub const MAP: &str = "match.weight";
/// The same as the name of a linear map.
pub(crate) const MAP_NAME: &str = "match";

/// Shortest state whose direction is counted.
const SHORTEST: f64 = 1e-12;

/// A narrow stack, and how it is compared with the wide one.
#[derive(Debug)]
pub struct ReducedWidth {
    /// The tensors of [`TransformerConfig::tensors`].
    pub tensors: BTreeMap<String, Tensor>,
    /// From its width to the teacher's, (D of the teacher, D).
    pub map: Tensor,
}

/// The shape of a stack of `width`: as many layers, heads of the same width but fewer, an mlp as
/// much narrower, and a head of its own.
///
/// # Errors
/// Not a whole number of heads is left.
pub fn reduced_width_config(base: &TransformerConfig, width: usize) -> Result<TransformerConfig> {
    let scaled = |count: usize| {
        (width > 0 && (count * width).is_multiple_of(base.width))
            .then(|| count * width / base.width)
    };
    let (heads, kv_heads) = (scaled(base.heads), scaled(base.kv_heads));
    let (Some(heads), Some(kv_heads), true) = (heads, kv_heads, width <= base.width) else {
        return Err(Error::input(format!(
            "a width of {width} leaves no whole number of the teacher's {} heads ({} for keys) at \
             width {}",
            base.heads, base.kv_heads, base.width
        ))
        .at("student.width"));
    };
    let mlp_width = (base.mlp_width * width).div_ceil(base.width);
    let config =
        TransformerConfig { width, heads, kv_heads, mlp_width, tied_head: false, ..base.clone() };
    config.validate()?;
    Ok(config)
}

/// What the states and the inner parts of the teacher do on some text.
struct Watched {
    /// Sum over states and tokens of x x^T / |x|^2, (D, D).
    directions: Tensor,
    /// Sum of squares of what goes into the output matrix of attention, one vector a layer.
    mixed: Vec<Tensor>,
    /// The same of what goes into the down matrix of the mlp.
    inner: Vec<Tensor>,
}

/// The narrow stack of shape `config` that comes nearest to `teacher`, whose own tensors are
/// `tensors`, on the `calibration` tokens, each (B, T).
///
/// # Errors
/// There is no calibration text, a decomposition fails, or the user stopped it.
pub fn project_width(
    teacher: &Transformer,
    tensors: &BTreeMap<String, Tensor>,
    config: &TransformerConfig,
    calibration: &[Tensor],
    context: &Context,
) -> Result<ReducedWidth> {
    let watched = watch(teacher, calibration, context)?;
    let (wide, width) = (teacher.base().width, config.width);
    let found = eigen(&watched.directions.flatten_all()?.to_vec1::<f32>()?, wide)?;
    let kept = found.values[..width].iter().sum::<f32>();
    let share = kept / found.values.iter().sum::<f32>().max(f32::MIN_POSITIVE);
    let project = Tensor::from_slice(&found.vectors[..width * wide], (width, wide), &Device::Cpu)?;
    let length = (f64::from(share) * wide as f64 / width as f64).sqrt();
    let fold = Fold { tensors, project, length };
    let mut made = BTreeMap::new();
    let embed = fold.tensor("embed.weight")?.matmul(&fold.project.t()?)?;
    made.insert("embed.weight".to_owned(), embed);
    made.insert(
        "norm.weight".to_owned(),
        Tensor::ones(width, candle_core::DType::F32, &Device::Cpu)?,
    );
    let head = if teacher.base().tied_head { "embed.weight" } else { "head.weight" };
    made.insert("head.weight".to_owned(), fold.reading(head, "norm.weight", None)?);
    for layer in 0..config.layers {
        context.check_cancelled("while the teacher was narrowed")?;
        fold.layer(layer, config, &watched, &mut made)?;
    }
    Ok(ReducedWidth { tensors: made, map: fold.project.t()?.contiguous()? })
}

fn watch(teacher: &Transformer, calibration: &[Tensor], context: &Context) -> Result<Watched> {
    let mut watched: Option<Watched> = None;
    for ids in calibration {
        context.check_cancelled("while the teacher was watched")?;
        let table = teacher.embedding_and_head().rope(0, ids.dim(1)?);
        let mut state = teacher.embedding_and_head().embed(&Tape::off(), ids)?.tensor().clone();
        let (mut directions, mut mixed, mut inner) = (direction(&state)?, Vec::new(), Vec::new());
        for layer in 0..teacher.base().layers {
            let block = teacher.layer(layer).ok_or_else(|| Error::internal("no such layer"))?;
            let (output, inputs) = block.trace(&state, &table)?;
            mixed.push(energy(&inputs.mixed)?);
            inner.push(energy(&inputs.inner)?);
            directions = (directions + direction(&output)?)?;
            state = output;
        }
        watched = Some(match watched {
            None => Watched { directions, mixed, inner },
            Some(before) => Watched {
                directions: (before.directions + directions)?,
                mixed: sums(&before.mixed, &mixed)?,
                inner: sums(&before.inner, &inner)?,
            },
        });
    }
    watched.ok_or_else(|| {
        Error::input("there is no calibration text to narrow the teacher with")
            .hint("raise student.calibration_tokens")
    })
}

fn sums(a: &[Tensor], b: &[Tensor]) -> Result<Vec<Tensor>> {
    a.iter().zip(b).map(|(a, b)| Ok((a + b)?)).collect()
}

/// X^T X of states (B, T, D), every token of length one: (D, D).
fn direction(states: &Tensor) -> Result<Tensor> {
    let width = states.dim(D::Minus1)?;
    let x = states.to_device(&Device::Cpu)?.reshape(((), width))?;
    let squared = (x.sqr()?.sum_keepdim(1)? + SHORTEST)?;
    let x = x.broadcast_div(&squared.sqrt()?)?;
    Ok(x.t()?.matmul(&x)?)
}

/// The sum of squares of every column of (B, T, width).
fn energy(input: &Tensor) -> Result<Tensor> {
    let width = input.dim(D::Minus1)?;
    Ok(input.to_device(&Device::Cpu)?.reshape(((), width))?.sqr()?.sum(0)?)
}

struct Fold<'a> {
    tensors: &'a BTreeMap<String, Tensor>,
    /// P, (D, D of the teacher).
    project: Tensor,
    /// How much longer a norm makes a projected state than its norm would have made it.
    length: f64,
}

impl Fold<'_> {
    fn find(&self, name: &str) -> Option<Result<Tensor>> {
        self.tensors.get(name).map(|tensor| Ok(tensor.to_device(&Device::Cpu)?.contiguous()?))
    }

    fn tensor(&self, name: &str) -> Result<Tensor> {
        self.find(name).ok_or_else(|| Error::internal(format!("the teacher has no `{name}`")))?
    }

    /// A matrix that reads a normed state, `rows` of it: W diag(g) P^T.
    fn reading(&self, name: &str, norm: &str, rows: Option<&Tensor>) -> Result<Tensor> {
        let weight = self.tensor(name)?.broadcast_mul(&self.tensor(norm)?)?;
        let weight = (weight.matmul(&self.project.t()?)? * self.length)?;
        Ok(match rows {
            Some(rows) => weight.index_select(rows, 0)?,
            None => weight,
        })
    }

    /// A matrix that writes to the stream, from `columns` of its input: P W.
    fn writing(&self, name: &str, columns: &Tensor) -> Result<Tensor> {
        let weight = self.tensor(name)?.index_select(columns, 1)?;
        Ok(self.project.matmul(&weight)?)
    }

    fn layer(
        &self,
        layer: usize,
        config: &TransformerConfig,
        watched: &Watched,
        made: &mut BTreeMap<String, Tensor>,
    ) -> Result<()> {
        let name = |part: &str| format!("layers.{layer}.{part}");
        let shape = (config.head_width, config.heads / config.kv_heads);
        let written = self.written(&name("attention.o.weight"), &watched.mixed[layer])?;
        let groups = best(&written, config.head_width * shape.1, config.kv_heads);
        let keys = places(&groups, config.head_width)?;
        let heads = places(&groups, config.head_width * shape.1)?;
        let written = self.written(&name("mlp.down.weight"), &watched.inner[layer])?;
        let neurons = places(&best(&written, 1, config.mlp_width), 1)?;
        let reading = [
            ("attention.q", "attention_norm", &heads),
            ("attention.k", "attention_norm", &keys),
            ("attention.v", "attention_norm", &keys),
            ("mlp.gate", "mlp_norm", &neurons),
            ("mlp.up", "mlp_norm", &neurons),
        ];
        for (part, norm, rows) in reading {
            let weight = name(&format!("{part}.weight"));
            let norm = name(&format!("{norm}.weight"));
            made.insert(weight.clone(), self.reading(&weight, &norm, Some(rows))?);
            let bias = name(&format!("{part}.bias"));
            if let Some(values) = self.find(&bias) {
                made.insert(bias, values?.index_select(rows, 0)?);
            }
        }
        for (part, columns) in [("attention.o", &heads), ("mlp.down", &neurons)] {
            let weight = name(&format!("{part}.weight"));
            made.insert(weight.clone(), self.writing(&weight, columns)?);
            let bias = name(&format!("{part}.bias"));
            if let Some(values) = self.find(&bias) {
                let values = self.project.matmul(&values?.unsqueeze(1)?)?.squeeze(1)?;
                made.insert(bias, values);
            }
        }
        for norm in ["attention_norm.weight", "mlp_norm.weight"] {
            let ones = Tensor::ones(config.width, candle_core::DType::F32, &Device::Cpu)?;
            made.insert(name(norm), ones);
        }
        for norm in ["attention.q_norm.weight", "attention.k_norm.weight"] {
            if let Some(values) = self.find(&name(norm)) {
                made.insert(name(norm), values?);
            }
        }
        Ok(())
    }

    /// What each column of a matrix writes: the energy of its input times its squared length.
    fn written(&self, name: &str, energy: &Tensor) -> Result<Vec<f32>> {
        let lengths = self.tensor(name)?.sqr()?.sum(0)?;
        Ok((lengths * energy)?.to_vec1::<f32>()?)
    }
}

/// The `count` groups of `size` neighbours with the largest sums, in order.
fn best(values: &[f32], size: usize, count: usize) -> Vec<usize> {
    let sums: Vec<f32> = values.chunks(size).map(|group| group.iter().sum()).collect();
    let mut order: Vec<usize> = (0..sums.len()).collect();
    order.sort_by(|&a, &b| sums[b].total_cmp(&sums[a]).then(a.cmp(&b)));
    order.truncate(count);
    order.sort_unstable();
    order
}

/// The members of groups of `size`.
fn places(groups: &[usize], size: usize) -> Result<Tensor> {
    let all: Vec<u32> = groups
        .iter()
        .flat_map(|&group| (group * size) as u32..((group + 1) * size) as u32)
        .collect();
    Ok(Tensor::from_vec(all, groups.len() * size, &Device::Cpu)?)
}
