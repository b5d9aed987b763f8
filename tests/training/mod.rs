//! Does training do what it says, and the same again after every way of stopping?

mod health;
mod kill;
mod metrics;
mod optimizer;
mod resume;
mod schedule;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use candle_core::{DType, Device, Tensor};
use factorexe::autograd::Params;
use factorexe::context::{Context, Observer};
use factorexe::data::{Batch, Batches};
use factorexe::train::{Loss, Objective, StepContext, TrainConfig};
use factorexe::{Error, Result};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const VOCABULARY: usize = 7;
const WIDTH: usize = 5;

/// What a test makes the objective do in micro-batch number so-and-so (counted over the test).
pub enum Trouble {
    None,
    NotFinite,
    Fail,
    Then(Box<dyn Fn()>),
}

/// Two layers that learn to guess a token's successor, with noise from the moment's randomness.
pub struct Net {
    params: Params,
    tensors: BTreeMap<String, Tensor>,
    calls: AtomicU64,
    trouble: Box<dyn Fn(u64) -> Trouble + Sync>,
}

impl Net {
    pub fn new() -> Self {
        Self::with_scale(0.5)
    }

    pub fn with_scale(scale: f32) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let (mut params, mut tensors) = (Params::new(), BTreeMap::new());
        let shapes: [(&str, &[usize]); 4] = [
            ("embed.weight", &[VOCABULARY, WIDTH]),
            ("mix.weight", &[WIDTH, WIDTH]),
            ("mix.bias", &[WIDTH]),
            ("head.weight", &[WIDTH, VOCABULARY]),
        ];
        for (name, shape) in shapes {
            let count = shape.iter().product();
            let values: Vec<f32> = (0..count).map(|_| rng.random_range(-0.5..0.5)).collect();
            let values = Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
            params.insert(name, &values, true).unwrap();
            let var = params.get(name).unwrap().var();
            tensors.insert(name.to_owned(), var.as_tensor().clone());
        }
        let scale = Tensor::new(&[scale], &Device::Cpu).unwrap();
        params.insert("scale", &scale, false).unwrap();
        tensors.insert("scale".to_owned(), scale);
        Self { params, tensors, calls: AtomicU64::new(0), trouble: Box::new(|_| Trouble::None) }
    }

    pub fn troubled(mut self, trouble: impl Fn(u64) -> Trouble + Sync + 'static) -> Self {
        self.trouble = Box::new(trouble);
        self
    }

    /// The bits of every trainable parameter.
    pub fn bits(&self) -> BTreeMap<String, Vec<u32>> {
        let bits = |tensor: &Tensor| {
            let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            values.into_iter().map(f32::to_bits).collect()
        };
        self.params.trainable().map(|(name, var)| (name.to_owned(), bits(var))).collect()
    }
}

impl Objective for Net {
    fn params(&self) -> &Params {
        &self.params
    }

    fn loss(&self, batch: &Batch, moment: &mut StepContext) -> Result<Loss> {
        match (self.trouble)(self.calls.fetch_add(1, Ordering::Relaxed)) {
            Trouble::None => {}
            Trouble::Then(act) => act(),
            Trouble::Fail => return Err(Error::internal("killed")),
            Trouble::NotFinite => {
                let nan = Tensor::new(f32::NAN, &Device::Cpu)?;
                return backward(&self.params, &nan, BTreeMap::new());
            }
        }
        let t = |name: &str| &self.tensors[name];
        let inputs = batch.input_tensor(&Device::Cpu)?.flatten_all()?;
        let noise: f64 = moment.rng.random_range(-0.1..0.1);
        let hidden = (t("embed.weight").index_select(&inputs, 0)? + noise)?;
        let hidden = hidden.matmul(t("mix.weight"))?.broadcast_add(t("mix.bias"))?.tanh()?;
        let logits = hidden.broadcast_mul(t("scale"))?.matmul(t("head.weight"))?;
        let targets = Tensor::from_slice(&batch.targets, batch.targets.len(), &Device::Cpu)?;
        let total = candle_nn::loss::cross_entropy(&logits, &targets)?;
        let value = f64::from(total.to_dtype(DType::F32)?.to_scalar::<f32>()?);
        backward(&self.params, &total, BTreeMap::from([("cross_entropy".to_owned(), value)]))
    }
}

/// Loss and gradients from a candle graph over the parameters' variables.
pub fn backward(params: &Params, total: &Tensor, terms: BTreeMap<String, f64>) -> Result<Loss> {
    let value = f64::from(total.to_dtype(DType::F32)?.to_scalar::<f32>()?);
    let mut gradients = factorexe::autograd::Gradients::new();
    if value.is_finite() {
        let mut store = total.backward()?;
        for (name, var) in params.trainable() {
            gradients.extend(store.remove(var).map(|gradient| (name.into(), gradient)));
        }
    }
    Ok(Loss { total: value, terms, gradients, partial: false })
}

/// Random tokens, each followed by the next number.
pub struct Counting;

impl Batches for Counting {
    fn batch(&self, index: u64) -> Result<Batch> {
        let mut rng = ChaCha8Rng::seed_from_u64(index);
        let inputs: Vec<u32> = (0..8).map(|_| rng.random_range(0..VOCABULARY as u32)).collect();
        let targets = inputs.iter().map(|token| (token + 1) % VOCABULARY as u32).collect();
        Ok(Batch { inputs, targets, rows: 2, columns: 4, ..Batch::default() })
    }
}

/// Keeps the warnings.
#[derive(Clone, Default)]
pub struct Listener(Arc<Mutex<Vec<String>>>);

impl Listener {
    pub fn received(&self, part: &str) -> bool {
        self.0.lock().unwrap().iter().any(|warning| warning.contains(part))
    }

    pub fn context(&self) -> Context {
        Context::cpu().with_observer(self.clone())
    }
}

impl Observer for Listener {
    fn begin(&self, _task: &str, _total: u64, _unit: &str) {}
    fn advance(&self, _done: u64, _message: &str) {}
    fn end(&self) {}
    fn note(&self, _message: &str) {}
    fn warn(&self, message: &str) {
        self.0.lock().unwrap().push(message.to_owned());
    }
}

/// 20 steps of two micro-batches with everything that has state turned on.
pub fn config() -> TrainConfig {
    let mut config = TrainConfig {
        steps: 20,
        accumulate: 2,
        ema: Some(0.9),
        checkpoint_every_steps: 5,
        ..TrainConfig::default()
    };
    config.optimizer.lr = 0.02;
    config
}
