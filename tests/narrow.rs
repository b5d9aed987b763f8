//! A student narrower than its teacher: where it starts, and what it learns from.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use factorexe::autograd::Tape;
use factorexe::context::Context;
use factorexe::data::{Batch, IGNORED, SupervisedTokens};
use factorexe::distill::*;
use factorexe::model::*;
use factorexe::train::{Loss, StepContext};

use crate::support::objectives::{ObjectiveBuilder, free_running};
use crate::support::students::{
    Student, Teacher, assert_recomputes, batch, calibration, half_batch, logits, student,
};
use crate::support::{difference, log_softmax, random, random_params, tiny_config};

/// Two orders of summing through a stack, and an eigenvalue decomposition.
const F32_PROJECTED: f32 = 2e-3;

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
    let error = difference(&logits(&narrowed, &ids, 1), &logits(&model, &ids, 1));
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

/// Half as wide as its teacher, core K x 3.
fn narrow_student(core: usize) -> Student {
    student().core(core).repetitions(3).init(Init::EveryNth).narrow()
}

/// Every repetition imitates the layer it stands for, where tokens are supervised.
fn layer_by_layer() -> ObjectiveBuilder {
    let mut objective = free_running().temperature(1.0).exits(0.7, 2);
    objective.0.loss.early_exit.prior = EarlyExitPrior::Uniform;
    objective.0.loss.hidden.tokens = Compared::Supervised;
    objective.0.loss.hidden.skip_tokens = 0;
    objective.exits_imitate(EarlyExitTarget::Layer, Granularity::Repetition)
}

#[test]
fn every_parameter_of_a_narrow_student_supervised_at_half_of_the_tokens_has_its_gradient() {
    narrow_student(1).learning(layer_by_layer()).assert_differences(&half_batch());
}

#[test]
fn recomputed_repetitions_give_the_gradients_of_stored_ones() {
    assert_recomputes(&narrow_student(1), &layer_by_layer());
}

#[test]
fn every_layer_of_a_repetition_imitates_its_teachers_layer() {
    let objective = layer_by_layer().exits_imitate(EarlyExitTarget::Layer, Granularity::Layer);
    let layers = narrow_student(2).learning(objective.clone());
    layers.assert_differences(&half_batch());
    // Five of six states are read besides the last, more than the ends of two repetitions.
    let ends = narrow_student(2).learning(layer_by_layer());
    let [layers, ends] =
        [layers, ends].map(|training| training.loss(&half_batch()).terms["exit_kl"]);
    assert!((layers - ends).abs() > 1e-6);
    let error = objective.recompute(Recompute::Always).0.validate().unwrap_err().to_string();
    assert!(error.contains("loss.early_exit.every"), "{error}");
}

#[test]
fn the_first_step_of_a_narrow_student_stands_on_its_own_states() {
    let training = narrow_student(1).learning(layer_by_layer());
    let first = training.loss_at(&batch(2), &StepContext::new(9, 0, 10, 0));
    // The KL of the student run alone.
    let ids = batch(2).input_tensor(&Device::Cpu).unwrap();
    let own = log_softmax(&logits(training.student(), &ids, 3));
    let theirs = log_softmax(&logits(training.objective.teacher(), &ids, 1));
    let pairs = own.iter().flatten().zip(theirs.iter().flatten());
    let kl = pairs.map(|(q, p)| p.exp() * (p - q)).sum::<f64>() / 60.0;
    let found = first.terms["kl"];
    assert!((found - kl).abs() < 1e-5 * kl, "{found} {kl}");
    // Nothing is drawn here: the first step is like any other.
    let later = training.step();
    assert_eq!((first.total, first.terms), (later.total, later.terms));
    assert!(!first.partial && first.gradients.len() == later.gradients.len());
}

/// The other half of the tokens: no target at the last of every row.
fn other_half() -> Batch {
    let (mut other, half) = (batch(2), half_batch());
    for (target, supervised) in other.targets.iter_mut().zip(half.targets) {
        if supervised != IGNORED {
            *target = IGNORED;
        }
    }
    other
}

/// The same but for the inputs in the last column, which no other token attends to.
fn with_other_ends(mut batch: Batch) -> Batch {
    for row in batch.inputs.chunks_mut(batch.columns) {
        let last = &mut row[batch.columns - 1];
        *last = (*last + 1) % 37;
    }
    batch
}

#[test]
fn only_supervised_tokens_count() {
    let training = narrow_student(1).learning(layer_by_layer());
    let loss = |batch: &Batch| -> Loss { training.loss(batch) };
    let (half, other) = (loss(&half_batch()), loss(&other_half()));
    // A token without a target may be anything.
    let ignored = loss(&with_other_ends(other_half()));
    assert_eq!((other.total, &other.terms), (ignored.total, &ignored.terms));
    for (name, gradient) in &other.gradients {
        assert_eq!(difference(gradient, &ignored.gradients[name]), 0.0, "{name}");
    }
    // One with a target counts in every loss.
    let supervised = loss(&with_other_ends(half_batch()));
    for term in ["kl", "cross_entropy", "exit_kl", "hidden", "cosine"] {
        assert_ne!(half.terms[term], supervised.terms[term], "{term}");
    }
    // Losses are means over tokens with a target: of both halves, that of all.
    let all = loss(&batch(2));
    for term in ["kl", "cross_entropy", "exit_kl", "agreement"] {
        let mean = f64::midpoint(half.terms[term], other.terms[term]);
        let all = all.terms[term];
        assert!((mean - all).abs() < 1e-5 * all, "{term}: {mean}, {all}");
    }
    assert_ne!(half.terms["kl"], other.terms["kl"]);
    let places = SupervisedTokens::in_targets(&half_batch().targets).unwrap().places;
    assert!(places.len() == 30 && places.iter().all(|place| place % 2 == 1));
    assert_eq!(SupervisedTokens::in_targets(&batch(2).targets), None);
}

#[test]
fn a_narrow_student_does_not_start_from_its_teachers_states() {
    let objective = layer_by_layer().phases(0.0, 0.5).into();
    let refused = narrow_student(1).try_learning(Teacher::random(6), objective);
    let error = refused.err().unwrap().to_string();
    assert!(error.contains("phases.scheduled_until"), "{error}");
}
