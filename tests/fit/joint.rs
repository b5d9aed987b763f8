//! Does the surface give back its constants?

use factorexe::fit::{Estimate, Resampling, Run, joint};

use super::{close, noise};

const RESAMPLING: Resampling = Resampling { resamples: 40, seed: 11 };

/// The published delta of the Huber terms.
const DELTA: f64 = 1e-3;

/// E, A, alpha, B, beta as Hoffmann et al. give them, and phi of arXiv 2604.21106.
const TRUTH: [f64; 6] = [1.69, 406.4, 0.34, 410.7, 0.28, 0.46];

fn loss(run: &Run, [e, a, alpha, b, beta, phi]: [f64; 6]) -> f64 {
    let effective = run.n_once + run.repetitions.powf(phi) * run.n_rec;
    e + a * effective.powf(-alpha) + b * run.tokens.powf(-beta)
}

/// Four sizes, four numbers of repetitions, `tokens`, with relative noise.
fn runs(tokens: &[f64], truth: [f64; 6], relative: f64) -> Vec<Run> {
    let mut noise = noise(13);
    let mut runs = Vec::new();
    for size in [1e7_f64, 4e7, 2e8, 1e9] {
        for repetitions in [1.0, 2.0, 4.0, 8.0] {
            for tokens in tokens {
                // Small models spend a larger share outside the block.
                let n_once = 0.4 * size * (1e7 / size).powf(0.2);
                let run = Run { n_once, n_rec: size, repetitions, tokens: *tokens, loss: 1.0 };
                let measured = loss(&run, truth) * (relative * noise()).exp();
                runs.push(Run { loss: measured, ..run });
            }
        }
    }
    runs
}

fn estimates(report: &joint::JointReport) -> [&Estimate; 6] {
    let found = &report.parameters;
    [&found.e, &found.a, &found.alpha, &found.b, &found.beta, &found.phi]
}

#[test]
fn known_parameters_are_recovered_exactly() {
    let runs = runs(&[1e9, 1e10, 5e10], TRUTH, 0.0);
    let report = joint::fit(&runs, DELTA, Resampling { resamples: 2, seed: 0 }).unwrap();
    for (found, truth) in estimates(&report).into_iter().zip(TRUTH) {
        // Without noise only the search's last digits are left.
        close(found.estimate.unwrap(), truth, 1e-4 * truth);
    }
    let extrapolation = report.extrapolation.unwrap();
    assert!(extrapolation.relative_error.unwrap() < 1e-6, "{extrapolation:?}");
    assert_eq!(extrapolation.rows, 4);
}

#[test]
fn surfaces_without_repetitions_are_those_of_chinchilla() {
    let mut runs = runs(&[1e9, 1e10, 5e10], TRUTH, 0.0);
    for run in &mut runs {
        // The block counts once, so that sizes are plain sums.
        *run = Run { repetitions: 1.0, n_once: run.n_once * run.repetitions, ..*run };
        run.loss = loss(run, TRUTH);
    }
    let report = joint::fit(&runs, DELTA, RESAMPLING).unwrap();
    for (found, truth) in estimates(&report).into_iter().zip(TRUTH).take(5) {
        close(found.estimate.unwrap(), truth, 1e-4 * truth);
    }
    assert!(report.parameters.phi.note.as_ref().unwrap().contains("repetitions do not vary"));
    assert!(report.profile.is_none() && report.restricted.is_empty());
}

#[test]
fn tokens_that_do_not_vary_have_no_share() {
    let truth = [1.69, 406.4, 0.34, 0.0, 0.28, 0.46];
    let report = joint::fit(&runs(&[1e10], truth, 0.0), DELTA, RESAMPLING).unwrap();
    let [e, a, alpha, b, beta, phi] = estimates(&report);
    for (found, truth) in [(e, 1.69), (a, 406.4), (alpha, 0.34), (phi, 0.46)] {
        close(found.estimate.unwrap(), truth, 1e-4 * truth);
    }
    assert!(b.estimate.is_none() && beta.note.as_ref().unwrap().contains("tokens do not vary"));
}

#[test]
fn noise_leaves_the_truth_inside_both_intervals() {
    let report = joint::fit(&runs(&[1e9, 1e10, 5e10], TRUTH, 0.003), 0.003, RESAMPLING).unwrap();
    let phi = &report.parameters.phi;
    assert!(phi.low.unwrap() < 0.46 && 0.46 < phi.high.unwrap(), "{phi:?}");
    let profile = report.profile.unwrap();
    assert!(profile.low.unwrap() < 0.46 && 0.46 < profile.high.unwrap(), "{profile:?}");
    // Two ways to one interval: of the same order, if not the same.
    let (drawn, profiled) =
        (phi.high.unwrap() - phi.low.unwrap(), profile.high.unwrap() - profile.low.unwrap());
    assert!((0.4..2.5).contains(&(drawn / profiled)), "{drawn} against {profiled}");
    assert!(report.extrapolation.unwrap().relative_error.unwrap() < 0.02);
}

