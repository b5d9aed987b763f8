//! `init`: writes a commented recipe for a teacher and a text of one's own.

use std::fmt::Write;
use std::path::Path;

use serde_json::json;

use crate::cli::args::start::InitArgs;
use crate::cli::output;
use crate::cli::session::Session;
use crate::data::{Document, read_documents};
use crate::disk::write_atomically;
use crate::error::{Error, Result};
use crate::recipe::{Recipe, shape_of_student};
use crate::run::Loaded;

/// Fewer documents are split within, so that every split has text.
const DOCUMENTS_TO_SPLIT: usize = 40;
/// Words of the text that the models continue at the end.
const PROMPT_WORDS: usize = 5;
/// Tokens of a window, where the teacher reads so many.
const WINDOW_TOKENS: usize = 256;

pub(crate) fn init(args: &InitArgs, session: &Session) -> Result<()> {
    let to_stdout = args.recipe == Path::new("-");
    if args.recipe.exists() && !args.force && !to_stdout {
        return Err(Error::input("this file is there already")
            .at(args.recipe.display())
            .hint("give another name, or replace it with --force"));
    }
    let teacher = args.teacher.as_deref().map(|source| read(source, session)).transpose()?;
    let documents = match args.text.as_slice() {
        [] => None,
        text => Some(read_documents(text, Path::new(""), &args.field)?),
    };
    let text = template(args, teacher.as_ref(), documents.as_deref());
    // What was written is read as the verb reads it.
    toml::from_str::<Recipe>(&text)
        .map_err(|error| Error::internal(format!("the template is no recipe: {error}")))?;
    if to_stdout {
        return output::write(&text);
    }
    write_atomically(&args.recipe, text.as_bytes())?;
    if session.json {
        return output::json(&json!({ "recipe": args.recipe }));
    }
    let file = args.recipe.display();
    session.context.note(&format!("next: factorize {file} --smoke, then factorize {file}"));
    output::line(&file.to_string())
}

fn read(source: &str, session: &Session) -> Result<Loaded> {
    let loaded = Loaded::read(source, &session.context)?;
    loaded.deep()?;
    loaded.tokenizer()?;
    Ok(loaded)
}

fn template(args: &InitArgs, teacher: Option<&Loaded>, documents: Option<&[Document]>) -> String {
    let mut text = String::new();
    let mut part = |section: String| {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&section);
    };
    part(head(args));
    part("# All randomness follows from it.\nseed = 0\n".to_owned());
    part(teacher_section(args));
    part(student_section(teacher));
    part(data_section(args, teacher, documents));
    part(TRAINING.to_owned());
    part(format!(
        "# Measured at the end, on the test split.\n[eval]\nwindow_tokens = {}\nmax_tokens = 8192\n",
        window_tokens(teacher)
    ));
    part(generate_section(documents));
    text
}

fn head(args: &InitArgs) -> String {
    let file = args.recipe.display();
    let file =
        if args.recipe == Path::new("-") { "recipe.toml".to_owned() } else { file.to_string() };
    let teacher = args.teacher.as_deref().unwrap_or("a teacher");
    let flag = if args.teacher.is_some() { "" } else { "--teacher MODEL " };
    format!(
        "# Factor {teacher} into a small block applied several times.\n\
         # Cost: not measured yet.\n\
         # Result: not measured yet.\n\
         #\n\
         # factorize {flag}{file} --smoke    seconds: does everything work?\n\
         # factorize {flag}{file}            the whole job, in runs/\n\
         # factorize schema distill    every key, as a JSON schema\n"
    )
}

fn teacher_section(args: &InitArgs) -> String {
    let comment = "# A folder with config.json and safetensors, a file.gguf, or owner/name[@revision] \
                   on the\n# Hugging Face Hub; --teacher wins over it.\n";
    match &args.teacher {
        Some(source) => format!("{comment}[teacher]\nsource = {}\n", quoted(source)),
        None => format!("{comment}# [teacher]\n# source = \"owner/name\"\n"),
    }
}

