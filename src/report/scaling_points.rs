//! Measured points of scaling laws as tables, a row a series and a column an x.

use super::groups::{grouped, ordered, over_seeds};
use super::page::Item;
use super::plot::{short, slug};
use super::scaling_data::{Law, Measured};
use super::table::{Cell, Column, Table};

/// A table has at most as many columns of values.
const WIDEST: usize = 16;

/// A table for each quantity that laws measure, unless it has more columns than can be read; it is
/// named after the quantity and shown on request.
pub(super) fn tables(laws: &[Law]) -> Vec<Item> {
    let quantities = grouped(laws, |law| (law.y_label.clone(), law.x_label.clone()));
    let table = |((y, x), laws): ((_, _), Vec<&Law>)| {
        let points: Vec<&Measured> = laws.iter().flat_map(|law| &law.points).collect();
        let caption = format!("{y} by {x}");
        table(&slug(&format!("{y}")), &caption, &points).map(Item::Table)
    };
    quantities.into_iter().filter_map(table).collect()
}

fn table(name: &str, caption: &str, points: &[&Measured]) -> Option<Table> {
    let columns = grouped(points.iter().copied(), |point| ordered(point.x));
    if columns.is_empty() || columns.len() > WIDEST {
        return None;
    }
    let series = grouped(points.iter().copied(), |point| point.series.clone());
    let row = |(name, points): (_, Vec<&Measured>)| {
        let mut row = vec![Cell::Text(format!("{name}"))];
        row.extend(columns.iter().map(|(x, _)| {
            let at_x: Vec<&&Measured> =
                points.iter().filter(|point| ordered(point.x) == *x).collect();
            cell(&at_x)
        }));
        row
    };
    let rows = series.into_iter().map(row).collect();
    let is_share = points.iter().all(|point| point.y.is_some_and(|y| (0.0..=1.0).contains(&y)));
    let head = |points: &Vec<&Measured>| {
        let x = points.first().and_then(|point| point.x).map_or_else(String::new, short);
        if is_share { Column::percent(&x) } else { Column::new(&x) }
    };
    let heads = columns.iter().map(|(_, points)| head(points));
    let columns = std::iter::once(Column::new("")).chain(heads).collect();
    Some(Table::new(name, caption, columns, rows).shown_on_request())
}

/// The mean over seeds; of values known to lie between two numbers, the upper end by seed.
fn cell(seeds: &[&&Measured]) -> Cell {
    if let Some(mean) = over_seeds(seeds.iter().map(|point| point.y)) {
        return mean.estimate.into();
    }
    let end = |point: &&&Measured| match (point.low, point.high) {
        (_, Some(high)) => short(high),
        (Some(low), None) => format!("> {}", short(low)),
        (None, None) => "?".to_owned(),
    };
    let mut ends: Vec<String> = seeds.iter().map(end).collect();
    if ends.iter().all(|end| *end == ends[0]) {
        ends.truncate(1);
    }
    Cell::Text(ends.join(", "))
}
