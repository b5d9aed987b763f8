//! Non-negative least squares with a few columns.

/// Sums of products of at most three columns with each other and with the target.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct NormalEquations {
    columns: [[f64; 3]; 3],
    target: [f64; 3],
}

impl NormalEquations {
    /// Adds one row of given weight.
    pub(super) fn add(&mut self, row: [f64; 3], target: f64, weight: f64) {
        for i in 0..3 {
            for j in 0..3 {
                self.columns[i][j] += weight * row[i] * row[j];
            }
            self.target[i] += weight * row[i] * target;
        }
    }

    /// The least squares among weights >= 0: the best of the eight sets of columns whose free
    /// solution has no negative weight. Exact, since one of them is the active set (Lawson and
    /// Hanson 1974). A column of zeros gets weight 0.
    pub(super) fn solve(&self) -> [f64; 3] {
        // If all columns are wanted, no smaller set is better.
        if let Some(all) = self.free(0b111) {
            return all;
        }
        let candidates = (0b001..0b111).filter_map(|set| self.free(set));
        let best = candidates.min_by(|a, b| self.excess(*a).total_cmp(&self.excess(*b)));
        best.unwrap_or_default()
    }

    /// The squares left, less those of the target itself.
    fn excess(&self, weights: [f64; 3]) -> f64 {
        let pair = |i: usize| (0..3).map(|j| self.columns[i][j] * weights[j]).sum::<f64>();
        (0..3).map(|i| weights[i] * (pair(i) - 2.0 * self.target[i])).sum()
    }

    /// The solution over a set of columns by Gauss elimination; None if one is negative or
    /// follows from the others.
    fn free(&self, set: usize) -> Option<[f64; 3]> {
        let (mut matrix, mut right) = (self.columns, self.target);
        let inside = |i: usize| set >> i & 1 == 1;
        for i in (0..3).filter(|i| inside(*i)) {
            // What is left of a column after the earlier ones are taken out; below this it is
            // rounding. A column of zeros ends here too.
            if matrix[i][i].is_nan() || matrix[i][i] <= 1e-13 * self.columns[i][i] {
                return None;
            }
            let (pivot, pivot_right) = (matrix[i], right[i]);
            for k in (i + 1..3).filter(|k| inside(*k)) {
                let factor = matrix[k][i] / pivot[i];
                matrix[k].iter_mut().zip(pivot).for_each(|(x, p)| *x -= factor * p);
                right[k] -= factor * pivot_right;
            }
        }
        let mut weights = [0.0; 3];
        for i in (0..3).rev().filter(|i| inside(*i)) {
            let later: f64 = (i + 1..3).map(|j| matrix[i][j] * weights[j]).sum();
            weights[i] = (right[i] - later) / matrix[i][i];
        }
        weights.iter().all(|weight| *weight >= 0.0).then_some(weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn products(rows: &[([f64; 3], f64)]) -> NormalEquations {
        let mut products = NormalEquations::default();
        rows.iter().for_each(|(row, target)| products.add(*row, *target, 1.0));
        products
    }

    #[test]
    fn positive_weights_are_recovered() {
        let rows = [[1.0, 1.0, 1.0], [1.0, 2.0, 4.0], [1.0, 3.0, 9.0], [1.0, 4.0, 16.0]];
        let rows = rows.map(|row: [f64; 3]| (row, 2.0 * row[0] + 3.0 * row[1] + 0.5 * row[2]));
        let found = products(&rows).solve();
        for (found, expected) in found.iter().zip([2.0, 3.0, 0.5]) {
            assert!((found - expected).abs() < 1e-10, "{found} is not {expected}");
        }
    }

    /// Free least squares of 1, 0 on (1, 1), (1, 2) gives 2 and -1; by hand the bounded one is
    /// half and 0.
    #[test]
    fn a_weight_that_would_be_negative_is_zero() {
        let found = products(&[([1.0, 1.0, 0.0], 1.0), ([1.0, 2.0, 0.0], 0.0)]).solve();
        assert!((found[0] - 0.5).abs() < 1e-12 && found[1] == 0.0 && found[2] == 0.0, "{found:?}");
    }
}
