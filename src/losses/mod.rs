//! Losses of a student: cross entropy, KL from the teacher's outputs or top-k tokens, hidden states.

mod batched;
mod composed;
mod hidden;
mod output;
mod terms;
mod top_k;

pub use batched::{compare_students, compare_students_with};
pub use hidden::compare_states;
pub use output::{compare, compare_weighted};
pub use terms::{
    HeadTerms, HeadWeights, StateComparison, StateScale, StateTerms, TeacherHead, TeacherOutput,
    TopTokens, mean,
};
