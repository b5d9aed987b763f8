//! Evaluation of halting policies: each policy as it decodes, beside the oracle.

use std::time::Instant;

use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::traces::teacher_side;
use super::windows::{batches, targets};
use crate::context::Context;
use crate::data::EvaluationWindow;
use crate::decode::{CacheSharing, Decoder, ReadDepth};
use crate::error::Result;
use crate::halting::{Calibration, Curve, CurvePoint, Gate, Halting, PolicyName, oracle_area};
use crate::losses::{TeacherHead, compare_students, mean};
use crate::model::{CausalLm, LoopedTransformer};

/// Tokens that are decoded one by one to measure the decoding speed.
const TIMED_TOKENS: usize = 96;

/// Scores of a student whose tokens stop by a policy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyScore {
    /// The name of the policy.
    pub name: PolicyName,
    /// The threshold of the policy.
    pub threshold: f64,
    /// Mean repetitions of the core per token.
    pub mean_repetitions: f64,
    /// exp of the mean -log p of the next token.
    #[serde(with = "super::finite")]
    pub perplexity: f64,
    /// KL(teacher || student) per token.
    #[serde(with = "super::finite")]
    pub kl_nats: f64,
    /// Share of tokens for which student and teacher have the same top-1 token, 0..1.
    pub agreement: f64,
    /// Number of tokens that stopped after each repetition, (N).
    pub stops: Vec<u64>,
    /// Repetitions computed per token, including those that earlier tokens catch up on for later
    /// ones.
    pub computed_repetitions: f64,
    /// Times per token that coda and head are computed to decide.
    pub probes_per_token: f64,
    /// Decoding speed on one sequence, token by token.
    pub tokens_per_s: f64,
    /// Area under `curve`: share of top-1 tokens that differ from those at N, over mean repetitions
    /// 1 to N.
    pub area: f64,
    /// Share of the area between fixed depth and the oracle that the policy removes, 1 at best; none
    /// when the two areas are equal.
    pub oracle_gap_closed: Option<f64>,
    /// Scores of the same text at other thresholds; what a token attends to is computed to N.
    pub curve: Vec<CurvePoint>,
}

/// The oracle: every token stops at the first repetition from which its top-1 token never changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OracleScore {
    /// Mean repetitions of the core per token.
    pub mean_repetitions: f64,
    /// Share of tokens for which student and teacher have the same top-1 token, 0..1; the same as at
    /// N.
    pub agreement: f64,
    /// exp of the mean -log p of the next token.
    #[serde(with = "super::finite")]
    pub perplexity: f64,
    /// KL(teacher || student) per token.
    #[serde(with = "super::finite")]
    pub kl_nats: f64,
    /// Area as in [`PolicyScore::area`], when the tokens that settle earliest stop first.
    pub area: f64,
    /// Number of tokens whose top-1 token settles after each repetition, (N).
    pub stops: Vec<u64>,
}

/// Scores of halting policies on a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyReport {
    /// Each policy at its calibrated threshold.
    pub policies: Vec<PolicyScore>,
    /// The oracle, which no policy can beat.
    pub oracle: OracleScore,
}

/// Evaluates every policy of `names` on `windows` as decoding would: a token attends to what other
/// tokens computed before they stopped.
///
/// # Errors
/// A policy was not calibrated, there is no text, the user stopped it, or a device fails.
pub fn evaluate_policies(
    teacher: &dyn CausalLm,
    student: &LoopedTransformer,
    decoder: &Decoder,
    halting: &Halting,
    names: &[PolicyName],
    sharing: CacheSharing,
    windows: &[EvaluationWindow],
    rows: usize,
    context: &Context,
) -> Result<PolicyReport> {
    let repetitions = halting.repetitions;
    let chosen: Vec<&Calibration> =
        names.iter().map(|&name| halting.find(name)).collect::<Result<_>>()?;
    let trace = |averaged_by: Option<&Gate>| {
        super::traces::trace(teacher, student, windows, repetitions, averaged_by, rows, context)
    };
    let traces = trace(None)?;
    let settled = traces.settled();
    let oracle = traces.oracle();
    let least = oracle_area(&settled, repetitions);
    let first = traces.outcome(0.0, |_| 1).changed;
    let fixed = traces.sweep(PolicyName::Fixed, None)?.area(first, repetitions);
    let curve = |calibration: &&Calibration| {
        let (policy, gate) = (calibration.curve.policy, calibration.gate.as_ref());
        match gate.filter(|_| policy.averages()) {
            Some(_) => trace(gate)?.relative_to(&traces).sweep(policy, gate),
            None => traces.sweep(policy, gate),
        }
    };
    let curves: Vec<Curve> = chosen.iter().map(curve).collect::<Result<_>>()?;
    let batches = batches(windows, rows);
    let sides: Vec<TeacherHead> =
        batches.iter().map(|batch| teacher_side(teacher, batch)).collect::<Result<_>>()?;
    context.begin("policies", (chosen.len() * batches.len()) as u64, "batches");
    let mut done = 0;
    let mut score = |(calibration, curve): (&Calibration, Curve)| {
        let (policy, threshold) = calibration.policy(None)?;
        let gate = calibration.gate.as_ref();
        let depth = ReadDepth { most: repetitions, policy: Some((&*policy, gate)) };
        let mut sums = Sums { stops: vec![0; repetitions], ..Sums::default() };
        for (batch, side) in batches.iter().zip(&sides) {
            context.check_cancelled("while evaluating policies")?;
            sums.add(decoder, student, batch, side, (depth, sharing))?;
            done += 1;
            context.advance(done, calibration.curve.policy.name());
        }
        let area = curve.area(first, repetitions);
        let tokens = sums.tokens.max(1.0);
        Ok(PolicyScore {
            name: calibration.curve.policy,
            threshold,
            mean_repetitions: sums.repetitions / tokens,
            perplexity: (sums.nll / tokens).exp(),
            kl_nats: sums.kl / tokens,
            agreement: sums.agreed / tokens,
            stops: sums.stops,
            computed_repetitions: sums.computed / tokens,
            probes_per_token: sums.probes / tokens,
            tokens_per_s: speed(decoder, &batches[0][0].tokens, (depth, sharing))?,
            area,
            oracle_gap_closed: (fixed - least > 1e-9).then(|| (fixed - area) / (fixed - least)),
            curve: curve.points,
        })
    };
    let policies: Result<Vec<PolicyScore>> =
        chosen.into_iter().zip(curves).map(&mut score).collect();
    context.end();
    Ok(PolicyReport {
        policies: policies?,
        oracle: OracleScore {
            mean_repetitions: oracle.mean_repetitions,
            agreement: oracle.agreement,
            perplexity: oracle.nll_nats.exp(),
            kl_nats: oracle.kl_nats,
            area: least,
            stops: oracle.stops,
        },
    })
}

