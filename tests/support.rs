//! What several tests need.

pub mod checkpoints;
pub mod objectives;
#[cfg(feature = "hub")]
pub mod stand_in;
pub mod students;

use candle_core::{DType, Device, Tensor};
use factorexe::autograd::Params;
use factorexe::model::{
    Injection, LoopedConfig, Relaxation, RopeScaling, StateNorm, TransformerConfig,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Reproducible numbers in -1..1.
pub fn random(seed: u64, shape: &[usize]) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// The largest absolute difference, relative to the largest number of `b` where that is above 1.
pub fn difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (a, b) = (flat(a), flat(b));
    assert!(a.iter().all(|x| x.is_finite()), "not finite");
    let scale = b.iter().fold(1.0_f32, |high, x| high.max(x.abs()));
    a.iter().zip(&b).fold(0.0_f32, |high, (x, y)| high.max((x - y).abs())) / scale
}

/// A decoder small enough for finite differences, with every option that changes a block.
pub fn tiny_config(layers: usize) -> TransformerConfig {
    TransformerConfig {
        family: "llama".into(),
        layers,
        width: 16,
        heads: 4,
        kv_heads: 2,
        head_width: 6,
        mlp_width: 24,
        vocabulary: 37,
        max_positions: 64,
        norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: RopeScaling::None,
        tied_head: false,
        qkv_bias: true,
        output_bias: true,
        mlp_bias: true,
        qk_norm: true,
        sliding_window: Some(5),
        windowed_layers: None,
        bos_token: None,
        eos_tokens: vec![],
    }
}

/// The same, factored.
pub fn tiny_looped(relaxation: Relaxation) -> LoopedConfig {
    LoopedConfig {
        base: tiny_config(6),
        prelude_layers: 1,
        core_layers: 2,
        repetitions: 2,
        coda_layers: 1,
        relaxation,
        injection: Injection::None,
        state_norm: StateNorm::None,
        gate: None,
    }
}

/// Random parameters for a list of tensors.
pub fn random_params(tensors: &[(String, Vec<usize>)]) -> Params {
    let mut params = Params::new();
    for (index, (name, shape)) in tensors.iter().enumerate() {
        let scale = if shape.len() == 1 { 0.5 } else { 0.4 };
        let values = (random(index as u64, shape) * scale).unwrap();
        let values = if name.contains("norm") { (values + 1.0).unwrap() } else { values };
        params.insert(name, &values, true).unwrap();
    }
    params
}

/// The logarithms of what logits (.., V) say, a row a token.
pub fn log_softmax(logits: &Tensor) -> Vec<Vec<f64>> {
    let vocabulary = logits.dims()[logits.dims().len() - 1];
    let rows = logits.to_dtype(DType::F64).unwrap().reshape(((), vocabulary)).unwrap();
    let log = |row: Vec<f64>| {
        let sum: f64 = row.iter().map(|x| x.exp()).sum();
        row.into_iter().map(|x| x - sum.ln()).collect()
    };
    rows.to_vec2::<f64>().unwrap().into_iter().map(log).collect()
}
