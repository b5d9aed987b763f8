//! Calibration: gates are fitted and thresholds chosen for a frozen student.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::data::EvaluationWindow;
use crate::error::{Error, Result};
use crate::halting::{
    Calibration, Gate, GateTraining, Halting, PolicyName, Risk, Traces, fit_gate,
};
use crate::model::{CausalLm, LoopedTransformer};

/// How a student is calibrated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CalibrateConfig {
    /// The most that stopping early may cost.
    pub risk: Risk,
    /// Most repetitions; when absent, the N it was trained for.
    pub repetitions: Option<usize>,
    /// Windows of one batch.
    pub batch_rows: usize,
    /// Seed of the order in which gates see tokens.
    pub seed: u64,
    /// What happens to a gate that was trained together with the student.
    pub own_gate: OwnGate,
}

/// What happens to a gate that was trained together with the student.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OwnGate {
    /// It stays as it is: only its threshold is chosen.
    #[default]
    Kept,
    /// Another gate is fitted in its place.
    Refitted,
}

impl Default for CalibrateConfig {
    fn default() -> Self {
        let own_gate = OwnGate::Kept;
        Self { risk: Risk::Kl(0.01), repetitions: None, batch_rows: 8, seed: 0, own_gate }
    }
}

/// Fits every gate on the first half of `windows`, except one that was trained together with the
/// student, and chooses every threshold on the second half: the one that keeps the risk with the
/// fewest repetitions, or the strictest when none does. `fingerprint` is the student's.
///
/// # Errors
/// The models do not fit, there is too little text, the user stopped it, or a device fails.
pub fn calibrate(
    teacher: &dyn CausalLm,
    student: &LoopedTransformer,
    fingerprint: &str,
    windows: &[EvaluationWindow],
    config: &CalibrateConfig,
    context: &Context,
) -> Result<Halting> {
    let repetitions = config.repetitions.unwrap_or(student.repetitions());
    if repetitions < 2 {
        return Err(Error::input(format!(
            "with {repetitions} repetitions there is nothing to choose, expected 2 or more"
        ))
        .hint("give --repetitions"));
    }
    if teacher.base().vocabulary != student.base().vocabulary {
        return Err(Error::input(format!(
            "the student's vocabulary is {}, the teacher's {}: they cannot be compared",
            student.base().vocabulary,
            teacher.base().vocabulary
        )));
    }
    let rows = config.batch_rows;
    let trace = |averaged_by: Option<&Gate>| {
        super::traces::trace(teacher, student, windows, repetitions, averaged_by, rows, context)
    };
    let traces = trace(None)?;
    let first = traces.tokens() / 2;
    let (fit_part, chosen_part) = traces.split(first);
    context.begin("fit", PolicyName::ALL.len() as u64, "policies");
    let own = match config.own_gate {
        OwnGate::Kept => student.halting_gate()?.map(|(policy, gate)| (policy.policy(), gate)),
        OwnGate::Refitted => None,
    };
    // Gates are fitted when this is called; what is left takes a second.
    let averaged = |gate: &Gate| {
        context.end();
        Ok(trace(Some(gate))?.split(first).1)
    };
    let (risk, seed) = (config.risk, config.seed);
    let policies = choose(&fit_part, &chosen_part, &averaged, own.as_ref(), risk, seed);
    context.end();
    let policies = policies?;
    let best = policies.iter().min_by(|a, b| {
        let cost = |calibration| layers_per_token(student, calibration, config.risk);
        cost(a).total_cmp(&cost(b))
    });
    Ok(Halting {
        student: fingerprint.to_owned(),
        repetitions,
        width: student.base().width,
        risk: config.risk,
        best: best.map_or(PolicyName::Fixed, |best| best.curve.policy),
        tokens: [fit_part.tokens(), chosen_part.tokens()],
        policies,
    })
}

/// Calibrates every policy. Its gate is fitted on `fit_part` unless it is the student's `own`; its
/// threshold is the one that keeps `risk` on `chosen_part` with the fewest repetitions, or the
/// strictest when none does. `averaged` traces the tokens of `chosen_part` again, stopped with the
/// mean of their states by a gate; `seed` sets the order in which gates see tokens.
///
/// # Errors
/// There are too few tokens, or tracing again fails.
pub fn choose(
    fit_part: &Traces,
    chosen_part: &Traces,
    averaged: &dyn Fn(&Gate) -> Result<Traces>,
    own: Option<&(PolicyName, Gate)>,
    risk: Risk,
    seed: u64,
) -> Result<Vec<Calibration>> {
    let fitted: Result<Vec<_>> = PolicyName::ALL
        .into_par_iter()
        .map(|policy| Ok((policy, gate_of(policy, own, fit_part, seed)?)))
        .collect();
    let means = |(policy, (gate, from)): (PolicyName, (Option<Gate>, GateTraining))| {
        let averaging = gate.as_ref().filter(|_| policy.averages());
        let means = averaging.map(averaged).transpose()?;
        Ok((policy, gate, from, means.map(|means| means.relative_to(chosen_part))))
    };
    let traced: Result<Vec<_>> = fitted?.into_iter().map(means).collect();
    let calibrate_policy =
        |(policy, gate, learned, means): (_, Option<Gate>, _, Option<Traces>)| {
            let curve = means.as_ref().unwrap_or(chosen_part).sweep(policy, gate.as_ref())?;
            let threshold = curve.chosen(risk)?.threshold;
            Ok(Calibration { threshold, gate, learned, curve })
        };
    traced?.into_par_iter().map(calibrate_policy).collect()
}

/// The gate of a policy: the student's own, or one fitted on `traces`.
fn gate_of(
    policy: PolicyName,
    own: Option<&(PolicyName, Gate)>,
    traces: &Traces,
    seed: u64,
) -> Result<(Option<Gate>, GateTraining)> {
    match own.filter(|(owner, _)| *owner == policy) {
        Some((_, gate)) => Ok((Some(gate.clone()), GateTraining::Together)),
        None => Ok((fit_gate(policy, traces, seed)?, GateTraining::Afterwards)),
    }
}

/// Layers applied per token: those of the core, and, for policies that read the student's output,
/// those of the coda and the head at every repetition before it stops. The head counts by its
/// parameters.
fn layers_per_token(student: &LoopedTransformer, calibration: &Calibration, risk: Risk) -> f64 {
    let config = student.config();
    let Some(point) = calibration.curve.within(risk) else { return f64::INFINITY };
    let layer: usize =
        config.base.layer_tensors().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum();
    let head = (config.base.vocabulary * config.base.width) as f64 / layer as f64;
    let probes =
        if calibration.curve.policy.reads().output { point.mean_repetitions - 1.0 } else { 0.0 };
    point.mean_repetitions * config.core_layers as f64 + probes * (config.coda_layers as f64 + head)
}
