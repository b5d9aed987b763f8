//! The depth flags and a calibration, as the configuration that decoding takes.

use crate::cli::args::depth::DepthArgs;
use crate::error::{Error, Result};
use crate::generate::{ReadConfig, Speculation, Stopping};
use crate::halting::{Budget, PolicyName};
use crate::run::{Loaded, read_halting};

/// How a model is decoded.
pub(super) struct Reading {
    /// Weights, cache, policy, drafts.
    pub(super) config: ReadConfig,
    /// Repetitions at most; as many as trained when absent.
    pub(super) repetitions: Option<usize>,
    /// The policy that stops tokens, and its threshold.
    pub(super) policy: Option<(PolicyName, f64)>,
}

/// How `loaded` is decoded, by the flags and its calibration.
pub(super) fn reading(
    args: &DepthArgs,
    loaded: &Loaded,
    repetitions: Option<usize>,
    speculation: Option<Speculation>,
) -> Result<Reading> {
    refuse_ignored(args, loaded, repetitions, speculation)?;
    let plain = ReadConfig {
        weight_type: args.weights,
        sharing: args.kv.unwrap_or_default(),
        stopping: None,
        speculation,
    };
    let most = match args.budget {
        Some(Budget::Most(most)) => Some(repetitions.map_or(most, |given| given.min(most))),
        _ => repetitions,
    };
    if !has_policy(args) {
        return Ok(Reading { config: plain, repetitions: most, policy: None });
    }
    let by_hand = args.policy.zip(args.threshold).filter(|(policy, _)| !policy.reads().gate);
    let (name, threshold, gate, calibrated) = if let Some((policy, threshold)) = by_hand {
        (policy, threshold, None, None)
    } else {
        let halting = read_halting(loaded, args.halting.as_deref())?;
        let found = halting.find(args.policy.unwrap_or(halting.best))?;
        let threshold = match args.threshold {
            Some(threshold) => threshold,
            None => found.policy(args.budget)?.1,
        };
        (found.curve.policy, threshold, found.gate.clone(), Some(halting.repetitions))
    };
    if let Some((given, calibrated)) = most.zip(calibrated).filter(|(given, known)| given > known) {
        return Err(Error::input(format!(
            "{given} repetitions, but thresholds were chosen for at most {calibrated}"
        ))
        .hint(format!("run: factorize calibrate --repetitions {given}")));
    }
    let stopping = Some(Stopping { policy: name.with(threshold)?, gate });
    Ok(Reading {
        config: ReadConfig { stopping, ..plain },
        repetitions: most.or(calibrated),
        policy: Some((name, threshold)),
    })
}

/// Whether a policy stops tokens: one is named, or a budget needs one.
fn has_policy(args: &DepthArgs) -> bool {
    args.policy.is_some() || !matches!(args.budget, None | Some(Budget::Most(_)))
}

/// Refuses flags that would change nothing.
fn refuse_ignored(
    args: &DepthArgs,
    loaded: &Loaded,
    repetitions: Option<usize>,
    speculation: Option<Speculation>,
) -> Result<()> {
    only_for_students(
        loaded,
        &[
            ("--repetitions", repetitions.is_some()),
            ("--budget", args.budget.is_some()),
            ("--policy", args.policy.is_some()),
            ("--speculate", speculation.is_some()),
            ("--halting", args.halting.is_some()),
            ("--kv", args.kv.is_some()),
        ],
    )?;
    let stops = has_policy(args);
    let ignored = [
        ("--kv", args.kv.is_some() && !stops && speculation.is_none()),
        ("--halting", args.halting.is_some() && !stops),
    ];
    match ignored.iter().find(|(_, ignored)| *ignored) {
        None => Ok(()),
        Some((flag, _)) => Err(Error::usage(format!(
            "{flag} changes nothing here: all tokens take the same number of repetitions"
        ))
        .hint("add --policy NAME, or a --budget such as 2.5, so that tokens stop early")),
    }
}

/// Refuses the flags among `flags` that are given for a model without a repeated core.
pub(super) fn only_for_students(loaded: &Loaded, flags: &[(&str, bool)]) -> Result<()> {
    let given = flags.iter().find(|(_, given)| *given);
    match given.filter(|_| loaded.checkpoint.looped.is_none()) {
        None => Ok(()),
        Some((flag, _)) => Err(Error::input(format!(
            "{flag} needs a student, and this is not a student: each of its layers is applied once"
        ))
        .at(&loaded.checkpoint.origin)
        .hint("leave the flag out, or give the folder of a student, such as runs/tiny/student")),
    }
}
