//! The loss surface over parameters, repetitions and tokens, fitted by Huber loss in log space.
//!
//! L = E + A (N_once + r^phi N_rec)^-alpha + B D^-beta (arXiv 2604.21106, after Hoffmann et al.,
//! arXiv 2203.15556). For given exponents it is linear in E, A and B, so that only the exponents
//! are searched: variable projection (Golub and Pereyra 1973), on a grid and then from its lowest
//! points.
//!
//! The objective is the sum, not the mean, of Huber terms of 1 - fitted/measured, which is ln of
//! the ratio to first order and keeps the inner problem convex.

use super::minimum::{Search, minimum};
use super::nonnegative::NormalEquations;
use super::span::rank;

/// One trained model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    /// Parameters applied once.
    pub n_once: f64,
    /// Parameters of the block that is repeated.
    pub n_rec: f64,
    /// How often the block is applied.
    pub repetitions: f64,
    /// Tokens trained on.
    pub tokens: f64,
    /// The loss reached.
    pub loss: f64,
}

/// What is known of one of the exponents.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Axis {
    /// To be found.
    Free,
    /// Given, or without any effect on these runs.
    Fixed(f64),
}

/// The exponents of a surface: phi, ln alpha and ln beta.
pub(super) type Exponents = [f64; 3];

/// A surface at its closest.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Fitted {
    pub(super) exponents: Exponents,
    /// E, then A and B in units of the columns' scale.
    weights: [f64; 3],
    scale: [f64; 2],
    /// The sum of Huber terms.
    pub(super) objective: f64,
}

impl Fitted {
    /// E, A, alpha, B, beta, phi.
    pub(super) fn parameters(&self) -> [f64; 6] {
        let [phi, alpha, beta] = self.exponents;
        let (alpha, beta) = (alpha.exp(), beta.exp());
        let [e, a, b] = self.weights;
        [e, a * self.scale[0].powf(alpha), alpha, b * self.scale[1].powf(beta), beta, phi]
    }

    /// Which of the parameters the weighted runs of `surface` tell apart from the others: those
    /// whose derivative is no mix of the other derivatives.
    pub(super) fn determined(&self, surface: &Surface) -> [bool; 6] {
        let counted =
            surface.runs.iter().zip(&surface.weights).filter(|(_, weight)| **weight > 0.0);
        let rows: Vec<[f64; 6]> = counted.map(|(run, _)| self.derivatives(run)).collect();
        // What is given is not in question.
        let given = |axis: usize| matches!(surface.axes[axis], Axis::Fixed(_));
        let given = [false, false, given(1), given(2), given(2), given(0)];
        let columns = |wanted: &dyn Fn(usize) -> bool| -> Vec<Vec<f64>> {
            let kept = (0..6).filter(|column| !given[*column] && wanted(*column));
            kept.map(|column| rows.iter().map(|row| row[column]).collect()).collect()
        };
        let all = rank(&columns(&|_| true));
        std::array::from_fn(|it| !given[it] && all > rank(&columns(&|other| other != it)))
    }

    /// Of the expected loss by each parameter, up to factors and mixes within E, A, alpha and
    /// within B, beta.
    fn derivatives(&self, run: &Run) -> [f64; 6] {
        let [phi, ..] = self.exponents;
        let [e, a, b] = columns(run, self.exponents, self.scale);
        let repeated = run.repetitions.powf(phi) * run.n_rec;
        let effective = run.n_once + repeated;
        let by_alpha = self.weights[1] * a * (effective / self.scale[0]).ln();
        let by_beta = self.weights[2] * b * (run.tokens / self.scale[1]).ln();
        let by_phi = self.weights[1] * a * run.repetitions.ln() * repeated / effective;
        [e, a, by_alpha, b, by_beta, by_phi]
    }

    /// The loss it expects of a run.
    pub(super) fn predict(&self, run: &Run) -> f64 {
        let row = columns(run, self.exponents, self.scale);
        row.iter().zip(self.weights).map(|(x, weight)| x * weight).sum()
    }
}

fn columns(run: &Run, [phi, alpha, beta]: Exponents, scale: [f64; 2]) -> [f64; 3] {
    let effective = run.n_once + run.repetitions.powf(phi) * run.n_rec;
    let tokens = if beta <= NO_TOKENS { 0.0 } else { (run.tokens / scale[1]).powf(-beta.exp()) };
    [1.0, (effective / scale[0]).powf(-alpha.exp()), tokens]
}

/// The runs, how often each counts, and where residuals stop counting as squares.
#[derive(Debug, Clone)]
pub(super) struct Surface<'a> {
    pub(super) runs: &'a [Run],
    pub(super) weights: Vec<f64>,
    pub(super) delta: f64,
    /// Phi, ln alpha and ln beta.
    pub(super) axes: [Axis; 3],
}

