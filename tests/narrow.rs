//! Does a narrow student start near its teacher, and learn beside it?

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use factorexe::autograd::{Params, Tape};
use factorexe::context::Context;
use factorexe::data::{Batch, IGNORED, SupervisedTokens};
use factorexe::distill::init::split;
use factorexe::distill::*;
use factorexe::model::*;
use factorexe::train::Objective;

use crate::depth::{assert_differences, moment};
use crate::distill::{batch, student_config, teacher};
use crate::support::{difference, random, random_params, tiny_config};

/// Two orders of summing through a stack, and an eigenvalue decomposition.
const F32_PROJECTED: f32 = 2e-3;

fn calibration() -> Vec<Tensor> {
    (0..6).map(|seed| batch(seed + 50).input_tensor(&Device::Cpu).unwrap()).collect()
}

/// `matrix` with the columns of (wide, narrow) orthonormal, by Gram and Schmidt.
fn orthonormal(wide: usize, narrow: usize) -> Tensor {
    let mut columns: Vec<Vec<f64>> = Vec::new();
    let start = random(77, &[narrow, wide]).to_vec2::<f32>().unwrap();
    for row in start {
        let mut column: Vec<f64> = row.into_iter().map(f64::from).collect();
        for other in &columns {
            let dot: f64 = column.iter().zip(other).map(|(a, b)| a * b).sum();
            column.iter_mut().zip(other).for_each(|(a, b)| *a -= dot * b);
        }
        let length = column.iter().map(|x| x * x).sum::<f64>().sqrt();
        columns.push(column.into_iter().map(|x| x / length).collect());
    }
    let rows: Vec<f32> = (0..wide).flat_map(|i| columns.iter().map(move |c| c[i] as f32)).collect();
    Tensor::from_vec(rows, (wide, narrow), &Device::Cpu).unwrap()
}

/// A wide stack that computes what a narrow one does: its states are Q y, half of its heads and
/// inner neurons write nothing.
fn widened(
    narrow: &TransformerConfig,
    tensors: &BTreeMap<String, Tensor>,
) -> (TransformerConfig, BTreeMap<String, Tensor>) {
    let wide = TransformerConfig {
        width: 2 * narrow.width,
        heads: 2 * narrow.heads,
        kv_heads: 2 * narrow.kv_heads,
        mlp_width: 2 * narrow.mlp_width,
        tied_head: false,
        ..narrow.clone()
    };
    let q = orthonormal(wide.width, narrow.width);
    // A norm makes a state of twice the width longer by the root of two.
    let reading = |name: &str, norm: &str| {
        let weight = tensors[name].broadcast_mul(&tensors[norm]).unwrap();
        (weight.matmul(&q.t().unwrap()).unwrap() / 2f64.sqrt()).unwrap()
    };
    let below = |weight: Tensor, seed| {
        let noise = random(seed, weight.dims());
        Tensor::cat(&[&weight, &noise], 0).unwrap()
    };
    let mut made = BTreeMap::new();
    let ones = || Tensor::ones(wide.width, DType::F32, &Device::Cpu).unwrap();
    made.insert("embed.weight".into(), tensors["embed.weight"].matmul(&q.t().unwrap()).unwrap());
    made.insert("head.weight".into(), reading("head.weight", "norm.weight"));
    made.insert("norm.weight".into(), ones());
    for layer in 0..narrow.layers {
        let name = |part: &str| format!("layers.{layer}.{part}.weight");
        let bias = |part: &str| format!("layers.{layer}.{part}.bias");
        for (seed, (part, norm)) in [
            ("attention.q", "attention_norm"),
            ("attention.k", "attention_norm"),
            ("attention.v", "attention_norm"),
            ("mlp.gate", "mlp_norm"),
            ("mlp.up", "mlp_norm"),
        ]
        .into_iter()
        .enumerate()
        {
            let own = reading(&name(part), &name(norm));
            made.insert(name(part), below(own, seed as u64));
            made.insert(bias(part), below(tensors[&bias(part)].clone(), 10 + seed as u64));
        }
        for part in ["attention.o", "mlp.down"] {
            let own = q.matmul(&tensors[&name(part)]).unwrap();
            let nothing = own.zeros_like().unwrap();
            made.insert(name(part), Tensor::cat(&[&own, &nothing], 1).unwrap());
            let column = tensors[&bias(part)].unsqueeze(1).unwrap();
            made.insert(bias(part), q.matmul(&column).unwrap().squeeze(1).unwrap());
        }
        for norm in ["attention.q_norm", "attention.k_norm"] {
            made.insert(name(norm), tensors[&name(norm)].clone());
        }
        for norm in ["attention_norm", "mlp_norm"] {
            made.insert(name(norm), ones());
        }
    }
    (wide, made)
}

