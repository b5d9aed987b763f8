//! Every operation agrees with candle's composed operations and with finite differences, forward and
//! backward.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use factorexe::autograd::{Params, Tape, Value};
use factorexe::losses::{
    HeadWeights, StateComparison, StateScale, TeacherHead, TeacherOutput, TopTokens, compare,
    compare_states, mean,
};
use factorexe::model::{CausalLm, LoopedTransformer, Relaxation, Transformer};
use factorexe::nn::{
    AttentionShape, GeluForm, Linear, LowRank, RopeTable, attention, embedding, gated_gelu, gather,
    gelu, layer_norm, rms_norm, rope, scatter, swiglu,
};
use proptest::prelude::*;

use crate::support::{difference, random, random_params, tiny_config, tiny_looped};

/// Rounding of sums of f32 in two orders.
const F32_SUMS: f32 = 2e-5;
/// Two values of a row may be close to each other: an epsilon of 0.1 keeps the gradient below 10.
const NORM_EPS: f64 = 0.1;
/// Central differences in f32 of a loss near 1: half the digits are lost.
const F32_DIFFERENCES: f64 = 2e-2;

type Operation<'a> = &'a dyn Fn(&Tape, &[Value], &Params) -> factorexe::Result<Value>;

/// The output, and the gradients of all inputs and parameters under a random output gradient.
fn run(tape: Tape, inputs: &[Tensor], params: &Params, operation: Operation) -> Vec<Tensor> {
    let leaves: Vec<Value> = inputs.iter().map(|x| tape.leaf(x.clone())).collect();
    let output = operation(&tape, &leaves, params).unwrap();
    let gradient = random(99, output.tensor().dims());
    let leaves: Vec<&Value> = leaves.iter().collect();
    let (weights, inputs) = tape.backward_to(&[(&output, gradient)], &leaves).unwrap();
    let mut results = vec![output.tensor().clone()];
    results.extend(inputs.into_iter().map(|gradient| gradient.expect("an input has no gradient")));
    for (name, _) in params.trainable() {
        results.push(weights.get(name).unwrap_or_else(|| panic!("{name} has no gradient")).clone());
    }
    results
}

fn assert_agrees(inputs: &[Tensor], params: &Params, operation: Operation) {
    let fused = run(Tape::recording(), inputs, params, operation);
    let composed = run(Tape::recording().with_reference(), inputs, params, operation);
    for (index, (fused, composed)) in fused.iter().zip(&composed).enumerate() {
        let error = difference(fused, &composed.reshape(fused.dims()).unwrap());
        assert!(error < F32_SUMS, "result {index} is off by {error}");
    }
}

fn params(list: &[(&str, Tensor)]) -> Params {
    let mut params = Params::new();
    for (name, values) in list {
        params.insert(name, values, true).unwrap();
    }
    params
}

