//! When do the tokens of this model stop, as the user wants it?

use super::depth_args::DepthArgs;
use crate::error::{Error, Result};
use crate::generate::{ReadConfig, Speculation, Stopping};
use crate::halting::Budget;
use crate::run::{Loaded, read_halting};

/// How `loaded` is read, and the repetitions at most, by the flags and what was calibrated.
pub(super) fn reading(
    args: &DepthArgs,
    loaded: &Loaded,
    repetitions: Option<usize>,
    speculation: Option<Speculation>,
) -> Result<(ReadConfig, Option<usize>)> {
    let plain =
        ReadConfig { weight_type: args.weights, sharing: args.kv, stopping: None, speculation };
    let most = match args.budget {
        Some(Budget::Most(most)) => Some(repetitions.map_or(most, |given| given.min(most))),
        _ => repetitions,
    };
    let asks = args.policy.is_some() || args.budget.is_some() || speculation.is_some();
    if !asks {
        return Ok((plain, most));
    }
    loaded.looped()?;
    let decides = args.policy.is_some() || !matches!(args.budget, None | Some(Budget::Most(_)));
    if !decides {
        return Ok((plain, most));
    }
    let by_hand = args.policy.zip(args.threshold).filter(|(policy, _)| !policy.reads().gate);
    let (policy, gate, calibrated) = if let Some((policy, threshold)) = by_hand {
        (policy.with(threshold)?, None, None)
    } else {
        let halting = read_halting(loaded, args.halting.as_deref())?;
        let found = halting.find(args.policy.unwrap_or(halting.best))?;
        let policy = match args.threshold {
            Some(threshold) => found.curve.policy.with(threshold)?,
            None => found.policy(args.budget)?.0,
        };
        (policy, found.gate.clone(), Some(halting.repetitions))
    };
    if let Some((given, calibrated)) = most.zip(calibrated).filter(|(given, known)| given > known) {
        return Err(Error::input(format!(
            "{given} repetitions, but thresholds were chosen for at most {calibrated}"
        ))
        .hint(format!("run: factorize calibrate --repetitions {given}")));
    }
    let stopping = Some(Stopping { policy, gate });
    Ok((ReadConfig { stopping, ..plain }, most.or(calibrated)))
}