/// The ln beta, outside of all that are sought, that takes the tokens out of the surface.
pub(super) const NO_TOKENS: f64 = -100.0;

/// How far exponents are sought: phi, ln alpha, ln beta.
const BOX: [(f64, f64); 3] = [(-2.0, 4.0), (-7.0, 2.0), (-7.0, 2.0)];

/// The grid's corners; loss exponents of language models lie well inside.
const GRID: [(f64, f64); 3] = [(-0.25, 1.5), (-3.5, 0.7), (-3.5, 0.7)];

impl Surface<'_> {
    /// The closest surface, from the lowest points of a grid of `points` to a side and from
    /// `start`, where one is known.
    pub(super) fn fit(&self, points: usize, start: Option<Exponents>, search: Search) -> Fitted {
        let side = |axis: usize| -> Vec<f64> {
            let (low, high) = GRID[axis];
            match self.axes[axis] {
                Axis::Fixed(value) => vec![value],
                Axis::Free => (0..points)
                    .map(|k| low + (high - low) * k as f64 / points.saturating_sub(1).max(1) as f64)
                    .collect(),
            }
        };
        let mut grid: Vec<Fitted> = Vec::new();
        for phi in side(0) {
            for alpha in side(1) {
                grid.extend(side(2).into_iter().map(|beta| self.at([phi, alpha, beta])));
            }
        }
        grid.sort_by(|a, b| a.objective.total_cmp(&b.objective));
        // Valleys are few; more starts than these found nothing lower.
        grid.truncate(if start.is_some() { 1 } else { 4 });
        let starts = grid.iter().map(|fitted| fitted.exponents).chain(start);
        let found = starts.map(|start| self.descend(start, search));
        found
            .min_by(|a, b| a.objective.total_cmp(&b.objective))
            .unwrap_or_else(|| self.at([0.0; 3]))
    }

    /// The closest surface near `start`.
    pub(super) fn descend(&self, start: Exponents, search: Search) -> Fitted {
        let step = |axis: Axis, step: f64| if axis == Axis::Free { step } else { 0.0 };
        let [phi, alpha, beta] = self.axes;
        let steps = [step(phi, 0.1), step(alpha, 0.2), step(beta, 0.2)];
        let objective = |at: &[f64]| {
            let inside = at
                .iter()
                .zip(BOX)
                .zip(steps)
                .all(|((x, (low, high)), step)| step == 0.0 || (low..=high).contains(x));
            if inside { self.at([at[0], at[1], at[2]]).objective } else { f64::INFINITY }
        };
        let at = minimum(&start, &steps, search, &objective).at;
        self.at([at[0], at[1], at[2]])
    }

    /// The closest surface of given exponents: E, A, B >= 0 by reweighted least squares.
    pub(super) fn at(&self, exponents: Exponents) -> Fitted {
        let scale = self.scale(exponents[0]);
        let rows: Vec<[f64; 3]> = self
            .runs
            .iter()
            .map(|run| columns(run, exponents, scale).map(|x| x / run.loss))
            .collect();
        let residual =
            |row: &[f64; 3], [e, a, b]: [f64; 3]| 1.0 - e * row[0] - a * row[1] - b * row[2];
        let mut best = ([0.0; 3], f64::INFINITY);
        let mut factors = self.weights.clone();
        // Each round lowers the sum (Huber 1981, 7.8); the last digits do not matter.
        for _ in 0..60 {
            let mut products = NormalEquations::default();
            for (row, factor) in rows.iter().zip(&factors) {
                products.add(*row, 1.0, *factor);
            }
            let weights = products.solve();
            let mut sum = 0.0;
            for ((row, factor), weight) in rows.iter().zip(&mut factors).zip(&self.weights) {
                let size = residual(row, weights).abs();
                let (term, share) = huber(size, self.delta);
                sum += weight * term;
                *factor = weight * share;
            }
            let settled = best.1 - sum <= 1e-9 * sum;
            if sum < best.1 {
                best = (weights, sum);
            }
            if settled {
                break;
            }
        }
        Fitted { exponents, weights: best.0, scale, objective: best.1 }
    }

    /// Geometric means, which keep the columns near 1.
    fn scale(&self, phi: f64) -> [f64; 2] {
        let mean = |of: &dyn Fn(&Run) -> f64| {
            (self.runs.iter().map(|run| of(run).ln()).sum::<f64>() / self.runs.len() as f64).exp()
        };
        [mean(&|run| run.n_once + run.repetitions.powf(phi) * run.n_rec), mean(&|run| run.tokens)]
    }
}

/// The Huber term of a residual's size and its share of the square's weight.
fn huber(size: f64, delta: f64) -> (f64, f64) {
    if size <= delta {
        (0.5 * size * size, 1.0)
    } else {
        (delta * (size - 0.5 * delta), delta / size)
    }
}
