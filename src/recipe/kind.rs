//! The verb that carries out a recipe, by the sections it has.

use toml::Table;

/// Keys at the top that only the recipe of this verb has.
const OWN_KEYS: [(&str, &[&str]); 4] = [
    ("law", &["tasks", "teachers", "students", "text", "targets", "controls"]),
    ("scaling", &["samples", "horizon", "joint"]),
    ("halting", &["learners", "risk"]),
    ("pretrain", &["model", "tokenizer"]),
];

/// Sections that only recipes of `distill` have, or that they share with those of `pretrain`.
const DISTILL_KEYS: [&str; 6] = ["student", "loss", "phases", "depth", "data", "train"];

/// The verb whose recipes have the dotted `key` at the top; for a key that the recipe at hand does
/// not know.
pub(super) fn verb_with(key: &str) -> Option<&'static str> {
    let owners = OWN_KEYS.iter().find(|(_, keys)| keys.contains(&key));
    owners.map(|(verb, _)| *verb).or_else(|| DISTILL_KEYS.contains(&key).then_some("distill"))
}

/// The verb of a recipe; `distill` where no section tells another.
#[must_use]
pub fn verb_of(text: &str) -> &'static str {
    text.parse::<Table>().map_or("distill", |table| verb_of_table(&table))
}

/// The same of a table.
pub(super) fn verb_of_table(table: &Table) -> &'static str {
    let has = |keys: &[&str]| keys.iter().any(|key| table.contains_key(*key));
    OWN_KEYS.iter().find(|(_, keys)| has(keys)).map_or("distill", |(verb, _)| verb)
}

#[cfg(test)]
mod tests {
    use super::verb_of;

    #[test]
    fn a_section_tells_the_verb() {
        for (text, verb) in [
            ("[student]\ncore_layers = 2", "distill"),
            ("[model]\nlayers = 2", "pretrain"),
            ("[[tasks]]\nname = \"pointer\"", "law"),
            ("[joint]\nwidths = [8]", "scaling"),
            ("[[learners]]\nshortest = 1", "halting"),
            ("not toml", "distill"),
        ] {
            assert_eq!(verb_of(text), verb, "{text}");
        }
    }
}
