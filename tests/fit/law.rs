//! Are exponents found from intervals, and is ignorance admitted?

use factorexe::fit::{Comparison, Form, FormFit, Needed, Resampling, chain, law};
use proptest::prelude::*;

use super::{close, noise};

const RESAMPLING: Resampling = Resampling { resamples: 200, seed: 7 };

/// Where the interval is not in question.
const FEW: Resampling = Resampling { resamples: 10, seed: 7 };

/// Searches end within this of the highest likelihood.
const SEARCHED: f64 = 1e-6;

fn needed(ratios: &[f64], low: f64, high: Option<f64>, cluster: usize) -> Needed {
    Needed { ratios: ratios.to_vec(), low, high, cluster: cluster.to_string() }
}

fn exact(ratios: &[f64], number: f64, cluster: usize) -> Needed {
    needed(ratios, number, Some(number), cluster)
}

/// What a search over 1, 2, 4 .. `most` would have found.
fn searched(ratios: &[f64], number: f64, most: f64, cluster: usize) -> Needed {
    let (mut low, mut tried) = (0.0, 1.0);
    while tried <= most {
        if number <= tried {
            return needed(ratios, low, Some(tried), cluster);
        }
        (low, tried) = (tried, 2.0 * tried);
    }
    needed(ratios, low, None, cluster)
}

fn of(found: &Comparison, form: Form) -> &FormFit {
    found.forms.iter().find(|fit| fit.form == form).unwrap()
}

type Law = fn(f64) -> f64;

/// Seeds of ratios 1 .. 16 with a factor of e^(0.2 noise).
fn grid(law: impl Fn(f64) -> f64) -> Vec<(f64, f64, usize)> {
    let mut noise = noise(3);
    let mut rows = Vec::new();
    for cluster in 0..6 {
        for ratio in [1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0] {
            rows.push((ratio, law(ratio) * (0.2 * noise()).exp(), cluster));
        }
    }
    rows
}

#[test]
fn exact_numbers_give_back_their_power() {
    let rows: Vec<Needed> =
        [1.0, 2.0, 5.0, 9.0].map(|r: f64| exact(&[r], 3.0 * r.powf(1.7), r as usize)).into();
    let found = law::fit(&rows, RESAMPLING).unwrap();
    let power = of(&found, Form::Power);
    close(power.parameters["exponent"], 1.7, SEARCHED);
    close(power.parameters["scale"], 3.0, SEARCHED);
    // A perfect fit stops at the floor.
    close(power.parameters["sigma"], 0.05, 1e-12);
    close(found.exponent.estimate.unwrap(), 1.7, SEARCHED);
}

/// With exact numbers the constant is the geometric mean, sigma the root mean square of the
/// logarithms about it, and the likelihood the normal one.
#[test]
fn exact_numbers_have_the_normal_likelihood() {
    let numbers = [2.0_f64, 8.0, 4.0, 4.0, 16.0, 2.0];
    let rows: Vec<Needed> =
        numbers.iter().enumerate().map(|(k, n)| exact(&[1.0 + k as f64], *n, k)).collect();
    let logs = numbers.map(f64::ln);
    let mean = logs.iter().sum::<f64>() / 6.0;
    let variance = logs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 6.0;
    let likelihood = -3.0 * ((2.0 * std::f64::consts::PI * variance).ln() + 1.0);
    let found = law::fit(&rows, RESAMPLING).unwrap();
    let constant = of(&found, Form::Constant);
    close(constant.parameters["scale"], mean.exp(), SEARCHED);
    close(constant.parameters["sigma"], variance.sqrt(), SEARCHED);
    close(constant.log_likelihood.unwrap(), likelihood, SEARCHED);
    // Two parameters, six rows: 2 k + 2 k (k + 1) / (n - k - 1) = 4 + 4.
    close(constant.aicc.unwrap(), 8.0 - 2.0 * likelihood, SEARCHED);
}