fn weight(params: &Params, name: &str) -> factorexe::autograd::Weight {
    use factorexe::autograd::Weights;
    params.weight(name).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..Default::default() })]

    #[test]
    fn linear_agrees(seed in 0..1000_u64, rows in 1..70_usize, inner in 1..40_usize, out in 1..40_usize, rank in 1..5_usize) {
        let p = params(&[
            ("w", random(seed, &[out, inner])),
            ("b", random(seed + 1, &[out])),
            ("la", random(seed + 2, &[rank, inner])),
            ("lb", random(seed + 3, &[out, rank])),
        ]);
        assert_agrees(&[random(seed + 4, &[1, rows, inner])], &p, &|tape, x, p| {
            let low_rank = Some(LowRank { a: weight(p, "la"), b: weight(p, "lb") });
            Linear { weight: weight(p, "w"), bias: Some(weight(p, "b")), low_rank }.forward(tape, &x[0])
        });
    }

    #[test]
    fn rms_norm_agrees(seed in 0..1000_u64, rows in 1..200_usize, width in 1..80_usize) {
        let p = params(&[("w", random(seed, &[width]))]);
        assert_agrees(&[random(seed + 1, &[rows, width])], &p, &|tape, x, p| rms_norm(tape, &x[0], &weight(p, "w"), 1e-5));
    }

    #[test]
    fn layer_norm_agrees(seed in 0..1000_u64, rows in 1..200_usize, width in 2..80_usize, biased in any::<bool>(), offset in -3.0..3.0_f64) {
        let mut list = vec![("w", random(seed, &[width]))];
        list.extend(biased.then(|| ("b", random(seed + 1, &[width]))));
        let x = (random(seed + 2, &[rows, width]) + offset).unwrap();
        assert_agrees(&[x], &params(&list), &|tape, x, p| {
            let bias = biased.then(|| weight(p, "b"));
            layer_norm(tape, &x[0], &weight(p, "w"), bias.as_ref(), NORM_EPS)
        });
    }

    #[test]
    fn gelu_agrees(seed in 0..1000_u64, rows in 1..50_usize, width in 1..2000_usize) {
        let inputs = [(random(seed, &[rows, width]) * 6.0).unwrap(), random(seed + 1, &[rows, width])];
        for form in [GeluForm::Tanh, GeluForm::Erf] {
            assert_agrees(&inputs[..1], &Params::new(), &|tape, x, _| gelu(tape, &x[0], form));
            assert_agrees(&inputs, &Params::new(), &|tape, x, _| gated_gelu(tape, &x[0], &x[1], form));
        }
    }

    #[test]
    fn rope_agrees(seed in 0..1000_u64, batch in 1..3_usize, tokens in 1..30_usize, heads in 1..4_usize, half in 1..20_usize, start in 0..9_usize) {
        let frequencies: Vec<f32> = (0..half).map(|i| 0.5_f32.powi(i as i32)).collect();
        let table = RopeTable::new(&frequencies, start, tokens);
        assert_agrees(&[random(seed, &[batch, tokens, heads, 2 * half])], &Params::new(), &|tape, x, _| rope(tape, &x[0], &table));
    }

    #[test]
    fn swiglu_agrees(seed in 0..1000_u64, rows in 1..50_usize, width in 1..2000_usize) {
        let inputs = [(random(seed, &[rows, width]) * 6.0).unwrap(), random(seed + 1, &[rows, width])];
        assert_agrees(&inputs, &Params::new(), &|tape, x, _| swiglu(tape, &x[0], &x[1]));
    }

    #[test]
    fn attention_agrees(
        seed in 0..1000_u64, batch in 1..3_usize, tokens in 1..150_usize, kv_heads in 1..3_usize,
        group in 1..4_usize, width in 1..20_usize, start in 0..3_usize, window in proptest::option::of(1..90_usize),
    ) {
        let heads = kv_heads * group;
        let inputs = [
            random(seed, &[batch, tokens, heads, width]),
            random(seed + 1, &[batch, tokens + start, kv_heads, width]),
            random(seed + 2, &[batch, tokens + start, kv_heads, width]),
        ];
        let shape = AttentionShape { start, window };
        assert_agrees(&inputs, &Params::new(), &|tape, x, _| attention(tape, &x[0], &x[1], &x[2], shape));
    }

    #[test]
    fn gather_and_scatter_agree(seed in 0..1000_u64, tokens in 2..30_usize, width in 1..20_usize) {
        // Every second token, from the last on.
        let places: Vec<usize> = (0..tokens).map(|token| 2 * (tokens - 1 - token)).collect();
        let inputs = [random(seed, &[2, tokens, width]), random(seed + 1, &[2, tokens, width])];
        assert_agrees(&inputs[..1], &Params::new(), &|tape, x, _| gather(tape, &x[0], &places));
        assert_agrees(&inputs, &Params::new(), &|tape, x, _| {
            scatter(tape, &x[0], &gather(tape, &x[1], &places)?, &places)
        });
    }

    #[test]
    fn embedding_agrees(seed in 0..1000_u64, vocabulary in 1..20_usize, width in 1..30_usize) {
        let p = params(&[("w", random(seed, &[vocabulary, width]))]);
        let ids: Vec<u32> = (0..12).map(|i| (i * 7 + seed as u32) % vocabulary as u32).collect();
        let ids = Tensor::from_vec(ids, (2, 6), &Device::Cpu).unwrap();
        assert_agrees(&[], &p, &|tape, _, p| embedding(tape, &weight(p, "w"), &ids));
    }
}

