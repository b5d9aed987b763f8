//! What is this model?

use super::args::InspectArgs;
use super::{Session, output};
use crate::error::Result;
use crate::model::{Description, Relaxation};
use crate::run::Loaded;

pub(super) fn inspect(args: &InspectArgs, session: &Session) -> Result<()> {
    let loaded = Loaded::read(&args.model, &session.context)?;
    let checkpoint = &loaded.checkpoint;
    let description = Description::new(&checkpoint.config, checkpoint.looped.as_ref());
    if session.json {
        return output::json(&description);
    }
    output::table(&rows(&description, &checkpoint.origin))
}

fn rows(model: &Description, origin: &str) -> Vec<Vec<String>> {
    let mega = |count: usize| format!("{:.2} M", count as f64 / 1e6);
    let mut rows = vec![
        ("model", origin.to_owned()),
        ("family", model.family.clone()),
        ("layers", model.layers.to_string()),
        ("width", model.width.to_string()),
        ("heads", format!("{} of {}", model.heads, model.head_width)),
        ("key and value heads", model.kv_heads.to_string()),
        ("vocabulary", model.vocabulary.to_string()),
        ("longest text", format!("{} tokens", model.max_positions)),
        ("parameters", mega(model.parameters.total)),
        ("in embedding and head", mega(model.parameters.embedding)),
        ("in blocks", mega(model.parameters.blocks)),
    ];
    if let Some(student) = &model.student {
        let relaxation = match student.relaxation {
            Relaxation::None => "none".to_owned(),
            Relaxation::Lora { rank } => format!("LoRA of rank {rank}"),
            Relaxation::Norms => "norms".to_owned(),
        };
        rows.extend([
            (
                "factored into",
                format!(
                    "prelude {}, core {} x {}, coda {}",
                    student.prelude, student.core, student.repetitions, student.coda
                ),
            ),
            ("from", format!("{} layers", student.teacher_layers)),
            ("relaxation", relaxation),
            ("injection", student.injection.name().to_owned()),
            ("state norm", student.state_norm.name().to_owned()),
            (
                "halting gate of its own",
                student.gate.map_or_else(|| "none".to_owned(), |gate| gate.policy().to_string()),
            ),
            ("of unshared blocks", format!("{:.3}", student.size_ratio)),
            ("with embeddings", format!("{:.3}", student.size_ratio_with_embeddings)),
        ]);
    }
    rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]).collect()
}
