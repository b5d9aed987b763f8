//! Which tokens are read together, and where do they stand?

/// A token's text and its position there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) text: usize,
    pub(super) position: usize,
}

/// New tokens, and the rotations of their positions.
pub(super) struct Pass {
    pub(super) places: Vec<Place>,
    /// (tokens, head width / 2).
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
}

impl Pass {
    pub(super) fn new(places: Vec<Place>, inverse_frequencies: &[f32]) -> Self {
        let angles = places.iter().flat_map(|place| {
            inverse_frequencies.iter().map(move |frequency| place.position as f32 * frequency)
        });
        let (cos, sin) = angles.map(|angle| (angle.cos(), angle.sin())).unzip();
        Self { places, cos, sin, half: inverse_frequencies.len() }
    }

    /// Cosines and sines of a token's position, each (head width / 2).
    pub(super) fn turns(&self, token: usize) -> (&[f32], &[f32]) {
        let row = token * self.half..(token + 1) * self.half;
        (&self.cos[row.clone()], &self.sin[row])
    }
}
