//! The verb that a mistyped or foreign word stands for.

use clap::Subcommand;

use crate::cli::args::arguments::Command;

/// Jaro-Winkler similarity from which on a word may be a misspelling of a verb.
const SIMILAR: f64 = 0.7;

/// What other programs call the verbs of this one.
const SYNONYMS: [(&str, &[&str]); 17] = [
    ("train", &["distill", "pretrain"]),
    ("run", &["distill"]),
    ("factor", &["distill"]),
    ("eval", &["evaluate"]),
    ("test", &["evaluate"]),
    ("perplexity", &["evaluate"]),
    ("sample", &["generate"]),
    ("chat", &["generate"]),
    ("infer", &["generate"]),
    ("info", &["inspect"]),
    ("show", &["inspect"]),
    ("benchmark", &["bench"]),
    ("plot", &["report"]),
    ("new", &["init"]),
    ("list", &["recipes"]),
    ("encode", &["tokenize"]),
    ("convert", &["export"]),
];

/// Whether a word has the form of a verb: no path, no extension, no flag.
pub(super) fn is_word(text: &str) -> bool {
    let letters = |c: char| c.is_ascii_lowercase() || c == '-';
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.chars().all(letters)
}

/// Whether there is a verb of that name, or one that is also called so.
pub(super) fn is_verb(text: &str) -> bool {
    verbs()
        .get_subcommands()
        .any(|verb| verb.get_name() == text || verb.get_all_aliases().any(|alias| alias == text))
}

/// The verbs that `text` was probably meant to name; empty when none is similar.
pub(super) fn verbs_like(text: &str) -> Vec<String> {
    if let Some((_, verbs)) = SYNONYMS.iter().find(|(word, _)| *word == text) {
        return verbs.iter().map(|verb| (*verb).to_owned()).collect();
    }
    let known = verbs();
    let scored = known.get_subcommands().filter(|verb| !verb.is_hide_set()).map(|verb| {
        let name = verb.get_name();
        (strsim::jaro_winkler(text, name), name.to_owned())
    });
    let best = scored.max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(similarity, _)| *similarity > SIMILAR).map(|(_, verb)| verb).into_iter().collect()
}

/// `did you mean` for the verbs of [`verbs_like`].
pub(super) fn did_you_mean(verbs: &[String]) -> String {
    let named: Vec<String> = verbs.iter().map(|verb| format!("`factorize {verb}`")).collect();
    if named.is_empty() {
        return "`factorize --help` lists the verbs".to_owned();
    }
    format!("did you mean {}?", named.join(" or "))
}

fn verbs() -> clap::Command {
    Command::augment_subcommands(clap::Command::new("factorize"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspelled_and_foreign_words_lead_to_a_verb_that_exists() {
        assert_eq!(verbs_like("inspct"), ["inspect"]);
        assert_eq!(verbs_like("train"), ["distill", "pretrain"]);
        assert!(verbs_like("xyzzy").is_empty());
        for (word, verbs) in SYNONYMS {
            assert!(!is_verb(word), "{word}");
            assert!(verbs.iter().all(|verb| is_verb(verb)), "{word}");
        }
    }
}
