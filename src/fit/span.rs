//! The numerical rank of a few columns.

/// Of a column that is a mix of others, rounding leaves less than this.
const ROUNDING: f64 = 1e-8;

/// The rank, by Gram and Schmidt.
pub(super) fn rank(columns: &[Vec<f64>]) -> usize {
    let length = |column: &[f64]| column.iter().map(|x| x * x).sum::<f64>().sqrt();
    let mut basis: Vec<Vec<f64>> = Vec::new();
    for column in columns {
        let mut left = column.clone();
        // Twice is enough (Kahan, in Parlett 1980): the second round removes what rounding left.
        for earlier in basis.iter().chain(&basis) {
            let along: f64 = earlier.iter().zip(&left).map(|(a, b)| a * b).sum();
            left.iter_mut().zip(earlier).for_each(|(x, e)| *x -= along * e);
        }
        let remaining = length(&left);
        if remaining > ROUNDING * length(column) {
            basis.push(left.iter().map(|x| x / remaining).collect());
        }
    }
    basis.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixes_and_zeros_do_not_count() {
        let (a, b) = (vec![1.0, 1.0, 1.0], vec![0.1, 0.2, 0.7]);
        let mix = a.iter().zip(&b).map(|(a, b)| 3.0 * a - 0.3 * b).collect();
        assert_eq!(rank(&[a, b, mix, vec![0.0; 3]]), 2);
    }

    #[test]
    fn columns_that_nearly_agree_count_apart() {
        assert_eq!(rank(&[vec![1.0, 1.0], vec![1.0, 1.0 + 1e-6]]), 2);
    }
}
