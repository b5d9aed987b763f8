//! Are parameters stepped as `AdamW` says?

use candle_core::{DType, Device, Tensor};
use factorexe::autograd::Params;
use factorexe::train::{Ema, GradientSum, GroupConfig, Optimizer, OptimizerConfig};

/// Rounding of one f32 update of a number near 1, over a few steps.
const F32_STEPS: f32 = 2e-6;

fn config() -> OptimizerConfig {
    OptimizerConfig { lr: 0.1, weight_decay: 0.1, clip_norm: 0.0, ..OptimizerConfig::default() }
}

fn wave(count: usize, phase: f32) -> Vec<f32> {
    (0..count).map(|index| (index as f32).mul_add(0.37, phase).sin()).collect()
}

/// One matrix (rows, 1) called `weight` and one vector called `bias`, with the same numbers.
fn params(values: &[f32]) -> Params {
    let mut params = Params::new();
    let tensor = Tensor::from_slice(values, (values.len(), 1), &Device::Cpu).unwrap();
    params.insert("weight", &tensor, true).unwrap();
    params.insert("bias", &tensor.flatten_all().unwrap(), true).unwrap();
    params
}

fn gradients(params: &Params, values: &[f32]) -> GradientSum {
    let mut store = factorexe::autograd::Gradients::new();
    for (name, var) in params.trainable() {
        let gradient = Tensor::from_slice(values, var.dims(), &Device::Cpu).unwrap();
        store.insert(name.into(), gradient);
    }
    let mut gradients = GradientSum::new();
    gradients.add(params, &mut store).unwrap();
    gradients
}

fn values(params: &Params, name: &str) -> Vec<f32> {
    let var = params.get(name).unwrap().var();
    let values = var.flatten_all().unwrap().to_dtype(DType::F32).unwrap();
    values.to_vec1().unwrap()
}

/// Takes one step per entry of `phases`.
fn train(optimizer: &mut Optimizer, params: &Params, phases: &[f32], lr: f64) {
    let count = params.get("bias").unwrap().var().elem_count();
    for phase in phases {
        let gradients = gradients(params, &wave(count, *phase));
        let norm = gradients.norm().unwrap();
        optimizer.step(params, &gradients, norm, lr).unwrap();
    }
}

fn assert_close(found: &[f32], expected: &[f32]) {
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() < F32_STEPS, "{found} is not {expected}");
    }
}

#[test]
fn the_first_step_is_the_sign_of_the_gradient_and_only_matrices_decay() {
    let params = params(&[1.0, -2.0]);
    let mut optimizer = Optimizer::new(&config(), &params).unwrap();
    let gradients = gradients(&params, &[0.5, -3.0]);
    optimizer.step(&params, &gradients, 1.0, 0.1).unwrap();
    // By hand: m / (1 - beta1) = g and v / (1 - beta2) = g^2, so every number moves by lr = 0.1
    // against the sign of g; the matrix first shrinks by lr * weight decay = 1 %.
    assert_close(&values(&params, "weight"), &[0.89, -1.88]);
    assert_close(&values(&params, "bias"), &[0.9, -1.9]);
}

#[test]
fn fused_steps_are_those_of_the_scalar_definition() {
    let start = wave(40, 1.0);
    let params = params(&start);
    let config = config();
    train(&mut Optimizer::new(&config, &params).unwrap(), &params, &[0.0, 0.9, 2.0], 0.1);
    let [beta1, beta2] = config.betas;
    let expected: Vec<f32> = start
        .iter()
        .enumerate()
        .map(|(index, value)| {
            let (mut theta, mut m, mut v) = (f64::from(*value), 0.0, 0.0);
            for (t, phase) in [(1, 0.0), (2, 0.9), (3, 2.0)] {
                let g = f64::from(wave(40, phase)[index]);
                m = beta1 * m + (1.0 - beta1) * g;
                v = beta2 * v + (1.0 - beta2) * g * g;
                let (m_hat, v_hat) = (m / (1.0 - beta1.powi(t)), v / (1.0 - beta2.powi(t)));
                theta -= 0.1 * (m_hat / (v_hat.sqrt() + config.eps) + 0.1 * theta);
            }
            theta as f32
        })
        .collect();
    assert_close(&values(&params, "weight"), &expected);
}

