//! Timings of the arithmetic on this machine.

mod clock;
mod decode;
pub mod peak;
pub mod prefill;
pub mod shape;
pub mod step;

pub use clock::Rounds;
pub use decode::{DecodeReport, time_decode};
pub use peak::{MatrixPeak, ProductSpeed, matrix_peak};
pub use prefill::{PrefillReport, time_prefill};
pub use shape::{StepGraph, StepShape};
pub use step::{StepReport, time_step};