/// `mpmath` solved the likelihood equations of these seven intervals at 50 digits.
#[test]
fn intervals_agree_with_an_independent_solution() {
    let bounds = [(1.0, 2.0), (2.0, 4.0), (4.0, 8.0), (2.0, 4.0), (8.0, 16.0)];
    let mut rows: Vec<Needed> =
        bounds.iter().map(|(low, high)| needed(&[1.0], *low, Some(*high), 0)).collect();
    rows.push(needed(&[1.0], 0.0, Some(1.0), 0));
    rows.push(needed(&[1.0], 16.0, None, 0));
    let found = law::fit(&rows, RESAMPLING).unwrap();
    let constant = of(&found, Form::Constant);
    close(constant.parameters["scale"].ln(), 1.334_258_940_371, SEARCHED);
    close(constant.parameters["sigma"], 1.283_825_865_457_7, SEARCHED);
    close(constant.log_likelihood.unwrap(), -12.409_002_936_382, SEARCHED);
}

#[test]
fn the_form_that_made_the_numbers_is_chosen() {
    let laws: [(Form, Law); 5] = [
        (Form::Constant, |_| 7.0),
        (Form::Linear, |r| 3.0 * r),
        (Form::Power, |r| 2.0 * r.powf(1.8)),
        (Form::Logarithmic, |r| 4.0 + 9.0 * r.ln()),
        (Form::Exponential, |r| 2.0 * (0.3 * r).exp()),
    ];
    for (form, law) in laws {
        let rows: Vec<Needed> = grid(law)
            .into_iter()
            .map(|(ratio, number, cluster)| searched(&[ratio], number, 4096.0, cluster))
            .collect();
        let found = law::fit(&rows, FEW).unwrap();
        assert_eq!(found.form, Some(form), "{:#?}", found.forms);
        let best = of(&found, form).held_out.unwrap();
        let bent = found.forms.iter().filter_map(|fit| fit.held_out).fold(f64::MIN, f64::max);
        // A richer form that holds the true one may win by chance, but not by much.
        close(best, bent, 0.05);
    }
}

#[test]
fn censored_rows_do_not_flatten_the_power() {
    let (truth, most) = (1.5, 64.0);
    let rows: Vec<Needed> = grid(|r| 2.0 * r.powf(truth))
        .into_iter()
        .map(|(ratio, number, cluster)| searched(&[ratio], number, most, cluster))
        .collect();
    let found = law::fit(&rows, RESAMPLING).unwrap();
    assert!(found.right_censored >= 4, "{}", found.right_censored);
    let exponent = found.exponent;
    assert!(exponent.low.unwrap() < truth && truth < exponent.high.unwrap(), "{exponent:?}");
    // 48 intervals a factor of 2 wide leave a deviation near 0.05.
    close(exponent.estimate.unwrap(), truth, 0.12);
}

#[test]
fn depth_and_width_have_exponents_of_their_own() {
    let mut noise = noise(5);
    let mut rows = Vec::new();
    for cluster in 0..4 {
        for depth in [1.0_f64, 2.0, 4.0, 8.0] {
            for width in [1.0_f64, 2.0, 3.0] {
                let number = 2.0 * depth * width.powf(0.6) * (0.1 * noise()).exp();
                rows.push(searched(&[depth, width], number, 512.0, cluster));
            }
        }
    }
    let found = law::fit(&rows, RESAMPLING).unwrap();
    assert_eq!(found.form, Some(Form::Linear));
    let second = found.second_exponent.unwrap();
    close(found.exponent.estimate.unwrap(), 1.0, 0.1);
    close(second.estimate.unwrap(), 0.6, 0.15);
    assert!(second.low.unwrap() < 0.6 && 0.6 < second.high.unwrap(), "{second:?}");
}

#[test]
fn ratios_that_move_together_determine_no_power() {
    let rows: Vec<Needed> =
        [1.0, 2.0, 4.0, 8.0, 16.0].map(|r| searched(&[r, r], 3.0 * r, 256.0, r as usize)).into();
    let found = law::fit(&rows, RESAMPLING).unwrap();
    assert!(of(&found, Form::Power).note.as_ref().unwrap().contains("needs 3 settings"));
    assert!(found.exponent.estimate.is_none() && found.exponent.note.is_some());
}

