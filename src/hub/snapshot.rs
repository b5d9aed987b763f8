//! Selection and verification of the files of a Hub repository.

use std::path::{Path, PathBuf};

use hf_hub::{HFClient, HFClientSync, HFError};

use super::client::HubConfig;
use super::download::{Download, run};
use super::id::HubId;
use super::shards::{INDEX, SINGLE, read_index};
use crate::context::Context;
use crate::error::{Error, Result};

/// Files a model may do without.
const OPTIONAL: [&str; 5] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "generation_config.json",
    // Its front matter names licence and languages.
    "README.md",
];

/// Brings the files of a model into the cache and gives the folder of that commit.
///
/// # Errors
/// The repository or a file is not there, may not be read, or the network fails.
pub(super) fn fetch(id: &HubId, config: &HubConfig, context: &Context) -> Result<PathBuf> {
    let client = client(config)?;
    let (cache, endpoint) = (client.cache_dir().to_owned(), client.endpoint().to_owned());
    let client = HFClientSync::from_inner(client).map_err(|error| refuse_client(&error))?;
    let revision = id.revision.clone().unwrap_or_else(|| "main".to_owned());
    let mut files =
        Files { client, cache, endpoint, id, offline: config.offline, revision, context };
    let Some(config_file) = files.get("config.json")? else {
        return Err(files.absent("config.json"));
    };
    // All other files come from the same commit, also when somebody pushes in between.
    let snapshot = config_file.parent().unwrap_or(Path::new(".")).to_owned();
    if let Some(commit) = snapshot.file_name().and_then(|commit| commit.to_str()) {
        commit.clone_into(&mut files.revision);
    }
    for file in OPTIONAL {
        files.get(file)?;
    }
    if files.get(SINGLE)?.is_none() {
        let index = files.get(INDEX)?.ok_or_else(|| files.absent(SINGLE))?;
        let mut shards: Vec<_> = read_index(&index)?.into_values().collect();
        shards.sort();
        shards.dedup();
        for shard in shards {
            files.get(&shard)?.ok_or_else(|| files.absent(&shard))?;
        }
    }
    Ok(snapshot)
}

fn client(config: &HubConfig) -> Result<HFClient> {
    let mut builder = HFClient::builder();
    if let Some(endpoint) = &config.endpoint {
        builder = builder.endpoint(endpoint);
    }
    if let Some(cache) = &config.cache {
        builder = builder.cache_dir(cache);
    }
    if let Some(token) = &config.token {
        builder = builder.token(token);
    }
    if let Some(attempts) = config.attempts {
        builder = builder.retry_max_attempts(attempts);
    }
    builder.build().map_err(|error| refuse_client(&error))
}

fn refuse_client(error: &HFError) -> Error {
    Error::input(format!("the client of the Hub does not start: {error}"))
        .hint("is HF_ENDPOINT a complete address, such as https://huggingface.co?")
}

struct Files<'a> {
    client: HFClientSync,
    cache: PathBuf,
    endpoint: String,
    id: &'a HubId,
    offline: bool,
    revision: String,
    context: &'a Context,
}

impl Files<'_> {
    /// The path of a file in the cache; none when the repository does not hold it.
    fn get(&self, file: &str) -> Result<Option<PathBuf>> {
        let download = Download {
            repository: self.client.model(&self.id.owner, &self.id.name),
            file: file.to_owned(),
            revision: self.revision.clone(),
            offline: self.offline,
        };
        let (outcome, expected_bytes) = run(download, self.context)
            .map_err(|error| error.at(format_args!("{}: {file}", self.id)))?;
        match outcome {
            Ok(path) => check_complete(&path, expected_bytes).map(|()| Some(path)),
            Err(HFError::EntryNotFound { .. } | HFError::LocalEntryNotFound { .. }) => Ok(None),
            Err(error) => Err(self.explain(file, &error)),
        }
    }

    /// Why a file that must be there is not.
    fn absent(&self, file: &str) -> Error {
        let id = self.id;
        if self.offline {
            let cache = self.cache.display();
            return Error::input(format!(
                "`{file}` of {id} is not in the cache at {cache}, and HF_HUB_OFFLINE is set"
            ))
            .hint("unset HF_HUB_OFFLINE to fetch it, or name a folder that holds the model");
        }
        let repository = self.client.model(&id.owner, &id.name);
        let known = repository.exists().send().and_then(|known| {
            Ok((known, known && repository.revision_exists().revision(&self.revision).send()?))
        });
        match known {
            Err(error) => self.explain(file, &error),
            Ok((false, _)) => unknown(id, &self.endpoint),
            Ok((true, false)) => Error::input(format!("{id}: there is no such revision"))
                .hint("a revision is a branch, a tag or a commit"),
            Ok((true, true)) => Error::input(format!("{id} holds no `{file}`"))
                .hint("a model here is config.json with safetensors; for GGUF, fetch the file"),
        }
    }

    fn explain(&self, file: &str, error: &HFError) -> Error {
        let id = self.id;
        let endpoint = self.endpoint.as_str();
        match error {
            HFError::AuthRequired { context }
                if is_code(context.error_code.as_ref(), "RepoNotFound") =>
            {
                unknown(id, endpoint)
            }
            HFError::AuthRequired { .. } | HFError::Forbidden { .. } => Error::input(format!(
                "{id} is gated or private: {endpoint} requires authentication"
            ))
            .hint("accept its terms on its page, then set HF_TOKEN to a token of yours"),
            HFError::Io(error) => Error::io("writing to the cache", &self.cache, error),
            HFError::Request { source, .. } if source.is_connect() || source.is_timeout() => {
                Error::input(format!(
                    "there is no folder `{id}` here, and {endpoint} cannot be reached: {}",
                    innermost(source)
                ))
                .hint(
                    "without a network, name a folder or a .gguf file, or set HF_HUB_OFFLINE=1 to \
                     use what is in the cache",
                )
            }
            HFError::Request { .. } => {
                Error::input(format!("the download of `{file}` was cut: {}", innermost(error)))
                    .at(id)
                    .hint("nothing half was kept: run the same command again")
            }
            _ => Error::input(format!("`{file}` cannot be fetched: {error}"))
                .at(id)
                .hint("try again later, or download the folder and name it instead"),
        }
    }
}

fn is_code(code: Option<&String>, wanted: &str) -> bool {
    code.is_some_and(|code| code == wanted)
}

fn unknown(id: &HubId, endpoint: &str) -> Error {
    Error::input(format!("{endpoint} knows no model {id}")).hint(
        "check the spelling; a private model needs HF_TOKEN; and no folder of that name is here",
    )
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// The client does not compare lengths: a proxy that closes early, or an error page, would stay
/// in the cache as the file. It is taken out again.
fn check_complete(path: &Path, expected_bytes: u64) -> Result<()> {
    let found = std::fs::metadata(path).map_err(|error| Error::io("reading", path, &error))?.len();
    if expected_bytes == 0 || found == expected_bytes {
        return Ok(());
    }
    for stale in [path.canonicalize().unwrap_or_else(|_| path.to_owned()), path.to_owned()] {
        match std::fs::remove_file(&stale) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("removing half a download", &stale, &error));
            }
            _ => {}
        }
    }
    Err(Error::input(format!("the hub announced {expected_bytes} bytes and sent {found}"))
        .at(path.display())
        .hint("nothing half was kept: run the same command again"))
}
