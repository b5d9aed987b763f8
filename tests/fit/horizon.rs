//! Are independent errors told from errors that breed errors?

use factorexe::fit::Resampling;
use factorexe::fit::horizon::{Answers, HorizonReport, fit};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::close;

const RESAMPLING: Resampling = Resampling { resamples: 300, seed: 17 };

/// Chains of steps that fail at a rate of their own, and whether all steps went well.
fn simulate(failure: impl Fn(u32) -> f64) -> Vec<Answers> {
    let mut rng = ChaCha8Rng::seed_from_u64(19);
    let trials = 2000;
    let mut at = |length: u32| {
        let right =
            (0..trials).filter(|_| (0..length).all(|step| rng.random::<f64>() >= failure(step)));
        Answers { length: f64::from(length), correct: right.count() as u64, trials }
    };
    [1, 4, 8, 16, 32, 64, 512].map(&mut at).into()
}

fn determined(report: &HorizonReport) -> [f64; 3] {
    [&report.kappa, &report.lambda, &report.horizon_50].map(|found| found.estimate.unwrap())
}

#[test]
fn independent_errors_give_kappa_one() {
    let rate = 0.02_f64;
    let rows = simulate(|_| rate);
    // The longest chains never go well; the likelihood takes them as they are.
    assert_eq!(rows[6].correct, 0);
    let report = fit(&rows, RESAMPLING).unwrap();
    let [kappa, lambda, horizon] = determined(&report);
    // 2000 trials at each length leave a deviation of 0.02.
    close(kappa, 1.0, 0.06);
    close(lambda, -(1.0 - rate).ln(), 0.002);
    close(horizon, 0.5_f64.ln() / (1.0 - rate).ln(), 3.0);
    assert!(report.kappa.low.unwrap() < 1.0 && 1.0 < report.kappa.high.unwrap(), "{report:?}");
}

#[test]
fn errors_that_breed_errors_give_more_and_mended_ones_less() {
    let breeding = fit(&simulate(|step| 0.001 * f64::from(step + 1)), RESAMPLING).unwrap();
    assert!(breeding.kappa.low.unwrap() > 1.5, "{:?}", breeding.kappa);
    let mended = fit(&simulate(|step| 0.1 / f64::from(step + 1).sqrt()), RESAMPLING).unwrap();
    assert!(mended.kappa.high.unwrap() < 0.7, "{:?}", mended.kappa);
}

/// Two lengths, two numbers: -ln(1/2) = (2 lambda)^kappa and -ln(1/4) = (4 lambda)^kappa give
/// kappa 1 and a half length of 2.
#[test]
fn two_lengths_are_met_exactly() {
    let rows =
        [(2.0, 50), (4.0, 25)].map(|(length, correct)| Answers { length, correct, trials: 100 });
    let [kappa, lambda, horizon] = determined(&fit(&rows, RESAMPLING).unwrap());
    close(kappa, 1.0, 1e-6);
    close(lambda, std::f64::consts::LN_2 / 2.0, 1e-6);
    close(horizon, 2.0, 1e-6);
}

#[test]
fn a_sudden_end_determines_no_kappa() {
    let rows = [(1.0, 100), (2.0, 40), (4.0, 0)].map(|(length, correct)| Answers {
        length,
        correct,
        trials: 100,
    });
    let report = fit(&rows, RESAMPLING).unwrap();
    assert!(report.kappa.estimate.is_none());
    assert!(report.kappa.note.unwrap().contains("two lengths"));
}

#[test]
fn counts_beyond_reason_break_nothing() {
    let trials = u64::MAX;
    let rows = [(1e-300, trials - 1), (1.0, trials / 2), (1e300, 1)]
        .map(|(length, correct)| Answers { length, correct, trials });
    let report = fit(&rows, RESAMPLING).unwrap();
    assert!(report.kappa.estimate.is_none_or(|kappa| kappa > 0.0), "{report:?}");
}

#[test]
fn rows_without_sense_are_refused() {
    let good = Answers { length: 2.0, correct: 1, trials: 2 };
    for bad in [
        Answers { length: 0.0, ..good },
        Answers { length: f64::NAN, ..good },
        Answers { correct: 3, ..good },
        Answers { correct: 0, trials: 0, ..good },
    ] {
        assert!(fit(&[good, bad], RESAMPLING).unwrap_err().message().starts_with("row 2"));
    }
    assert!(fit(&[], RESAMPLING).is_err());
}
