//! Random initialization of models that are trained from scratch.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};

use crate::error::{Error, Result};
use crate::model::{LoopedConfig, TransformerConfig, initial_halting_head};

/// Every tensor of `config`, on the CPU: norms are 1, biases 0, matrices normal with variance
/// 2 / (5 D); the standard deviation of those that write to the residual stream is divided by
/// sqrt(2 L).
/// Nguyen and Salazar 2019; Radford et al. 2019.
///
/// # Errors
/// There is not enough memory.
pub fn initial_tensors(config: &TransformerConfig, seed: u64) -> Result<BTreeMap<String, Tensor>> {
    initial(config.tensors(), config.width, config.layers, seed)
}

/// The same for a looped model, where L counts every application of a layer.
///
/// # Errors
/// There is not enough memory.
pub fn initial_looped_tensors(
    config: &LoopedConfig,
    seed: u64,
) -> Result<BTreeMap<String, Tensor>> {
    let layers = config.applications(config.repetitions);
    let mut tensors = initial(config.tensors(), config.base.width, layers, seed)?;
    tensors.extend(config.injection.start(config.base.width)?);
    tensors.extend(initial_halting_head(config.gate, config.base.width, config.repetitions)?);
    Ok(tensors)
}

fn initial(
    shapes: Vec<(String, Vec<usize>)>,
    width: usize,
    layers: usize,
    seed: u64,
) -> Result<BTreeMap<String, Tensor>> {
    let spread = (2.0 / (5.0 * width as f32)).sqrt();
    let residual = spread / (2.0 * layers as f32).sqrt();
    let tensors = shapes.into_iter().map(|(name, shape)| {
        let count = shape.iter().product();
        let values = if shape.len() == 1 && name.contains("norm") && name.ends_with("weight") {
            vec![1.0; count]
        } else if shape.len() == 1 || is_lora_b(&name) {
            vec![0.0; count]
        } else if name.ends_with("attention.o.weight") || name.ends_with("mlp.down.weight") {
            normal(seed, &name, residual, count)?
        } else {
            normal(seed, &name, spread, count)?
        };
        Ok((name, Tensor::from_vec(values, shape, &Device::Cpu)?))
    });
    tensors.collect()
}

/// Whether it is the B of a low-rank adapter, which starts at zero. Hu et al. 2021.
fn is_lora_b(name: &str) -> bool {
    name.contains(".lora.") && name.rsplit('.').next() == Some("b")
}

/// Normal samples that depend only on the seed and the name: adding a tensor changes no other.
fn normal(seed: u64, name: &str, spread: f32, count: usize) -> Result<Vec<f32>> {
    let mut hasher = blake3::Hasher::new_derive_key("factorexe lm initial tensor 1");
    hasher.update(&seed.to_le_bytes());
    hasher.update(name.as_bytes());
    let mut rng = ChaCha8Rng::from_seed(*hasher.finalize().as_bytes());
    let normal = Normal::new(0.0, spread)
        .map_err(|error| Error::internal(format!("a spread of {spread}: {error}")))?;
    Ok((0..count).map(|_| normal.sample(&mut rng)).collect())
}
