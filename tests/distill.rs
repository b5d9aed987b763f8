//! Does a student start where its initialisation says, and learn what its losses say?

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use factorexe::autograd::{Params, Tape};
use factorexe::context::Context;
use factorexe::data::Batch;
use factorexe::distill::init::split;
use factorexe::distill::*;
use factorexe::model::*;
use factorexe::train::{Loss, Objective, StepContext};

use crate::support::{difference, random_params, tiny_config};

/// Two orders of summing, through a stack of layers.
pub(crate) const F32_STACK: f32 = 2e-4;

pub(crate) fn teacher(layers: usize) -> (Transformer, BTreeMap<String, Tensor>) {
    let config = tiny_config(layers);
    let tensors = random_params(&config.tensors()).tensors();
    (Transformer::new(&config, &tensors).unwrap(), tensors)
}

pub(crate) fn batch(seed: u32) -> Batch {
    let token = |i: u32| (i * i * 5 + i * 3 + seed * 7) % 37;
    let inputs: Vec<u32> = (0..60).map(token).collect();
    Batch {
        targets: (1..61).map(token).collect(),
        inputs,
        rows: 3,
        columns: 20,
        ..Batch::default()
    }
}

pub(crate) fn calibration() -> Vec<Tensor> {
    (0..4).map(|seed| batch(seed + 50).input_tensor(&Device::Cpu).unwrap()).collect()
}

pub(crate) fn student_config(
    prelude: usize,
    core: usize,
    repetitions: usize,
    coda: usize,
) -> StudentConfig {
    StudentConfig {
        prelude_layers: Layers::Count(prelude),
        core_layers: core,
        repetitions,
        coda_layers: Layers::Count(coda),
        ..StudentConfig::default()
    }
}

pub(crate) fn start(
    teacher: &(Transformer, BTreeMap<String, Tensor>),
    student: &StudentConfig,
) -> (LoopedConfig, BTreeMap<String, Tensor>) {
    let config = split::find(&teacher.0, student, &calibration(), &Context::cpu()).unwrap();
    let tensors = student_tensors(
        &teacher.0,
        &teacher.1,
        &config,
        student,
        &calibration(),
        7,
        &Context::cpu(),
    );
    (config, tensors.unwrap())
}

fn logits(model: &dyn CausalLm, repetitions: usize) -> Tensor {
    let ids = batch(1).input_tensor(&Device::Cpu).unwrap();
    let states = model.states(&Tape::off(), &ids, repetitions).unwrap();
    model.embedding_and_head().logits(states.last().unwrap().tensor()).unwrap()
}

#[test]
fn what_a_student_starts_as_is_given_up_when_it_is_to_stop() {
    let teacher = teacher(6);
    let student = student_config(1, 2, 2, 1);
    let auto = StudentConfig { prelude_layers: Layers::Auto(Auto::Auto), ..student.clone() };
    let found =
        split::find(&teacher.0, &auto, &calibration(), &Context::cpu().cancelled_when(|| true));
    let config =
        split::find(&teacher.0, &student, &calibration(), &Context::cpu().cancelled_when(|| true))
            .unwrap();
    let made = INITS.map(|init| {
        let student = StudentConfig { init, ..student.clone() };
        let (deep, seen) = (&teacher.0, calibration());
        student_tensors(
            deep,
            &teacher.1,
            &config,
            &student,
            &seen,
            7,
            &Context::cpu().cancelled_when(move || true),
        )
        .unwrap_err()
    });
    for error in made.into_iter().chain([found.unwrap_err()]) {
        assert_eq!(error.kind(), factorexe::error::Kind::Interrupted, "{error}");
    }
}

const INITS: [Init; 4] = [Init::First, Init::EveryNth, Init::Average, Init::LeastSquares];

#[test]
fn a_student_that_shares_nothing_is_its_teacher() {
    let teacher = teacher(6);
    for init in INITS {
        let student = StudentConfig { init, ..student_config(1, 4, 1, 1) };
        let (config, tensors) = start(&teacher, &student);
        let made = LoopedTransformer::new(&config, &tensors).unwrap();
        let error = difference(&logits(&made, 1), &logits(&teacher.0, 1));
        // The ridge of the least squares pulls towards the mean, which here is the layer itself.
        assert!(error < F32_STACK, "{init:?} is off by {error}");
    }
}

