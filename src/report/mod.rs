//! Pages, figures and tables of runs and studies.
//!
//! `factorize report X` reads the data in folder X and writes one page, `X/report.html`, and its
//! figures, `X/figures/*.svg` and `*.png`. Nothing is computed again: a figure holds the data
//! on disk.

mod compare;
mod csv;
mod exits;
mod fitted;
mod groups;
mod halting;
mod header;
mod law;
mod law_curves;
mod law_data;
mod law_figures;
mod law_tables;
mod markdown;
mod page;
pub mod plot;
mod png;
mod policies;
mod read;
mod run;
mod run_data;
mod run_figures;
mod scaling;
mod scaling_data;
mod scaling_points;
mod table;
mod training;
mod write;

pub use compare::compare;
pub use markdown::{markdown, notes};
pub use page::{Item, Section, html};
pub use png::Painter;
pub use table::{Cell, Column, Table};
pub use write::{compose, write};
