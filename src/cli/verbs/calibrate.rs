//! `calibrate`: fits halting gates and chooses thresholds.

use std::path::Path;

use crate::cli::args::text::CalibrateArgs;
use crate::cli::output;
use crate::cli::session::Session;
use crate::cli::verbs::evaluate::check_window;
use crate::data::windows::Spread;
use crate::data::{Documents, read_documents};
use crate::error::Result;
use crate::eval::{self, CalibrateConfig, OwnGate};
use crate::halting::{GateTraining, Halting};
use crate::run::{Loaded, halting_file, write_halting};

pub(crate) fn calibrate(args: &CalibrateArgs, session: &Session) -> Result<()> {
    let config = CalibrateConfig {
        risk: args.risk,
        repetitions: args.repetitions,
        seed: args.seed,
        own_gate: if args.refit { OwnGate::Refitted } else { OwnGate::Kept },
        ..CalibrateConfig::default()
    };
    let context = &session.context;
    let documents = read_documents(&args.on.text, Path::new(""), &args.on.field)?;
    let read = |source: &str| Loaded::read(source, &session.context);
    let (teacher, student) = (read(&args.on.teacher)?, read(&args.student)?);
    let path = args.out.clone().map_or_else(|| halting_file(&student), Ok)?;
    let tokens = Documents::encode(&documents, teacher.tokenizer()?)?;
    let windows =
        tokens.evaluation_windows(args.on.window, args.max_tokens, Spread::EvenOverDocuments);
    teacher.deep()?;
    for model in [&teacher, &student] {
        check_window(&args.on, model, session)?;
    }
    let found = eval::calibrate(
        teacher.model.lm(),
        student.looped()?,
        &student.checkpoint.fingerprint,
        &windows,
        &config,
        context,
    )?;
    write_halting(&path, &found)?;
    if session.json { output::json(&found) } else { show(&found, &path) }
}

/// The table, what holds of single policies, and what the best one saves.
fn show(found: &Halting, path: &Path) -> Result<()> {
    output::table_without(&table(found)?, &["changed answers", "perplexity"])?;
    let strict = found.policies.iter().filter(|each| each.curve.within(found.risk).is_none());
    for calibration in strict {
        output::line(&format!(
            "no threshold of {} stays within the risk: it stands at its strictest",
            calibration.curve.policy
        ))?;
    }
    for kept in found.policies.iter().filter(|each| each.learned == GateTraining::Together) {
        output::line(&format!(
            "the gate of {} was trained with the student and is kept: --refit fits another",
            kept.curve.policy
        ))?;
    }
    output::paragraph(&saved(found)?)?;
    output::line(&format!("written to {}", path.display()))
}

/// Less than this share of the repetitions is nothing.
const SAVED: f64 = 0.05;

/// What the best policy saves within the risk.
fn saved(found: &Halting) -> Result<String> {
    let (best, all) = (found.best, found.repetitions);
    let mean = found.find(best)?.curve.chosen(found.risk)?.mean_repetitions;
    let share = 1.0 - mean / all as f64;
    if share < SAVED {
        return Ok(format!(
            "Nothing is saved: within the risk, the best policy ({best}) takes {mean:.2} of {all} \
             repetitions. A higher --risk, or a student trained at drawn depths ([depth] of a \
             recipe), leaves more to save."
        ));
    }
    Ok(format!(
        "best: {best}, {mean:.2} of {all} repetitions on average: {:.0} % are saved",
        100.0 * share
    ))
}

fn table(found: &Halting) -> Result<Vec<Vec<String>>> {
    let head =
        ["policy", "threshold", "mean repetitions", "KL, nats", "perplexity", "changed answers"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for each in &found.policies {
        let point = each.curve.chosen(found.risk)?;
        rows.push(vec![
            each.curve.policy.to_string(),
            format!("{:.4}", each.threshold),
            format!("{:.2}", point.mean_repetitions),
            format!("{:.3}", point.kl_nats),
            format!("{:.2}", point.nll_nats.exp()),
            format!("{:.1} %", 100.0 * point.changed),
        ]);
    }
    Ok(rows)
}
