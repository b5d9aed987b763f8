//! `inspect`: describes a model.

use serde::Serialize;

use crate::cli::args::model::InspectArgs;
use crate::cli::output;
use crate::cli::session::Session;
use crate::error::{Result, counted};
use crate::hub::About;
use crate::model::{Description, Factorization, Relaxation, RopeScaling};
use crate::run::Loaded;

/// A model as its configuration, its files and its card describe it.
#[derive(Serialize)]
struct Inspected {
    #[serde(flatten)]
    model: Description,
    /// Types of the stored numbers, the one with the most bytes first.
    weight_types: Vec<String>,
    /// Bytes of the files that hold the weights.
    file_bytes: u64,
    #[serde(flatten)]
    about: About,
    /// What it was called.
    origin: String,
}

pub(crate) fn inspect(args: &InspectArgs, session: &Session) -> Result<()> {
    let loaded = Loaded::read(&args.model, &session.context)?;
    let checkpoint = loaded.checkpoint;
    let found = Inspected {
        model: Description::new(&checkpoint.config, checkpoint.looped.as_ref()),
        weight_types: checkpoint.storage.types,
        file_bytes: checkpoint.storage.file_bytes,
        about: checkpoint.about,
        origin: checkpoint.origin,
    };
    if session.json {
        return output::json(&found);
    }
    let rows = rows(&found).into_iter().map(|(name, value)| vec![name.to_owned(), value]);
    output::table(&rows.collect::<Vec<_>>())
}

fn rows(found: &Inspected) -> Vec<(&'static str, String)> {
    let model = &found.model;
    let mega = |count: usize| format!("{:.2} M", count as f64 / 1e6);
    let tied = if model.tied_head { "tied to the embedding" } else { "its own matrix" };
    let mut rows = vec![
        ("model", found.origin.clone()),
        ("family", model.family.clone()),
        ("layers", model.layers.to_string()),
        ("width", model.width.to_string()),
        ("MLP width", model.mlp_width.to_string()),
        ("heads", model.heads.to_string()),
        ("head size", model.head_width.to_string()),
        ("key and value heads", model.kv_heads.to_string()),
        ("vocabulary", model.vocabulary.to_string()),
        ("output head", tied.to_owned()),
        ("context length", format!("{} tokens", model.max_positions)),
        ("rotary base", rotary(model)),
        ("parameters", mega(model.parameters.total)),
        ("  in embedding and head", mega(model.parameters.embedding)),
        ("  in blocks", mega(model.parameters.blocks)),
        ("weights stored as", found.weight_types.join(", ")),
        ("file size", bytes(found.file_bytes)),
    ];
    let about = &found.about;
    let window = about.trained_window_tokens.map(|window| format!("{window} tokens"));
    let languages = Some(about.languages.join(", ")).filter(|languages| !languages.is_empty());
    let said = [
        ("trained on windows of", window),
        ("licence", about.license.clone()),
        ("languages", languages),
        ("distilled from", about.teacher.clone()),
    ];
    rows.extend(said.into_iter().filter_map(|(name, value)| Some((name, value?))));
    rows.extend(model.student.iter().flat_map(student_rows));
    rows
}

fn student_rows(student: &Factorization) -> Vec<(&'static str, String)> {
    let relaxation = match student.relaxation {
        Relaxation::None => "none".to_owned(),
        Relaxation::Lora { rank } => format!("LoRA of rank {rank}"),
        Relaxation::Norms => "norms".to_owned(),
    };
    let gate = student.gate.map_or_else(|| "none".to_owned(), |gate| gate.policy().to_string());
    vec![
        (
            "factored into",
            format!(
                "prelude {}, core {} x {}, coda {}",
                student.prelude, student.core, student.repetitions, student.coda
            ),
        ),
        ("teacher", counted(student.teacher_layers, "layer")),
        ("relaxation", relaxation),
        ("injection", student.injection.name().to_owned()),
        ("state norm", student.state_norm.name().to_owned()),
        ("halting head", gate),
        ("size of its blocks", format!("{:.3} of the teacher's layers", student.size_ratio)),
        ("  with embeddings", format!("{:.3}", student.size_ratio_with_embeddings)),
    ]
}

fn rotary(model: &Description) -> String {
    let base = model.rope_theta;
    match &model.rope_scaling {
        RopeScaling::None => format!("{base}"),
        RopeScaling::Linear { factor } => format!("{base}, positions divided by {factor}"),
        RopeScaling::Llama3 { factor, .. } => {
            format!("{base}, low frequencies divided by {factor} (Llama 3)")
        }
    }
}

/// In the decimal unit that leaves one to three digits before the point.
fn bytes(count: u64) -> String {
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    let count = count as f64;
    let unit = units.iter().find(|(size, _)| count >= *size);
    unit.map_or_else(|| format!("{count} B"), |(size, unit)| format!("{:.1} {unit}", count / size))
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_are_written_in_the_unit_that_fits() {
        let sizes = [12, 1_500, 9_900_000, 2_000_000_000].map(bytes);
        assert_eq!(sizes, ["12 B", "1.5 kB", "9.9 MB", "2.0 GB"]);
    }
}
