//! Halting policies: their curves against decoding under them.

use factorexe::context::Context;
use factorexe::data::EvaluationWindow;
use factorexe::decode::{CacheSharing, Decoder};
use factorexe::eval::{CalibrateConfig, PolicyScore, calibrate, evaluate_policies};
use factorexe::halting::{Halting, PolicyName};
use factorexe::kernels::WeightType;
use factorexe::model::{LoopedConfig, LoopedTransformer, Relaxation};

use crate::support::students::Teacher;
use crate::support::{random_params, tiny_looped};

/// Windows of one token and the next: no token attends to another. So few that the curve has a
/// threshold for every score of a token.
fn windows() -> Vec<EvaluationWindow> {
    let window = |document: usize| EvaluationWindow {
        document,
        tokens: vec![(document * 5 % 37) as u32, (document * document % 37) as u32],
    };
    (0..20).map(window).collect()
}

/// Rounding of the score of a token, in decoding and in a full forward pass.
const F32_SCORE: f64 = 1e-5;

#[test]
fn a_curve_is_what_decoding_gives_where_no_other_token_is_attended_to() {
    let deep = Teacher::random(6).model;
    let looped = LoopedConfig { repetitions: 4, ..tiny_looped(Relaxation::Lora { rank: 2 }) };
    let student = LoopedTransformer::new(&looped, &random_params(&looped.tensors())).unwrap();
    let decoder = Decoder::new(&student, WeightType::F32).unwrap();
    let (windows, config) = (windows(), CalibrateConfig::default());
    let mut halting = calibrate(&deep, &student, "it", &windows, &config, &Context::cpu()).unwrap();
    let evaluate = |halting: &Halting, name: PolicyName| -> PolicyScore {
        let (sharing, names) = (CacheSharing::Own, [name]);
        let report = evaluate_policies(
            &deep,
            &student,
            &decoder,
            halting,
            &names,
            sharing,
            &windows,
            8,
            &Context::cpu(),
        );
        report.unwrap().policies.remove(0)
    };
    for index in 0..PolicyName::ALL.len() {
        let name = halting.policies[index].curve.policy;
        let curve = evaluate(&halting, name).curve;
        let counts = matches!(name, PolicyName::Fixed | PolicyName::Stable);
        let (mut compared, mut close) = (0, 0);
        // Thresholds that tokens meet exactly are decided by rounding: the middle of two is taken,
        // but of two that rounding may swap.
        for pair in curve.windows(2) {
            let between = f64::midpoint(pair[0].threshold, pair[1].threshold);
            if !counts && (pair[0].threshold - pair[1].threshold).abs() < F32_SCORE {
                close += 1;
                continue;
            }
            halting.policies[index].threshold = if counts { pair[0].threshold } else { between };
            let score = evaluate(&halting, name);
            let same_stops = pair.iter().find(|point| point.stops == score.stops);
            let point =
                same_stops.unwrap_or_else(|| panic!("{name}: {:?} of {pair:?}", score.stops));
            assert!((score.mean_repetitions - point.mean_repetitions).abs() < 1e-9, "{name}");
            assert!((score.kl_nats / point.kl_nats - 1.0).abs() < 1e-4, "{name}");
            assert!((score.perplexity.ln() / point.nll_nats - 1.0).abs() < 1e-4, "{name}");
            assert!((score.agreement - point.agreement).abs() < 1e-9, "{name}");
            compared += 1;
        }
        println!("{name}: {compared} compared, {close} too close");
        assert!(compared >= 2 && 4 * close <= compared, "{name}: {compared}, {close} too close");
    }
}