#[test]
fn a_student_with_full_rank_corrections_is_its_teacher() {
    let teacher = teacher(6);
    for init in INITS {
        let relaxation = Relaxation::Lora { rank: 24 };
        let student = StudentConfig { init, relaxation, ..student_config(1, 2, 2, 1) };
        let (config, tensors) = start(&teacher, &student);
        let made = LoopedTransformer::new(&config, &tensors).unwrap();
        let error = difference(&logits(&made, 2), &logits(&teacher.0, 1));
        assert!(error < 10.0 * F32_STACK, "{init:?} is off by {error}");
    }
}

#[test]
fn a_teacher_of_equal_layers_is_factored_exactly_with_loss_zero_at_the_start() {
    let config = tiny_config(6);
    let mut tensors = random_params(&config.tensors()).tensors();
    for layer in 1..6 {
        for (name, _) in config.layer_tensors() {
            let first = tensors[&format!("layers.0.{name}")].clone();
            tensors.insert(format!("layers.{layer}.{name}"), first);
        }
    }
    let teacher = (Transformer::new(&config, &tensors).unwrap(), tensors);
    let student = student_config(1, 1, 4, 1);
    let (looped, tensors) = start(&teacher, &student);
    let params = trainable(&tensors, &[]);
    let made = LoopedTransformer::new(&looped, &params).unwrap();
    let loss = LossConfig { settle: WeightSchedule::Constant(0.0), ..LossConfig::default() };
    for forced in [0.0, 1.0] {
        let phases =
            PhaseConfig { teacher_forced: forced, scheduled_until: forced, ..Default::default() };
        let config = DistillConfig { loss: loss.clone(), phases, ..DistillConfig::default() };
        let objective =
            Distillation::new(teacher.0.clone(), made.clone(), params.clone(), config).unwrap();
        let loss = objective.loss(&batch(3), &mut StepContext::new(1, 0, 10, 0)).unwrap();
        assert!(loss.total < 1e-6, "the loss is {}", loss.total);
    }
}

pub(crate) fn trainable(tensors: &BTreeMap<String, Tensor>, frozen: &[&str]) -> Params {
    let mut params = Params::new();
    for (name, values) in tensors {
        let kept = frozen.iter().any(|prefix| name.starts_with(prefix));
        params.insert(name, values, !kept).unwrap();
    }
    params
}

#[test]
fn least_squares_reproduces_the_teachers_products_better_than_the_mean() {
    let teacher = teacher(6);
    let hidden = |init: Init| {
        let student = StudentConfig { init, ..student_config(1, 1, 4, 1) };
        let (config, tensors) = start(&teacher, &student);
        let params = trainable(&tensors, &[]);
        let made = LoopedTransformer::new(&config, &params).unwrap();
        let phases =
            PhaseConfig { teacher_forced: 1.0, scheduled_until: 1.0, ..PhaseConfig::default() };
        let config = DistillConfig { phases, ..DistillConfig::default() };
        let objective = Distillation::new(teacher.0.clone(), made, params, config).unwrap();
        objective.loss(&batch(50), &mut StepContext::new(1, 0, 10, 0)).unwrap().terms["hidden"]
    };
    assert!(hidden(Init::LeastSquares) < hidden(Init::Average));
    assert!(hidden(Init::Average) < hidden(Init::Random));
}

/// Plain descent: what the trainer does, without its checkpoints.
fn descend(config: &DistillConfig, student: &StudentConfig, steps: u64) -> Vec<f64> {
    let teacher = teacher(6);
    let (looped, tensors) = start(&teacher, student);
    let params = trainable(&tensors, &["embed", "head"]);
    let made = LoopedTransformer::new(&looped, &params).unwrap();
    let objective = Distillation::new(teacher.0, made, params.clone(), config.clone()).unwrap();
    let step = |step: u64| {
        let mut moment = StepContext::new(9, step, steps, 0);
        let loss = objective.loss(&batch(step as u32 % 4), &mut moment).unwrap();
        for (name, var) in params.trainable() {
            let Some(gradient) = loss.gradients.get(name) else { continue };
            let gradient: &Tensor = gradient;
            var.set(&(var.as_tensor() - (gradient * 0.02).unwrap()).unwrap()).unwrap();
        }
        loss.total
    };
    (0..steps).map(step).collect()
}

