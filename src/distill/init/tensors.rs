//! The initial tensors of a student.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Normal};
use rayon::prelude::*;

use super::gram::GramMatrices;
use super::state_rms::state_rms;
use super::svd::{self, LowRank, times, times_inverse};
use crate::context::Context;
use crate::distill::config::{Init, LoraInit, StudentConfig};
use crate::error::{Error, Result};
use crate::kernels::{gemm::Matrix, host::Host};
use crate::model::{LoopedConfig, Relaxation, Transformer, initial_halting_head};

/// Ridge coefficient of least squares towards the plain mean of the matrices, relative to the mean
/// square of the inputs.
const RIDGE: f32 = 1e-2;

/// The inputs of an initialization.
struct Source<'a> {
    tensors: &'a BTreeMap<String, Tensor>,
    config: &'a LoopedConfig,
    student: &'a StudentConfig,
    grams: Option<GramMatrices>,
    context: &'a Context,
}

/// The tensors of [`LoopedConfig::tensors`] for a student of `teacher`, whose tensors are `tensors`.
/// Least squares, its low-rank adapters and the state norm use the `calibration` tokens, each
/// (B, T).
///
/// # Errors
/// The factorization does not fit the teacher, a decomposition fails, or the user stopped it.
pub fn student_tensors(
    teacher: &Transformer,
    tensors: &BTreeMap<String, Tensor>,
    config: &LoopedConfig,
    student: &StudentConfig,
    calibration: &[Tensor],
    seed: u64,
    context: &Context,
) -> Result<BTreeMap<String, Tensor>> {
    config.validate()?;
    let grams = (student.init == Init::LeastSquares)
        .then(|| GramMatrices::measure(teacher, config.middle(), calibration, context))
        .transpose()?;
    let source = Source { tensors, config, student, grams, context };
    let mut initial = BTreeMap::new();
    for (name, _) in config.base.outer_tensors() {
        initial.insert(name.to_owned(), source.teacher(name)?);
    }
    let last = config.base.layers - config.coda_layers;
    for (part, layers, first) in
        [("prelude", config.prelude_layers, 0), ("coda", config.coda_layers, last)]
    {
        for layer in 0..layers {
            for (name, _) in config.base.layer_tensors() {
                let tensor = source.layer(first + layer, name)?;
                initial.insert(format!("{part}.{layer}.{name}"), tensor);
            }
        }
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let jobs: Vec<(usize, &str, Vec<usize>)> = (0..config.core_layers)
        .flat_map(|layer| {
            config.base.layer_tensors().into_iter().map(move |(name, shape)| (layer, name, shape))
        })
        .collect();
    let noise = jobs
        .iter()
        .map(|(layer, name, shape)| source.noise(*layer, name, shape, &mut rng))
        .collect::<Result<Vec<_>>>()?;
    context.begin("initialize the core", jobs.len() as u64, "matrices");
    let cores = jobs
        .par_iter()
        .zip(noise)
        .map(|((layer, name, shape), noise)| source.core(*layer, name, shape, noise))
        .collect::<Result<Vec<_>>>();
    context.end();
    initial.extend(cores?.into_iter().flatten());
    initial.extend(config.injection.start(config.base.width)?);
    initial.extend(initial_halting_head(config.gate, config.base.width, config.repetitions)?);
    if !config.state_norm.is_none() {
        let rms = state_rms(teacher, config.middle(), calibration, context)?;
        initial.extend(config.state_norm.start(config.base.width, rms)?);
    }
    Ok(initial)
}

impl Source<'_> {
    fn check_cancelled(&self) -> Result<()> {
        self.context.check_cancelled("during the initialization of the student")
    }

    fn teacher(&self, name: &str) -> Result<Tensor> {
        let tensor = self.tensors.get(name);
        let missing = || Error::internal(format!("the teacher has no tensor `{name}`"));
        Ok(tensor.ok_or_else(missing)?.to_device(&Device::Cpu)?.contiguous()?)
    }

    fn layer(&self, layer: usize, name: &str) -> Result<Tensor> {
        self.teacher(&format!("layers.{layer}.{name}"))
    }

    /// The teacher's layers aligned with core layer `layer`, one for each repetition.
    fn aligned_layers(&self, layer: usize) -> Vec<usize> {
        (0..self.config.repetitions).map(|r| self.config.aligned_layer(r, layer)).collect()
    }

    /// For `random`, a normal matrix with the root mean square of the teacher's; else None.
    fn noise(
        &self,
        layer: usize,
        name: &str,
        shape: &[usize],
        rng: &mut ChaCha8Rng,
    ) -> Result<Option<Tensor>> {
        if self.student.init != Init::Random || shape.len() < 2 {
            return Ok(None);
        }
        let aligned = self.layer(self.aligned_layers(layer)[0], name)?;
        let spread = aligned.sqr()?.mean_all()?.to_scalar::<f32>()?.sqrt();
        let normal = Normal::new(0.0, spread)
            .map_err(|_| Error::input(format!("the teacher's `{name}` is not finite")))?;
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| normal.sample(rng)).collect();
        Ok(Some(Tensor::from_vec(values, shape, &Device::Cpu)?))
    }

    /// A tensor of one core layer: the shared one and the low-rank adapters of each repetition, or
    /// one tensor for each repetition.
    fn core(
        &self,
        layer: usize,
        name: &str,
        shape: &[usize],
        noise: Option<Tensor>,
    ) -> Result<Vec<(String, Tensor)>> {
        self.check_cancelled()?;
        let own = format!("core.{layer}.{name}");
        let (stem, kind) = own.rsplit_once('.').unwrap_or((&own, "weight"));
        let layers = self.aligned_layers(layer);
        if shape.len() == 1 && self.config.relaxation != Relaxation::None {
            let vector = |(r, layer): (usize, &usize)| {
                Ok((format!("{stem}.repetition.{r}.{kind}"), self.layer(*layer, name)?))
            };
            return layers.iter().enumerate().map(vector).collect();
        }
        let shared = match noise {
            Some(noise) => noise,
            None => self.shared(layer, name, shape, &layers)?,
        };
        let mut tensors = vec![(own.clone(), shared.clone())];
        if let (Relaxation::Lora { rank }, &[out, inner]) = (self.config.relaxation, shape) {
            for (repetition, aligned) in layers.into_iter().enumerate() {
                self.check_cancelled()?;
                let factors = match self.student.lora_init {
                    LoraInit::Svd => self.residual_factors(aligned, name, &shared, rank)?,
                    LoraInit::Zero => self.zero_factors(aligned, name, rank)?,
                };
                let part = |part: &str| format!("{stem}.lora.{repetition}.{part}");
                let a = Tensor::from_vec(factors.a, (rank, inner), &Device::Cpu)?;
                let b = Tensor::from_vec(factors.b, (out, rank), &Device::Cpu)?;
                tensors.extend([(part("a"), a), (part("b"), b)]);
            }
        }
        Ok(tensors)
    }

    /// The matrix or vector that all repetitions share, initialized from the teacher's `layers`.
    fn shared(
        &self,
        layer: usize,
        name: &str,
        shape: &[usize],
        layers: &[usize],
    ) -> Result<Tensor> {
        let (middle, cores) = (self.config.middle(), self.config.core_layers);
        match self.student.init {
            Init::First => self.layer(middle.start + layer, name),
            Init::EveryNth => {
                let step = layer * (middle.len() - 1) / (cores - 1).max(1);
                self.layer(middle.start + step, name)
            }
            Init::LeastSquares if shape.len() == 2 => self.least_squares(name, layers),
            Init::Random | Init::Average | Init::LeastSquares => self.mean(name, layers),
        }
    }

    fn mean(&self, name: &str, layers: &[usize]) -> Result<Tensor> {
        let all =
            layers.iter().map(|&layer| self.layer(layer, name)).collect::<Result<Vec<_>>>()?;
        let sum = Tensor::stack(&all, 0)?.mean(0)?;
        Ok(sum.contiguous()?)
    }

    /// (sum W_r C_r + ridge mean W) (sum C_r + ridge I)^-1. Jin et al. 2022, for merging models.
    fn least_squares(&self, name: &str, layers: &[usize]) -> Result<Tensor> {
        let grams = self.grams.as_ref().ok_or_else(|| Error::internal("no Gram matrices"))?;
        let mean = self.mean(name, layers)?;
        let (out, inner) = mean.dims2()?;
        let mut total = vec![0.0; inner * inner];
        let mut right = vec![0.0; out * inner];
        for &layer in layers {
            self.check_cancelled()?;
            let c = grams.get(layer, name)?;
            let weight = self.layer(layer, name)?;
            let weight = Host::new(&weight)?;
            let product =
                times(Matrix::new(&weight, out, inner), Matrix::new(c, inner, inner), out, inner);
            right.iter_mut().zip(&product).for_each(|(sum, x)| *sum += x);
            total.iter_mut().zip(c).for_each(|(sum, x)| *sum += x);
        }
        let mean_square = (0..inner).map(|i| total[i * inner + i]).sum::<f32>() / inner as f32;
        let ridge = RIDGE * mean_square.max(1e-12);
        (0..inner).for_each(|i| total[i * inner + i] += ridge);
        let mean = Host::new(&mean)?;
        right.iter_mut().zip(&*mean).for_each(|(sum, x)| *sum += ridge * x);
        let solved = times_inverse(&right, &total, inner)?;
        Ok(Tensor::from_vec(solved, (out, inner), &Device::Cpu)?)
    }

    /// The teacher's matrix minus the shared one, approximated with rank `rank`.
    fn residual_factors(
        &self,
        layer: usize,
        name: &str,
        shared: &Tensor,
        rank: usize,
    ) -> Result<LowRank> {
        let delta = (self.layer(layer, name)? - shared)?;
        let shape = delta.dims2()?;
        let metric = self.grams.as_ref().map(|grams| grams.get(layer, name)).transpose()?;
        svd::truncated(&Host::new(&delta)?, shape, rank, metric)
    }

    /// B = 0, and A with the leading right singular vectors of the teacher's matrix.
    fn zero_factors(&self, layer: usize, name: &str, rank: usize) -> Result<LowRank> {
        let weight = self.layer(layer, name)?;
        let (out, inner) = weight.dims2()?;
        let a = svd::truncated(&Host::new(&weight)?, (out, inner), rank, None)?.a;
        Ok(LowRank { b: vec![0.0; out * rank], a })
    }
}
