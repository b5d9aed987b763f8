//! The model card (`README.md`) of an export.

use std::fmt::Write;

/// Content of a model card besides the shape of the model.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Card {
    /// What to call the model.
    pub name: String,
    /// The model it was made from, as the user named it.
    pub teacher: Option<String>,
    /// The recipe that made it, TOML.
    pub recipe: Option<String>,
    /// Results: a title, and a head with rows of as many cells.
    pub tables: Vec<(String, Vec<Vec<String>>)>,
    /// Paragraphs.
    pub notes: Vec<String>,
}

impl Card {
    /// The content of `README.md`: `summary` describes the model, `usage` how to run it.
    #[must_use]
    pub(super) fn render(&self, summary: &str, usage: &str) -> String {
        let name = if self.name.is_empty() { "A factored transformer" } else { &self.name };
        let mut text = self.front_matter();
        let mut part = |content: &str| {
            let _ = write!(text, "\n{}\n", content.trim_end()); // a String takes all
        };
        part(&format!("# {name}"));
        part(summary);
        for note in &self.notes {
            part(note);
        }
        part(&format!("## Use\n\n{usage}"));
        for (title, rows) in &self.tables {
            part(&format!("## {title}\n\n{}", table(rows)));
        }
        if let Some(recipe) = &self.recipe {
            part(&format!("## Recipe\n\n```toml\n{}\n```", recipe.trim_end()));
        }
        part(&self.licence());
        text
    }

    fn front_matter(&self) -> String {
        let mut text = "---\nlicense: unknown\npipeline_tag: text-generation\ntags:\n".to_owned();
        text.push_str("- factorexe\n");
        if self.teacher.is_some() {
            text.push_str("- looped-transformer\n- distillation\n");
        }
        if let Some(id) = self.teacher.as_deref().filter(|teacher| is_hub_id(teacher)) {
            let id = id.split('@').next().unwrap_or(id);
            let _ = writeln!(text, "base_model: {id}");
        }
        text + "---\n"
    }

    fn licence(&self) -> String {
        let source = match &self.teacher {
            Some(teacher) => format!(
                "Its weights derive from `{teacher}`, whose licence holds \
                                      for them; this program does not know that licence."
            ),
            None => "The licence is unknown.".to_owned(),
        };
        format!("## Licence\n\nUnknown. {source} Put the right one here before you publish it.")
    }
}

/// Whether a teacher is named as on the Hub.
fn is_hub_id(teacher: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./@".contains(c);
    let is_file = std::path::Path::new(teacher).extension().is_some_and(|end| end == "gguf");
    let named = !teacher.starts_with(['.', '/']) && teacher.chars().all(plain);
    named && !is_file && teacher.split('@').next().unwrap_or("").matches('/').count() == 1
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

    #[test]
    fn only_a_name_on_the_hub_is_a_base_model() {
        for name in ["HuggingFaceTB/SmolLM2-135M", "a/b@main"] {
            assert!(is_hub_id(name), "{name}");
        }
        for name in ["./a/b", "/a", "a.gguf", "teachers/a.gguf", "a/b/c", "model"] {
            assert!(!is_hub_id(name), "{name}");
        }
    }

    #[test]
    fn a_card_has_its_results_as_a_table() {
        let rows = vec![vec!["N".to_owned(), "a|b".to_owned()], vec!["1".into(), "2".into()]];
        let card = Card { tables: vec![("Results".into(), rows)], ..Card::default() };
        let text = card.render("What it is.", "How to use it.");
        assert!(text.contains("## Results\n\n| N | a\\|b |\n|---|---|\n| 1 | 2 |\n"), "{text}");
        assert!(text.starts_with("---\nlicense: unknown\n"), "{text}");
    }
}
