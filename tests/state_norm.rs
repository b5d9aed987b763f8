//! The state norm: every repetition but the first reads a normed state in training, decoding and
//! recomputation, and its weight is trained.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use factorexe::autograd::{Params, Tape, Value};
use factorexe::context::Context;
use factorexe::distill::init::split;
use factorexe::distill::*;
use factorexe::hub::{Card, Source, StoredType, export_student, export_unrolled};
use factorexe::model::*;
use factorexe::train::{Loss, Objective, StepContext};

use crate::depth::{assert_differences, batch, config, exits, moment};
use crate::distill::{F32_STACK, calibration, start, student_config, teacher, trainable};
use crate::support::{difference, random, random_params, tiny_looped};

/// Rounding of sums of f32 in two orders.
const F32_SUMS: f32 = 2e-5;
const NAME: &str = "between.norm.weight";

fn looped(state_norm: StateNorm, injection: Injection) -> LoopedConfig {
    LoopedConfig { state_norm, injection, ..tiny_looped(Relaxation::Lora { rank: 2 }) }
}

fn ids() -> Tensor {
    batch().input_tensor(&Device::Cpu).unwrap()
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
    let teacher = teacher(6);
    let student = StudentConfig { state_norm: StateNorm::Norm, ..student_config(1, 1, 2, 1) };
    let (config, tensors) = start(&teacher, &student);
    let (mut sum, mut count) = (0.0, 0.0);
    for ids in calibration() {
        let states = teacher.0.states(&Tape::off(), &ids, 1).unwrap();
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
    let without_calibration = || {
        let (deep, tensors) = &teacher;
        let student = StudentConfig { init: Init::First, ..student.clone() };
        student_tensors(deep, tensors, &config, &student, &[], 7, &Context::cpu())
    };
    let error = without_calibration().unwrap_err().to_string();
    assert!(
        error.contains("no calibration text") && error.contains("student.state_norm"),
        "{error}"
    );
}

/// An objective over a student with a random state norm.
fn objective(
    config: DistillConfig,
    injection: Injection,
    repetitions: usize,
) -> (Distillation<'static>, Params) {
    let teacher = teacher(6);
    let state_norm = StateNorm::Norm;
    let student = StudentConfig { injection, state_norm, ..student_config(1, 1, repetitions, 1) };
    let (looped, mut tensors): (_, BTreeMap<String, Tensor>) = start(&teacher, &student);
    let learned = (&tensors[NAME] + (random(40, &[16]) * 0.5).unwrap()).unwrap();
    tensors.insert(NAME.into(), learned);
    let params = trainable(&tensors, &[]);
    let student = LoopedTransformer::new(&looped, &params).unwrap();
    (Distillation::new(teacher.0, student, params.clone(), config).unwrap(), params)
}

fn one_step(config: DistillConfig, injection: Injection, repetitions: usize) -> Loss {
    objective(config, injection, repetitions).0.loss(&batch(), &mut moment()).unwrap()
}

#[test]
fn every_parameter_has_the_gradient_of_finite_differences() {
    for injection in [Injection::None, Injection::Diagonal] {
        for recompute in [Recompute::Never, Recompute::Always] {
            println!("{injection:?} {recompute:?}");
            let (objective, params) = objective(config(exits(0.5, 1), recompute), injection, 3);
            assert!(params.trainable().any(|(name, _)| name == NAME));
            assert_differences(&objective, &batch(), &params);
        }
    }
}

#[test]
fn recomputed_repetitions_give_the_gradients_of_stored_ones() {
    // 20 repetitions are checkpointed in two levels.
    for repetitions in [3, 20] {
        let step =
            |recompute| one_step(config(exits(0.0, 1), recompute), Injection::None, repetitions);
        let (stored, recomputed) = (step(Recompute::Never), step(Recompute::Always));
        assert!((stored.total - recomputed.total).abs() < 1e-5 * stored.total);
        assert_eq!(stored.gradients.len(), recomputed.gradients.len());
        for (name, stored) in &stored.gradients {
            let error = difference(stored, &recomputed.gradients[name]);
            assert!(error < F32_STACK, "{name} is off by {error}");
        }
    }
}

#[test]
fn the_norm_is_trained_under_teacher_forcing_and_at_reduced_width() {
    let squared_norm = |loss: &Loss| {
        let gradient = &loss.gradients[NAME];
        gradient.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap()
    };
    let phases =
        PhaseConfig { teacher_forced: 1.0, scheduled_until: 1.0, ..PhaseConfig::default() };
    let forced = DistillConfig { phases, ..DistillConfig::default() };
    let (objective, _) = objective(forced, Injection::None, 3);
    let loss = objective.loss(&batch(), &mut StepContext::new(9, 0, 10, 0)).unwrap();
    assert!(squared_norm(&loss).is_finite() && squared_norm(&loss) > 0.0);

    let (deep, tensors) = teacher(6);
    let width = Some(deep.base().width / 2);
    let student =
        StudentConfig { state_norm: StateNorm::Norm, width, ..student_config(1, 1, 3, 1) };
    let calibration = calibration();
    let looped = split::find(&deep, &student, &calibration, &Context::cpu()).unwrap();
    let teacher = (&deep, &tensors);
    let params =
        student_params(teacher, &looped, &student, &calibration, 0, &Context::cpu()).unwrap();
    assert_eq!(params.get(NAME).unwrap().var().dims(), [8]);
    let student = LoopedTransformer::new(&looped, &params).unwrap();
    let config = config(exits(0.5, 1), Recompute::Never);
    let objective = Distillation::new(deep, student, params, config).unwrap();
    let loss = objective.loss(&batch(), &mut moment()).unwrap();
    assert!(squared_norm(&loss).is_finite() && squared_norm(&loss) > 0.0);
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
