//! Benchmark of each operation against candle's composed graph.
//!
//! `cargo bench`, or `cargo bench -- attention adamw` for some. The two alternate, forward and
//! backward, so that load on the machine affects both; medians are compared. The sizes are those of
//! a small student: 16 sequences of 128 tokens, width 256, 4 heads, an MLP of 768.

// A bench is a program that prints; .clippy.toml allows this in tests alone.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::time::{Duration, Instant};

use candle_core::{Device, Tensor};
use factorexe::autograd::{Gradients, Params, Tape, Value, Weight, Weights};
use factorexe::losses::{
    HeadWeights, StateComparison, StateScale, TeacherOutput, compare, compare_states,
};
use factorexe::nn::{
    AttentionShape, GeluForm, Linear, RopeTable, attention, gated_gelu, gelu, layer_norm, rms_norm,
    rope, swiglu,
};
use factorexe::train::{GradientSum, Optimizer, OptimizerConfig};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 16;
const TOKENS: usize = 128;
const WIDTH: usize = 256;
const HEADS: usize = 4;
const MLP: usize = 768;
const VOCABULARY: usize = 512;

/// Measured rounds, and the time after which no further one is started.
const ROUNDS: usize = 21;
const LONGEST: Duration = Duration::from_secs(8);

fn main() {
    // `cargo bench` passes --bench; what is left names operations.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    println!(
        "{:<16}{:>12}{:>15}{:>10}   {} threads",
        "operation",
        "ours, ms",
        "composed, ms",
        "ratio",
        rayon::current_num_threads()
    );
    for (name, prepare) in OPERATIONS {
        if wanted.is_empty() || wanted.iter().any(|part| name.contains(part.as_str())) {
            let [mut ours, mut composed] = prepare();
            let (ours, composed) = alternate(&mut ours, &mut composed);
            let ratio = composed / ours;
            println!("{name:<16}{ours:>12.3}{composed:>15.3}{ratio:>10.2}");
        }
    }
}

/// Work to be timed.
type Work = Box<dyn FnMut()>;

/// Prepares the kernel and the composed reference.
type Prepare = fn() -> [Work; 2];

const OPERATIONS: &[(&str, Prepare)] = &[
    ("rms norm", rms_norms),
    ("layer norm", layer_norms),
    ("rope", rotations),
    ("swiglu", gates),
    ("gelu, tanh", || gelus(GeluForm::Tanh)),
    ("gelu, erf", || gelus(GeluForm::Erf)),
    ("gated gelu", gated_gelus),
    ("attention", attentions),
    ("linear", linears),
    ("compare head", heads),
    ("compare states", states),
    ("adamw", optimizers),
];

