//! Halting policies: after which repetition does a token stop?
//!
//! Every policy gives a distribution over the repetition at which a token stops, and a cost. Rules
//! without training put all probability on one repetition.

pub mod act;
pub mod calibration;
pub mod change;
pub mod correctness;
pub mod curve;
pub mod exit_gate;
pub mod fit;
pub mod fixed;
pub mod gap;
pub mod gate;
pub mod joint;
pub mod kl;
pub mod name;
pub mod policy;
pub mod ponder;
pub mod second_difference;
pub mod select;
pub mod stable;
pub mod traces;

pub use calibration::{Calibration, GateTraining, Halting};
pub use curve::{Budget, Curve, CurvePoint, Risk};
pub use gate::Gate;
pub use joint::JointPolicy;
pub use name::PolicyName;
pub use policy::{HaltingPolicy, Mix, Output, Reads, Signal, StopDistribution};
pub use traces::Traces;
