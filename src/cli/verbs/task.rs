//! `task`: prints examples of a synthetic task, or lists the tasks and their settings.

use serde::Serialize;
use serde_json::Value;

use crate::cli::args::study::{SplitName, TaskArgs};
use crate::cli::output;
use crate::cli::session::Session;
use crate::data::IGNORED;
use crate::data::tasks::{
    Baselines, NamedExample, Sequence, Task, TaskConfig, TaskSplit, baselines, check, encode,
};
use crate::error::{Error, Result};
use crate::recipe::schema_of;

/// Examples behind the shortcut baselines.
const BASELINE_EXAMPLES: u64 = 1024;

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    example: NamedExample,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequences: Option<Vec<NamedSequence>>,
}

/// A sequence in the names of its tokens; `-` where the target is ignored.
#[derive(Serialize)]
struct NamedSequence {
    inputs: Vec<String>,
    targets: Vec<Vec<String>>,
}

pub(crate) fn task(args: &TaskArgs, session: &Session) -> Result<()> {
    let Some(name) = &args.name else { return list(session) };
    let task = TaskConfig::named(name, &args.set)?.build()?;
    let length = args.length.unwrap_or(task.chain_length());
    let split = match args.split {
        SplitName::Train => TaskSplit::Train,
        SplitName::Validation => TaskSplit::Validation,
        SplitName::Test => TaskSplit::Test,
    };
    let example = |index| {
        let example = task.example(split, args.seed, index, length)?;
        check(&task, &example)
            .map_err(|error| Error::internal(format!("example {index} is wrong: {error}")))?;
        let sequences = args.view.map(|view| encode(&task, &example, view)).transpose()?;
        let sequences = sequences
            .map(|sequences| sequences.iter().map(|sequence| named(&task, sequence)).collect());
        Ok(Shown { example: task.named(&example), sequences })
    };
    let examples = (0..args.count as u64).map(example).collect::<Result<Vec<_>>>()?;
    if session.json {
        return output::json(&examples);
    }
    examples.iter().try_for_each(show)?;
    shortcuts(&baselines(&task, split, args.seed, BASELINE_EXAMPLES, length)?)
}

/// An example, and what a model reads and predicts of it.
fn show(shown: &Shown) -> Result<()> {
    let NamedExample { input, chain, answer } = &shown.example;
    let steps: Vec<String> = chain.iter().map(|step| step.join(" ")).collect();
    output::line(&format!("input   {}", input.join(" ")))?;
    output::line(&format!("chain   {}", steps.join(" | ")))?;
    output::line(&format!("answer  {}", answer.join(" ")))?;
    for NamedSequence { inputs, targets } in shown.sequences.iter().flatten() {
        output::line(&format!("reads   {}", inputs.join(" ")))?;
        for target in targets {
            output::line(&format!("target  {}", target.join(" ")))?;
        }
    }
    output::line("")
}

/// What answers without computing the chain score.
fn shortcuts(found: &Baselines) -> Result<()> {
    let head = ["shortcut", "chance", "majority", "copy of the input", "last token"];
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let shares = [found.chance, found.majority, found.copy_input, found.last_token];
    let row = std::iter::once("right".to_owned()).chain(shares.map(percent)).collect();
    output::table(&[head.map(str::to_owned).to_vec(), row])
}

fn named(task: &Task, sequence: &Sequence) -> NamedSequence {
    let name = |token: &u32| match *token {
        IGNORED => "-".to_owned(),
        token => task.token_name(token),
    };
    NamedSequence {
        inputs: sequence.inputs.iter().map(name).collect(),
        targets: sequence.targets.iter().map(|row| row.iter().map(name).collect()).collect(),
    }
}

/// Every task with its settings and their defaults, from its schema.
fn list(session: &Session) -> Result<()> {
    let schema = schema_of::<TaskConfig>();
    if session.json {
        return output::json(&schema);
    }
    let mut rows = vec![["task", "setting", "default", "meaning"].map(str::to_owned).to_vec()];
    for variant in schema["oneOf"].as_array().into_iter().flatten() {
        let definition = variant["$ref"].as_str().and_then(|path| path.rsplit('/').next());
        let settings = definition.map_or(variant, |name| &schema["$defs"][name]);
        let name = variant["properties"]["name"]["const"].as_str().unwrap_or_default();
        let properties = settings["properties"].as_object().into_iter().flatten();
        rows.extend(
            properties.filter(|(key, _)| *key != "name").map(|(key, value)| row(name, key, value)),
        );
    }
    output::table_text(&rows)
}

fn row(task: &str, key: &str, value: &Value) -> Vec<String> {
    let default = value.get("default").map(ToString::to_string).unwrap_or_default();
    let meaning = value["description"].as_str().unwrap_or_default();
    let meaning = meaning.split("\n\n").next().unwrap_or_default().replace('\n', " ");
    vec![task.to_owned(), key.to_owned(), default.trim_matches('"').to_owned(), meaning]
}