/// Medians of both, in ms.
fn alternate(ours: &mut Work, composed: &mut Work) -> (f64, f64) {
    let time = |work: &mut Work| {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64() * 1e3
    };
    let (mut first, mut second) = (Vec::new(), Vec::new());
    time(ours);
    time(composed);
    let started = Instant::now();
    while first.len() < ROUNDS && (first.is_empty() || started.elapsed() < LONGEST) {
        first.push(time(ours));
        second.push(time(composed));
    }
    (median(first), median(second))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Reproducible values in -1..1.
fn random(seed: u64, shape: &[usize]) -> Tensor {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|_| rng.random_range(-1.0..1.0)).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn trained(seed: u64, shape: &[usize]) -> Weight {
    let mut params = Params::new();
    params.insert("weight", &random(seed, shape), true).unwrap();
    params.weight("weight").unwrap()
}

fn tapes() -> [fn() -> Tape; 2] {
    [Tape::recording, || Tape::recording().with_reference()]
}

/// The operation's forward pass, and its backward pass from a random gradient to all inputs and
/// weights.
fn forward_and_backward<F>(inputs: &[Tensor], operation: F) -> [Work; 2]
where
    F: Fn(&Tape, &[Value]) -> Value + Clone + 'static,
{
    tapes().map(|tape| {
        let (inputs, operation) = (inputs.to_vec(), operation.clone());
        let mut gradient = None;
        Box::new(move || {
            let tape = tape();
            let leaves: Vec<Value> = inputs.iter().map(|x| tape.leaf(x.clone())).collect();
            let output = operation(&tape, &leaves);
            let gradient = gradient.get_or_insert_with(|| random(99, output.tensor().dims()));
            let leaves: Vec<&Value> = leaves.iter().collect();
            let gradients = tape.backward_to(&[(&output, gradient.clone())], &leaves).unwrap();
            std::hint::black_box(gradients);
        }) as Work
    })
}

/// A term of the loss, and its gradients.
fn term<F>(state: &Tensor, operation: F) -> [Work; 2]
where
    F: Fn(&Tape, &Value) + Clone + 'static,
{
    tapes().map(|tape| {
        let (state, operation) = (state.clone(), operation.clone());
        Box::new(move || {
            let tape = tape();
            let leaf = tape.leaf(state.clone());
            operation(&tape, &leaf);
            std::hint::black_box(tape.backward_to(&[], &[&leaf]).unwrap());
        }) as Work
    })
}

fn rms_norms() -> [Work; 2] {
    let weight = trained(1, &[WIDTH]);
    forward_and_backward(&[random(2, &[BATCH, TOKENS, WIDTH])], move |tape, x| {
        rms_norm(tape, &x[0], &weight, 1e-5).unwrap()
    })
}

fn layer_norms() -> [Work; 2] {
    let (weight, bias) = (trained(1, &[WIDTH]), trained(16, &[WIDTH]));
    forward_and_backward(&[random(2, &[BATCH, TOKENS, WIDTH])], move |tape, x| {
        layer_norm(tape, &x[0], &weight, Some(&bias), 1e-5).unwrap()
    })
}

fn gelus(form: GeluForm) -> [Work; 2] {
    forward_and_backward(&[random(4, &[BATCH, TOKENS, MLP])], move |tape, x| {
        gelu(tape, &x[0], form).unwrap()
    })
}

fn gated_gelus() -> [Work; 2] {
    let inputs = [4, 5].map(|seed| random(seed, &[BATCH, TOKENS, MLP]));
    forward_and_backward(&inputs, |tape, x| gated_gelu(tape, &x[0], &x[1], GeluForm::Tanh).unwrap())
}

fn rotations() -> [Work; 2] {
    let half = WIDTH / HEADS / 2;
    let frequencies: Vec<f32> =
        (0..half).map(|i| 1e4_f32.powf(-(i as f32) / half as f32)).collect();
    let table = RopeTable::new(&frequencies, 0, TOKENS);
    forward_and_backward(&[random(3, &[BATCH, TOKENS, HEADS, 2 * half])], move |tape, x| {
        rope(tape, &x[0], &table).unwrap()
    })
}

fn gates() -> [Work; 2] {
    let inputs = [4, 5].map(|seed| random(seed, &[BATCH, TOKENS, MLP]));
    forward_and_backward(&inputs, |tape, x| swiglu(tape, &x[0], &x[1]).unwrap())
}

fn attentions() -> [Work; 2] {
    let inputs = [6, 7, 8].map(|seed| random(seed, &[BATCH, TOKENS, HEADS, WIDTH / HEADS]));
    let shape = AttentionShape { start: 0, window: None };
    forward_and_backward(&inputs, move |tape, x| {
        attention(tape, &x[0], &x[1], &x[2], shape).unwrap()
    })
}

fn linears() -> [Work; 2] {
    let linear = Linear { weight: trained(9, &[MLP, WIDTH]), bias: None, low_rank: None };
    forward_and_backward(&[random(10, &[BATCH, TOKENS, WIDTH])], move |tape, x| {
        linear.forward(tape, &x[0]).unwrap()
    })
}

fn heads() -> [Work; 2] {
    let head = trained(11, &[VOCABULARY, WIDTH]);
    let teacher = TeacherOutput::Logits(random(12, &[BATCH, TOKENS, VOCABULARY]));
    let targets: Vec<u32> = (0..BATCH * TOKENS).map(|i| (i * 11 % VOCABULARY) as u32).collect();
    let weights = HeadWeights { cross_entropy: 1.0, kl: 1.0, temperature: 1.0 };
    term(&random(13, &[BATCH, TOKENS, WIDTH]), move |tape, state| {
        compare(tape, state, &head, Some(&teacher), &targets, weights).unwrap();
    })
}

fn states() -> [Work; 2] {
    let target = random(14, &[BATCH, TOKENS, WIDTH]);
    let comparison =
        StateComparison { squared: 1.0, cosine: 1.0, scale: StateScale::Dimension, skip_tokens: 0 };
    term(&random(15, &[BATCH, TOKENS, WIDTH]), move |tape, state| {
        compare_states(tape, state, &target, &comparison, 1.0).unwrap();
    })
}

/// The fused optimizer, or the composed one.
type NewOptimizer = fn(&OptimizerConfig, &Params) -> factorexe::Result<Optimizer>;

fn optimizers() -> [Work; 2] {
    let sides: [NewOptimizer; 2] = [Optimizer::new, Optimizer::composed];
    sides.map(|new| {
        let mut params = Params::new();
        let mut gradients = Gradients::new();
        for index in 0..8 {
            let name = format!("matrix.{index}");
            params.insert(&name, &random(20 + index, &[MLP, WIDTH]), true).unwrap();
            gradients.insert(name.into(), random(40 + index, &[MLP, WIDTH]));
        }
        let mut sum = GradientSum::new();
        sum.add(&params, &mut gradients).unwrap();
        let mut optimizer = new(&OptimizerConfig::default(), &params).unwrap();
        Box::new(move || {
            let norm = sum.norm().unwrap();
            optimizer.step(&params, &sum, norm, 1e-3).unwrap();
        }) as Work
    })
}
