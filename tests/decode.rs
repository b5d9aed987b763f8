//! Decoding at a depth per token: against the model that trains, for every policy and sharing.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use factorexe::autograd::{Tape, Value};
use factorexe::decode::{CacheSharing, Decoder, Read, ReadDepth};
use factorexe::halting::{Gate, HaltingPolicy, PolicyName};
use factorexe::kernels::WeightType;
use factorexe::model::{
    CausalLm, Injection, LoopedConfig, LoopedTransformer, Relaxation, StateNorm, Transformer,
};

use crate::support::{random_params, tiny_config, tiny_looped};

/// Relative to the largest element: the kernels of few rows and of many add in another order.
const TOLERANCE: f32 = 2e-5;

/// Of normed states of size 1, after 12 layers of weights rounded to 8 bits of mantissa.
const BF16_STACK: f32 = 0.2;

fn student() -> LoopedTransformer {
    let config = LoopedConfig { repetitions: 3, ..tiny_looped(Relaxation::Lora { rank: 2 }) };
    LoopedTransformer::new(&config, &random_params(&config.tensors()).tensors()).unwrap()
}

/// Two students: one without and one with a state norm.
fn students() -> [LoopedTransformer; 2] {
    let config = LoopedConfig { state_norm: StateNorm::Norm, ..student().config().clone() };
    let tensors = random_params(&config.tensors()).tensors();
    [student(), LoopedTransformer::new(&config, &tensors).unwrap()]
}

fn text(seed: u32, length: usize) -> Vec<u32> {
    (0..length as u32).map(|i| (i * 7 + seed * 13 + i * i * seed) % 37).collect()
}

#[track_caller]
fn assert_near(actual: &[f32], expected: &[f32]) {
    assert_eq!(actual.len(), expected.len());
    let scale = expected.iter().fold(1.0_f32, |high, x| high.max(x.abs()));
    let worst = actual.iter().zip(expected).fold(0.0_f32, |high, (x, y)| high.max((x - y).abs()));
    assert!(worst <= TOLERANCE * scale, "off by {worst} of {scale}");
}

