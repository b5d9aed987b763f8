//! The tokens that are read in one pass, with the rotations of their positions.

use crate::nn::RopeTable;

/// The sequence of a token and its position in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TokenPosition {
    pub(super) sequence: usize,
    pub(super) position: usize,
}

/// Tokens of a pass, and the rotations of their positions.
pub(super) struct Pass {
    pub(super) tokens: Vec<TokenPosition>,
    pub(super) table: RopeTable,
}

impl Pass {
    pub(super) fn new(tokens: Vec<TokenPosition>, inverse_frequencies: &[f32]) -> Self {
        let positions = tokens.iter().map(|token| token.position);
        let table = RopeTable::at_positions(inverse_frequencies, positions);
        Self { tokens, table }
    }
}
