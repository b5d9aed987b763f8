//! Injection: every repetition reads the prelude's output in training, decoding and recomputation, and
//! its parameters are trained.

use candle_core::{Device, Tensor};
use factorexe::autograd::{Tape, Value};
use factorexe::distill::Recompute;
use factorexe::model::*;

use crate::support::objectives::{free_running, teacher_forced};
use crate::support::students::{Student, Teacher, assert_recomputes, batch, size, student};
use crate::support::{difference, random, random_params, tiny_looped};

const INJECTIONS: [Injection; 3] = [Injection::Additive, Injection::Diagonal, Injection::Gate];

/// Rounding of sums of f32 in two orders.
const F32_SUMS: f32 = 2e-5;

fn looped(injection: Injection) -> LoopedConfig {
    LoopedConfig { injection, ..tiny_looped(Relaxation::Lora { rank: 2 }) }
}

fn model(config: &LoopedConfig) -> LoopedTransformer {
    LoopedTransformer::new(config, &random_params(&config.tensors())).unwrap()
}

fn ids() -> Tensor {
    batch(2).input_tensor(&Device::Cpu).unwrap()
}

fn row(values: &[f32]) -> Value {
    Value::constant(Tensor::from_slice(values, (1, 1, values.len()), &Device::Cpu).unwrap())
}

