//! Readouts before the last repetition, and depths past those that a student was made for.

use std::collections::BTreeMap;

use candle_core::Tensor;
use factorexe::autograd::Params;
use factorexe::data::Batch;
use factorexe::distill::*;
use factorexe::model::*;
use factorexe::train::{Loss, StepContext, in_shards};

use crate::support::difference;
use crate::support::objectives::{ObjectiveBuilder, free_running};
use crate::support::students::{F32_STACK, Teacher, Training, assert_recomputes, batch, student};

#[test]
fn every_parameter_has_the_gradient_of_finite_differences_with_exits_on() {
    for (relaxation, coda) in [(Relaxation::Lora { rank: 2 }, 1), (Relaxation::None, 0)] {
        let training =
            student().core(2).relaxed(relaxation).coda(coda).learning(free_running().exits(0.7, 2));
        training.assert_differences(&batch(2));
    }
}

#[test]
fn recomputed_repetitions_give_the_gradients_of_stored_ones_with_exits_on() {
    // 20 repetitions are checkpointed in two levels, which end where the student is read out.
    for (repetitions, draws) in [(4, 1), (4, 3), (20, 3)] {
        let (student, objective) =
            (student().repetitions(repetitions), free_running().exits(0.7, draws));
        assert!(student.learning(objective.clone()).step().terms["exit_kl"] > 0.0);
        assert_recomputes(&student, &objective);
    }
}

#[test]
fn the_loss_is_that_of_the_last_repetition_and_the_weighted_mean_of_the_exits() {
    for recompute in [Recompute::Never, Recompute::Always] {
        let step = |objective: ObjectiveBuilder| {
            student().repetitions(4).learning(objective.recompute(recompute)).step()
        };
        let (off, default) = (step(free_running().exits(0.0, 3)), step(free_running()));
        assert_eq!(off.total.to_bits(), default.total.to_bits());
        assert!(!off.terms.contains_key("exit_kl"));
        let on = step(free_running().exits(0.7, 3));
        // The output of the last repetition does not change.
        for (name, value) in &off.terms {
            assert_eq!(value.to_bits(), on.terms[name].to_bits(), "{name}");
        }
        let doubled = step(free_running().exits(1.4, 3));
        let (once, twice) = (on.total - off.total, doubled.total - off.total);
        assert!(once > 0.0 && (twice - 2.0 * once).abs() < 1e-9, "{once} {twice}");
    }
}

#[test]
fn an_exit_is_the_output_of_a_student_of_fewer_repetitions() {
    // Without relaxation, repetition 1 of 2 is the last one of a student of one.
    let all = student().learning(free_running().exits(1.0, 1)).step();
    let teacher = Teacher::random(6);
    let (looped, params) = student().params(&teacher);
    let alone = LoopedConfig { repetitions: 1, ..looped };
    let alone = Training::new(teacher, &alone, params, free_running().into()).unwrap().step();
    assert_eq!(all.terms["exit_kl"].to_bits(), alone.terms["kl"].to_bits());
}

#[test]
fn all_shards_of_a_step_read_out_the_same_repetitions() {
    let training = student().repetitions(6).learning(free_running().exits(0.7, 1));
    let token = |i: u32| (i * i * 5 + i * 3) % 37;
    // Enough tokens for two shards.
    let batch = Batch {
        inputs: (0..1024).map(token).collect(),
        targets: (1..1025).map(token).collect(),
        rows: 2,
        columns: 512,
        ..Batch::default()
    };
    for step in 0..4 {
        let context = StepContext::new(9, step, 10, 0);
        let shards = in_shards(&training.objective, &batch, &context).unwrap();
        assert_eq!(shards.len(), 2);
        let mean = shards.iter().map(|shard| shard.terms["exit_kl"]).sum::<f64>() / 2.0;
        let all = training.loss_at(&batch, &context).terms["exit_kl"];
        assert!((mean - all).abs() < 1e-5 * all, "{mean} {all}");
    }
}

#[test]
fn draws_and_priors_without_meaning_are_refused() {
    let refused = |objective: ObjectiveBuilder, part: &str| {
        let error = objective.0.validate().unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    refused(free_running().exits(-1.0, 1), "loss.early_exit.weight");
    refused(free_running().exits(1.0, 0), "loss.early_exit.draws");
    let mut certain = free_running().exits(1.0, 1);
    certain.0.loss.early_exit.prior = EarlyExitPrior::Geometric { p: 1.0 };
    refused(certain, "loss.early_exit.prior.p");
}

/// The tensors of a student of more repetitions, the last one's corrections and vectors repeated.
fn lengthened(
    config: &LoopedConfig,
    tensors: &BTreeMap<String, Tensor>,
    repetitions: usize,
) -> (LoopedConfig, BTreeMap<String, Tensor>) {
    let longer = LoopedConfig { repetitions, ..config.clone() };
    let last = config.repetitions - 1;
    let of = |name: String| {
        let own = (last..repetitions).fold(name.clone(), |own, repetition| {
            own.replace(&format!(".lora.{repetition}."), &format!(".lora.{last}."))
                .replace(&format!(".repetition.{repetition}."), &format!(".repetition.{last}."))
        });
        let values = tensors[&own].clone();
        (name, values)
    };
    let tensors = longer.tensors().into_iter().map(|(name, _)| of(name)).collect();
    (longer, tensors)
}

#[test]
fn past_n_the_last_relaxation_goes_on_and_learns_of_every_repetition_it_stands_for() {
    let (looped, tensors) = student().lora(2).tensors(&Teacher::random(6));
    let (longer, more) = lengthened(&looped, &tensors, 5);
    let step = |looped: &LoopedConfig, tensors: &BTreeMap<String, Tensor>, recompute| -> Loss {
        let mut params = Params::new();
        for (name, values) in tensors {
            params.insert(name, values, true).unwrap();
        }
        let objective = free_running().exits(0.7, 2).depths(5, 5).recompute(recompute);
        Training::new(Teacher::random(6), looped, params, objective.into()).unwrap().step()
    };
    for recompute in [Recompute::Never, Recompute::Always] {
        // Made for 2 and run at 5, beside one made for 5 whose last 4 are the same.
        let short = step(&looped, &tensors, recompute);
        let long = step(&longer, &more, recompute);
        assert_eq!(short.terms["repetitions"], 5.0);
        assert_eq!(short.total.to_bits(), long.total.to_bits());
        for (name, gradient) in &short.gradients {
            let mut sum = long.gradients[name].clone();
            for repetition in 2..5 {
                for kind in ["lora", "repetition"] {
                    let other =
                        name.replace(&format!(".{kind}.1."), &format!(".{kind}.{repetition}."));
                    if other != **name {
                        sum = (sum + &long.gradients[other.as_str()]).unwrap();
                    }
                }
            }
            let error = difference(gradient, &sum);
            assert!(error < F32_STACK, "{name} is off by {error}");
        }
    }
}