#[test]
fn losses_agree_with_the_composed_ones() {
    let p = params(&[("head", random(1, &[37, 12]))]);
    let state = (random(2, &[2, 9, 12]) * 3.0).unwrap();
    let hidden = random(3, &[2, 9, 5]);
    let teacher_head = random(4, &[37, 5]);
    let logits = hidden.broadcast_matmul(&teacher_head.t().unwrap()).unwrap();
    let flat = logits.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let top = |k| TeacherOutput::Top(TopTokens::from_logits(&flat, 37, k, 2.0));
    let teachers = [
        TeacherOutput::Head(TeacherHead { hidden, weight: teacher_head }),
        TeacherOutput::Logits(logits),
        top(37),
        top(5),
    ];
    let targets: Vec<u32> = (0..18).map(|i| (i * 11) % 37).collect();
    let weights = HeadWeights { cross_entropy: 0.7, kl: 1.3, temperature: 2.0 };
    let target = random(5, &[2, 9, 12]);
    let run = |tape: Tape, scale, teacher: Option<&TeacherOutput>| {
        let leaf = tape.leaf(state.clone());
        let comparison = StateComparison { squared: 1.0, cosine: 0.5, scale, skip_tokens: 2 };
        let states = compare_states(&tape, &leaf, &target, &comparison, 0.3).unwrap();
        let head = weight(&p, "head");
        let terms = compare(&tape, &leaf, &head, teacher, &targets, weights).unwrap();
        let (gradients, leaves) = tape.backward_to(&[], &[&leaf]).unwrap();
        (states, terms, gradients["head"].clone(), leaves[0].clone().unwrap())
    };
    for scale in [StateScale::Raw, StateScale::Dimension] {
        for teacher in std::iter::once(None).chain(teachers.iter().map(Some)) {
            let fused = run(Tape::recording(), scale, teacher);
            let composed = run(Tape::recording().with_reference(), scale, teacher);
            assert!((fused.0.squared - composed.0.squared).abs() < 1e-5 * fused.0.squared);
            assert!((fused.0.cosine - composed.0.cosine).abs() < 1e-5);
            for (fused, composed) in
                [(&fused.1.cross_entropy, &composed.1.cross_entropy), (&fused.1.kl, &composed.1.kl)]
            {
                assert_eq!(fused.len(), composed.len());
                assert!(fused.iter().zip(composed).all(|(x, y)| (x - y).abs() < 1e-5));
            }
            assert_eq!(fused.1.agree, composed.1.agree);
            assert!(difference(&fused.2, &composed.2) < F32_SUMS);
            assert!(difference(&fused.3, &composed.3) < F32_SUMS);
        }
    }
}

/// Central differences of `loss` along a random direction of each parameter, against its gradient.
fn check_differences(params: &Params, loss: &dyn Fn(&Tape) -> f64) {
    let tape = Tape::recording();
    loss(&tape);
    let gradients = tape.backward().unwrap();
    for (index, (name, var)) in params.trainable().enumerate() {
        let gradient: &Tensor =
            gradients.get(name).unwrap_or_else(|| panic!("{name} has no gradient"));
        let norm = gradient.sqr().unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(norm.is_finite() && norm > 0.0, "the gradient of {name} is {norm}");
        let direction = random(700 + index as u64, var.dims());
        let slope = (gradient * &direction).unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap();
        let before = var.as_tensor().copy().unwrap();
        let loss_at = |step: f64| {
            var.set(&(&before + &(&direction * step).unwrap()).unwrap()).unwrap();
            loss(&Tape::off())
        };
        let step = 2e-3;
        let numeric = (loss_at(step) - loss_at(-step)) / (2.0 * step);
        var.set(&before).unwrap();
        let error = (numeric - f64::from(slope)).abs();
        let allowed = F32_DIFFERENCES * (f64::from(slope).abs() + 0.05);
        assert!(error < allowed, "{name}: slope {slope}, differences {numeric}");
    }
}

