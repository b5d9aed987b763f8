//! Does a student learn at every depth: before its last repetition, and past those it was made for?

use candle_core::Tensor;
use factorexe::autograd::Params;
use factorexe::data::Batch;
use factorexe::distill::*;
use factorexe::model::*;
use factorexe::train::{Loss, Objective, StepContext, in_shards};

use crate::distill::{F32_STACK, start, student_config, teacher, trainable};
use crate::support::{difference, random};

/// Central differences in f32 of a loss near 1: half the digits are lost.
const F32_DIFFERENCES: f64 = 2e-2;

pub(crate) fn config(early_exit: EarlyExitConfig, recompute: Recompute) -> DistillConfig {
    let loss = LossConfig {
        cross_entropy: WeightSchedule::Constant(0.3),
        temperature: 2.0,
        early_exit,
        ..LossConfig::default()
    };
    let phases =
        PhaseConfig { teacher_forced: 0.0, scheduled_until: 0.0, ..PhaseConfig::default() };
    let depth = DepthConfig { recompute, ..DepthConfig::default() };
    DistillConfig { loss, phases, depth }
}

pub(crate) fn exits(weight: f64, draws: usize) -> EarlyExitConfig {
    let prior = EarlyExitPrior::Geometric { p: 0.3 };
    let weight = WeightSchedule::Constant(weight);
    EarlyExitConfig { weight, draws, prior, ..EarlyExitConfig::default() }
}

/// An objective over a student of which every parameter is trained.
pub(crate) fn objective(
    config: DistillConfig,
    student: &StudentConfig,
) -> (Distillation<'static>, Params) {
    let teacher = teacher(6);
    let (looped, tensors) = start(&teacher, student);
    let params = trainable(&tensors, &[]);
    let made = LoopedTransformer::new(&looped, &params).unwrap();
    (Distillation::new(teacher.0, made, params.clone(), config).unwrap(), params)
}

pub(crate) fn batch() -> Batch {
    crate::distill::batch(2)
}

pub(crate) fn moment() -> StepContext {
    StepContext::new(9, 5, 10, 0)
}

fn one_step(config: DistillConfig, student: &StudentConfig) -> Loss {
    objective(config, student).0.loss(&batch(), &mut moment()).unwrap()
}

/// The gradient of every parameter against central differences along a random direction.
pub(crate) fn assert_differences(objective: &dyn Objective, batch: &Batch, params: &Params) {
    let loss = || objective.loss(batch, &mut moment()).unwrap();
    let gradients = loss().gradients;
    for (index, (name, var)) in params.trainable().enumerate() {
        let gradient: &Tensor =
            gradients.get(name).unwrap_or_else(|| panic!("{name} has no gradient"));
        let norm = gradient.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(norm.is_finite() && norm > 0.0, "the gradient of {name} is {norm}");
        let direction = random(700 + index as u64, var.dims());
        let slope = (gradient * &direction).unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        let before = var.as_tensor().copy().unwrap();
        let at = |step: f64| {
            var.set(&(&before + &(&direction * step).unwrap()).unwrap()).unwrap();
            loss().total
        };
        let step = 2e-3;
        let numeric = (at(step) - at(-step)) / (2.0 * step);
        var.set(&before).unwrap();
        let error = (numeric - f64::from(slope)).abs();
        let allowed = F32_DIFFERENCES * (f64::from(slope).abs() + 0.05);
        assert!(error < allowed, "{name}: slope {slope}, differences {numeric}");
    }
}

#[test]
fn every_parameter_has_the_gradient_of_finite_differences_with_exits_on() {
    for (relaxation, coda) in [(Relaxation::Lora { rank: 2 }, 1), (Relaxation::None, 0)] {
        let student = StudentConfig { relaxation, ..student_config(1, 2, 2, coda) };
        let (objective, params) = objective(config(exits(0.7, 2), Recompute::Never), &student);
        assert_differences(&objective, &batch(), &params);
    }
}

#[test]
fn repetitions_computed_anew_give_the_gradients_of_those_that_were_kept_with_exits_on() {
    // 20 repetitions make a chain of chains, which is cut where the student is read out.
    for (repetitions, draws) in [(4, 1), (4, 3), (20, 3)] {
        let student = student_config(1, 1, repetitions, 1);
        let kept = one_step(config(exits(0.7, draws), Recompute::Never), &student);
        let anew = one_step(config(exits(0.7, draws), Recompute::Always), &student);
        assert!((kept.total - anew.total).abs() < 1e-5 * kept.total);
        assert!(kept.terms.keys().eq(anew.terms.keys()));
        let (found, again) = (kept.terms["exit_kl"], anew.terms["exit_kl"]);
        assert!(found > 0.0 && (found - again).abs() < 1e-5 * found);
        assert_eq!(kept.gradients.len(), anew.gradients.len());
        for (name, kept) in &kept.gradients {
            let error = difference(kept, &anew.gradients[name]);
            assert!(error < F32_STACK, "{name} is off by {error}");
        }
    }
}

