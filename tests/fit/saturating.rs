//! Is the floor of a falling loss found before it is reached?

use factorexe::fit::Resampling;
use factorexe::fit::saturating::{Reached, fit};

use super::{close, noise};

const RESAMPLING: Resampling = Resampling { resamples: 200, seed: 23 };

fn curve(noise_size: f64) -> Vec<Reached> {
    let mut noise = noise(29);
    let at = |n: i32| {
        let loss = 2.1 + 0.8 * (-0.35 * f64::from(n)).exp() + noise_size * noise();
        Reached { repetitions: f64::from(n), loss }
    };
    (1..=12).map(at).collect()
}

#[test]
fn known_curves_are_recovered_exactly() {
    let report = fit(&curve(0.0), RESAMPLING).unwrap();
    for (found, truth) in [(&report.limit, 2.1), (&report.fall, 0.8), (&report.rate, 0.35)] {
        close(found.estimate.unwrap(), truth, 1e-6);
    }
}

#[test]
fn the_truth_lies_within_the_intervals() {
    let report = fit(&curve(0.01), RESAMPLING).unwrap();
    for (found, truth) in [(&report.limit, 2.1), (&report.fall, 0.8), (&report.rate, 0.35)] {
        assert!(found.low.unwrap() < truth && truth < found.high.unwrap(), "{found:?}, {truth}");
    }
    close(report.limit.estimate.unwrap(), 2.1, 0.02);
}

#[test]
fn a_loss_that_does_not_fall_has_no_rate() {
    let rows = [1.0, 2.0, 4.0, 8.0].map(|n| Reached { repetitions: n, loss: 2.0 + n });
    let report = fit(&rows, RESAMPLING).unwrap();
    close(report.fall.estimate.unwrap(), 0.0, 1e-12);
    close(report.limit.estimate.unwrap(), 5.75, 1e-9);
    assert!(report.rate.note.unwrap().contains("does not fall"));
}

#[test]
fn rows_without_sense_are_refused() {
    let mut rows = curve(0.0);
    assert!(fit(&rows[..2], RESAMPLING).is_err());
    rows[1].loss = f64::INFINITY;
    assert!(fit(&rows, RESAMPLING).is_err());
}