#[test]
fn fused_and_composed_steps_agree() {
    // More than one chunk, and a rest.
    let start = wave(40_003, 1.0);
    let (fused, composed) = (params(&start), params(&start));
    let phases = [0.0, 0.9, 2.0, 2.5];
    train(&mut Optimizer::new(&config(), &fused).unwrap(), &fused, &phases, 0.01);
    train(&mut Optimizer::composed(&config(), &composed).unwrap(), &composed, &phases, 0.01);
    for name in ["weight", "bias"] {
        assert_close(&values(&fused, name), &values(&composed, name));
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let params = params(&wave(100_003, 1.0));
            let config = OptimizerConfig { clip_norm: 0.5, ..config() };
            train(&mut Optimizer::new(&config, &params).unwrap(), &params, &[0.0, 0.9], 0.1);
            let norm = gradients(&params, &wave(100_003, 0.3)).norm().unwrap();
            let bits: Vec<u32> = values(&params, "weight").into_iter().map(f32::to_bits).collect();
            (bits, norm.to_bits())
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn an_average_that_follows_in_the_same_pass_is_that_of_a_pass_of_its_own() {
    let run = |together: bool| {
        // More than one chunk, and a rest.
        let params = params(&wave(40_003, 1.0));
        let mut optimizer = Optimizer::new(&config(), &params).unwrap();
        let mut ema = Ema::new(0.9, &params).unwrap();
        for (step, phase) in [(0, 0.0), (1, 0.9), (2, 2.0)] {
            let gradients = gradients(&params, &wave(40_003, phase));
            if together {
                optimizer.step_with_ema(&params, &gradients, 1.0, 0.1, &mut ema, step).unwrap();
            } else {
                optimizer.step(&params, &gradients, 1.0, 0.1).unwrap();
                ema.update(&params, step).unwrap();
            }
        }
        let stepped = values(&params, "weight");
        ema.apply(&params).unwrap();
        (stepped, values(&params, "weight"))
    };
    assert_eq!(run(true), run(false));
}

#[test]
fn the_norm_is_over_all_parameters_and_of_the_mean() {
    let params = params(&[1.0, 1.0]);
    let mut gradients = gradients(&params, &[3.0, 0.0]);
    // Two parameters with gradient (3, 0).
    assert!((gradients.norm().unwrap() - 18.0_f64.sqrt()).abs() < 1e-12);
    gradients.add(&params, &mut factorexe::autograd::Gradients::new()).unwrap();
    assert!((gradients.norm().unwrap() - 4.5_f64.sqrt()).abs() < 1e-12);
}

#[test]
fn clipping_is_scaling_the_gradient_to_the_norm() {
    let (clipped, scaled) = (params(&[1.0]), params(&[1.0]));
    let mut clipping =
        Optimizer::new(&OptimizerConfig { clip_norm: 2.0, ..config() }, &clipped).unwrap();
    let mut plain = Optimizer::new(&config(), &scaled).unwrap();
    // Weight and bias both have this gradient; a norm of 2 leaves sqrt(2) to each.
    for (gradient, within) in [(0.5, 0.5), (-40.0, -(2.0_f32.sqrt())), (0.25, 0.25)] {
        let found = gradients(&clipped, &[gradient]);
        let norm = found.norm().unwrap();
        clipping.step(&clipped, &found, norm, 0.1).unwrap();
        plain.step(&scaled, &gradients(&scaled, &[within]), 0.0, 0.1).unwrap();
    }
    assert_close(&values(&clipped, "weight"), &values(&scaled, "weight"));
}

#[test]
fn groups_scale_the_rate_and_set_the_decay() {
    let params = params(&[1.0]);
    let group = |pattern: &str, lr_scale, weight_decay| GroupConfig {
        pattern: pattern.to_owned(),
        lr_scale,
        weight_decay,
    };
    let groups =
        vec![group("wei*", 0.0, None), group("*", 0.5, Some(1.0)), group("absent.*", 1.0, None)];
    let mut optimizer = Optimizer::new(&OptimizerConfig { groups, ..config() }, &params).unwrap();
    assert_eq!(optimizer.unmatched_groups(), ["absent.*"]);
    optimizer.step(&params, &gradients(&params, &[1.0]), 1.0, 0.1).unwrap();
    assert_close(&values(&params, "weight"), &[1.0]);
    // lr 0.05: decays by 0.05 * 1, then moves by 0.05.
    assert_close(&values(&params, "bias"), &[0.9]);
}

#[test]
fn parameters_of_other_types_are_stepped_in_f32() {
    let mut params = Params::new();
    let start = Tensor::new(&[[1.0_f32], [-2.0]], &Device::Cpu).unwrap();
    params.insert("weight", &start.to_dtype(DType::BF16).unwrap(), true).unwrap();
    let mut optimizer = Optimizer::new(&config(), &params).unwrap();
    optimizer.step(&params, &gradients(&params, &[0.5, -3.0]), 1.0, 0.1).unwrap();
    // bf16 has 8 bits: 0.89 and -1.88 to three digits.
    for (found, expected) in values(&params, "weight").iter().zip([0.89, -1.88]) {
        assert!((found - expected).abs() < 4e-3);
    }
}

#[test]
fn a_refused_value_is_named_by_its_key() {
    let refused = |config: OptimizerConfig| config.validate().unwrap_err().to_string();
    let betas = refused(OptimizerConfig { betas: [0.9, 1.0], ..config() });
    assert!(betas.contains("train.optimizer.betas"), "{betas}");
    assert!(refused(OptimizerConfig { lr: f64::NAN, ..config() }).contains("train.optimizer.lr"));
    let groups = vec![GroupConfig { pattern: "a[".to_owned(), ..GroupConfig::default() }];
    let group = refused(OptimizerConfig { groups, ..config() });
    assert!(group.contains("train.optimizer.groups[0].pattern"), "{group}");
}
