//! Pages, figures and tables of runs and studies.
//!
//! `factorize report X` reads the data in folder X and writes one page, `X/report.html`, and its
//! figures, `X/figures/*.svg` and `*.png`. Nothing is computed again: a figure holds what the data
//! on disk says.

mod exits;
mod groups;
mod halting;
mod header;
mod law;
mod law_data;
mod law_figures;
mod law_tables;
mod page;
pub mod plot;
mod png;
mod read;
mod run;
mod run_data;
mod run_figures;
mod scaling;
mod training;
mod write;

pub use page::{Item, Section, html};
pub use png::Painter;
pub use write::{compose, write};