#[derive(Default)]
struct Sums {
    tokens: f64,
    repetitions: f64,
    nll: f64,
    kl: f64,
    agreed: f64,
    probes: f64,
    computed: f64,
    stops: Vec<u64>,
}

impl Sums {
    fn add(
        &mut self,
        decoder: &Decoder,
        student: &LoopedTransformer,
        batch: &[&EvaluationWindow],
        side: &TeacherHead,
        (depth, sharing): (ReadDepth<'_>, CacheSharing),
    ) -> Result<()> {
        let mut cache = decoder.new_cache(batch.len(), sharing);
        let inputs = |window: &'_ &EvaluationWindow| window.tokens.len() - 1;
        let new: Vec<(usize, &[u32])> = batch
            .iter()
            .enumerate()
            .map(|(row, window)| (row, &window.tokens[..inputs(window)]))
            .collect();
        let read = decoder.read(&new, &mut cache, depth)?;
        let (targets, width) = (targets(batch), student.base().width);
        let count = targets.len();
        let normed = Tensor::from_vec(read.normed, (1, count, width), &Device::Cpu)?;
        let head = student.embedding_and_head().head();
        let normed = normed.to_device(head.tensor().device())?;
        let (_, terms) = compare_students(side, &[normed], head, &targets)?;
        let terms = &terms[0];
        let count = count as f64;
        self.tokens += count;
        self.nll += count * mean(&terms.cross_entropy);
        self.kl += count * mean(&terms.kl);
        self.agreed += terms.agree.iter().filter(|&&agree| agree).count() as f64;
        self.probes += read.probes as f64;
        self.computed += read.computed as f64;
        for repetitions in read.repetitions {
            self.repetitions += repetitions as f64;
            self.stops[repetitions - 1] += 1;
        }
        Ok(())
    }
}

/// Tokens per second of one sequence, token by token, with the logits of each.
fn speed(
    decoder: &Decoder,
    tokens: &[u32],
    (depth, sharing): (ReadDepth<'_>, CacheSharing),
) -> Result<f64> {
    let mut cache = decoder.new_cache(1, sharing);
    let tokens = &tokens[..tokens.len().min(TIMED_TOKENS)];
    let start = Instant::now();
    for id in tokens.chunks(1) {
        let read = decoder.read(&[(0, id)], &mut cache, depth)?;
        decoder.logits(&read.normed)?;
    }
    Ok(tokens.len() as f64 / start.elapsed().as_secs_f64().max(1e-9))
}

impl PolicyReport {
    /// A table of the policies and the oracle: a head, then rows of as many cells.
    #[must_use]
    pub fn table(&self) -> Vec<Vec<String>> {
        let percent = |share: f64| format!("{:.1} %", 100.0 * share);
        let mut rows = vec![COLUMNS.map(str::to_owned).to_vec()];
        rows.extend(self.policies.iter().map(|score| {
            vec![
                score.name.to_string(),
                format!("{:.4}", score.threshold),
                format!("{:.2}", score.mean_repetitions),
                format!("{:.2}", score.computed_repetitions),
                format!("{:.2}", score.perplexity),
                format!("{:.3}", score.kl_nats),
                percent(score.agreement),
                format!("{:.0}", score.tokens_per_s),
                score.oracle_gap_closed.map_or_else(|| "-".to_owned(), percent),
            ]
        }));
        let oracle = &self.oracle;
        rows.push(vec![
            "oracle".to_owned(),
            String::new(),
            format!("{:.2}", oracle.mean_repetitions),
            String::new(),
            format!("{:.2}", oracle.perplexity),
            format!("{:.3}", oracle.kl_nats),
            percent(oracle.agreement),
            String::new(),
            percent(1.0),
        ]);
        rows
    }

    /// What the columns of the table are, in sentences.
    #[must_use]
    pub fn caption() -> &'static str {
        "Each policy stands at its calibrated threshold. The last column alone is over all \
         thresholds: of the area between a fixed depth and the oracle (share of changed answers \
         against mean repetitions), the part that the policy closes. Computed repetitions include \
         those of earlier tokens that later ones needed."
    }
}

/// The head of the table of policies.
const COLUMNS: [&str; 9] = [
    "policy",
    "thresh- old",
    "mean repeti- tions",
    "com- puted",
    "perple- xity",
    "KL, nats",
    "same top-1",
    "tokens /s",
    "gap closed, all thresh.",
];

/// Columns that a narrow terminal does without, the first first.
pub const OPTIONAL_POLICY_COLUMNS: [&str; 3] = [COLUMNS[3], COLUMNS[7], COLUMNS[6]];
