//! Projection of a teacher to a reduced width, from which a student of that width is initialized.
//!
//! States are projected onto their principal directions, y = P x, and the projection is folded into
//! the weights: matrices that read x read P^T y. RMS norms depend only on the length of a state, so
//! their gains are folded into the matrices after them, together with the share of the length that
//! P keeps (Ashkboos et al. 2024, `SliceGPT`). The heads and mlp neurons with the largest output
//! are kept.

use std::collections::BTreeMap;

use candle_core::{D, Device, Tensor};

use super::svd::eigen;
use crate::autograd::Tape;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::model::{CausalLm, Transformer, TransformerConfig};

/// Name of the parameter that maps a student's state to the teacher's width, (D of the teacher, D).
pub const MAP: &str = "match.weight";
/// Name of the linear layer with the weight [`MAP`].
pub(crate) const MAP_NAME: &str = "match";

/// Added to the squared length of a state before it is normalised.
const LENGTH_EPS: f64 = 1e-12;

/// A teacher projected to a reduced width.
#[derive(Debug)]
pub struct ReducedWidth {
    /// The tensors of [`TransformerConfig::tensors`] at the reduced width.
    pub tensors: BTreeMap<String, Tensor>,
    /// P^T, from the reduced width to the teacher's, (D of the teacher, D).
    pub map: Tensor,
}