#[test]
fn nothing_sufficed_is_an_answer() {
    let rows = [1.0, 2.0, 4.0].map(|r| needed(&[r], 64.0, None, 0));
    let found = law::fit(&rows, RESAMPLING).unwrap();
    assert_eq!((found.form, found.right_censored), (None, 3));
    assert!(found.note.unwrap().contains("none of the numbers tried sufficed"));
    assert!(found.exponent.estimate.is_none());
}

/// Enough for the small, never for the large: any steep enough power explains that.
#[test]
fn one_sided_rows_determine_no_power() {
    let rows = [
        needed(&[1.0], 0.0, Some(4.0), 0),
        needed(&[2.0], 4.0, None, 1),
        needed(&[4.0], 4.0, None, 2),
    ];
    let found = law::fit(&rows, RESAMPLING).unwrap();
    assert_eq!(found.form, None);
    assert!(found.exponent.estimate.is_none());
}

#[test]
fn one_cluster_gives_no_interval() {
    let rows = [1.0, 2.0, 4.0, 8.0].map(|r| exact(&[r], r * r, 0));
    let exponent = law::fit(&rows, RESAMPLING).unwrap().exponent;
    close(exponent.estimate.unwrap(), 2.0, SEARCHED);
    assert!(exponent.low.is_none() && exponent.note.unwrap().contains("2 clusters"));
}

#[test]
fn blind_search_over_chains_is_exponential_and_taught_steps_are_constant() {
    for (form, law) in [
        (Form::Exponential, (|t| 10.0 * (0.7 * t).exp()) as Law),
        (Form::Power, |t| 50.0 * t.powf(1.2)),
        (Form::Constant, |_| 300.0),
    ] {
        let rows: Vec<Needed> = grid(law)
            .into_iter()
            .map(|(length, number, cluster)| exact(&[length], number, cluster))
            .collect();
        let found = chain::fit(&rows, RESAMPLING).unwrap();
        assert_eq!((found.form, found.forms.len()), (Some(form), 3));
    }
}

#[test]
fn the_same_seed_gives_the_same_interval() {
    let rows: Vec<Needed> = grid(|r| 3.0 * r)
        .into_iter()
        .map(|(ratio, number, cluster)| searched(&[ratio], number, 128.0, cluster))
        .collect();
    let fit = |seed: u64| law::fit(&rows, Resampling { seed, ..FEW }).unwrap();
    assert_eq!(fit(1), fit(1));
    assert_ne!(fit(1).exponent.low, fit(2).exponent.low);
}

#[test]
fn rows_without_sense_are_refused() {
    let cases = [
        vec![],
        vec![exact(&[], 1.0, 0)],
        vec![exact(&[-1.0], 1.0, 0)],
        vec![exact(&[f64::NAN], 1.0, 0)],
        vec![exact(&[1.0], 1.0, 0), exact(&[1.0, 2.0], 1.0, 0)],
        vec![needed(&[1.0], 4.0, Some(2.0), 0)],
        vec![needed(&[1.0], 0.0, None, 0)],
        vec![needed(&[1.0], 0.0, Some(0.0), 0)],
        vec![needed(&[1.0], f64::NAN, Some(2.0), 0)],
    ];
    for rows in cases {
        assert!(law::fit(&rows, RESAMPLING).is_err(), "{rows:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Whatever the rows, the report has no number that JSON cannot hold.
    #[test]
    fn any_rows_give_a_report_or_an_error(
        rows in prop::collection::vec((-300..300_i32, -300..300_i32, 0..600_i32, 0..4_usize), 0..8),
    ) {
        let number = |exponent: i32| 10.0_f64.powi(exponent);
        let rows: Vec<Needed> = rows
            .into_iter()
            .map(|(ratio, low, above, kind)| {
                let low = number(low);
                let high = (kind != 0).then(|| low * number(above));
                needed(&[number(ratio)], if kind == 1 { 0.0 } else { low }, high, kind)
            })
            .collect();
        if let Ok(found) = law::fit(&rows, Resampling { resamples: 5, seed: 0 }) {
            let json = serde_json::to_value(&found).unwrap();
            for fit in json["forms"].as_array().unwrap() {
                for value in fit["parameters"].as_object().unwrap().values() {
                    prop_assert!(value.is_number(), "{}", json);
                }
            }
        }
    }
}
