//! Arguments of the verbs that read one model: `inspect`, `states`, `export`.

use std::path::PathBuf;

use clap::{Args, ValueHint};

use crate::error::Error;
use crate::hub::StoredType;

#[derive(Debug, Args)]
pub(crate) struct InspectArgs {
    /// A folder, a file.gguf, owner/name[@revision], or a run folder
    #[arg(value_hint = ValueHint::AnyPath)]
    pub(crate) model: String,
}

#[derive(Debug, Args)]
pub(crate) struct StatesArgs {
    /// A deep model or a student
    #[arg(long, value_hint = ValueHint::AnyPath)]
    pub(crate) model: String,
    /// Tokens by number
    #[arg(long, required = true, value_delimiter = ',', value_name = "ID,..")]
    pub(crate) ids: Vec<u32>,
    /// The file to write
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) out: PathBuf,
    /// Repetitions of the core [default: as many as trained]
    #[arg(long, value_name = "N")]
    pub(crate) repetitions: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The folder of a student or of an ordinary model, or a run folder
    #[arg(value_hint = ValueHint::DirPath)]
    pub(crate) student: String,
    /// The folder to write
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    pub(crate) out: PathBuf,
    /// As an ordinary model of the teacher's family: the core written out N times
    #[arg(long)]
    pub(crate) unrolled: bool,
    /// How often the core is written out [default: as often as trained]
    #[arg(long, value_name = "N", requires = "unrolled")]
    pub(crate) repetitions: Option<usize>,
    /// Type of the numbers: f32, bf16 or f16
    #[arg(long, default_value = "f32", value_parser = stored_type)]
    pub(crate) dtype: StoredType,
    /// Replace what is in the folder
    #[arg(long)]
    pub(crate) force: bool,
}

fn stored_type(text: &str) -> Result<StoredType, Error> {
    text.parse()
}
