//! Spearman's rank correlation.

/// Spearman's rank correlation, -1 to 1, of `x` and `y`, pairs in order: Pearson's of their ranks,
/// where what is equal shares the mean of its ranks. Spearman 1904. None where all values of one
/// are equal, or there are none.
#[must_use]
pub fn rank_correlation(x: &[f64], y: &[f64]) -> Option<f64> {
    let (x, y) = (ranks(x), ranks(y));
    // The mean of the ranks 1 to n, however many are shared.
    let middle = f64::midpoint(x.len() as f64, 1.0);
    let product = |a: &[f64], b: &[f64]| {
        a.iter().zip(b).map(|(a, b)| (a - middle) * (b - middle)).sum::<f64>()
    };
    let scale = (product(&x, &x) * product(&y, &y)).sqrt();
    (scale > 0.0).then(|| product(&x, &y) / scale)
}

/// From 1; equal values share the mean of theirs.
fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let (mut ranks, mut below) = (vec![0.0; values.len()], 0);
    for equal in order.chunk_by(|&a, &b| values[a].total_cmp(&values[b]).is_eq()) {
        let shared = below as f64 + f64::midpoint(equal.len() as f64, 1.0);
        equal.iter().for_each(|&place| ranks[place] = shared);
        below += equal.len();
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_equal_shares_the_mean_of_its_ranks() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0, 3.0]), [4.0, 1.0, 4.0, 2.0, 4.0]);
    }

    #[test]
    fn a_worked_example_with_ties() {
        // Ranks 1, 2.5, 2.5, 4, 5 and 1, 2, 4, 4, 4, middle 3: deviations -2, -0.5, -0.5, 1, 2 and
        // -2, -1, 1, 1, 1. NormalEquations 4 + 0.5 - 0.5 + 1 + 2 = 7; squares 9.5 and 8.
        let found = rank_correlation(&[1.0, 2.0, 2.0, 3.0, 9.0], &[0.0, 1.0, 5.0, 5.0, 5.0]);
        assert!((found.unwrap() - 7.0 / 76.0_f64.sqrt()).abs() < 1e-12, "{found:?}");
    }

    #[test]
    fn only_the_order_counts() {
        let (x, y) = ([1.0, 2.0, 3.0, 4.0], [-7.0, 0.0, 1e3, 1e9]);
        assert!((rank_correlation(&x, &y).unwrap() - 1.0).abs() < 1e-12);
        assert!((rank_correlation(&x, &y.map(|y| -y)).unwrap() + 1.0).abs() < 1e-12);
        assert_eq!(rank_correlation(&x, &[2.0; 4]), None);
        assert_eq!(rank_correlation(&[], &[]), None);
    }
}
