//! How are examples of a task shown?

use serde::Serialize;

use super::study_args::{SplitName, TaskArgs};
use super::{Session, output};
use crate::data::tasks::{
    Baselines, NamedExample, Task, TaskConfig, TaskSplit, baselines, check, encode,
};
use crate::error::{Error, Result};

/// Examples behind the shortcut baselines.
const BASELINE_EXAMPLES: u64 = 1024;

#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    example: NamedExample,
    #[serde(skip_serializing_if = "Option::is_none")]
    sequences: Option<Vec<Named>>,
}

/// A sequence in the names of its tokens; `-` where nothing is asked.
#[derive(Serialize)]
struct Named {
    inputs: Vec<String>,
    targets: Vec<Vec<String>>,
}

pub(super) fn task(args: &TaskArgs, session: &Session) -> Result<()> {
    let task = TaskConfig::named(&args.name, &args.set)?.build()?;
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
        let named = sequences.map(|all| all.iter().map(|one| named(&task, one)).collect());
        Ok(Shown { example: task.named(&example), sequences: named })
    };
    let examples = (0..args.count as u64).map(example).collect::<Result<Vec<_>>>()?;
    if session.json {
        return output::json(&examples);
    }
    for shown in &examples {
        let NamedExample { input, chain, answer } = &shown.example;
        let steps: Vec<String> = chain.iter().map(|step| step.join(" ")).collect();
        output::line(&format!("input   {}", input.join(" ")))?;
        output::line(&format!("chain   {}", steps.join(" | ")))?;
        output::line(&format!("answer  {}", answer.join(" ")))?;
        for Named { inputs, targets } in shown.sequences.iter().flatten() {
            output::line(&format!("reads   {}", inputs.join(" ")))?;
            for target in targets {
                output::line(&format!("asked   {}", target.join(" ")))?;
            }
        }
        output::line("")?;
    }
    shortcuts(&baselines(&task, split, args.seed, BASELINE_EXAMPLES, length)?)
}

fn shortcuts(found: &Baselines) -> Result<()> {
    let head = ["right without thinking", "chance", "majority", "copy of the input", "last token"];
    let percent = |share: f64| format!("{:.1} %", 100.0 * share);
    let shares = [found.chance, found.majority, found.copy_input, found.last_token];
    let row = std::iter::once(String::new()).chain(shares.map(percent)).collect();
    output::table(&[head.map(str::to_owned).to_vec(), row])
}

fn named(task: &Task, sequence: &crate::data::tasks::Sequence) -> Named {
    let name = |token: &u32| match *token {
        crate::data::IGNORED => "-".to_owned(),
        token => task.token_name(token),
    };
    Named {
        inputs: sequence.inputs.iter().map(name).collect(),
        targets: sequence.targets.iter().map(|row| row.iter().map(name).collect()).collect(),
    }
}
