//! Where a student starts by its initialisation, and that every loss, phase and alignment learns.

use candle_core::{Device, Tensor};
use factorexe::context::Context;
use factorexe::distill::*;
use factorexe::model::*;
use factorexe::train::{Loss, StepContext};

use crate::support::objectives::{ObjectiveBuilder, free_running, teacher_forced};
use crate::support::students::{
    F32_STACK, Student, Teacher, assert_recomputes, batch, calibration, logits, size, student,
};
use crate::support::{difference, random_params, tiny_config};

fn ids() -> Tensor {
    batch(1).input_tensor(&Device::Cpu).unwrap()
}

#[test]
fn an_initialisation_is_given_up_when_the_run_is_cancelled() {
    let teacher = Teacher::random(6);
    let student = student().core(2);
    let auto = StudentConfig { prelude_layers: Layers::Auto(Auto::Auto), ..student.config.clone() };
    let found =
        find_split(&teacher.model, &auto, &calibration(), &Context::cpu().cancelled_when(|| true));
    let looped = student.looped(&teacher);
    let made = INITS.map(|init| {
        let (config, deep) =
            (student.clone().init(init).config, (&teacher.model, &teacher.tensors));
        let seen = calibration();
        student_tensors(
            deep.0,
            deep.1,
            &looped,
            &config,
            &seen,
            7,
            &Context::cpu().cancelled_when(|| true),
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
    let teacher = Teacher::random(6);
    for init in INITS {
        let made = student().core(4).repetitions(1).init(init).model(&teacher);
        let error = difference(&logits(&made, &ids(), 1), &logits(&teacher.model, &ids(), 1));
        // The ridge of the least squares pulls towards the mean, which here is the layer itself.
        assert!(error < F32_STACK, "{init:?} is off by {error}");
    }
}

#[test]
fn a_student_with_full_rank_corrections_is_its_teacher() {
    let teacher = Teacher::random(6);
    for init in INITS {
        let made = student().core(2).lora(24).init(init).model(&teacher);
        let error = difference(&logits(&made, &ids(), 2), &logits(&teacher.model, &ids(), 1));
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
    let teacher = Teacher::of(&config, tensors);
    for objective in [free_running().cross_entropy(0.0), teacher_forced()] {
        let training = student().repetitions(4).learning_from(teacher.clone(), objective);
        let loss = training.loss_at(&batch(3), &StepContext::new(1, 0, 10, 0));
        assert!(loss.total < 1e-6, "the loss is {}", loss.total);
    }
}

#[test]
fn least_squares_reproduces_the_teachers_products_better_than_the_mean() {
    let hidden = |init: Init| {
        let training = student().repetitions(4).init(init).learning(teacher_forced());
        training.loss_at(&batch(50), &StepContext::new(1, 0, 10, 0)).terms["hidden"]
    };
    assert!(hidden(Init::LeastSquares) < hidden(Init::Average));
    assert!(hidden(Init::Average) < hidden(Init::Random));
}

/// A whole run: what the trainer does, without its checkpoints.
fn run(student: &Student, objective: &ObjectiveBuilder, steps: u64) -> Vec<Loss> {
    let training = student.learning(objective.clone());
    let step = |step: u64| {
        let context = StepContext::new(9, step, steps, 0);
        let loss = training.loss_at(&batch(step as u32 % 4), &context);
        training.descend(&loss, 0.02);
        loss
    };
    (0..steps).map(step).collect()
}

/// Each loss with no more beside it than it needs, and the term that is to fall; tests/joint.rs has
/// the gates.
fn single_losses() -> Vec<(&'static str, ObjectiveBuilder)> {
    let nothing = || free_running().nothing().temperature(1.0);
    let exits = |target, every| nothing().kl(1.0).exits(1.0, 2).exits_imitate(target, every);
    vec![
        ("kl", nothing().kl(1.0)),
        ("kl", nothing().kl(1.0).temperature(2.0)),
        ("cross_entropy", nothing().cross_entropy(1.0)),
        ("hidden", nothing().hidden(1.0)),
        ("cosine", nothing().hidden(1.0).compared(0.0, 1.0)),
        // The last state, towards which the others are pulled, is to stay where it is.
        ("settle", nothing().kl(1.0).settle(1.0)),
        ("exit_kl", exits(EarlyExitTarget::Answer, Granularity::Repetition)),
        ("exit_kl", exits(EarlyExitTarget::Layer, Granularity::Repetition)),
        ("exit_kl", exits(EarlyExitTarget::Layer, Granularity::Layer)),
    ]
}

#[test]
fn every_loss_phase_and_alignment_learns() {
    // Three repetitions for a middle of four layers: nothing lines up by itself.
    let student = student().repetitions(3).frozen(&["embed.*", "head.*"]);
    for (term, objective) in single_losses() {
        let [first, last] = student.learning(objective).learned(40);
        assert!(last.total < 0.9 * first.total, "{term}: {} to {}", first.total, last.total);
        let error = |loss: &Loss| match term {
            "cosine" => 1.0 - loss.terms[term],
            _ => loss.terms[term],
        };
        let (first, last) = (error(&first), error(&last));
        assert!(last < 0.9 * first, "{term}: {first} to {last}");
    }
    for alignment in [Alignment::Uniform, Alignment::Interpolated, Alignment::Monotone] {
        for every in [Granularity::Layer, Granularity::Repetition] {
            for (teacher_forced, scheduled_until) in [(1.0, 1.0), (0.0, 1.0), (0.0, 0.0)] {
                let objective =
                    free_running().aligned(alignment, every).compared(1.0, 0.5).settle(0.05);
                let objective = objective.phases(teacher_forced, scheduled_until);
                let [first, last] = student.learning(objective).learned(40);
                let (first, last) = (first.total, last.total);
                let phase = (teacher_forced, scheduled_until);
                assert!(last < 0.9 * first, "{alignment:?} {every:?} {phase:?}: {first} to {last}");
            }
        }
    }
}

#[test]
fn recomputed_repetitions_give_the_gradients_of_stored_ones() {
    for (alignment, truncated) in
        [(Alignment::Interpolated, 0), (Alignment::Monotone, 0), (Alignment::Uniform, 2)]
    {
        // Some repetitions start from the teacher, and 20 of them are checkpointed in two levels.
        for repetitions in [3, 20] {
            let objective =
                free_running().aligned(alignment, Granularity::Layer).compared(1.0, 0.5);
            let objective = objective.settle(0.05).truncated(truncated).phases(0.0, 0.6);
            let objective = objective.depths(repetitions, repetitions);
            let terms = student().repetitions(4).learning(objective.clone()).step().terms;
            assert!(terms.contains_key("settle") && terms.contains_key("hidden"));
            assert_recomputes(&student().repetitions(4), &objective);
        }
    }
}

#[test]
fn random_depth_truncation_and_mixing_leave_every_loss_finite() {
    let mut objective =
        free_running().temperature(1.0).compared(1.0, 0.5).settle(0.05).exits(0.5, 2);
    objective.0.depth = DepthConfig {
        sampling: RepetitionSampling::PoissonLognormal { sigma: 0.5, most: 9 },
        ramp: 0.3,
        backprop_repetitions: 2,
        ..DepthConfig::default()
    };
    objective.0.phases.force = Granularity::Repetition;
    let (student, objective) = (student().core(2).lora(2), objective.phases(0.2, 0.7));
    let losses = run(&student, &objective, 30);
    for (step, loss) in losses.iter().enumerate() {
        assert!(loss.total.is_finite(), "step {step}");
        assert!(loss.terms.values().all(|term| term.is_finite()), "step {step}: {:?}", loss.terms);
        for name in loss.gradients.keys() {
            assert!(size(loss, name).is_finite(), "step {step}: {name}");
        }
        // Every loss is there when its time has come, and where there is something to read.
        let (own, repetitions) = (step >= 6, loss.terms["repetitions"]);
        for (term, there) in [
            ("hidden", true),
            ("cosine", true),
            ("kl", own),
            ("cross_entropy", own),
            ("exit_kl", own && repetitions > 1.0),
            ("settle", own && repetitions > 2.0),
        ] {
            assert_eq!(loss.terms.contains_key(term), there, "step {step}: {term}");
        }
    }
    // The depth grows from 1, past the two that the student was made for.
    let depths: Vec<u32> = losses.iter().map(|loss| loss.terms["repetitions"] as u32).collect();
    assert_eq!(depths[0], 1);
    assert!((1..=4).all(|depth| depths.contains(&depth)), "{depths:?}");
    let totals = |losses: &[Loss]| losses.iter().map(|loss| loss.total).collect::<Vec<_>>();
    assert_eq!(totals(&losses), totals(&run(&student, &objective, 30)), "one seed, one run");
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
        factorexe::model::monotone(&config, &costs).iter().map(|d| d.lower).collect();
    assert_eq!(depths, [3, 4, 5]);
    config.core_layers = 2;
    let depths = factorexe::model::equal_steps(&config, 3, Alignment::Interpolated);
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
    let teacher = Teacher::of(&checkpoint.config, checkpoint.tensors);
    let ids = Tensor::new(&[[504_u32, 3575, 282, 4649, 314, 260, 1743]], &Device::Cpu).unwrap();
    let expected = logits(&teacher.model, &ids, 1);
    let nothing_shared = student().prelude(3).core(24).repetitions(1).coda(3);
    let full_rank = student().prelude(13).core(2).coda(13).lora(576);
    for (student, repetitions) in [(nothing_shared, 1), (full_rank, 2)] {
        let made = student.init(Init::Average).model(&teacher);
        let error = difference(&logits(&made, &ids, repetitions), &expected);
        println!("{repetitions} repetitions: off by {error} of the largest logit");
        // f32 through 30 layers; the decomposition of each residual adds to it.
        assert!(error < 1e-3, "{repetitions} repetitions: off by {error}");
    }
}
