//! Names of repositories of the Hugging Face Hub.

use std::fmt;

/// A repository of the Hugging Face Hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubId {
    /// Whose it is.
    pub owner: String,
    /// What it is called.
    pub name: String,
    /// Branch, tag or commit; none is `main`.
    pub revision: Option<String>,
}

impl HubId {
    /// `owner/name`, without the revision.
    #[must_use]
    pub fn repository(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.owner, self.name)?;
        self.revision.iter().try_for_each(|revision| write!(f, "@{revision}"))
    }
}

pub(super) fn parse_hub_id(text: &str) -> Option<HubId> {
    let (id, revision) = match text.split_once('@') {
        Some((id, revision)) => (id, Some(revision)),
        None => (text, None),
    };
    let (owner, name) = id.split_once('/')?;
    let plain = |part: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        !part.is_empty() && part.len() <= 96 && !part.starts_with('.') && part.chars().all(allowed)
    };
    // A revision becomes part of paths in the cache.
    let safe = |revision: &str| {
        revision.split('/').all(|part| {
            !matches!(part, "" | "." | "..") && !part.contains(['\\', ':']) && part.is_ascii()
        })
    };
    (plain(owner) && plain(name) && revision.is_none_or(safe)).then(|| HubId {
        owner: owner.to_owned(),
        name: name.to_owned(),
        revision: revision.map(str::to_owned),
    })
}
