//! Arguments of the command line, by verb.

pub(super) mod arguments;
pub(super) mod bench;
pub(super) mod depth;
pub(super) mod generate;
pub(super) mod model;
pub(super) mod recipe;
pub(super) mod report;
pub(super) mod size;
pub(super) mod start;
pub(super) mod study;
pub(super) mod text;
