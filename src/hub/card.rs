//! The model card of an export: `README.md` with the front matter that the Hub reads.

use std::fmt::Write;

use super::about::{About, front_matter};

/// What the model card says beside the shape of the model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Card {
    /// What to call the model.
    pub name: String,
    /// Licence, languages, teacher, and the windows it was trained on; `config.json` holds them too.
    pub about: About,
    /// The recipe that made it, TOML.
    pub recipe: Option<String>,
    /// Results: a title, and a head with rows of as many cells.
    pub tables: Vec<(String, Vec<Vec<String>>)>,
    /// Results for the Hub: name and value.
    pub metrics: Vec<(String, f64)>,
    /// Paragraphs.
    pub notes: Vec<String>,
    /// Sections of the card of the model that it was exported from, as they stand there.
    pub kept: Kept,
}

/// What one card takes over from another, as it stands there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// `model-index:` and its lines, of the front matter.
    pub model_index: String,
    /// Sections: what follows `## `.
    pub sections: Vec<String>,
}

impl Kept {
    /// The results and the recipe of a card that this program wrote; what depends on the form of
    /// the export, its use and its licence, is written anew.
    #[must_use]
    pub fn of(card: &str) -> Self {
        let front = front_matter(card);
        let mut model_index = String::new();
        for line in front.lines().skip_while(|line| !line.starts_with("model-index:")) {
            let is_next_key = !line.starts_with([' ', '-']) && !model_index.is_empty();
            if is_next_key {
                break;
            }
            let _ = writeln!(model_index, "{line}"); // a String takes all
        }
        let sections = card.split("\n## ").skip(1).map(str::trim_end);
        let rewritten = |section: &str| {
            ["Use", "Licence"].iter().any(|title| section.lines().next() == Some(title))
        };
        let sections = sections.filter(|section| !rewritten(section)).map(str::to_owned).collect();
        Self { model_index, sections }
    }
}

/// How a model is run, and by which library.
pub(super) struct Usage {
    /// Markdown.
    pub(super) text: &'static str,
    /// Its name on the Hub.
    pub(super) library: &'static str,
}

impl Card {
    /// The content of `README.md`; `summary` describes the model.
    #[must_use]
    pub(super) fn render(&self, summary: &str, usage: &Usage) -> String {
        let name = if self.name.is_empty() { "A factored transformer" } else { &self.name };
        let mut text = self.front_matter(usage.library);
        let mut part = |content: &str| {
            let _ = write!(text, "\n{}\n", content.trim_end()); // a String takes all
        };
        part(&format!("# {name}"));
        part(summary);
        if let Some(window) = self.about.trained_window_tokens {
            part(&format!("It was trained on windows of {window} tokens."));
        }
        for note in &self.notes {
            part(note);
        }
        part(&format!("## Use\n\n{}", usage.text));
        for (title, rows) in &self.tables {
            part(&format!("## {title}\n\n{}", table(rows)));
        }
        for section in &self.kept.sections {
            part(&format!("## {section}"));
        }
        if let Some(recipe) = &self.recipe {
            part(&format!("## Recipe\n\n```toml\n{}\n```", recipe.trim_end()));
        }
        part(&self.licence());
        text
    }

    fn front_matter(&self, library: &str) -> String {
        let about = &self.about;
        let mut text = "---\n".to_owned();
        // Writing to a String never fails.
        let _ = writeln!(text, "license: {}", about.license.as_deref().unwrap_or("unknown"));
        if !about.languages.is_empty() {
            text.push_str("language:\n");
            for code in &about.languages {
                let _ = writeln!(text, "- {code}");
            }
        }
        let _ = writeln!(text, "library_name: {library}\npipeline_tag: text-generation");
        text.push_str("tags:\n- factorexe\n");
        if about.teacher.is_some() {
            text.push_str("- looped-transformer\n- distillation\n");
        }
        if let Some(id) = &about.hub_name {
            let _ = writeln!(text, "base_model: {id}");
        }
        text.push_str(&self.model_index());
        text + "---\n"
    }