fn student_section(teacher: Option<&Loaded>) -> String {
    let mut text = "# The teacher's first layers are kept as the prelude, its last ones as the coda; \
                    those between\n# become one core of `core_layers` layers, applied `repetitions` \
                    times.\n[student]\n"
        .to_owned();
    // Writing to a text never fails.
    let _ = match teacher.map(|teacher| shape_of_student(teacher.checkpoint.config.layers)) {
        Some([prelude, core, repetitions, coda]) => write!(
            text,
            "prelude_layers = {prelude}\ncore_layers = {core}\nrepetitions = {repetitions}\n\
             coda_layers = {coda}\n"
        ),
        None => write!(
            text,
            "prelude_layers = \"auto\" # found on the training text, or a number\n\
             core_layers = 2\nrepetitions = 3\ncoda_layers = \"auto\"\n"
        ),
    };
    text + "# A low-rank correction of each repetition. Without one (kind = \"none\") repetitions \
            were worth\n# next to nothing on text; a higher rank costs parameters and gains \
            quality.\nrelaxation = { kind = \"lora\", rank = 8 }\n# Tokens of training text that the \
            least-squares start is computed from.\ncalibration_tokens = 8192\n"
}

fn data_section(
    args: &InitArgs,
    teacher: Option<&Loaded>,
    documents: Option<&[Document]>,
) -> String {
    let files = match args.text.as_slice() {
        [] => vec![quoted("corpus/*.txt")],
        text => text.iter().map(|file| quoted(file)).collect(),
    };
    let few = documents.is_none_or(|documents| documents.len() < DOCUMENTS_TO_SPLIT);
    let split = if few { "passage" } else { "document" };
    let field = match args.field.as_str() {
        "text" => String::new(),
        field => format!("field = {}\n", quoted(field)),
    };
    format!(
        "[data]\n\
         # Files, folders and globs of .txt .md .jsonl .json .parquet. Paths that are not found in \
         the\n# current folder start at the folder of this file.\n\
         files = [{}]\n{field}\
         # What is held out: whole documents (\"document\"), or the end of every document \
         (\"passage\"), which\n# works with a single file.\n\
         split_by = \"{split}\"\nvalidation = 0.05\ntest = 0.05\n\
         # Tokens of a training window; the teacher's context length at most.\n\
         window_tokens = {}\n",
        files.join(", "),
        window_tokens(teacher)
    )
}

fn window_tokens(teacher: Option<&Loaded>) -> usize {
    let context = teacher.map(|teacher| teacher.checkpoint.config.max_positions);
    WINDOW_TOKENS.min(context.unwrap_or(WINDOW_TOKENS))
}

const TRAINING: &str = "\
# The student imitates the teacher's states layer by layer (hidden) and its output (kl).
[loss]
kl = 1.0

[loss.hidden]
weight = { from = 1.0, to = 0.1 }

# Fractions of the run: until here every layer starts from the teacher's own state, afterwards from
# the student's. The loss jumps at that step.
[phases]
teacher_forced = 0.1
scheduled_until = 0.1

[train]
# More steps are the first thing to try for a better student.
steps = 600
# Windows of a step: lower it when memory runs out.
batch_rows = 4
optimizer = { lr = 1e-3, weight_decay = 0.0 }
schedule = { kind = \"warmup-cosine\", warmup_steps = 20, final_lr_fraction = 0.02 }
validate_every_steps = 100
checkpoint_every_steps = 100
";

/// Prompts that both models continue at the end: the beginning of the text.
fn generate_section(documents: Option<&[Document]>) -> String {
    let first = documents.and_then(<[Document]>::first).map(|document| document.text.as_str());
    let words: Vec<&str> = first.unwrap_or("The").split_whitespace().take(PROMPT_WORDS).collect();
    format!(
        "# Continued by both models at the end.\n[generate]\nprompts = [{}]\nmax_tokens = 40\n",
        quoted(&words.join(" "))
    )
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn any_path_is_a_toml_string() {
        for path in ["a.txt", "with \"quotes\"", "back\\slash", "line\nbreak"] {
            let table: toml::Table = toml::from_str(&format!("x = {}", quoted(path))).unwrap();
            assert_eq!(table["x"].as_str(), Some(path));
        }
    }
}