fn logits(model: &Transformer, ids: &Tensor) -> Tensor {
    let states = model.states(&Tape::off(), ids, 1).unwrap();
    model.embedding_and_head().logits(states[states.len() - 1].tensor()).unwrap()
}

#[test]
fn a_wide_teacher_that_computes_narrowly_is_narrowed_exactly() {
    let small = TransformerConfig { tied_head: false, ..tiny_config(3) };
    let tensors = random_params(&small.tensors()).tensors();
    let (wide, big) = widened(&small, &tensors);
    let model = Transformer::new(&wide, &big).unwrap();
    let config = reduced_width_config(&wide, small.width).unwrap();
    assert_eq!((config.heads, config.mlp_width), (small.heads, small.mlp_width));
    let found = project_width(&model, &big, &config, &calibration(), &Context::cpu()).unwrap();
    let narrowed = Transformer::new(&config, &found.tensors).unwrap();
    let ids = batch(3).input_tensor(&Device::Cpu).unwrap();
    let error = difference(&logits(&narrowed, &ids), &logits(&model, &ids));
    assert!(error < F32_PROJECTED, "{error}");
    // The map carries its states to the teacher's.
    let own = narrowed.states(&Tape::off(), &ids, 1).unwrap();
    let theirs = model.states(&Tape::off(), &ids, 1).unwrap();
    for (own, theirs) in own.iter().zip(&theirs) {
        let flat = own.tensor().reshape(((), config.width)).unwrap();
        let carried = flat.matmul(&found.map.t().unwrap()).unwrap();
        let theirs = theirs.tensor().reshape(((), wide.width)).unwrap();
        let error = difference(&carried, &theirs);
        assert!(error < F32_PROJECTED, "{error}");
    }
}

#[test]
fn a_width_that_leaves_no_whole_heads_is_refused() {
    let base = tiny_config(2);
    for width in [0, base.width / base.heads / 2 + 1, 2 * base.width] {
        let error = reduced_width_config(&base, width).unwrap_err().to_string();
        assert!(error.contains("student.width"), "{error}");
    }
}

/// Half of the tokens are asked.
fn asked_batch() -> Batch {
    let mut batch = batch(2);
    for (place, target) in batch.targets.iter_mut().enumerate() {
        if place % 2 == 0 {
            *target = IGNORED;
        }
    }
    batch
}

fn narrow_objective(config: DistillConfig, core: usize) -> (Distillation<'static>, Params) {
    let (deep, tensors) = teacher(6);
    let student = StudentConfig {
        width: Some(deep.base().width / 2),
        frozen: Vec::new(),
        init: Init::EveryNth,
        ..student_config(1, core, 3, 1)
    };
    let calibration = calibration();
    let looped = split::find(&deep, &student, &calibration, &Context::cpu()).unwrap();
    let params =
        student_params((&deep, &tensors), &looped, &student, &calibration, 0, &Context::cpu())
            .unwrap();
    let made = LoopedTransformer::new(&looped, &params).unwrap();
    (Distillation::new(deep, made, params.clone(), config).unwrap(), params)
}

fn layer_by_layer() -> DistillConfig {
    DistillConfig {
        loss: LossConfig {
            cross_entropy: WeightSchedule::Constant(0.3),
            hidden: HiddenConfig {
                tokens: Compared::Supervised,
                skip_tokens: 0,
                ..Default::default()
            },
            early_exit: EarlyExitConfig {
                weight: WeightSchedule::Constant(0.7),
                draws: 2,
                imitate: EarlyExitTarget::Layer,
                ..EarlyExitConfig::default()
            },
            ..LossConfig::default()
        },
        phases: PhaseConfig { teacher_forced: 0.0, scheduled_until: 0.0, ..PhaseConfig::default() },
        depth: DepthConfig::default(),
    }
}