/// A single operation: its name, its parameters, and the function of them.
type SingleOperation = (&'static str, Params, fn(&Tape, &Params) -> factorexe::Result<Value>);

fn single_operations() -> [SingleOperation; 5] {
    let norm = |names: &[&str]| {
        let widths = names.iter().map(|name| if *name == "x" { vec![6, 9] } else { vec![9] });
        let tensors: Vec<_> = names.iter().map(|name| (*name).to_owned()).zip(widths).collect();
        random_params(&tensors)
    };
    let pair = || params(&[("up", random(1, &[6, 9])), ("x", random(2, &[6, 9]))]);
    let x = || params(&[("x", (random(3, &[6, 9]) * 2.0).unwrap())]);
    [
        ("layer norm", norm(&["b", "w", "x"]), |tape, p| {
            layer_norm(tape, &read(tape, p, "x"), &weight(p, "w"), Some(&weight(p, "b")), 1e-5)
        }),
        ("gelu by tanh", x(), |tape, p| gelu(tape, &read(tape, p, "x"), GeluForm::Tanh)),
        ("gelu by erf", x(), |tape, p| gelu(tape, &read(tape, p, "x"), GeluForm::Erf)),
        ("gate by tanh", pair(), |tape, p| {
            gated_gelu(tape, &read(tape, p, "x"), &read(tape, p, "up"), GeluForm::Tanh)
        }),
        ("gate by erf", pair(), |tape, p| {
            gated_gelu(tape, &read(tape, p, "x"), &read(tape, p, "up"), GeluForm::Erf)
        }),
    ]
}

/// A parameter, (6, 9), as a value: an embedding of all its rows.
fn read(tape: &Tape, params: &Params, name: &str) -> Value {
    let rows = Tensor::arange(0_u32, 6, &Device::Cpu).unwrap().reshape((1, 6)).unwrap();
    embedding(tape, &weight(params, name), &rows).unwrap()
}

#[test]
fn each_single_operation_has_the_gradient_of_finite_differences() {
    let target = (random(11, &[1, 6, 9]) * 2.0).unwrap();
    let comparison =
        StateComparison { squared: 1.0, cosine: 0.0, scale: StateScale::Raw, skip_tokens: 0 };
    for (name, params, operation) in single_operations() {
        println!("{name}");
        check_differences(&params, &|tape| {
            let output = operation(tape, &params).unwrap();
            compare_states(tape, &output, &target, &comparison, 1.0).unwrap().squared
        });
    }
}

#[test]
fn norms_and_gates_are_the_same_to_the_bit_with_one_thread_and_with_two() {
    let p = params(&[("w", random(1, &[96])), ("b", random(2, &[96]))]);
    let inputs = [3, 4].map(|seed| random(seed, &[700, 96]));
    let results = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let results = run(Tape::recording(), &inputs, &p, &|tape, x, p| {
                let bias = weight(p, "b");
                let normed = layer_norm(tape, &x[0], &weight(p, "w"), Some(&bias), 1e-5)?;
                let gated = gated_gelu(tape, &normed, &x[1], GeluForm::Tanh)?;
                gelu(tape, &gated, GeluForm::Erf)
            });
            let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            results.iter().map(flat).collect::<Vec<_>>()
        })
    };
    assert_eq!(results(1), results(2));
}

fn ids(rows: usize, columns: usize, vocabulary: usize) -> Tensor {
    let ids: Vec<u32> =
        (0..rows * columns).map(|i| (i * i * 5 + i) as u32 % vocabulary as u32).collect();
    Tensor::from_vec(ids, (rows, columns), &Device::Cpu).unwrap()
}

#[test]
fn every_parameter_of_a_student_has_the_gradient_of_finite_differences() {
    let (hidden, head) = (random(5, &[2, 7, 10]), random(6, &[37, 10]));
    let logits = hidden.broadcast_matmul(&head.t().unwrap()).unwrap();
    let logits = logits.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let top = TeacherOutput::Top(TopTokens::from_logits(&logits, 37, 4, 2.0));
    let full = TeacherOutput::Head(TeacherHead { hidden, weight: head });
    for (relaxation, teacher) in [
        (Relaxation::None, &full),
        (Relaxation::Lora { rank: 2 }, &full),
        (Relaxation::Norms, &full),
        (Relaxation::None, &top),
    ] {
        let config = tiny_looped(relaxation);
        let params = random_params(&config.tensors());
        let ids = ids(2, 7, 37);
        let targets: Vec<u32> = (0..14).map(|i| (i * 11) % 37).collect();
        let weights = HeadWeights { cross_entropy: 0.7, kl: 0.4, temperature: 2.0 };
        let comparison = StateComparison {
            squared: 1.0,
            cosine: 0.5,
            scale: StateScale::Dimension,
            skip_tokens: 1,
        };
        let target = random(8, &[2, 7, 16]);
        let loss = |tape: &Tape| {
            let model = LoopedTransformer::new(&config, &params).unwrap();
            let states = model.states(tape, &ids, 2).unwrap();
            let terms = compare_states(tape, &states[3], &target, &comparison, 0.3).unwrap();
            let hidden = model.embedding_and_head().normed(tape, states.last().unwrap()).unwrap();
            let head = model.embedding_and_head().head();
            let output = compare(tape, &hidden, head, Some(teacher), &targets, weights).unwrap();
            0.7 * mean(&output.cross_entropy)
                + 0.4 * 4.0 * mean(&output.kl)
                + 0.3 * (terms.squared + 0.5 * (1.0 - terms.cosine))
        };
        check_differences(&params, &loss);
    }
}

