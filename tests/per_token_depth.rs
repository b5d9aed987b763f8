//! Does a student learn with tokens of mixed depth what decoding makes of them?

use candle_core::{DType, Device, Tensor};
use factorexe::autograd::Tape;
use factorexe::decode::{CacheSharing, Decoder, ReadDepth};
use factorexe::distill::*;
use factorexe::kernels::quantized::WeightType;
use factorexe::model::*;
use factorexe::train::{Loss, Objective, in_shards};

use crate::depth::{assert_differences, batch, config, exits, moment, objective};
use crate::distill::{F32_STACK, student_config};
use crate::joint::asked;
use crate::support::{difference, random_params, tiny_looped};

/// Students with all that a repetition may have of its own, and one without.
fn students() -> Vec<LoopedTransformer> {
    let plain = LoopedConfig { repetitions: 3, ..tiny_looped(Relaxation::None) };
    let lora = LoopedConfig { relaxation: Relaxation::Lora { rank: 2 }, ..plain.clone() };
    let heard =
        LoopedConfig { injection: Injection::Gate, state_norm: StateNorm::Norm, ..lora.clone() };
    let bare = LoopedConfig { coda_layers: 0, ..plain };
    let made = [lora, heard, bare].map(|config| {
        LoopedTransformer::new(&config, &random_params(&config.tensors()).tensors()).unwrap()
    });
    made.into_iter().collect()
}

const DEPTHS: [usize; 20] = [3, 1, 5, 2, 1, 1, 4, 3, 2, 5, 1, 3, 3, 2, 1, 4, 1, 2, 2, 3];

fn ids(rows: usize) -> Tensor {
    let token = |i: u32| (i * i * 5 + i * 3) % 37;
    let ids: Vec<u32> = (0..20).map(token).collect();
    Tensor::from_vec(ids, (rows, 20 / rows), &Device::Cpu).unwrap()
}

#[test]
fn tokens_of_mixed_depth_are_those_that_decoding_makes_of_them_when_it_shares_the_last_keys() {
    for student in students() {
        let found = student.at_depths(&Tape::off(), &ids(2), &DEPTHS).unwrap();
        let found =
            student.embedding_and_head().normed(&Tape::off(), &found).unwrap().tensor().clone();
        let error = difference(&found, &decoded(&student, CacheSharing::Last));
        assert!(error < F32_STACK, "off by {error}");
        for sharing in [CacheSharing::Own, CacheSharing::CatchUp] {
            let error = difference(&found, &decoded(&student, sharing));
            assert!(error > 0.01, "{sharing:?} reads the same but for {error}");
        }
    }
}

/// Normed last states of two texts of ten tokens, one token after the other.
fn decoded(student: &LoopedTransformer, sharing: CacheSharing) -> Tensor {
    let decoder = Decoder::new(student, WeightType::F32).unwrap();
    let mut cache = decoder.new_cache(2, sharing);
    let all = ids(1).squeeze(0).unwrap().to_vec1::<u32>().unwrap();
    let mut read = Vec::new();
    for (at, (id, depth)) in all.chunks(1).zip(DEPTHS).enumerate() {
        let new: (usize, &[u32]) = (at / 10, id);
        read.extend(decoder.read(&[new], &mut cache, ReadDepth::fixed(depth)).unwrap().normed);
    }
    Tensor::from_vec(read, (2, 10, 16), &Device::Cpu).unwrap()
}

#[test]
fn tokens_of_one_depth_are_those_of_a_fixed_depth() {
    for student in students() {
        for depth in [1, 2, 5] {
            let found = student.at_depths(&Tape::off(), &ids(2), &[depth; 20]).unwrap();
            let states = student.states(&Tape::off(), &ids(2), depth).unwrap();
            let error = difference(found.tensor(), states[states.len() - 1].tensor());
            assert!(error < F32_STACK, "off by {error}");
        }
    }
}

fn per_token(least: usize, most: usize, recompute: Recompute) -> DistillConfig {
    let mut config = config(exits(0.0, 1), recompute);
    config.loss.hidden.cosine = 0.4;
    config.depth.sampling = RepetitionSampling::Uniform { least, most };
    config.depth.sampled_per = SampledPer::Token;
    config
}

fn step(config: DistillConfig, student: &StudentConfig) -> Loss {
    objective(config, student).0.loss(&batch(), &mut moment()).unwrap()
}

fn own_parts(core: usize, coda: usize) -> StudentConfig {
    let relaxation = Relaxation::Lora { rank: 2 };
    StudentConfig { relaxation, injection: Injection::Diagonal, ..student_config(1, core, 3, coda) }
}

#[test]
fn every_parameter_has_the_gradient_of_finite_differences() {
    for (recompute, core, coda) in [(Recompute::Never, 2, 1), (Recompute::Always, 1, 0)] {
        let (objective, params) = objective(per_token(1, 4, recompute), &own_parts(core, coda));
        assert_differences(&objective, &batch(), &params);
        assert_differences(&objective, &asked(), &params);
    }
}

#[test]
fn repetitions_computed_anew_give_the_gradients_of_those_that_were_kept() {
    // Twenty repetitions are a chain of chains.
    for most in [4, 20] {
        let one = |recompute| step(per_token(1, most, recompute), &own_parts(1, 1));
        let (kept, anew) = (one(Recompute::Never), one(Recompute::Always));
        assert_near(&kept, &anew);
    }
}

