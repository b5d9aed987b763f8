//! The state norm: every repetition but the first reads a normed state in training, decoding and
//! recomputation, and its weight is trained.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use factorexe::autograd::{Tape, Value};
use factorexe::context::Context;
use factorexe::distill::*;
use factorexe::hub::{Card, Source, StoredType, export_student, export_unrolled};
use factorexe::model::*;

use crate::support::objectives::{free_running, teacher_forced};
use crate::support::students::{
    Student, Teacher, assert_recomputes, batch, calibration, size, student,
};
use crate::support::{difference, random, random_params, tiny_looped};

/// Rounding of sums of f32 in two orders.
const F32_SUMS: f32 = 2e-5;
const NAME: &str = "between.norm.weight";

fn looped(state_norm: StateNorm, injection: Injection) -> LoopedConfig {
    LoopedConfig { state_norm, injection, ..tiny_looped(Relaxation::Lora { rank: 2 }) }
}

fn ids() -> Tensor {
    batch(2).input_tensor(&Device::Cpu).unwrap()
}

fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn a_repetition_reads_the_normed_state_and_then_the_prelude() {
    let row = |values: &[f32]| {
        Value::constant(Tensor::from_slice(values, (1, 1, values.len()), &Device::Cpu).unwrap())
    };
    let state: Vec<f32> = (1..=16).map(|x| x as f32).collect();
    for injection in [Injection::None, Injection::Additive] {
        let config = looped(StateNorm::Norm, injection);
        let mut all = random_params(&config.tensors()).tensors();
        let b = Tensor::full(0.25_f32, 16, &Device::Cpu).unwrap();
        all.insert("inject.b".into(), b);
        all.insert(NAME.into(), (Tensor::ones_like(&all["inject.b"]).unwrap() * 3.0).unwrap());
        let model = LoopedTransformer::new(&config, &all).unwrap();
        let input = |repetition: usize| {
            let prelude_state = row(&[1.0; 16]);
            let input =
                model.inject(&Tape::off(), &row(&state), &prelude_state, repetition).unwrap();
            values(input.tensor())
        };
        assert_eq!(input(0), state);
        // The mean square of 1 to 16 is 17 * 33 / 6, and eps is 1e-5.
        let size = (17.0 * 33.0 / 6.0_f32).sqrt();
        let added = if injection == Injection::None { 0.0 } else { 0.25 };
        for repetition in [1, 2, 9] {
            for (input, h) in input(repetition).into_iter().zip(&state) {
                assert!((input - (3.0 * h / size + added)).abs() < 1e-5, "{input} {h}");
            }
        }
    }
}

#[test]
fn the_first_repetition_and_the_output_after_it_are_those_of_a_student_without() {
    let (with, without) = (StateNorm::Norm, StateNorm::None);
    let tensors = random_params(&looped(with, Injection::None).tensors()).tensors();
    let states = |state_norm: StateNorm, repetitions: usize| {
        let model = LoopedTransformer::new(&looped(state_norm, Injection::None), &tensors).unwrap();
        model.states(&Tape::off(), &ids(), repetitions).unwrap()
    };
    let (normed, plain) = (states(with, 1), states(without, 1));
    assert_eq!(normed.len(), plain.len());
    for (normed, plain) in normed.iter().zip(&plain) {
        assert_eq!(difference(normed.tensor(), plain.tensor()), 0.0);
    }
    let (normed, plain) = (states(with, 2), states(without, 2));
    assert_eq!(difference(normed[3].tensor(), plain[3].tensor()), 0.0);
    assert!(difference(normed[4].tensor(), plain[4].tensor()) > 1e-3);
    // The input of the core is bounded after any number of repetitions.
    let many = states(with, 40);
    let model = LoopedTransformer::new(&looped(with, Injection::None), &tensors).unwrap();
    let last = &many[many.len() - 2];
    let input = model.inject(&Tape::off(), last, last, 40).unwrap();
    let largest = values(&tensors[NAME]).into_iter().fold(0.0_f32, |high, w| high.max(w.abs()));
    assert!(values(input.tensor()).iter().all(|x| x.abs() <= 4.0 * largest));
}