#[test]
fn the_loss_is_that_of_the_last_repetition_and_the_weighted_mean_of_the_exits() {
    let student = student_config(1, 1, 4, 1);
    for recompute in [Recompute::Never, Recompute::Always] {
        let off = one_step(config(exits(0.0, 3), recompute), &student);
        let default = one_step(config(EarlyExitConfig::default(), recompute), &student);
        assert_eq!(off.total.to_bits(), default.total.to_bits());
        assert!(!off.terms.contains_key("exit_kl"));
        let on = one_step(config(exits(0.7, 3), recompute), &student);
        // The last repetition says what it said.
        for (name, value) in &off.terms {
            assert_eq!(value.to_bits(), on.terms[name].to_bits(), "{name}");
        }
        let doubled = one_step(config(exits(1.4, 3), recompute), &student);
        let (once, twice) = (on.total - off.total, doubled.total - off.total);
        assert!(once > 0.0 && (twice - 2.0 * once).abs() < 1e-9, "{once} {twice}");
    }
}

#[test]
fn an_exit_is_what_a_student_of_fewer_repetitions_says() {
    // Without relaxation, repetition 1 of 2 is the last one of a student of one.
    let all = one_step(config(exits(1.0, 1), Recompute::Never), &student_config(1, 1, 2, 1));
    let teacher = teacher(6);
    let student = student_config(1, 1, 2, 1);
    let (looped, tensors) = start(&teacher, &student);
    let alone = LoopedConfig { repetitions: 1, ..looped };
    let params = trainable(&tensors, &[]);
    let made = LoopedTransformer::new(&alone, &params).unwrap();
    let config = config(EarlyExitConfig::default(), Recompute::Never);
    let objective = Distillation::new(teacher.0, made, params, config).unwrap();
    let alone = objective.loss(&batch(), &mut moment()).unwrap();
    assert_eq!(all.terms["exit_kl"].to_bits(), alone.terms["kl"].to_bits());
}

#[test]
fn all_lanes_of_a_step_read_out_the_same_repetitions() {
    let (objective, _) =
        objective(config(exits(0.7, 1), Recompute::Never), &student_config(1, 1, 6, 1));
    let token = |i: u32| (i * i * 5 + i * 3) % 37;
    // Enough tokens for two lanes.
    let batch = Batch {
        inputs: (0..1024).map(token).collect(),
        targets: (1..1025).map(token).collect(),
        rows: 2,
        columns: 512,
        ..Batch::default()
    };
    for step in 0..4 {
        let moment = StepContext::new(9, step, 10, 0);
        let lanes = in_shards(&objective, &batch, &moment).unwrap();
        assert_eq!(lanes.len(), 2);
        let whole = objective.loss(&batch, &mut moment.clone()).unwrap();
        let mean = lanes.iter().map(|lane| lane.terms["exit_kl"]).sum::<f64>() / 2.0;
        let whole = whole.terms["exit_kl"];
        assert!((mean - whole).abs() < 1e-5 * whole, "{mean} {whole}");
    }
}

#[test]
fn draws_and_priors_that_mean_nothing_are_refused() {
    let refused = |early_exit: EarlyExitConfig| {
        config(early_exit, Recompute::Never).validate().unwrap_err().to_string()
    };
    assert!(refused(exits(-1.0, 1)).contains("loss.early_exit.weight"));
    assert!(refused(exits(1.0, 0)).contains("loss.early_exit.draws"));
    let prior = EarlyExitPrior::Geometric { p: 1.0 };
    assert!(
        refused(EarlyExitConfig { prior, ..exits(1.0, 1) }).contains("loss.early_exit.prior.p")
    );
}

/// The tensors of a student of more repetitions, the last one's corrections and vectors repeated.
fn lengthened(
    config: &LoopedConfig,
    tensors: &std::collections::BTreeMap<String, Tensor>,
    repetitions: usize,
) -> (LoopedConfig, std::collections::BTreeMap<String, Tensor>) {
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
    let student =
        StudentConfig { relaxation: Relaxation::Lora { rank: 2 }, ..student_config(1, 1, 2, 1) };
    let teacher = teacher(6);
    let (looped, tensors) = start(&teacher, &student);
    let (longer, more) = lengthened(&looped, &tensors, 5);
    let five = |recompute| {
        let law = RepetitionSampling::Uniform { least: 5, most: 5 };
        let depth = DepthConfig { sampling: law, recompute, ..DepthConfig::default() };
        DistillConfig { depth, ..config(exits(0.7, 2), recompute) }
    };
    let step = |config: DistillConfig, looped: &LoopedConfig, tensors| {
        let params = trainable(tensors, &[]);
        let made = LoopedTransformer::new(looped, &params).unwrap();
        let objective = Distillation::new(teacher.0.clone(), made, params, config).unwrap();
        objective.loss(&batch(), &mut moment()).unwrap()
    };
    for recompute in [Recompute::Never, Recompute::Always] {
        // Made for 2 and asked for 5, beside one made for 5 whose last 4 are the same.
        let short = step(five(recompute), &looped, &tensors);
        let long = step(five(recompute), &longer, &more);
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
