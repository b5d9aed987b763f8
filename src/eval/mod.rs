//! Evaluation: how good a model is at every number of repetitions, and what it costs.

pub mod answers;
pub mod bootstrap;
pub mod calibrate;
pub mod config;
pub mod cost;
pub mod evaluate;
mod finite;
pub mod policies;
pub mod reading;
pub mod report;
mod student;
pub mod telemetry;
pub mod traces;
mod windows;

pub use answers::trace_answers;
pub use bootstrap::Interval;
pub use calibrate::{CalibrateConfig, OwnGate, calibrate, choose};
pub use config::EvalConfig;
pub use cost::ModelCost;
pub use evaluate::evaluate;
pub use policies::{
    OPTIONAL_POLICY_COLUMNS, OracleScore, PolicyReport, PolicyScore, evaluate_policies,
};
pub use reading::{Reading, read};
pub use report::{Evaluation, OPTIONAL_COLUMNS, SizeRatio, StudentScore, TeacherScore};
pub use telemetry::{Motion, jacobian_norm, repetition_norm, repetition_norms};