#[test]
fn decoding_with_a_cache_gives_the_states_of_the_full_forward() {
    for injection in [Injection::None, Injection::Gate] {
        let config = looped(StateNorm::Norm, injection);
        let model = LoopedTransformer::new(&config, &random_params(&config.tensors())).unwrap();
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
fn its_initial_weight_is_the_rms_of_the_teachers_states() {
    let teacher = Teacher::random(6);
    let normed = student().state_norm();
    let (config, tensors) = normed.tensors(&teacher);
    let (mut sum, mut count) = (0.0, 0.0);
    for ids in calibration() {
        let states = teacher.model.states(&Tape::off(), &ids, 1).unwrap();
        for state in &states[config.middle().start + 1..=config.middle().end] {
            for row in values(state.tensor()).chunks(16) {
                let squares: f64 = row.iter().map(|x| f64::from(x * x)).sum();
                sum += (squares / 16.0).sqrt().ln();
                count += 1.0;
            }
        }
    }
    let expected = (sum / count).exp() as f32;
    for weight in values(&tensors[NAME]) {
        assert!((weight / expected - 1.0).abs() < 1e-5, "{weight} {expected}");
    }
    let (deep, student) = (&teacher, normed.init(Init::First).config);
    let unseen =
        student_tensors(&deep.model, &deep.tensors, &config, &student, &[], 7, &Context::cpu());
    let error = unseen.unwrap_err().to_string();
    assert!(
        error.contains("no calibration text") && error.contains("student.state_norm"),
        "{error}"
    );
}

/// A student with a random state norm.
fn normed(injection: Injection, repetitions: usize) -> Student {
    let start = student().state_norm().injection(injection).repetitions(repetitions);
    let (_, tensors) = start.tensors(&Teacher::random(6));
    let learned = (&tensors[NAME] + (random(40, &[16]) * 0.5).unwrap()).unwrap();
    start.with(NAME, learned)
}

#[test]
fn every_parameter_has_the_gradient_of_finite_differences() {
    for injection in [Injection::None, Injection::Diagonal] {
        for recompute in [Recompute::Never, Recompute::Always] {
            println!("{injection:?} {recompute:?}");
            let objective = free_running().exits(0.5, 1).recompute(recompute);
            let training = normed(injection, 3).learning(objective);
            assert!(training.params.trainable().any(|(name, _)| name == NAME));
            training.assert_differences(&batch(2));
        }
    }
}

#[test]
fn recomputed_repetitions_give_the_gradients_of_stored_ones() {
    // 20 repetitions are checkpointed in two levels.
    for repetitions in [3, 20] {
        assert_recomputes(&normed(Injection::None, repetitions), &free_running());
    }
}

#[test]
fn the_norm_learns_under_teacher_forcing_as_well_and_in_a_narrow_student() {
    let forced = normed(Injection::None, 3).learning(teacher_forced());
    let narrow =
        student().repetitions(3).state_norm().narrow().learning(free_running().exits(0.5, 1));
    assert_eq!(narrow.params.get(NAME).unwrap().var().dims(), [8]);
    for training in [forced, narrow] {
        let size = size(&training.step(), NAME);
        assert!(size.is_finite() && size > 0.0, "{size}");
    }
}

#[test]
fn it_is_exported_and_loaded_to_the_bit_and_cannot_be_unrolled() {
    let place = tempfile::tempdir().unwrap();
    let (folder, plain) = (place.path().join("student"), place.path().join("plain"));
    let fixture = crate::support::checkpoints::fixture("qwen3");
    let base = Source::Folder(fixture).load(&Context::cpu()).unwrap().config;
    let core_layers = base.layers - 1;
    let config = LoopedConfig {
        base,
        prelude_layers: 0,
        core_layers,
        ..looped(StateNorm::Norm, Injection::None)
    };
    let tensors = random_params(&config.tensors()).tensors();
    let (card, stored) = (Card::default(), StoredType::F32);
    export_student(&folder, &config, &tensors, None, &card, stored).unwrap();
    let back = Source::Folder(folder.clone()).load(&Context::cpu()).unwrap();
    assert_eq!(back.looped.as_ref(), Some(&config));
    let ids = Tensor::new(&[[1_u32, 5, 9, 2]], &Device::Cpu).unwrap();
    let last_state = |tensors: &BTreeMap<String, Tensor>| {
        let model = LoopedTransformer::new(&config, tensors).unwrap();
        values(model.states(&Tape::off(), &ids, 3).unwrap().last().unwrap().tensor())
    };
    assert_eq!(last_state(&tensors), last_state(&back.tensors));
    assert!(!std::fs::read_to_string(folder.join("README.md")).unwrap().contains("--unrolled"));
    let refused = export_unrolled(&plain, &config, &tensors, None, None, &card, stored);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("state_norm = \"norm\"") && refused.contains("hint"), "{refused}");
    assert!(!plain.exists());
    let description = Description::new(&config.base, Some(&config)).student.unwrap();
    assert_eq!(description.state_norm, StateNorm::Norm);
}

#[test]
fn a_student_without_has_no_key_for_it_and_an_unknown_kind_is_refused() {
    let plain = looped(StateNorm::None, Injection::None);
    let mut json = serde_json::to_value(&plain).unwrap();
    assert!(json.get("state_norm").is_none());
    let back: LoopedConfig = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(back, plain);
    json["between"] = "norm".into();
    let back: LoopedConfig = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(back, looped(StateNorm::Norm, Injection::None));
    json["between"] = "layers".into();
    assert!(serde_json::from_value::<LoopedConfig>(json.clone()).is_err());
    json["between"] = "norm".into();
    json["betwixt"] = "norm".into();
    assert!(serde_json::from_value::<LoopedConfig>(json).is_err());
}
