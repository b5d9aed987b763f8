//! Halting policies: after which repetition does a token stop?
//!
//! Every policy gives a distribution over the repetition at which a token stops, and a cost. Rules
//! without training put all probability on one repetition.

mod act;
mod calibration;
mod change;
mod correctness;
mod curve;
mod exit_gate;
mod fit;
mod fixed;
mod gap;
mod gate;
mod joint;
mod kl;
mod name;
mod policy;
mod ponder;
mod second_difference;
mod select;
mod stable;
mod traces;

pub use act::ActMean;
pub(crate) use act::{ACT_THRESHOLD, act_stop};
pub use calibration::{Calibration, GateTraining, Halting};
pub use curve::{Budget, Curve, CurvePoint, Risk, oracle_area};
pub use fit::fit_gate;
pub use gate::{Gate, STATE_EPS, survival};
pub use joint::{Expected, JointPolicy, expected};
pub use name::PolicyName;
pub use policy::{HaltingPolicy, Mix, Output, Reads, Signal, StopDistribution};
pub(crate) use ponder::PONDER_PRIOR;
pub use ponder::geometric;
pub use traces::{FullDepth, Traces};