#[test]
fn a_wrong_worth_of_repetitions_explains_less() {
    let report = joint::fit(&runs(&[1e9, 1e10], TRUTH, 0.002), DELTA, RESAMPLING).unwrap();
    let free = report.r_squared.unwrap();
    assert_eq!(report.restricted.iter().map(|fit| fit.phi).collect::<Vec<_>>(), [0.0, 1.0]);
    for restricted in report.restricted {
        assert!(restricted.r_squared.unwrap() < free - 1e-4, "{restricted:?} against {free}");
        assert!(restricted.objective.unwrap() > 2.0 * report.objective.unwrap());
    }
    let curve = report.profile.unwrap().curve;
    let lowest = curve.iter().min_by(|a, b| a.objective.partial_cmp(&b.objective).unwrap());
    close(lowest.unwrap().phi, report.parameters.phi.estimate.unwrap(), 1e-12);
}

#[test]
fn one_run_gone_wrong_hardly_moves_phi() {
    let mut runs = runs(&[1e9, 1e10, 5e10], TRUTH, 0.001);
    runs[20].loss *= 1.5;
    let report = joint::fit(&runs, DELTA, RESAMPLING).unwrap();
    // Least squares would move it by more than 0.1.
    close(report.parameters.phi.estimate.unwrap(), 0.46, 0.04);
}

/// Two sums E + B D^-beta fit any beta.
#[test]
fn two_numbers_of_tokens_tell_phi_but_not_beta() {
    let report = joint::fit(&runs(&[1e9, 1e10], TRUTH, 0.0), DELTA, RESAMPLING).unwrap();
    let [e, a, alpha, b, beta, phi] = estimates(&report);
    for (found, truth) in [(a, 406.4), (alpha, 0.34), (phi, 0.46)] {
        close(found.estimate.unwrap(), truth, 1e-4 * truth);
    }
    for found in [e, b, beta] {
        assert!(found.estimate.is_none() && found.note.is_some(), "{found:?}");
    }
}

#[test]
fn one_number_of_repetitions_in_one_proportion_says_nothing_of_phi() {
    let runs: Vec<Run> = [1e6, 3e6, 1e7, 3e7, 1e8]
        .map(|size: f64| Run {
            n_once: size,
            n_rec: size,
            repetitions: 4.0,
            tokens: 1e9,
            loss: 2.0 + 300.0 * size.powf(-0.3),
        })
        .into();
    let report = joint::fit(&runs, DELTA, RESAMPLING).unwrap();
    assert!(report.parameters.phi.estimate.is_none());
    close(report.parameters.alpha.estimate.unwrap(), 0.3, 1e-4);
}

#[test]
fn sizes_beyond_reason_break_nothing() {
    for (factor, tokens) in [(1e290, 1.0), (1e-290, 1e-300), (1e-3, 1e300)] {
        let mut runs = runs(&[1e9, 1e10, 5e10], TRUTH, 0.01);
        for run in &mut runs {
            (run.n_once, run.n_rec) = (run.n_once * factor, run.n_rec * factor);
            (run.repetitions, run.tokens) = (run.repetitions.powi(300), run.tokens * tokens);
        }
        let found = joint::fit(&runs, DELTA, Resampling { resamples: 3, seed: 0 });
        assert!(found.is_ok() || found.is_err_and(|error| error.message().starts_with("row")));
    }
}

#[test]
fn too_few_settings_or_senseless_runs_are_refused() {
    let good = runs(&[1e9, 1e10], TRUTH, 0.0);
    assert!(joint::fit(&good[..4], DELTA, RESAMPLING).is_err());
    assert!(joint::fit(&[], DELTA, RESAMPLING).is_err());
    assert!(joint::fit(&good, 0.0, RESAMPLING).is_err());
    let spoiled: [fn(&mut Run); 5] = [
        |run| run.loss = f64::NAN,
        |run| run.tokens = 0.0,
        |run| run.n_rec = -1.0,
        |run| run.repetitions = f64::INFINITY,
        |run| (run.n_once, run.n_rec) = (0.0, 0.0),
    ];
    for spoil in spoiled {
        let mut runs = good.clone();
        spoil(&mut runs[3]);
        let error = joint::fit(&runs, DELTA, RESAMPLING).unwrap_err();
        assert!(error.message().starts_with("row 4"), "{error}");
    }
}