#[test]
fn a_law_that_draws_one_number_is_a_step_of_that_depth() {
    for depth in [1, 3, 4] {
        let each = per_token(depth, depth, Recompute::Never);
        let mut together = each.clone();
        together.depth.sampled_per = SampledPer::Step;
        // Which numbers of the teacher are large is asked of the tokens that are compared.
        assert_near(&step(each, &own_parts(2, 1)), &step(together, &own_parts(2, 1)));
    }
}

#[track_caller]
fn assert_near(found: &Loss, expected: &Loss) {
    assert!((found.total - expected.total).abs() < 1e-5 * expected.total.abs().max(1.0));
    assert!(found.terms.keys().eq(expected.terms.keys()));
    for (name, value) in &expected.terms {
        assert!((found.terms[name] - value).abs() < 1e-4 * value.abs().max(1.0), "{name}");
    }
    assert_eq!(found.gradients.len(), expected.gradients.len());
    for (name, expected) in &expected.gradients {
        let error = difference(&found.gradients[name], expected);
        assert!(error < F32_STACK, "{name} is off by {error}");
    }
}

#[test]
fn the_loss_is_read_where_each_token_stops() {
    let mut config = per_token(1, 4, Recompute::Never);
    config.loss.hidden.weight = WeightSchedule::Constant(0.0);
    let (objective, _) = objective(config.clone(), &own_parts(2, 1));
    let found = objective.loss(&batch(), &mut moment()).unwrap();
    assert!(found.terms["repetitions"].fract() > 0.0, "{:?}", found.terms);
    assert!(!found.terms.contains_key("hidden"));
    // The same depths, drawn as the step draws them.
    let mut rng = moment().rng;
    let depths: Vec<usize> =
        (0..60).map(|_| rand::Rng::random_range(&mut rng, 1..=4_usize)).collect();
    let (student, off) = (objective.student(), Tape::off());
    let ids = batch().input_tensor(&Device::Cpu).unwrap();
    let last = student.at_depths(&off, &ids, &depths).unwrap();
    let logits = student.embedding_and_head().logits(last.tensor()).unwrap();
    let log_p = log_softmax(&logits);
    let targets = batch().targets;
    let loss = targets.iter().enumerate().map(|(at, &target)| -log_p[at][target as usize]);
    let mean = loss.sum::<f64>() / 60.0;
    let told = found.terms["cross_entropy"];
    assert!((told - mean).abs() < 1e-5 * mean, "{told} {mean}");
}

fn log_softmax(logits: &Tensor) -> Vec<Vec<f64>> {
    let rows = logits.to_dtype(DType::F64).unwrap().reshape(((), 37)).unwrap();
    let rows = rows.to_vec2::<f64>().unwrap();
    let log = |row: Vec<f64>| {
        let sum: f64 = row.iter().map(|x| x.exp()).sum();
        row.into_iter().map(|x| x - sum.ln()).collect()
    };
    rows.into_iter().map(log).collect()
}

#[test]
fn while_the_teachers_states_are_stood_on_all_tokens_go_as_deep() {
    let mut config = per_token(1, 4, Recompute::Never);
    config.phases = PhaseConfig { teacher_forced: 0.2, scheduled_until: 0.9, ..config.phases };
    // Step 5 of 10.
    assert_eq!(step(config, &own_parts(1, 1)).terms["repetitions"].fract(), 0.0);
}

#[test]
fn a_step_in_lanes_learns_as_well() {
    let (objective, _) = objective(per_token(1, 4, Recompute::Never), &own_parts(1, 1));
    let token = |i: u32| (i * i * 5 + i * 3) % 37;
    let batch = factorexe::data::Batch {
        inputs: (0..1024).map(token).collect(),
        targets: (1..1025).map(token).collect(),
        rows: 2,
        columns: 512,
        ..Default::default()
    };
    let lanes = in_shards(&objective, &batch, &moment()).unwrap();
    assert_eq!(lanes.len(), 2);
    assert_eq!(lanes[0].terms["repetitions"], lanes[1].terms["repetitions"]);
}

#[test]
fn what_means_nothing_for_single_tokens_is_refused() {
    let refused = |change: &dyn Fn(&mut DistillConfig)| {
        let mut config = per_token(1, 4, Recompute::Never);
        assert!(config.validate().is_ok());
        change(&mut config);
        config.validate().unwrap_err().to_string()
    };
    assert!(
        refused(&|c| c.depth.sampling = RepetitionSampling::Fixed)
            .contains("depth.sampling is \"fixed\"")
    );
    let says = |change: &dyn Fn(&mut DistillConfig)| {
        assert!(refused(change).contains("depth.sampled_per"));
    };
    says(&|c| c.depth.backprop_repetitions = 2);
    says(&|c| c.loss.settle = WeightSchedule::Constant(0.1));
    says(&|c| c.loss.early_exit.weight = WeightSchedule::Constant(0.1));
    says(&|c| c.loss.hidden.alignment = Alignment::Monotone);
    let policy = factorexe::halting::JointPolicy::Ponder;
    says(&|c| c.loss.halting = Some(HaltingConfig::new(policy)));
}