/// `base` at a reduced `width`: the same layers and head width, proportionally fewer heads and mlp
/// neurons, and an untied output head.
///
/// # Errors
/// The width does not leave a whole number of heads.
pub fn reduced_width_config(base: &TransformerConfig, width: usize) -> Result<TransformerConfig> {
    let scaled = |count: usize| {
        (width > 0 && (count * width).is_multiple_of(base.width))
            .then(|| count * width / base.width)
    };
    let (heads, kv_heads) = (scaled(base.heads), scaled(base.kv_heads));
    let (Some(heads), Some(kv_heads), true) = (heads, kv_heads, width <= base.width) else {
        return Err(Error::input(format!(
            "a width of {width} does not leave a whole number of the teacher's {} query heads and \
             {} key heads at width {}",
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

/// Statistics of the teacher on calibration text.
struct Statistics {
    /// Sum over states and tokens of x x^T / |x|^2, (D, D).
    directions: Tensor,
    /// For each layer, sums of squares of the inputs of the output matrix of attention.
    mixed: Vec<Tensor>,
    /// For each layer, sums of squares of the inputs of the down matrix of the mlp.
    inner: Vec<Tensor>,
}

/// Projects `teacher`, whose tensors are `tensors`, to the width of `config`, with directions,
/// heads and neurons chosen on the `calibration` tokens, each (B, T).
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
    let statistics = measure(teacher, calibration, context)?;
    let (wide, width) = (teacher.base().width, config.width);
    let eigen = eigen(&statistics.directions.flatten_all()?.to_vec1::<f32>()?, wide)?;
    let kept = eigen.values[..width].iter().sum::<f32>();
    let share = kept / eigen.values.iter().sum::<f32>().max(f32::MIN_POSITIVE);
    let project = Tensor::from_slice(&eigen.vectors[..width * wide], (width, wide), &Device::Cpu)?;
    let length = (f64::from(share) * wide as f64 / width as f64).sqrt();
    let fold = Fold { tensors, project, length };
    let mut projected = BTreeMap::new();
    let embed = fold.tensor("embed.weight")?.matmul(&fold.project.t()?)?;
    projected.insert("embed.weight".to_owned(), embed);
    projected.insert(
        "norm.weight".to_owned(),
        Tensor::ones(width, candle_core::DType::F32, &Device::Cpu)?,
    );
    let head = if teacher.base().tied_head { "embed.weight" } else { "head.weight" };
    projected.insert("head.weight".to_owned(), fold.reading(head, "norm.weight", None)?);
    for layer in 0..config.layers {
        context.check_cancelled("during the projection of the teacher to a reduced width")?;
        fold.layer(layer, config, &statistics, &mut projected)?;
    }
    Ok(ReducedWidth { tensors: projected, map: fold.project.t()?.contiguous()? })
}

fn measure(teacher: &Transformer, calibration: &[Tensor], context: &Context) -> Result<Statistics> {
    let mut total: Option<Statistics> = None;
    for ids in calibration {
        context.check_cancelled("during calibration of the student's width")?;
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
        total = Some(match total {
            None => Statistics { directions, mixed, inner },
            Some(sum) => Statistics {
                directions: (sum.directions + directions)?,
                mixed: sums(&sum.mixed, &mixed)?,
                inner: sums(&sum.inner, &inner)?,
            },
        });
    }
    total.ok_or_else(|| {
        Error::input("there is no calibration text for a reduced student.width")
            .hint("raise student.calibration_tokens")
    })
}

fn sums(a: &[Tensor], b: &[Tensor]) -> Result<Vec<Tensor>> {
    a.iter().zip(b).map(|(a, b)| Ok((a + b)?)).collect()
}

/// X^T X of states (B, T, D), each scaled to length one: (D, D).
fn direction(states: &Tensor) -> Result<Tensor> {
    let width = states.dim(D::Minus1)?;
    let x = states.to_device(&Device::Cpu)?.reshape(((), width))?;
    let squared = (x.sqr()?.sum_keepdim(1)? + LENGTH_EPS)?;
    let x = x.broadcast_div(&squared.sqrt()?)?;
    Ok(x.t()?.matmul(&x)?)
}

/// The sum of squares of every column of (B, T, width).
fn energy(input: &Tensor) -> Result<Tensor> {
    let width = input.dim(D::Minus1)?;
    Ok(input.to_device(&Device::Cpu)?.reshape(((), width))?.sqr()?.sum(0)?)
}

/// Folds the projection into the teacher's tensors.
struct Fold<'a> {
    tensors: &'a BTreeMap<String, Tensor>,
    /// P, (D, D of the teacher).
    project: Tensor,
    /// Length of a projected normalised state relative to that of the normalised projected state,
    /// both averaged: sqrt(share of the squared length that P keeps * D of the teacher / D).
    length: f64,
}

impl Fold<'_> {
    fn find(&self, name: &str) -> Option<Result<Tensor>> {
        self.tensors.get(name).map(|tensor| Ok(tensor.to_device(&Device::Cpu)?.contiguous()?))
    }

    fn tensor(&self, name: &str) -> Result<Tensor> {
        self.find(name).ok_or_else(|| Error::internal(format!("the teacher has no `{name}`")))?
    }

    /// `rows` of a matrix that reads a normalised state: W diag(g) P^T times `length`.
    fn reading(&self, name: &str, norm: &str, rows: Option<&Tensor>) -> Result<Tensor> {
        let weight = self.tensor(name)?.broadcast_mul(&self.tensor(norm)?)?;
        let weight = (weight.matmul(&self.project.t()?)? * self.length)?;
        Ok(match rows {
            Some(rows) => weight.index_select(rows, 0)?,
            None => weight,
        })
    }

    /// A matrix that writes to the residual stream, from `columns` of its input: P W.
    fn writing(&self, name: &str, columns: &Tensor) -> Result<Tensor> {
        let weight = self.tensor(name)?.index_select(columns, 1)?;
        Ok(self.project.matmul(&weight)?)
    }

    fn layer(
        &self,
        layer: usize,
        config: &TransformerConfig,
        statistics: &Statistics,
        projected: &mut BTreeMap<String, Tensor>,
    ) -> Result<()> {
        let name = |part: &str| format!("layers.{layer}.{part}");
        let group_width = config.head_width * (config.heads / config.kv_heads);
        let energy = self.output_energy(&name("attention.o.weight"), &statistics.mixed[layer])?;
        let groups = largest_groups(&energy, group_width, config.kv_heads);
        let keys = group_members(&groups, config.head_width)?;
        let heads = group_members(&groups, group_width)?;
        let energy = self.output_energy(&name("mlp.down.weight"), &statistics.inner[layer])?;
        let neurons = group_members(&largest_groups(&energy, 1, config.mlp_width), 1)?;
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
            projected.insert(weight.clone(), self.reading(&weight, &norm, Some(rows))?);
            let bias = name(&format!("{part}.bias"));
            if let Some(values) = self.find(&bias) {
                projected.insert(bias, values?.index_select(rows, 0)?);
            }
        }
        for (part, columns) in [("attention.o", &heads), ("mlp.down", &neurons)] {
            let weight = name(&format!("{part}.weight"));
            projected.insert(weight.clone(), self.writing(&weight, columns)?);
            let bias = name(&format!("{part}.bias"));
            if let Some(values) = self.find(&bias) {
                let values = self.project.matmul(&values?.unsqueeze(1)?)?.squeeze(1)?;
                projected.insert(bias, values);
            }
        }
        for norm in ["attention_norm.weight", "mlp_norm.weight"] {
            let ones = Tensor::ones(config.width, candle_core::DType::F32, &Device::Cpu)?;
            projected.insert(name(norm), ones);
        }
        for norm in ["attention.q_norm.weight", "attention.k_norm.weight"] {
            if let Some(values) = self.find(&name(norm)) {
                projected.insert(name(norm), values?);
            }
        }
        Ok(())
    }

    /// Energy of the output of each column of a matrix: `input_energy` times its squared length.
    fn output_energy(&self, name: &str, input_energy: &Tensor) -> Result<Vec<f32>> {
        let lengths = self.tensor(name)?.sqr()?.sum(0)?;
        Ok((lengths * input_energy)?.to_vec1::<f32>()?)
    }
}

/// The indices of the `count` groups of `size` consecutive values with the largest sums, in order.
fn largest_groups(values: &[f32], size: usize, count: usize) -> Vec<usize> {
    let sums: Vec<f32> = values.chunks(size).map(|group| group.iter().sum()).collect();
    let mut order: Vec<usize> = (0..sums.len()).collect();
    order.sort_by(|&a, &b| sums[b].total_cmp(&sums[a]).then(a.cmp(&b)));
    order.truncate(count);
    order.sort_unstable();
    order
}

/// The indices of the members of groups of `size`, u32.
fn group_members(groups: &[usize], size: usize) -> Result<Tensor> {
    let members: Vec<u32> = groups
        .iter()
        .flat_map(|&group| (group * size) as u32..((group + 1) * size) as u32)
        .collect();
    Ok(Tensor::from_vec(members, groups.len() * size, &Device::Cpu)?)
}
