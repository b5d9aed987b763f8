//! Token ids that mean the same in every task.

/// Padding; never supervised.
pub const PAD: u32 = 0;
/// Begins a sequence, for models that want a first token.
pub const BOS: u32 = 1;
/// Ends the input.
pub const SEP: u32 = 2;
/// Stands between two steps of a chain.
pub const STEP: u32 = 3;
/// Begins the answer after a chain or filler.
pub const ANS: u32 = 4;
/// Ends the answer.
pub const EOS: u32 = 5;
/// Carries no information: filler, and the slots whose logits are the answer.
pub const FILL: u32 = 6;
/// The place of a latent symbol.
pub const LATENT: u32 = 7;
/// The first id that belongs to the task itself.
pub const FIRST_SYMBOL: u32 = 8;

const NAMES: [&str; FIRST_SYMBOL as usize] =
    ["PAD", "BOS", "SEP", "STEP", "ANS", "EOS", "FILL", "LATENT"];

/// The name of a special token; none for a symbol of the task.
pub(super) fn name(token: u32) -> Option<&'static str> {
    NAMES.get(token as usize).copied()
}
