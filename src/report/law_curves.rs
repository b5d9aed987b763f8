//! Quality of students by repetitions, as a table.

use super::groups::{grouped, ordered, over_seeds};
use super::law_data::{Curve, Law};
use super::page::Item;
use super::table::{Cell, Column, Table};

/// Accuracy and KL of the students of each setting, means over seeds, a column a number of
/// repetitions; shown on request.
pub(super) fn tables(law: &Law) -> Vec<Item> {
    let accuracy = "Accuracy by repetitions, mean over seeds";
    let kl = "KL to the teacher by repetitions, nats, mean over seeds";
    let tables = [
        table(law, "accuracy", accuracy, |curve| &curve.accuracy, Column::percent),
        table(law, "kl", kl, |curve| &curve.kl_nats, |head| Column::fixed(head, 3)),
    ];
    tables.into_iter().flatten().map(Item::Table).collect()
}

/// Values of a quality by repetitions, as in [`Curve::repetitions`].
type Quality = fn(&Curve) -> &Vec<Option<f64>>;

fn table(
    law: &Law,
    name: &str,
    caption: &str,
    values: Quality,
    column: fn(&str) -> Column,
) -> Option<Table> {
    if !law.curves.iter().any(|curve| values(curve).iter().any(Option::is_some)) {
        return None;
    }
    let tried = law.curves.iter().flat_map(|curve| &curve.repetitions).flatten();
    let mut repetitions: Vec<f64> = tried.copied().collect();
    repetitions.sort_by(f64::total_cmp);
    repetitions.dedup();
    let groups = grouped(&law.curves, |curve| {
        let cell = &curve.cell;
        let ratios = (ordered(cell.depth_ratio), ordered(cell.width_ratio));
        (cell.panel(), ratios, cell.teacher.clone(), cell.student.clone())
    });
    let rows = groups.into_iter().map(|(((task, trained), _, teacher, student), curves)| {
        let mut row: Vec<Cell> =
            [task, trained, teacher, student].map(|label| label.0.into()).into();
        row.extend(repetitions.iter().map(|count| {
            let at_count = curves.iter().map(|curve| {
                let at = curve.repetitions.iter().position(|tried| *tried == Some(*count))?;
                values(curve).get(at).copied().flatten()
            });
            match over_seeds(at_count) {
                Some(mean) => Cell::from(mean.estimate),
                None => Cell::Text(String::new()),
            }
        }));
        row
    });
    let rows = rows.collect();
    let heads = ["task", "trained", "teacher", "student"].map(Column::new).into_iter();
    let columns = heads.chain(repetitions.iter().map(|count| column(&format!("N = {count}"))));
    Some(Table::new(name, caption, columns.collect(), rows).shown_on_request())
}