#[test]
fn every_loss_phase_and_alignment_learns() {
    let hidden =
        |alignment, every| HiddenConfig { alignment, every, cosine: 0.5, ..Default::default() };
    let loop_closed =
        PhaseConfig { teacher_forced: 0.0, scheduled_until: 0.0, force: Granularity::Layer };
    for alignment in [Alignment::Uniform, Alignment::Interpolated, Alignment::Monotone] {
        for every in [Granularity::Layer, Granularity::Repetition] {
            let loss = LossConfig {
                cross_entropy: WeightSchedule::Constant(0.1),
                hidden: hidden(alignment, every),
                settle: WeightSchedule::Constant(0.05),
                temperature: 2.0,
                ..LossConfig::default()
            };
            let config = DistillConfig { loss, phases: loop_closed, ..DistillConfig::default() };
            // Three repetitions for a middle of four layers: nothing lines up by itself.
            let losses = descend(&config, &student_config(1, 1, 3, 1), 40);
            let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
            let (first, last) = (mean(&losses[..4]), mean(&losses[36..]));
            assert!(last < 0.9 * first, "{alignment:?} {every:?}: {first} to {last}");
        }
    }
}

/// Loss and gradients of one step in the closed loop.
fn one_step(config: &DistillConfig, student: &StudentConfig) -> Loss {
    let teacher = teacher(6);
    let (looped, tensors) = start(&teacher, student);
    let params = trainable(&tensors, &["embed", "head"]);
    let made = LoopedTransformer::new(&looped, &params).unwrap();
    let objective = Distillation::new(teacher.0, made, params, config.clone()).unwrap();
    objective.loss(&batch(2), &mut StepContext::new(9, 5, 10, 0)).unwrap()
}

#[test]
fn repetitions_computed_anew_give_the_gradients_of_those_that_were_kept() {
    for (alignment, truncated) in
        [(Alignment::Interpolated, 0), (Alignment::Monotone, 0), (Alignment::Uniform, 2)]
    {
        let loss = LossConfig {
            cross_entropy: WeightSchedule::Constant(0.1),
            hidden: HiddenConfig { alignment, cosine: 0.5, ..Default::default() },
            settle: WeightSchedule::Constant(0.05),
            ..LossConfig::default()
        };
        // Some repetitions start from the teacher, and 20 of them make a chain of chains.
        let phases =
            PhaseConfig { teacher_forced: 0.0, scheduled_until: 0.6, force: Granularity::Layer };
        for (repetitions, most) in [(3, 3), (20, 20)] {
            let depth = |recompute| DepthConfig {
                sampling: RepetitionSampling::Uniform { least: repetitions, most },
                backprop_repetitions: truncated,
                recompute,
                ..DepthConfig::default()
            };
            let config =
                |recompute| DistillConfig { loss: loss.clone(), phases, depth: depth(recompute) };
            let student = student_config(1, 1, 4, 1);
            let kept = one_step(&config(Recompute::Never), &student);
            let anew = one_step(&config(Recompute::Always), &student);
            assert!((kept.total - anew.total).abs() < 1e-5 * kept.total);
            let names = |loss: &Loss| loss.terms.keys().cloned().collect::<Vec<_>>();
            assert_eq!(names(&kept), names(&anew));
            assert!(kept.terms.contains_key("settle") && kept.terms.contains_key("hidden"));
            assert_eq!(kept.gradients.len(), anew.gradients.len());
            for (name, kept) in &kept.gradients {
                let error = difference(kept, &anew.gradients[name]);
                assert!(error < F32_STACK, "{name} is off by {error}, {alignment:?}");
            }
        }
    }
}

#[test]
fn random_depth_truncation_and_mixing_leave_every_loss_finite() {
    let depth = DepthConfig {
        sampling: RepetitionSampling::PoissonLognormal { sigma: 0.5, most: 9 },
        ramp: 0.3,
        backprop_repetitions: 2,
        ..DepthConfig::default()
    };
    let phases =
        PhaseConfig { teacher_forced: 0.2, scheduled_until: 0.7, force: Granularity::Repetition };
    let config = DistillConfig { depth, phases, ..DistillConfig::default() };
    let relaxation = Relaxation::Lora { rank: 2 };
    let student = StudentConfig { relaxation, ..student_config(1, 2, 2, 1) };
    let losses = descend(&config, &student, 30);
    assert!(losses.iter().all(|loss| loss.is_finite()), "{losses:?}");
    assert_eq!(losses, descend(&config, &student, 30), "one seed, one run");
}

