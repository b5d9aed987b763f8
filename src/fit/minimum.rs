//! Minimisation of a function of a few variables without derivatives.

/// How far a search goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search {
    /// Ends once all corners are this close to the best one.
    pub(super) tolerance: f64,
    /// Fresh simplexes around the best point found.
    pub(super) restarts: usize,
}

/// To the last digits.
pub(super) const THOROUGH: Search = Search { tolerance: 1e-10, restarts: 6 };

/// Enough for a quantile over many resamples.
pub(super) const QUICK: Search = Search { tolerance: 1e-5, restarts: 1 };

/// A point and the value of the function there.
#[derive(Debug, Clone)]
pub(super) struct Corner {
    pub(super) at: Vec<f64>,
    pub(super) value: f64,
}

/// The lowest point near `start`, by Nelder and Mead 1965. Dimensions of step 0 stay where they
/// are; a value that is not a number counts as infinitely high.
pub(super) fn minimum(
    start: &[f64],
    steps: &[f64],
    search: Search,
    function: &dyn Fn(&[f64]) -> f64,
) -> Corner {
    let evaluate = |at: Vec<f64>| {
        let value = function(&at);
        Corner { at, value: if value.is_nan() { f64::INFINITY } else { value } }
    };
    let mut best = descend(evaluate(start.to_vec()), steps, search.tolerance, &evaluate);
    for restart in 1..=search.restarts {
        // Shrinking and mirrored, so that a collapsed simplex leaves its plane.
        let scale = if restart % 2 == 0 { 0.1 } else { -0.1 } / restart as f64;
        let again: Vec<f64> = steps.iter().map(|step| step * scale).collect();
        let next = descend(best.clone(), &again, search.tolerance, &evaluate);
        let moved = distance(&next.at, &best.at);
        best = next;
        if moved <= 10.0 * search.tolerance {
            break;
        }
    }
    best
}

fn descend(
    start: Corner,
    steps: &[f64],
    tolerance: f64,
    evaluate: &dyn Fn(Vec<f64>) -> Corner,
) -> Corner {
    let mut corners = vec![start];
    for (axis, step) in steps.iter().enumerate().filter(|(_, step)| **step != 0.0) {
        let mut at = corners[0].at.clone();
        at[axis] += step;
        corners.push(evaluate(at));
    }
    let most = 400 * (corners.len() - 1);
    for _ in 0..most {
        corners.sort_by(|a, b| a.value.total_cmp(&b.value));
        if corners.iter().all(|corner| distance(&corner.at, &corners[0].at) <= tolerance) {
            break;
        }
        turn(&mut corners, evaluate);
    }
    corners.sort_by(|a, b| a.value.total_cmp(&b.value));
    corners.swap_remove(0)
}

/// One step: the worst of the sorted corners is mirrored, or all move towards the best.
fn turn(corners: &mut [Corner], evaluate: &dyn Fn(Vec<f64>) -> Corner) {
    let last = corners.len() - 1;
    let beyond = |factor: f64| {
        let point = |axis: usize| {
            let others: f64 = corners[..last].iter().map(|corner| corner.at[axis]).sum();
            let centre = others / last as f64;
            centre + factor * (centre - corners[last].at[axis])
        };
        evaluate((0..corners[0].at.len()).map(point).collect())
    };
    let mirrored = beyond(1.0);
    let next = if mirrored.value < corners[0].value {
        let further = beyond(2.0);
        if further.value < mirrored.value { further } else { mirrored }
    } else if mirrored.value < corners[last - 1].value {
        mirrored
    } else {
        beyond(if mirrored.value < corners[last].value { 0.5 } else { -0.5 })
    };
    if next.value < corners[last].value {
        corners[last] = next;
        return;
    }
    let best = corners[0].at.clone();
    for corner in &mut corners[1..] {
        let half = corner.at.iter().zip(&best).map(|(x, b)| f64::midpoint(*x, *b)).collect();
        *corner = evaluate(half);
    }
}

/// The largest difference in one dimension.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rosenbrock 1960: a curved valley whose lowest point is (1, 1).
    #[test]
    fn the_end_of_a_curved_valley_is_found() {
        let valley = |at: &[f64]| 100.0 * (at[1] - at[0] * at[0]).powi(2) + (1.0 - at[0]).powi(2);
        let found = minimum(&[-1.2, 1.0], &[0.5, 0.5], THOROUGH, &valley);
        assert!(distance(&found.at, &[1.0, 1.0]) < 1e-6, "{found:?}");
    }

    #[test]
    fn a_dimension_without_a_step_stays() {
        let bowl = |at: &[f64]| at.iter().map(|x| x * x).sum();
        let found = minimum(&[3.0, 2.0], &[1.0, 0.0], THOROUGH, &bowl);
        assert!(found.at[0].abs() < 1e-8, "{found:?}");
        assert_eq!(found.at[1].to_bits(), 2.0_f64.to_bits());
    }
}
