//! One file a verb: arguments in, output out.

pub(super) mod bench;
pub(super) mod calibrate;
pub(super) mod depth;
pub(super) mod evaluate;
pub(super) mod export;
pub(super) mod fit;
pub(super) mod generate;
pub(super) mod init;
pub(super) mod inspect;
pub(super) mod point;
pub(super) mod recipes;
pub(super) mod report;
pub(super) mod shell;
pub(super) mod states;
pub(super) mod study;
pub(super) mod task;
pub(super) mod tokenize;
pub(super) mod train;