#[test]
fn the_kl_of_top_k_tokens_is_at_most_that_of_the_full_distribution() {
    let logits = (random(11, &[3, 4, 29]) * 3.0).unwrap();
    let flat = logits.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let p = params(&[("head", random(1, &[29, 6]))]);
    let state = (random(2, &[3, 4, 6]) * 2.0).unwrap();
    let targets: Vec<u32> = (0..12).collect();
    let weights = HeadWeights { cross_entropy: 0.3, kl: 1.0, temperature: 1.5 };
    let run = |teacher: &TeacherOutput| {
        let tape = Tape::recording();
        let leaf = tape.leaf(state.clone());
        let head = weight(&p, "head");
        let terms = compare(&tape, &leaf, &head, Some(teacher), &targets, weights).unwrap();
        let (gradients, _) = tape.backward_to(&[], &[&leaf]).unwrap();
        (terms, gradients["head"].clone())
    };
    let top = |k| run(&TeacherOutput::Top(TopTokens::from_logits(&flat, 29, k, 1.5)));
    let full = run(&TeacherOutput::Logits(logits));
    let all = top(29);
    assert!(difference(&all.1, &full.1) < F32_SUMS);
    assert_eq!(all.0.agree, full.0.agree);
    let few = top(3);
    for ((few, all), full) in few.0.kl.iter().zip(&all.0.kl).zip(&full.0.kl) {
        assert!((all - full).abs() < 1e-5 && *few < full + 1e-6 && *few > 0.0);
    }
}

#[test]
fn a_tied_head_sums_both_of_its_gradients() {
    let mut config = tiny_config(1);
    config.tied_head = true;
    let params = random_params(&config.tensors());
    let ids = ids(1, 6, 37);
    let targets = [3, 9, 1, 30, 2, 8];
    let weights = HeadWeights { cross_entropy: 1.0, kl: 0.0, temperature: 1.0 };
    check_differences(&params, &|tape| {
        let model = Transformer::new(&config, &params).unwrap();
        let states = model.states(tape, &ids, 1).unwrap();
        let hidden = model.embedding_and_head().normed(tape, states.last().unwrap()).unwrap();
        let head = model.embedding_and_head().head();
        let terms = compare(tape, &hidden, head, None, &targets, weights).unwrap();
        mean(&terms.cross_entropy)
    });
}

#[test]
fn a_frozen_model_records_nothing_and_a_recording_one_agrees_with_the_composed_graph() {
    let config = tiny_config(3);
    let params = random_params(&config.tensors());
    let frozen: BTreeMap<String, Tensor> = params.tensors();
    let ids = ids(2, 9, 37);
    let teacher = Transformer::new(&config, &frozen).unwrap();
    let tape = Tape::recording();
    let states = teacher.states(&tape, &ids, 1).unwrap();
    assert!(tape.backward().unwrap().is_empty());
    let trained = Transformer::new(&config, &params).unwrap();
    let tape = Tape::recording().with_reference();
    let reference = trained.states(&tape, &ids, 1).unwrap();
    for (state, reference) in states.iter().zip(&reference) {
        assert!(difference(state.tensor(), reference.tensor()) < F32_SUMS);
    }
}

#[test]
fn gradients_are_the_same_to_the_bit_with_one_thread_and_with_two() {
    let config = tiny_looped(Relaxation::Lora { rank: 3 });
    let params = random_params(&config.tensors());
    let ids = ids(3, 40, 37);
    let gradients = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let model = LoopedTransformer::new(&config, &params).unwrap();
            let tape = Tape::recording();
            let states = model.states(&tape, &ids, 3).unwrap();
            let comparison = StateComparison {
                squared: 1.0,
                cosine: 1.0,
                scale: StateScale::Raw,
                skip_tokens: 0,
            };
            let target = random(3, &[3, 40, 16]);
            compare_states(&tape, states.last().unwrap(), &target, &comparison, 1.0).unwrap();
            tape.backward().unwrap()
        })
    };
    let (single, two) = (gradients(1), gradients(2));
    assert_eq!(single.len(), two.len());
    for (name, gradient) in &single {
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(flat(gradient), flat(&two[name]), "{name}");
    }
}

#[test]
fn decoding_with_a_cache_gives_the_states_of_the_full_forward() {
    let config = tiny_looped(Relaxation::Norms);
    let params = random_params(&config.tensors());
    let model = LoopedTransformer::new(&config, &params).unwrap();
    let ids = ids(2, 11, 37);
    let full = model.states(&Tape::off(), &ids, 3).unwrap();
    let full = full.last().unwrap().tensor();
    let mut cache = model.new_cache(3);
    for (start, len) in [(0, 4), (4, 1), (5, 1), (6, 5)] {
        let part = ids.narrow(1, start, len).unwrap();
        let state = model.forward_cached(&part, &mut cache, 3).unwrap();
        let expected = full.narrow(1, start, len).unwrap();
        assert!(difference(&state, &expected) < F32_SUMS);
    }
}