#[test]
fn every_parameter_of_a_narrow_student_asked_half_of_the_tokens_has_its_gradient() {
    let (objective, params) = narrow_objective(layer_by_layer(), 1);
    let loss = objective.loss(&asked_batch(), &mut moment()).unwrap();
    for (name, _) in params.trainable() {
        let gradient = loss.gradients.get(name).unwrap_or_else(|| panic!("{name} has none"));
        let size = gradient.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(size.is_finite() && size > 0.0, "{name}: {size}");
    }
    assert_differences(&objective, &asked_batch(), &params);
}

#[test]
fn repetitions_computed_anew_say_what_layers_say_as_those_that_were_kept() {
    let with = |recompute| {
        let mut config = layer_by_layer();
        config.depth.recompute = recompute;
        narrow_objective(config, 1).0.loss(&asked_batch(), &mut moment()).unwrap()
    };
    let (kept, anew) = (with(Recompute::Never), with(Recompute::Always));
    assert!((kept.total - anew.total).abs() < 1e-5 * kept.total.abs());
    for (name, kept) in &kept.gradients {
        assert!(difference(kept, &anew.gradients[name]) < F32_PROJECTED, "{name}");
    }
}

#[test]
fn every_layer_of_a_repetition_says_what_its_teachers_layer_says() {
    let mut config = layer_by_layer();
    config.loss.early_exit.every = Granularity::Layer;
    let (objective, params) = narrow_objective(config.clone(), 2);
    assert_differences(&objective, &asked_batch(), &params);
    // Five of six states are read besides the last: more is asked than of two repetitions' ends.
    let ends = narrow_objective(layer_by_layer(), 2).0;
    let exits = |objective: &Distillation| {
        objective.loss(&asked_batch(), &mut moment()).unwrap().terms["exit_kl"]
    };
    assert!((exits(&objective) - exits(&ends)).abs() > 1e-6);
    config.depth.recompute = Recompute::Always;
    let error = config.validate().unwrap_err().to_string();
    assert!(error.contains("loss.early_exit.every"), "{error}");
}

#[test]
fn the_first_step_of_a_narrow_student_stands_on_its_own_states() {
    let (objective, _) = narrow_objective(layer_by_layer(), 1);
    let mut first = factorexe::train::StepContext::new(9, 0, 10, 0);
    assert!(objective.loss(&asked_batch(), &mut first).unwrap().total.is_finite());
}

#[test]
fn only_asked_tokens_count() {
    let (objective, _) = narrow_objective(layer_by_layer(), 1);
    let half = asked_batch();
    let loss = |batch: &Batch| objective.loss(batch, &mut moment()).unwrap().terms;
    // The same tokens asked something else where nothing is asked would change nothing; asked
    // something else where they are asked, they do.
    let mut other = half.clone();
    other.targets[1] = (other.targets[1] + 1) % 37;
    let (first, second) = (loss(&half), loss(&other));
    assert_eq!(first["kl"], second["kl"]);
    assert_ne!(first["cross_entropy"], second["cross_entropy"]);
    let asked = SupervisedTokens::in_targets(&half.targets).unwrap();
    assert_eq!(asked.places.len(), 30);
    assert!(asked.places.iter().all(|place| place % 2 == 1));
    assert_eq!(SupervisedTokens::in_targets(&batch(2).targets), None);
}

#[test]
fn a_narrow_student_does_not_start_from_its_teachers_states() {
    let mut config = layer_by_layer();
    config.phases.scheduled_until = 0.5;
    let (deep, tensors) = teacher(6);
    let student =
        StudentConfig { width: Some(deep.base().width / 2), ..student_config(1, 1, 3, 1) };
    let looped = split::find(&deep, &student, &[], &Context::cpu()).unwrap();
    let seen = calibration();
    let params =
        student_params((&deep, &tensors), &looped, &student, &seen, 0, &Context::cpu()).unwrap();
    let made = LoopedTransformer::new(&looped, &params).unwrap();
    let error = Distillation::new(deep, made, params, config).unwrap_err().to_string();
    assert!(error.contains("phases.scheduled_until"), "{error}");
}
