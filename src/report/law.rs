//! The page of a depth law.

use std::path::Path;

use super::law_data::Law;
use super::page::{Item, Section};
use super::read::{Found, json};
use super::{law_curves, law_figures, law_tables};

/// The part of the page about `law.json`, if the folder has one.
pub(super) fn compose(folder: &Path) -> Option<Section> {
    let law: Law = match json(&folder.join("law.json")) {
        Found::Absent => return None,
        Found::Damaged(why) => {
            return Some(Section { title: "Depth law".into(), items: vec![Item::Note(why)] });
        }
        Found::Whole(law) => law,
    };
    let mut items = law.header.notes();
    items.push(law_tables::numbers(&law));
    if law.exponent.is_none() {
        items.push(Item::Note("No law is fitted yet.".into()));
    }
    items.extend(law_figures::needed(&law));
    items.extend([law_tables::law(&law), law_tables::forms(&law), law_tables::needed(&law)]);
    items.push(Item::Heading("Quality by repetitions".into()));
    if law.curves.is_empty() {
        items.push(Item::Note("No student was measured by repetitions yet.".into()));
    }
    items.extend(law_figures::quality(&law));
    items.extend(law_curves::tables(&law));
    items.push(law_tables::baselines(&law));
    items.push(Item::Heading("Controls".into()));
    if law.controls.is_empty() {
        items.push(Item::Note("No control was measured yet.".into()));
    }
    items.extend(law_figures::controls(&law));
    items.push(law_tables::controls(&law));
    items.extend(law.header.origin());
    Some(Section { title: format!("Depth law: {}", law.header.name), items })
}