/// Normed last states by the model that trains, every token at `repetitions`.
fn reference(model: &dyn CausalLm, ids: &[u32], repetitions: usize) -> Vec<f32> {
    let (tape, embedding_and_head) = (Tape::off(), model.embedding_and_head());
    let ids = Tensor::new(ids, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let states = model.states(&tape, &ids, repetitions).unwrap();
    let last = Value::constant(states.last().unwrap().tensor().clone());
    embedding_and_head
        .normed(&tape, &last)
        .unwrap()
        .tensor()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

#[test]
fn at_a_fixed_depth_the_output_is_that_of_the_training_forward_pass() {
    let ids = text(1, 23);
    for student in students() {
        let decoder = Decoder::new(&student, WeightType::F32).unwrap();
        for repetitions in [1, 2, 3, 7] {
            let mut cache = decoder.new_cache(1, CacheSharing::Last);
            let read =
                decoder.read(&[(0, &ids)], &mut cache, ReadDepth::fixed(repetitions)).unwrap();
            assert_near(&read.normed, &reference(&student, &ids, repetitions));
            assert!(read.repetitions.iter().all(|&r| r == repetitions));
        }
    }
    let config = tiny_config(4);
    let deep = Transformer::new(&config, &random_params(&config.tensors()).tensors()).unwrap();
    let decoder = Decoder::new(&deep, WeightType::F32).unwrap();
    let mut cache = decoder.new_cache(1, CacheSharing::Last);
    let read = decoder.read(&[(0, &ids)], &mut cache, ReadDepth::fixed(1)).unwrap();
    assert_near(&read.normed, &reference(&deep, &ids, 1));
    let normed = Tensor::from_vec(read.normed.clone(), (23, 16), &Device::Cpu).unwrap();
    let head = deep.embedding_and_head().head().tensor().t().unwrap();
    let expected = normed.matmul(&head).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert_near(&decoder.logits(&read.normed).unwrap(), &expected);
}

type Chosen = (PolicyName, Box<dyn HaltingPolicy>, Gate);

#[test]
fn a_student_with_injection_decodes_with_it() {
    let ids = text(7, 11);
    for injection in [Injection::Additive, Injection::Diagonal, Injection::Gate] {
        let config = LoopedConfig { injection, ..tiny_looped(Relaxation::None) };
        let params = random_params(&config.tensors()).tensors();
        let student = LoopedTransformer::new(&config, &params).unwrap();
        let decoder = Decoder::new(&student, WeightType::F32).unwrap();
        let mut cache = decoder.new_cache(1, CacheSharing::CatchUp);
        let read = decoder.read(&[(0, &ids)], &mut cache, ReadDepth::fixed(4)).unwrap();
        assert_near(&read.normed, &reference(&student, &ids, 4));
        // Half of the tokens stop after the first repetition and catch up later.
        let mut cache = decoder.new_cache(1, CacheSharing::CatchUp);
        let mut late = Vec::new();
        for (position, id) in ids.chunks(1).enumerate() {
            let depth = ReadDepth::fixed(if position % 2 == 0 { 1 } else { 3 });
            late = decoder.read(&[(0, id)], &mut cache, depth).unwrap().normed;
        }
        assert_eq!(cache.repetitions(0), [3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 1]);
        assert!(late.iter().all(|x| x.is_finite()));
    }
}

#[test]
fn weights_of_another_type_decode_with_injection_too() {
    let ids = text(7, 11);
    for injection in [Injection::Additive, Injection::Diagonal] {
        let config = LoopedConfig {
            injection,
            state_norm: StateNorm::Norm,
            ..tiny_looped(Relaxation::None)
        };
        let student = |dtype: DType| {
            let tensors = random_params(&config.tensors()).tensors().into_iter();
            let tensors = tensors.map(|(name, x)| (name, x.to_dtype(dtype).unwrap()));
            LoopedTransformer::new(&config, &tensors.collect::<BTreeMap<_, _>>()).unwrap()
        };
        let read = |student: &LoopedTransformer| {
            let decoder = Decoder::new(student, WeightType::F32).unwrap();
            let mut cache = decoder.new_cache(1, CacheSharing::Last);
            decoder.read(&[(0, &ids)], &mut cache, ReadDepth::fixed(3)).unwrap().normed
        };
        let (wide, short) = (read(&student(DType::F32)), read(&student(DType::BF16)));
        let worst = wide.iter().zip(&short).fold(0.0_f32, |high, (x, y)| high.max((x - y).abs()));
        assert!(worst < BF16_STACK, "off by {worst}");
    }
}

/// Every policy at a threshold at which tokens of a random model stop at different depths.
fn policies(decoder: &Decoder) -> Vec<Chosen> {
    let mut gate = Gate::new(16, 3, 0.0);
    for (i, weight) in gate.weight.iter_mut().enumerate() {
        *weight = ((i * 5 % 7) as f32 - 3.0) * 0.4;
    }
    let choose = |name: PolicyName| {
        let thresholds = (1..100).map(|i| f64::from(i) * 0.02).chain([1.0, 2.0]);
        let made = thresholds.filter_map(|threshold| name.with(threshold).ok());
        let mut chosen = made.map(|policy| (name, policy, gate.clone()));
        let spreads = |chosen: &Chosen| {
            let mut cache = decoder.new_cache(1, CacheSharing::Last);
            let ids = text(2, 19);
            let read = decoder.read(&[(0, &ids)], &mut cache, depth(chosen)).unwrap();
            let (least, most) = (read.repetitions.iter().min(), read.repetitions.iter().max());
            name == PolicyName::Fixed || least < most
        };
        chosen.find(spreads).unwrap_or_else(|| panic!("{name} stops all tokens at one depth"))
    };
    PolicyName::ALL.map(choose).into_iter().collect()
}

fn depth(policy: &Chosen) -> ReadDepth<'_> {
    ReadDepth { most: 4, policy: Some((&*policy.1, Some(&policy.2))) }
}

const SHARING: [CacheSharing; 5] = [
    CacheSharing::CatchUp,
    CacheSharing::Last,
    CacheSharing::Own,
    CacheSharing::Window(1),
    CacheSharing::Window(2),
];

#[test]
fn token_by_token_equals_all_at_once_for_every_policy_and_sharing() {
    for student in students() {
        token_by_token(&Decoder::new(&student, WeightType::F32).unwrap());
    }
}

fn token_by_token(decoder: &Decoder) {
    let ids = text(2, 19);
    for policy in &policies(decoder) {
        for sharing in SHARING {
            let mut cache = decoder.new_cache(1, sharing);
            let all = decoder.read(&[(0, &ids)], &mut cache, depth(policy)).unwrap();
            let mut cache = decoder.new_cache(1, sharing);
            let mut single = Read::default();
            for id in ids.chunks(1) {
                let read = decoder.read(&[(0, id)], &mut cache, depth(policy)).unwrap();
                single.normed.extend(read.normed);
                single.repetitions.extend(read.repetitions);
            }
            assert_eq!(single.repetitions, all.repetitions, "{} {sharing:?}", policy.0);
            assert_near(&single.normed, &all.normed);
            if sharing == CacheSharing::CatchUp {
                let pairs = cache.repetitions(0).iter().zip(&all.repetitions);
                assert!(pairs.clone().all(|(computed, stopped)| computed >= stopped));
                let sum: usize = cache.repetitions(0).iter().sum();
                assert_eq!(all.computed, sum, "{}", policy.0);
            } else {
                assert_eq!(cache.repetitions(0), all.repetitions);
            }
        }
    }
}

#[test]
fn a_token_that_catches_up_equals_one_that_never_stopped() {
    students().iter().for_each(catch_up);
}

fn catch_up(student: &LoopedTransformer) {
    let decoder = Decoder::new(student, WeightType::F32).unwrap();
    let ids = text(2, 19);
    for policy in policies(&decoder).iter().filter(|policy| policy.0 != PolicyName::Act) {
        let mut cache = decoder.new_cache(1, CacheSharing::CatchUp);
        let read = decoder.read(&[(0, &ids)], &mut cache, depth(policy)).unwrap();
        // The core of a token is as if every token had that depth; in the coda the states with which
        // other tokens stopped differ. The first token attends to none of them.
        let stopped = read.repetitions[0];
        assert_near(&read.normed[..16], &reference(student, &ids[..1], stopped));
    }
    let plain = LoopedConfig { coda_layers: 0, ..student.config().clone() };
    let params = random_params(&plain.tensors()).tensors();
    let student = LoopedTransformer::new(&plain, &params).unwrap();
    let decoder = Decoder::new(&student, WeightType::F32).unwrap();
    for policy in policies(&decoder).iter().filter(|policy| policy.0 != PolicyName::Act) {
        let mut cache = decoder.new_cache(1, CacheSharing::CatchUp);
        let read = decoder.read(&[(0, &ids)], &mut cache, depth(policy)).unwrap();
        for (token, &stopped) in read.repetitions.iter().enumerate() {
            let expected = reference(&student, &ids[..=token], stopped);
            let row = token * 16..(token + 1) * 16;
            assert_near(&read.normed[row.clone()], &expected[row]);
        }
    }
}

#[test]
fn a_token_deepened_after_a_draft_equals_one_read_at_full_depth() {
    let ids = text(8, 17);
    let injected = LoopedConfig { injection: Injection::Gate, ..tiny_looped(Relaxation::None) };
    let tensors = random_params(&injected.tensors()).tensors();
    let injected = LoopedTransformer::new(&injected, &tensors).unwrap();
    for student in students().iter().chain([&injected]) {
        let decoder = Decoder::new(student, WeightType::F32).unwrap();
        let mut cache = decoder.new_cache(2, CacheSharing::CatchUp);
        decoder.read(&[(1, &ids[..9])], &mut cache, ReadDepth::fixed(5)).unwrap();
        // Six tokens at 2 repetitions: two are discarded, four are deepened with three new ones.
        for id in ids[9..13].iter().chain(&[3, 1]) {
            decoder.read(&[(1, &[*id])], &mut cache, ReadDepth::fixed(2)).unwrap();
        }
        cache.truncate(1, 13);
        let read = decoder.deepen((1, 9), &ids[13..16], &mut cache, 5).unwrap();
        assert_eq!(read.computed, 4 * (5 - 2) + 3 * 5);
        assert_eq!(read.repetitions, [5; 7]);
        assert_eq!(cache.repetitions(1), [5; 16]);
        let after = decoder.read(&[(1, &ids[16..])], &mut cache, ReadDepth::fixed(5)).unwrap();
        let expected = reference(student, &ids, 5);
        assert_near(&[read.normed, after.normed].concat(), &expected[9 * 16..]);
    }
    let decoder = Decoder::new(&student(), WeightType::F32).unwrap();
    let mut cache = decoder.new_cache(1, CacheSharing::Last);
    assert!(decoder.deepen((0, 0), &ids, &mut cache, 2).is_err());
}

#[test]
fn sequences_of_a_batch_do_not_attend_to_each_other() {
    let decoder = Decoder::new(&student(), WeightType::F32).unwrap();
    // Ragged: 5, 14 and 9 tokens, then 3, 0 and 2 more.
    let texts = [text(3, 8), text(4, 14), text(5, 11)];
    for policy in &policies(&decoder) {
        for sharing in SHARING {
            let mut cache = decoder.new_cache(3, sharing);
            let depth = depth(policy);
            let first: [(usize, &[u32]); 3] =
                [(0, &texts[0][..5]), (1, &texts[1]), (2, &texts[2][..9])];
            let first = decoder.read(&first, &mut cache, depth).unwrap();
            let second: [(usize, &[u32]); 2] = [(0, &texts[0][5..]), (2, &texts[2][9..])];
            let second = decoder.read(&second, &mut cache, depth).unwrap();
            for (text, ids) in texts.iter().enumerate() {
                let mut alone = decoder.new_cache(1, sharing);
                let alone = decoder.read(&[(0, ids)], &mut alone, depth).unwrap();
                let parts = [(0..5, 0..3), (5..19, 0..0), (19..28, 3..5)][text].clone();
                let repetitions =
                    [&first.repetitions[parts.0.clone()], &second.repetitions[parts.1.clone()]];
                assert_eq!(repetitions.concat(), alone.repetitions, "{} {sharing:?}", policy.0);
                let rows = |read: &Read, part: std::ops::Range<usize>| {
                    read.normed[part.start * 16..part.end * 16].to_vec()
                };
                let both = [rows(&first, parts.0), rows(&second, parts.1)].concat();
                assert_near(&both, &alone.normed);
            }
        }
    }
}

#[test]
fn a_truncated_sequence_can_be_read_again() {
    let decoder = Decoder::new(&student(), WeightType::F32).unwrap();
    let ids = text(6, 12);
    let policy = &policies(&decoder)[6];
    for sharing in SHARING {
        let mut cache = decoder.new_cache(1, sharing);
        decoder.read(&[(0, &ids[..6])], &mut cache, depth(policy)).unwrap();
        decoder.read(&[(0, &[3, 1, 4])], &mut cache, depth(policy)).unwrap();
        cache.truncate(0, 6);
        let again = decoder.read(&[(0, &ids[6..])], &mut cache, depth(policy)).unwrap();
        let mut fresh = decoder.new_cache(1, sharing);
        let complete = decoder.read(&[(0, &ids)], &mut fresh, depth(policy)).unwrap();
        assert_near(&again.normed, &complete.normed[6 * 16..]);
    }
}

#[test]
fn a_token_past_the_vocabulary_and_a_depth_of_zero_are_refused() {
    let decoder = Decoder::new(&student(), WeightType::F32).unwrap();
    let mut cache = decoder.new_cache(1, CacheSharing::Last);
    let error = decoder.read(&[(0, &[3, 37])], &mut cache, ReadDepth::fixed(1)).unwrap_err();
    assert!(error.to_string().contains("past the vocabulary"), "{error}");
    assert_eq!(cache.tokens(0), 0, "a failed pass stores nothing");
    let error = decoder.read(&[(0, &[3])], &mut cache, ReadDepth::fixed(0)).unwrap_err();
    assert!(error.to_string().contains("0 repetitions"), "{error}");
}
