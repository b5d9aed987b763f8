//! The tokens that are read in one pass, with the rotations of their positions.

/// The sequence of a token and its position in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct TokenPosition {
    pub(super) sequence: usize,
    pub(super) position: usize,
}

/// Tokens of a pass, and the rotations of their positions.
pub(super) struct Pass {
    pub(super) tokens: Vec<TokenPosition>,
    /// Cosines of the angles, (tokens, head width / 2); `sin` has their sines.
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
}

impl Pass {
    pub(super) fn new(tokens: Vec<TokenPosition>, inverse_frequencies: &[f32]) -> Self {
        let angles = tokens.iter().flat_map(|token| {
            inverse_frequencies.iter().map(move |frequency| token.position as f32 * frequency)
        });
        let (cos, sin) = angles.map(|angle| (angle.cos(), angle.sin())).unzip();
        Self { tokens, cos, sin, half: inverse_frequencies.len() }
    }

    /// Cosines and sines of a token's position, each (head width / 2).
    pub(super) fn rotation(&self, token: usize) -> (&[f32], &[f32]) {
        let row = token * self.half..(token + 1) * self.half;
        (&self.cos[row.clone()], &self.sin[row])
    }
}