/// The injection of a student of width 16, of the state 1, 2, .. 16 and a prelude state of ones.
fn injected(injection: Injection, tensors: &[(&str, Vec<f32>)]) -> Vec<f32> {
    let config = looped(injection);
    let mut all = random_params(&config.tensors()).tensors();
    for (name, values) in tensors {
        let values = Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap();
        assert!(all.insert((*name).to_owned(), values).is_some(), "{name}");
    }
    let model = LoopedTransformer::new(&config, &all).unwrap();
    let state: Vec<f32> = (1..=16).map(|x| x as f32).collect();
    let value = model.inject(&Tape::off(), &row(&state), &row(&[1.0; 16]), 1).unwrap();
    value.tensor().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn each_injection_is_its_formula() {
    let assert_close = |injected: Vec<f32>, expected: &dyn Fn(f32) -> f32| {
        for (index, injected) in injected.into_iter().enumerate() {
            let expected = expected(1.0 + index as f32);
            assert!((injected - expected).abs() < 1e-5, "{index}: {injected}, {expected}");
        }
    };
    let b = ("inject.b", vec![0.25; 16]);
    assert_close(injected(Injection::Additive, std::slice::from_ref(&b)), &|h| h + 0.25);
    // softplus(ln(e - 1)) = 1, so that a = 1 / e.
    let alpha = ("inject.a", vec![(std::f32::consts::E - 1.0).ln(); 16]);
    assert_close(injected(Injection::Diagonal, &[alpha, b]), &|h| h / std::f32::consts::E + 0.25);
    // The root mean square of 1 to 16 is sqrt(17 * 33 / 6), and w selects the last dimension.
    let weight = (0..16).map(|i| f32::from(u8::from(i == 15))).collect();
    let gate = [("inject.gate.weight", weight), ("inject.gate.bias", vec![-1.0])];
    let s = 1.0 / (1.0 + (1.0 - 16.0 / (17.0 * 33.0 / 6.0_f32).sqrt()).exp());
    assert_close(injected(Injection::Gate, &gate), &|h| s * h + 1.0 - s);
}

#[test]
fn a_diagonal_injection_is_a_contraction_for_every_alpha() {
    for alpha in [-60.0, -4.0, 0.0, 3.0, 200.0] {
        let tensors = [("inject.a", vec![alpha; 16]), ("inject.b", vec![0.0; 16])];
        let retained = injected(Injection::Diagonal, &tensors);
        let inside = retained.iter().zip(1..).all(|(x, h)| (0.0..=h as f32).contains(x));
        assert!(inside, "alpha {alpha}: {retained:?}");
    }
}

#[test]
fn the_first_repetition_starts_from_the_prelude_and_later_ones_are_injected_with_it() {
    for injection in INJECTIONS {
        let (with, without) = (looped(injection), looped(Injection::None));
        let tensors = random_params(&with.tensors()).tensors();
        let states = |config: &LoopedConfig| {
            let model = LoopedTransformer::new(config, &tensors).unwrap();
            model.states(&Tape::off(), &ids(), 2).unwrap()
        };
        let (injected, plain) = (states(&with), states(&without));
        assert_eq!(injected.len(), plain.len());
        // Embedding, prelude and the two layers of the first repetition.
        for (injected, plain) in injected.iter().zip(&plain).take(4) {
            assert_eq!(difference(injected.tensor(), plain.tensor()), 0.0);
        }
        assert!(difference(injected[4].tensor(), plain[4].tensor()) > 1e-3, "{injection:?}");
    }
}

#[test]
fn decoding_with_a_cache_gives_the_states_of_the_full_forward() {
    for injection in INJECTIONS {
        let model = model(&looped(injection));
        let full = model.states(&Tape::off(), &ids(), 3).unwrap();
        let full = full.last().unwrap().tensor();
        let mut cache = model.new_cache(3);
        for (start, len) in [(0, 7), (7, 1), (8, 12)] {
            let part = ids().narrow(1, start, len).unwrap();
            let state = model.forward_cached(&part, &mut cache, 3).unwrap();
            let expected = full.narrow(1, start, len).unwrap();
            assert!(difference(&state, &expected) < F32_SUMS, "{injection:?}");
        }
    }
}

#[test]
fn a_student_is_initialised_close_to_one_without_injection() {
    let states = |injection: Injection| {
        let (config, tensors) = student().injection(injection).tensors(&Teacher::random(6));
        let model = LoopedTransformer::new(&config, &tensors).unwrap();
        model.states(&Tape::off(), &ids(), 2).unwrap().pop().unwrap().tensor().clone()
    };
    let without = states(Injection::None);
    assert_eq!(difference(&states(Injection::Additive), &without), 0.0);
    for injection in [Injection::Diagonal, Injection::Gate] {
        let error = difference(&states(injection), &without);
        // The prelude's state initially has the weight 0.01.
        assert!(error > 1e-4 && error < 0.05, "{injection:?}: {error}");
    }
}

/// A student with random injection parameters.
fn injecting(injection: Injection, repetitions: usize) -> Student {
    let start = student().injection(injection).repetitions(repetitions);
    let tensors = injection.tensors(16).into_iter().enumerate();
    tensors.fold(start, |student, (index, (name, shape))| {
        student.with(&name, (random(40 + index as u64, &shape) * 0.5).unwrap())
    })
}

#[test]
fn every_parameter_has_the_gradient_of_finite_differences() {
    for injection in INJECTIONS {
        for recompute in [Recompute::Never, Recompute::Always] {
            println!("{injection:?} {recompute:?}");
            let objective = free_running().exits(0.5, 1).recompute(recompute);
            let training = injecting(injection, 3).learning(objective);
            assert!(training.params.trainable().any(|(name, _)| name.starts_with("inject.")));
            training.assert_differences(&batch(2));
        }
    }
}

#[test]
fn recomputed_repetitions_give_the_gradients_of_stored_ones() {
    for injection in INJECTIONS {
        // 20 repetitions are checkpointed in two levels, both of which pass the prelude's state on.
        for repetitions in [3, 20] {
            assert_recomputes(&injecting(injection, repetitions), &free_running());
        }
    }
}

#[test]
fn the_injection_is_trained_under_teacher_forcing() {
    for injection in INJECTIONS {
        let loss = injecting(injection, 3).learning(teacher_forced()).step();
        for (name, _) in injection.tensors(16) {
            let size = size(&loss, &name);
            assert!(size.is_finite() && size > 0.0, "the gradient of {name} is {size}");
        }
    }
}

#[test]
fn a_student_without_injection_has_no_key_for_it() {
    let json = |injection| serde_json::to_value(looped(injection)).unwrap();
    let without = json(Injection::None);
    assert!(without.get("injection").is_none());
    let back: LoopedConfig = serde_json::from_value(without).unwrap();
    assert_eq!(back, looped(Injection::None));
    assert_eq!(json(Injection::Gate)["injection"], "gate");
}
