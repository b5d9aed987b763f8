//! When should the tokens of this student stop?

use std::path::Path;

use super::args::CalibrateArgs;
use super::{Session, output};
use crate::data::windows::Spread;
use crate::data::{Documents, read_documents};
use crate::error::Result;
use crate::eval::{self, CalibrateConfig, OwnGate};
use crate::halting::{GateTraining, Halting};
use crate::run::{Loaded, halting_file, write_halting};

pub(super) fn calibrate(args: &CalibrateArgs, session: &Session) -> Result<()> {
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
    let found = eval::calibrate(
        teacher.model.lm(),
        student.looped()?,
        &student.checkpoint.fingerprint,
        &windows,
        &config,
        context,
    )?;
    write_halting(&path, &found)?;
    if session.json {
        return output::json(&found);
    }
    output::table(&table(&found)?)?;
    for each in found.policies.iter().filter(|each| each.curve.within(found.risk).is_none()) {
        output::line(&format!(
            "no threshold of {} keeps the risk: it stands at its strictest",
            each.curve.policy
        ))?;
    }
    for kept in found.policies.iter().filter(|each| each.learned == GateTraining::Together) {
        output::line(&format!(
            "the gate of {} learned together with the student and is kept: --refit fits another",
            kept.curve.policy
        ))?;
    }
    output::line(&format!("best: {}; written to {}", found.best, path.display()))
}

fn table(found: &Halting) -> Result<Vec<Vec<String>>> {
    let head = ["policy", "threshold", "mean repetitions", "KL nats", "perplexity", "changed"];
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