#[test]
fn a_forced_phase_without_anything_to_learn_is_refused() {
    let mut config = DistillConfig::default();
    config.loss.hidden.weight = WeightSchedule::Constant(0.0);
    let error = config.validate().unwrap_err().to_string();
    assert!(error.contains("loss.hidden.weight") && error.contains("hint"), "{error}");
    config.phases.teacher_forced = 0.0;
    config.validate().unwrap();
}

#[test]
fn the_cheapest_pairing_that_never_goes_back_is_found() {
    let mut config = LoopedConfig {
        base: tiny_config(6),
        prelude_layers: 1,
        core_layers: 1,
        repetitions: 3,
        coda_layers: 1,
        relaxation: Relaxation::None,
        injection: Injection::None,
        state_norm: StateNorm::None,
        gate: None,
    };
    // Columns are the states after 0 to 4 layers of the middle. The cheapest free choice of the
    // second row lies before the first row's: going back is not allowed, the last is pinned.
    let costs = vec![
        vec![9.0, 9.0, 0.0, 9.0, 9.0],
        vec![9.0, 0.0, 5.0, 1.0, 9.0],
        vec![0.0, 9.0, 9.0, 9.0, 2.0],
    ];
    let depths: Vec<usize> =
        factorexe::model::alignment::monotone(&config, &costs).iter().map(|d| d.lower).collect();
    assert_eq!(depths, [3, 4, 5]);
    config.core_layers = 2;
    let depths = factorexe::model::alignment::equal_steps(&config, 3, Alignment::Interpolated);
    let places: Vec<f64> = depths.iter().map(|d| d.lower as f64 + d.fraction).collect();
    for (place, expected) in places.iter().zip([1.0 + 4.0 / 3.0, 1.0 + 8.0 / 3.0, 5.0]) {
        assert!((place - expected).abs() < 1e-6);
    }
}

#[test]
fn weights_move_along_their_ramp() {
    let ramp = WeightSchedule::Ramp { from: 1.0, to: 0.0, begin: 0.5, end: 1.0 };
    assert_eq!([ramp.at(0.0), ramp.at(0.5), ramp.at(0.75), ramp.at(1.0)], [1.0, 1.0, 0.5, 0.0]);
}

/// `FACTOREXE_SMOLLM2=file.gguf cargo test --release -- --ignored real_teacher`
#[test]
#[ignore = "needs a real model: FACTOREXE_SMOLLM2=path"]
fn a_real_teacher_is_its_student_when_nothing_is_shared_or_corrections_have_full_rank() {
    let path = std::env::var("FACTOREXE_SMOLLM2").expect("FACTOREXE_SMOLLM2 names a file");
    let source: factorexe::hub::Source = path.parse().unwrap();
    let checkpoint = source.load(&Context::cpu()).unwrap();
    let teacher = Transformer::new(&checkpoint.config, &checkpoint.tensors).unwrap();
    let ids = Tensor::new(&[[504_u32, 3575, 282, 4649, 314, 260, 1743]], &Device::Cpu).unwrap();
    let logits = |model: &dyn CausalLm, repetitions: usize| {
        let states = model.states(&Tape::off(), &ids, repetitions).unwrap();
        model.embedding_and_head().logits(states.last().unwrap().tensor()).unwrap()
    };
    let expected = logits(&teacher, 1);
    let full = Relaxation::Lora { rank: 576 };
    for (shape, relaxation) in [((3, 24, 1, 3), Relaxation::None), ((13, 2, 2, 13), full)] {
        let (prelude, core, repetitions, coda) = shape;
        let student = StudentConfig {
            relaxation,
            init: Init::Average,
            ..student_config(prelude, core, repetitions, coda)
        };
        let config = split::find(&teacher, &student, &[], &Context::cpu()).unwrap();
        let tensors = &checkpoint.tensors;
        let tensors =
            student_tensors(&teacher, tensors, &config, &student, &[], 7, &Context::cpu()).unwrap();
        let made = LoopedTransformer::new(&config, &tensors).unwrap();
        let error = difference(&logits(&made, repetitions), &expected);
        println!("{relaxation:?}: off by {error} of the largest logit");
        // f32 through 30 layers; the decomposition of each residual adds to it.
        assert!(error < 1e-3, "{relaxation:?} is off by {error}");
    }
}