    fn model_index(&self) -> String {
        if self.metrics.is_empty() {
            return self.kept.model_index.clone();
        }
        let mut text = format!(
            "model-index:\n- name: {}\n  results:\n  - task:\n      type: text-generation\n    \
             dataset:\n      name: held-out text of the recipe\n      type: text\n    metrics:\n",
            serde_json::Value::from(self.name.as_str())
        );
        for (name, value) in &self.metrics {
            // Writing to a String never fails.
            let _ = writeln!(text, "    - type: {name}\n      value: {value}");
        }
        text
    }

    fn licence(&self) -> String {
        let text = match (&self.about.license, &self.about.teacher) {
            (Some(license), Some(teacher)) => {
                format!("`{license}`: the licence of `{teacher}`, from which these weights derive.")
            }
            (Some(license), None) => format!("`{license}`, as the model it was made from."),
            (None, Some(teacher)) => format!(
                "Unknown. Its weights derive from `{teacher}`, whose licence holds for them; its \
                 files do not name it. Put the right one here before you publish it."
            ),
            (None, None) => "Unknown: no licence was given. Put the right one here before you \
                             publish it."
                .to_owned(),
        };
        format!("## Licence\n\n{text}")
    }
}

fn table(rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        let _ = writeln!(text, "| {} |", cells.join(" | "));
        if index == 0 {
            let _ = writeln!(text, "|{}", "---|".repeat(row.len()));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::about::values;

    const USAGE: Usage = Usage { text: "How to use it.", library: "factorexe" };

    fn card() -> Card {
        let rows = vec![vec!["N".to_owned(), "a|b".to_owned()], vec!["1".into(), "2".into()]];
        Card { name: "tiny".into(), tables: vec![("Results".into(), rows)], ..Card::default() }
    }

    #[test]
    fn a_card_has_its_results_as_a_table() {
        let text = card().render("What it is.", &USAGE);
        assert!(text.contains("## Results\n\n| N | a\\|b |\n|---|---|\n| 1 | 2 |\n"), "{text}");
        assert!(text.starts_with("---\nlicense: unknown\nlibrary_name: factorexe\n"), "{text}");
        assert!(text.contains("Unknown: no licence was given"), "{text}");
    }

    #[test]
    fn licence_language_and_base_model_are_those_of_the_teacher() {
        let about = About {
            license: Some("mit".into()),
            languages: vec!["en".into()],
            teacher: Some("a/b@main".into()),
            hub_name: Some("a/b".into()),
            trained_window_tokens: Some(256),
        };
        let text = Card { about, ..card() }.render("What it is.", &USAGE);
        for (key, value) in [("license", "mit"), ("language", "en"), ("base_model", "a/b")] {
            assert_eq!(values(&text, key), [value], "{text}");
        }
        assert_eq!(values(&text, "tags"), ["factorexe", "looped-transformer", "distillation"]);
        assert!(text.contains("`mit`: the licence of `a/b@main`"), "{text}");
        assert!(text.contains("trained on windows of 256 tokens"), "{text}");
    }

    #[test]
    fn another_form_of_a_model_keeps_its_results_and_its_recipe() {
        let (recipe, metrics) = (Some("seed = 0".to_owned()), vec![("perplexity".into(), 54.2)]);
        let first = Card { recipe, metrics, ..card() }.render("What it is.", &USAGE);
        let kept = Kept::of(&first);
        let second = Card { kept, ..Card::default() }.render("Another form.", &USAGE);
        for part in ["| 1 | 2 |", "seed = 0", "- type: perplexity\n      value: 54.2\n---"] {
            assert!(second.contains(part), "{part}\n{second}");
        }
        assert_eq!(second.matches("## Use").count(), 1);
        assert_eq!(second.matches("## Licence").count(), 1);
        assert_eq!(Kept::of("no card of ours"), Kept::default());
    }
}
