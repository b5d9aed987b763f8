//! Tokens of different depths in one step: the same states as in decoding, and how they are learned
//! from.

use candle_core::{Device, Tensor};
use factorexe::autograd::Tape;
use factorexe::data::Batch;
use factorexe::decode::{CacheSharing, Decoder, ReadDepth};
use factorexe::distill::*;
use factorexe::halting::JointPolicy;
use factorexe::kernels::WeightType;
use factorexe::model::*;
use factorexe::train::{Loss, in_shards};

use crate::support::objectives::{ObjectiveBuilder, free_running};
use crate::support::students::{
    F32_STACK, Student, assert_near, assert_recomputes, batch, half_batch, step_context, student,
};
use crate::support::{difference, log_softmax, random_params, tiny_looped};

/// Students with all that a repetition may have of its own, and one without.
fn students() -> Vec<LoopedTransformer> {
    let plain = LoopedConfig { repetitions: 3, ..tiny_looped(Relaxation::None) };
    let lora = LoopedConfig { relaxation: Relaxation::Lora { rank: 2 }, ..plain.clone() };
    let injected =
        LoopedConfig { injection: Injection::Gate, state_norm: StateNorm::Norm, ..lora.clone() };
    let bare = LoopedConfig { coda_layers: 0, ..plain };
    let made = [lora, injected, bare].map(|config| {
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

fn per_token(least: usize, most: usize) -> ObjectiveBuilder {
    free_running().compared(1.0, 0.4).token_depths(least, most)
}

fn own_parts(core: usize, coda: usize) -> Student {
    student().core(core).repetitions(3).coda(coda).lora(2).injection(Injection::Diagonal)
}

#[test]
fn every_parameter_has_the_gradient_of_finite_differences() {
    for (recompute, core, coda) in [(Recompute::Never, 2, 1), (Recompute::Always, 1, 0)] {
        let training = own_parts(core, coda).learning(per_token(1, 4).recompute(recompute));
        training.assert_differences(&batch(2));
        training.assert_differences(&half_batch());
    }
}

#[test]
fn recomputed_repetitions_give_the_gradients_of_stored_ones() {
    // Twenty repetitions are checkpointed in two levels.
    for most in [4, 20] {
        assert_recomputes(&own_parts(1, 1), &per_token(1, most));
    }
}

#[test]
fn a_sampling_of_one_number_is_a_step_of_that_depth() {
    for depth in [1, 3, 4] {
        let together = free_running().compared(1.0, 0.4).depths(depth, depth);
        let step = |objective: ObjectiveBuilder| own_parts(2, 1).learning(objective).step();
        // The scale of the teacher's dimensions is that of the compared tokens.
        assert_near(&step(per_token(depth, depth)), &step(together));
    }
}

#[test]
fn the_loss_is_read_where_each_token_stops() {
    let training = own_parts(2, 1).learning(per_token(1, 4).hidden(0.0));
    let loss = training.step();
    assert!(loss.terms["repetitions"].fract() > 0.0, "{:?}", loss.terms);
    assert!(!loss.terms.contains_key("hidden"));
    // The same depths, drawn as the step draws them.
    let mut rng = step_context().rng;
    let depths: Vec<usize> =
        (0..60).map(|_| rand::Rng::random_range(&mut rng, 1..=4_usize)).collect();
    let (student, off) = (training.student(), Tape::off());
    let ids = batch(2).input_tensor(&Device::Cpu).unwrap();
    let last = student.at_depths(&off, &ids, &depths).unwrap();
    let log_p = log_softmax(&student.embedding_and_head().logits(last.tensor()).unwrap());
    let nll = log_p.iter().zip(batch(2).targets).map(|(row, target)| -row[target as usize]);
    let mean = nll.sum::<f64>() / 60.0;
    let found = loss.terms["cross_entropy"];
    assert!((found - mean).abs() < 1e-5 * mean, "{found} {mean}");
}

#[test]
fn under_scheduled_sampling_all_tokens_have_one_depth() {
    // Step 5 of 10.
    let loss = own_parts(1, 1).learning(per_token(1, 4).phases(0.2, 0.9)).step();
    assert_eq!(loss.terms["repetitions"].fract(), 0.0);
}

#[test]
fn a_step_in_shards_learns_as_well() {
    let token = |i: u32| (i * i * 5 + i * 3) % 37;
    let batch = Batch {
        inputs: (0..1024).map(token).collect(),
        targets: (1..1025).map(token).collect(),
        rows: 2,
        columns: 512,
        ..Default::default()
    };
    // Each shard draws the same depths, and is a step of its rows.
    let training = own_parts(1, 1).learning(per_token(1, 4));
    let shards = in_shards(&training.objective, &batch, &step_context()).unwrap();
    assert_eq!(shards.len(), 2);
    assert!(shards[0].terms["repetitions"].fract() > 0.0);
    for (shard, rows) in shards.iter().zip(batch.parts(2)) {
        assert_eq!(shard.terms["repetitions"], shards[0].terms["repetitions"]);
        assert_near(shard, &training.loss(&rows));
    }
    // Where all tokens have one depth, both together are a step of all rows, and learn.
    // States are compared by the size of a shard's dimensions, but for raw ones.
    let training = own_parts(1, 1).learning(per_token(3, 3).raw());
    let step = || mean_of(in_shards(&training.objective, &batch, &step_context()).unwrap());
    let first = step();
    assert_near(&first, &training.loss(&batch));
    for _ in 0..10 {
        training.descend(&step(), 0.02);
    }
    let last = step().total;
    assert!(last < 0.8 * first.total, "{} {last}", first.total);
}

/// The step of two shards.
fn mean_of(shards: Vec<Loss>) -> Loss {
    let [mut mean, other]: [Loss; 2] = shards.try_into().unwrap();
    mean.total = f64::midpoint(mean.total, other.total);
    for (name, value) in &mut mean.terms {
        *value = f64::midpoint(*value, other.terms[name]);
    }
    for (name, gradient) in &mut mean.gradients {
        *gradient = ((&*gradient + &other.gradients[name]).unwrap() / 2.0).unwrap();
    }
    mean
}

#[test]
fn what_has_no_meaning_for_single_tokens_is_refused() {
    let refused = |objective: ObjectiveBuilder, part: &str| {
        let config: DistillConfig = objective.into();
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    };
    let tokens = || per_token(1, 4);
    assert!(tokens().0.validate().is_ok());
    let mut fixed = tokens();
    fixed.0.depth.sampling = RepetitionSampling::Fixed;
    refused(fixed, "depth.sampling is \"fixed\"");
    refused(tokens().truncated(2), "depth.sampled_per");
    refused(tokens().settle(0.1), "depth.sampled_per");
    refused(tokens().exits(0.1, 1), "depth.sampled_per");
    refused(tokens().aligned(Alignment::Monotone, Granularity::Layer), "depth.sampled_per");
    refused(tokens().halting(HaltingConfig::new(JointPolicy::Ponder)), "depth.sampled_per");
}
