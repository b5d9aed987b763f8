//! Does a gate learn together with its student what its policy says, and stop tokens by it?

use candle_core::{Device, Tensor};
use factorexe::autograd::{Params, Tape, Value};
use factorexe::context::Context;
use factorexe::data::{Batch, IGNORED};
use factorexe::decode::{CacheSharing, Decoder, ReadDepth};
use factorexe::distill::init::split;
use factorexe::distill::*;
use factorexe::eval::{CalibrateConfig, OwnGate, calibrate};
use factorexe::halting::gate::survival;
use factorexe::halting::ponder::geometric;
use factorexe::halting::{Gate, GateTraining, JointPolicy, PolicyName};
use factorexe::hub::{Card, Source, StoredType, export_student};
use factorexe::kernels::quantized::WeightType;
use factorexe::model::*;
use factorexe::train::{Loss, Objective, StepContext};

use crate::depth::{assert_differences, batch, config, exits, moment};
use crate::distill::{F32_STACK, calibration, student_config, teacher, trainable};
use crate::support::{difference, random, random_params, tiny_looped};

const POLICIES: [JointPolicy; 2] = [JointPolicy::Ponder, JointPolicy::ExitGate];
const ALL: [JointPolicy; 3] = [JointPolicy::Ponder, JointPolicy::ExitGate, JointPolicy::Act];
const GATE: [&str; 2] = ["halt.weight", "halt.bias"];

fn joint(policy: JointPolicy) -> HaltingConfig {
    let weight = WeightSchedule::Constant(0.7);
    HaltingConfig { weight, cost_weight: Some(0.2), ..HaltingConfig::new(policy) }
}

fn with(halting: Option<HaltingConfig>, recompute: Recompute) -> DistillConfig {
    let mut config = config(exits(0.0, 1), recompute);
    config.loss.halting = halting;
    config
}

/// An objective over a student whose gate says `bias` and of states what `scale` says.
fn objective(
    config: DistillConfig,
    (repetitions, coda): (usize, usize),
    scale: f64,
    bias: Option<Vec<f32>>,
) -> (Distillation<'static>, Params) {
    let teacher = teacher(6);
    let student = student_config(1, 1, repetitions, coda);
    let mut looped = split::find(&teacher.0, &student, &calibration(), &Context::cpu()).unwrap();
    looped.gate = config.loss.halting.map(|halting| halting.policy);
    let seen = calibration();
    let (deep, own) = (&teacher.0, &teacher.1);
    let mut tensors =
        student_tensors(deep, own, &looped, &student, &seen, 7, &Context::cpu()).unwrap();
    if looped.gate.is_some() {
        let weight = (random(77, &[16]) * scale).unwrap();
        tensors.insert(GATE[0].into(), weight);
        if let Some(bias) = bias {
            let count = bias.len();
            tensors.insert(GATE[1].into(), Tensor::from_vec(bias, count, &Device::Cpu).unwrap());
        }
    }
    let params = trainable(&tensors, &[]);
    let made = LoopedTransformer::new(&looped, &params).unwrap();
    (Distillation::new(teacher.0, made, params.clone(), config).unwrap(), params)
}

fn step(config: DistillConfig, repetitions: usize, bias: Option<Vec<f32>>) -> Loss {
    let (objective, _) = objective(config, (repetitions, 1), 0.4, bias);
    objective.loss(&batch(), &mut moment()).unwrap()
}

/// Every second token is asked.
pub(crate) fn asked() -> Batch {
    let mut batch = batch();
    for (place, target) in batch.targets.iter_mut().enumerate() {
        if place % 2 == 0 {
            *target = IGNORED;
        }
    }
    batch
}

#[test]
fn every_parameter_has_the_gradient_of_finite_differences() {
    // Where the number of an ACT token's repetitions changes, there is a step: gates that hardly vary
    // keep away from it, three repetitions first and then two.
    let gates = |policy, bias: [f32; 2]| match policy {
        JointPolicy::Act => (0.1, Some(bias.to_vec())),
        _ => (0.4, None),
    };
    for policy in ALL {
        for (recompute, coda, bias) in
            [(Recompute::Never, 1, [-0.4, 0.0]), (Recompute::Always, 0, [0.2, 0.8])]
        {
            println!("{policy:?} {recompute:?}");
            let config = with(Some(joint(policy)), recompute);
            let (scale, bias) = gates(policy, bias);
            let (objective, params) = objective(config, (3, coda), scale, bias);
            assert_eq!(params.trainable().filter(|(name, _)| name.starts_with("halt.")).count(), 2);
            assert_differences(&objective, &batch(), &params);
        }
        let (scale, bias) = gates(policy, [0.2, 0.8]);
        let config = with(Some(joint(policy)), Recompute::Never);
        let (objective, params) = objective(config, (3, 1), scale, bias);
        assert_differences(&objective, &asked(), &params);
    }
}

#[test]
fn repetitions_computed_anew_give_the_gradients_of_those_that_were_kept() {
    for (repetitions, policy) in [2, 5, 20].into_iter().flat_map(|n| ALL.map(|policy| (n, policy)))
    {
        let one = |recompute| step(with(Some(joint(policy)), recompute), repetitions, None);
        let (kept, anew) = (one(Recompute::Never), one(Recompute::Always));
        assert!((kept.total - anew.total).abs() < 1e-5 * kept.total);
        assert!(kept.terms.keys().eq(anew.terms.keys()));
        assert_eq!(kept.gradients.len(), anew.gradients.len());
        for (name, kept) in &kept.gradients {
            let error = difference(kept, &anew.gradients[name]);
            assert!(error < F32_STACK, "{name} is off by {error}");
        }
    }
}

/// What a student of `repetitions` says of `batch` without a gate.
fn alone(repetitions: usize, made_for: usize) -> Loss {
    let teacher = teacher(6);
    let student = student_config(1, 1, made_for, 1);
    let (looped, tensors) = crate::distill::start(&teacher, &student);
    let looped = LoopedConfig { repetitions, ..looped };
    let params = trainable(&tensors, &[]);
    let made = LoopedTransformer::new(&looped, &params).unwrap();
    let config = with(None, Recompute::Never);
    let objective = Distillation::new(teacher.0, made, params, config).unwrap();
    objective.loss(&batch(), &mut moment()).unwrap()
}

#[test]
fn the_loss_is_what_is_expected_over_where_tokens_stop_beside_that_of_the_last_repetition() {
    let bias = vec![-0.4_f32, 0.3];
    let stops = survival(&[bias[0], bias[1], 0.0]);
    // Cross entropy and KL at a temperature of 2 of students of 1, 2 and 3 repetitions.
    let said = [1, 2, 3].map(|repetitions| alone(repetitions, 3));
    let losses =
        said.each_ref().map(|loss| 0.3 * loss.terms["cross_entropy"] + 4.0 * loss.terms["kl"]);
    let expected: f64 = stops.iter().zip(losses).map(|(p, loss)| f64::from(*p) * loss).sum();
    for policy in POLICIES {
        let prior = match policy {
            JointPolicy::Ponder => geometric(0.3, 3),
            _ => vec![1.0; 3],
        };
        let cost: f32 = stops.iter().zip(&prior).map(|(p, q)| p * (p / q).ln()).sum();
        let prior = (policy == JointPolicy::Ponder).then_some(0.3);
        let config = with(Some(HaltingConfig { prior, ..joint(policy) }), Recompute::Never);
        let (objective, _) = objective(config, (3, 1), 0.0, Some(bias.clone()));
        let found = objective.loss(&batch(), &mut moment()).unwrap();
        let close = |found: f64, expected: f64| {
            assert!(
                (found - expected).abs() < 1e-5 * expected.abs().max(1.0),
                "{found} {expected}"
            );
        };
        close(found.terms["halting"], expected);
        close(found.terms["halting_cost"], f64::from(cost));
        let mean: f64 = stops.iter().zip(1..).map(|(p, n)| f64::from(*p) * f64::from(n)).sum();
        close(found.terms["halting_repetitions"], mean);
        close(found.total, said[2].total + 0.7 * (expected + 0.2 * f64::from(cost)));
        assert_eq!(found.terms["kl"].to_bits(), said[2].terms["kl"].to_bits());
    }
}

/// What the coda makes of the mean of the states after three repetitions, (B, T, D) normed.
fn of_the_mean(student: &LoopedTransformer, p: &[Vec<f32>]) -> Tensor {
    let (off, ids) = (Tape::off(), batch().input_tensor(&Device::Cpu).unwrap());
    let states = student.states(&off, &ids, 3).unwrap();
    // Embedding, prelude, a core of one layer three times.
    let part = |(p, state): (&Vec<f32>, &Value)| {
        let p = Tensor::from_slice(p, (3, 20, 1), &Device::Cpu).unwrap();
        state.tensor().broadcast_mul(&p).unwrap()
    };
    let parts: Vec<Tensor> = p.iter().zip(&states[2..5]).map(part).collect();
    let mean = ((&parts[0] + &parts[1]).unwrap() + &parts[2]).unwrap();
    let table = student.embedding_and_head().rope(0, 20);
    let last = student.coda(&off, &Value::constant(mean), &table).unwrap().pop().unwrap();
    student.embedding_and_head().normed(&off, &last).unwrap().tensor().clone()
}

#[test]
fn act_says_what_the_mean_of_its_states_does_and_pays_for_repetitions_and_what_is_left() {
    let logit = |p: f32| (p / (1.0 - p)).ln();
    // By hand: 0.2 + 0.5 < 0.99, so three repetitions and 0.3 are left; 0.7 + 0.6 is enough, so two.
    for (gates, p, cost) in [([0.2, 0.5], [0.2, 0.5, 0.3], 3.3), ([0.7, 0.6], [0.7, 0.3, 0.0], 2.3)]
    {
        let mut config = with(Some(joint(JointPolicy::Act)), Recompute::Never);
        config.loss.kl = WeightSchedule::Constant(0.0);
        let mut without = config.clone();
        without.loss.halting = None;
        let bias = Some(gates.map(logit).to_vec());
        let (objective, _) = objective(config, (3, 1), 0.0, bias);
        let found = objective.loss(&batch(), &mut moment()).unwrap();
        let student = objective.student();
        let normed = of_the_mean(student, &p.map(|p| vec![p; 60])).reshape((60, 16)).unwrap();
        let logits =
            normed.matmul(&student.embedding_and_head().head().tensor().t().unwrap()).unwrap();
        let rows = logits.to_vec2::<f32>().unwrap();
        let lost = rows.iter().zip(batch().targets).map(|(row, target)| {
            let sum: f64 = row.iter().map(|x| f64::from(*x).exp()).sum();
            sum.ln() - f64::from(row[target as usize])
        });
        let lost = 0.3 * lost.sum::<f64>() / 60.0;
        let close = |found: f64, expected: f64| {
            assert!((found - expected).abs() < 1e-5 * expected.max(1.0), "{found} {expected}");
        };
        close(found.terms["halting"], lost);
        close(found.terms["halting_cost"], cost);
        close(found.terms["halting_repetitions"], cost.floor());
        close(found.total, step(without, 3, None).total + 0.7 * (lost + 0.2 * cost));
    }
}

#[test]
fn an_act_gate_learns_what_decoding_makes_of_it() {
    let config = with(Some(joint(JointPolicy::Act)), Recompute::Never);
    let (objective, _) = objective(config, (3, 1), 0.4, Some(vec![-0.4, 0.8]));
    let (student, batch) = (objective.student(), batch());
    let gate = student.halting_gate().unwrap().unwrap().1;
    let policy = PolicyName::Act.with(0.99).unwrap();
    let decoder = Decoder::new(student, WeightType::F32).unwrap();
    let mut cache = decoder.new_cache(3, CacheSharing::CatchUp);
    let rows: Vec<(usize, &[u32])> = batch.inputs.chunks(20).enumerate().collect();
    let depth = ReadDepth { most: 3, policy: Some((&*policy, Some(&gate))) };
    let read = decoder.read(&rows, &mut cache, depth).unwrap();
    assert!(read.repetitions.contains(&2) && read.repetitions.contains(&3));
    let ids = batch.input_tensor(&Device::Cpu).unwrap();
    let states = student.states(&Tape::off(), &ids, 3).unwrap();
    let sigmoid = |n: usize| {
        let said = student.halting_logits(&Tape::off(), &states[2 + n], n).unwrap().unwrap();
        let said = said.tensor().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        said.into_iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect::<Vec<f32>>()
    };
    let (first, second) = (sigmoid(0), sigmoid(1));
    let at = |token: usize| match read.repetitions[token] {
        2 => [first[token], 1.0 - first[token], 0.0],
        _ => [first[token], second[token], 1.0 - first[token] - second[token]],
    };
    let p: Vec<Vec<f32>> = (0..3).map(|n| (0..60).map(|token| at(token)[n]).collect()).collect();
    let decoded = Tensor::from_vec(read.normed.clone(), (3, 20, 16), &Device::Cpu).unwrap();
    let error = difference(&decoded, &of_the_mean(student, &p));
    assert!(error < F32_STACK, "off by {error}");
    let taken = read.repetitions.iter().sum::<usize>() as f64 / 60.0;
    let learned = objective.loss(&batch, &mut moment()).unwrap().terms["halting_repetitions"];
    assert!((taken - learned).abs() < 1e-9, "{taken} {learned}");
}

#[test]
fn a_gate_that_learns_alone_leaves_the_student_as_it_would_be() {
    let gate = HaltingConfig { trains: Trains::Gate, ..joint(POLICIES[0]) };
    let found = step(with(Some(gate), Recompute::Never), 3, None);
    let without = step(with(None, Recompute::Never), 3, None);
    let both = step(with(Some(joint(POLICIES[0])), Recompute::Never), 3, None);
    assert_eq!(found.total.to_bits(), both.total.to_bits());
    for (name, gradient) in &without.gradients {
        assert_eq!(difference(gradient, &found.gradients[name]), 0.0, "{name}");
    }
    for name in GATE {
        let (alone, both) = (&found.gradients[name], &both.gradients[name]);
        assert!(difference(alone, both) < F32_STACK, "{name}");
        let size = alone.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(size > 0.0, "{name}");
    }
    let moved = |name: &&str| difference(&without.gradients[*name], &both.gradients[*name]) > 1e-4;
    assert!(["core.0.mlp.up.weight", "prelude.0.mlp.up.weight"].iter().all(moved));
}

#[test]
fn without_its_weight_nothing_is_learned_of_halting_and_nothing_changes() {
    let ramp = WeightSchedule::Ramp { from: 0.0, to: 1.0, begin: 0.9, end: 1.0 };
    let halting = HaltingConfig { weight: ramp, ..joint(POLICIES[0]) };
    let found = step(with(Some(halting), Recompute::Never), 3, None);
    let without = step(with(None, Recompute::Never), 3, None);
    assert_eq!(found.total.to_bits(), without.total.to_bits());
    assert!(found.partial && !without.partial && !found.terms.contains_key("halting"));
    assert!(!found.gradients.contains_key(GATE[0]));
}

#[test]
fn a_step_at_one_repetition_and_one_past_those_it_was_made_for_are_learned_from() {
    for depth in [1, 5] {
        let mut config = with(Some(joint(POLICIES[1])), Recompute::Never);
        config.depth.sampling = RepetitionSampling::Uniform { least: depth, most: depth };
        let found = step(config, 3, None);
        assert!(found.total.is_finite());
        assert!(found.gradients.values().all(|gradient| {
            gradient.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap().is_finite()
        }));
        assert!(found.terms["halting_repetitions"] <= depth as f64 + 1e-6);
    }
}

#[test]
fn training_lowers_the_loss_and_spends_fewer_repetitions_where_they_bring_nothing() {
    for policy in ALL {
        let (objective, params) =
            objective(with(Some(joint(policy)), Recompute::Never), (3, 1), 0.0, None);
        let loss = || objective.loss(&batch(), &mut moment()).unwrap();
        let first = loss();
        for _ in 0..40 {
            let gradients = loss().gradients;
            for (name, var) in params.trainable() {
                let moved = (var.as_tensor() - (&gradients[name] * 0.02).unwrap()).unwrap();
                var.set(&moved.detach()).unwrap();
            }
        }
        let last = loss();
        for term in ["halting", "kl"] {
            assert!(last.terms[term] < 0.8 * first.terms[term], "{policy:?} {term}");
        }
        assert!(last.total < 0.8 * first.total, "{policy:?}: {} {}", first.total, last.total);
        let measure =
            if policy == JointPolicy::Act { "halting_cost" } else { "halting_repetitions" };
        assert!(last.terms[measure] != first.terms[measure]);
    }
}

#[test]
fn what_learned_is_what_the_policy_reads() {
    let config = LoopedConfig { gate: Some(JointPolicy::Ponder), ..tiny_looped(Relaxation::None) };
    let config = LoopedConfig { repetitions: 4, ..config };
    let model = LoopedTransformer::new(&config, &random_params(&config.tensors())).unwrap();
    let (policy, gate) = model.halting_gate().unwrap().unwrap();
    assert_eq!((policy.policy(), gate.bias.len()), (PolicyName::Ponder, 3));
    let state = (random(3, &[1, 5, 16]) * 4.0).unwrap();
    for repetition in [1, 2, 3, 4, 9] {
        let said = model
            .halting_logits(&Tape::off(), &Value::constant(state.clone()), repetition - 1)
            .unwrap()
            .unwrap();
        let said: Vec<f32> = said.tensor().flatten_all().unwrap().to_vec1().unwrap();
        let rows = state.squeeze(0).unwrap().to_vec2::<f32>().unwrap();
        for (said, row) in said.iter().zip(&rows) {
            let read = gate.logit(row, 0.3, repetition);
            assert!((said - read).abs() < 1e-5, "{said} {read}");
        }
    }
    let plain = tiny_looped(Relaxation::None);
    let plain = LoopedTransformer::new(&plain, &random_params(&plain.tensors())).unwrap();
    assert!(plain.halting_gate().unwrap().is_none());
}

#[test]
fn calibration_keeps_the_gate_unless_it_is_to_fit_another() {
    let teacher = teacher(6);
    let config =
        LoopedConfig { gate: Some(JointPolicy::ExitGate), ..tiny_looped(Relaxation::None) };
    let config = LoopedConfig { repetitions: 3, ..config };
    let student = LoopedTransformer::new(&config, &random_params(&config.tensors())).unwrap();
    let window = |document: usize| factorexe::data::EvaluationWindow {
        document,
        tokens: (0..16).map(|i| (i * i + 7 * i + document as u32 * 5) % 37).collect(),
    };
    let windows: Vec<_> = (0..4).map(window).collect();
    let run = |own_gate| {
        let how = CalibrateConfig { own_gate, ..CalibrateConfig::default() };
        calibrate(&teacher.0, &student, "it", &windows, &how, &Context::cpu()).unwrap()
    };
    let gate: Gate = student.halting_gate().unwrap().unwrap().1;
    let kept = run(OwnGate::Kept);
    kept.check("it", 16).unwrap();
    let refitted = run(OwnGate::Refitted);
    for (kept, refitted) in kept.policies.iter().zip(&refitted.policies) {
        if kept.curve.policy == PolicyName::ExitGate {
            assert_eq!((kept.gate.as_ref(), kept.learned), (Some(&gate), GateTraining::Together));
            assert_ne!(kept.gate, refitted.gate);
        } else {
            assert_eq!(kept, refitted);
        }
        assert_eq!(refitted.learned, GateTraining::Afterwards);
    }
}

#[test]
fn the_gate_is_written_with_the_student_and_read_again() {
    let place = tempfile::tempdir().unwrap();
    let fixture = crate::support::checkpoints::fixture("qwen3");
    let base = Source::Folder(fixture).load(&Context::cpu()).unwrap().config;
    let core_layers = base.layers - 1;
    let plain =
        LoopedConfig { base, prelude_layers: 0, core_layers, ..tiny_looped(Relaxation::None) };
    let config = LoopedConfig { gate: Some(JointPolicy::Ponder), ..plain.clone() };
    let tensors = random_params(&config.tensors()).tensors();
    let (card, stored) = (Card::default(), StoredType::F32);
    export_student(place.path(), &config, &tensors, None, &card, stored).unwrap();
    let back = Source::Folder(place.path().to_owned()).load(&Context::cpu()).unwrap();
    assert_eq!(back.looped.as_ref(), Some(&config));
    for name in GATE {
        assert_eq!(difference(&tensors[name], &back.tensors[name]), 0.0, "{name}");
    }
    // One without is written as before.
    let json = serde_json::to_value(&plain).unwrap();
    assert!(json.get("gate").is_none());
    assert_eq!(serde_json::from_value::<LoopedConfig>(json).unwrap(), plain);
    let one = LoopedConfig { repetitions: 1, ..config };
    assert!(one.validate().unwrap_err().to_string().contains("nothing to choose"));
}

#[test]
fn coefficients_that_mean_nothing_are_refused() {
    let refused = |halting: HaltingConfig, exits_weight: f64| {
        let mut config = config(exits(exits_weight, 1), Recompute::Never);
        config.loss.halting = Some(halting);
        config.validate().unwrap_err().to_string()
    };
    let ponder = joint(JointPolicy::Ponder);
    let prior = |prior| HaltingConfig { prior: Some(prior), ..ponder };
    assert!(refused(prior(0.0), 0.0).contains("loss.halting.prior is 0"));
    let of_none = HaltingConfig { policy: JointPolicy::ExitGate, ..prior(0.5) };
    assert!(refused(of_none, 0.0).contains("only `ponder` has one"));
    let alone = HaltingConfig { trains: Trains::Gate, ..joint(JointPolicy::Act) };
    assert!(refused(alone, 0.0).contains("loss.halting.trains is \"gate\""));
    let negative = HaltingConfig { cost_weight: Some(-1.0), ..ponder };
    assert!(refused(negative, 0.0).contains("cost_weight is -1"));
    let weight = WeightSchedule::Constant(-1.0);
    assert!(refused(HaltingConfig { weight, ..ponder }, 0.0).contains("loss.halting.weight"));
    assert!(refused(ponder, 0.5).contains("loss.early_exit"));
    let unknown = serde_json::json!({"policy": "ponder", "beta": 0.1});
    assert!(serde_json::from_value::<HaltingConfig>(unknown).is_err());
    let other = serde_json::json!({"policy": "kl"});
    assert!(serde_json::from_value::<HaltingConfig>(other).is_err());
    // The student must have been made with the gate.
    let teacher = teacher(6);
    let (looped, tensors) = crate::distill::start(&teacher, &student_config(1, 1, 2, 1));
    let params = trainable(&tensors, &[]);
    let made = LoopedTransformer::new(&looped, &params).unwrap();
    let config = with(Some(ponder), Recompute::Never);
    assert!(Distillation::new(teacher.0, made, params, config).is_err());
}

#[test]
fn a_gate_waits_while_the_teacher_forces() {
    let mut config = with(Some(joint(POLICIES[0])), Recompute::Never);
    config.phases = PhaseConfig { teacher_forced: 1.0, scheduled_until: 1.0, ..config.phases };
    let (objective, _) = objective(config, (3, 1), 0.4, None);
    let loss = objective.loss(&batch(), &mut StepContext::new(9, 0, 10, 0)).unwrap();
    assert!(loss.partial && !loss.gradients.contains_key(GATE[0]));
}

#[test]
fn tokens_with_weights_of_their_own_agree_with_the_composed_comparison_and_sum() {
    use factorexe::autograd::Weights;
    use factorexe::losses::output::compare_weighted;
    use factorexe::losses::terms::{HeadWeights, TeacherHead, TeacherOutput};
    let params = random_params(&[("head".to_owned(), vec![37, 12])]);
    let head = params.weight("head").unwrap();
    let state = (random(2, &[2, 9, 12]) * 3.0).unwrap();
    let hidden = random(3, &[2, 9, 5]);
    let said = TeacherOutput::Head(TeacherHead { hidden, weight: random(4, &[37, 5]) });
    let targets: Vec<u32> = (0..18).map(|i| (i * 11) % 37).collect();
    let weights = HeadWeights { cross_entropy: 0.7, kl: 1.3, temperature: 2.0 };
    let run = |tape: Tape, of_tokens: Option<&[f32]>| {
        let leaf = tape.leaf(state.clone());
        let targets = (&targets[..], of_tokens);
        compare_weighted(&tape, &leaf, &head, Some(&said), targets, weights).unwrap();
        let (gradients, leaves) = tape.backward_to(&[], &[&leaf]).unwrap();
        (gradients["head"].clone(), leaves[0].clone().unwrap())
    };
    let ones = run(Tape::recording(), None);
    let first: Vec<f32> = (0..18).map(|i| 0.1 * i as f32).collect();
    let second: Vec<f32> = first.iter().map(|share| 1.0 - share).collect();
    let (fused, rest) =
        (run(Tape::recording(), Some(&first)), run(Tape::recording(), Some(&second)));
    let composed = run(Tape::recording().with_reference(), Some(&first));
    assert!(difference(&fused.0, &composed.0) < F32_STACK);
    assert!(difference(&fused.1, &composed.1) < F32_STACK);
    assert!(difference(&(&fused.0 + &rest.0).unwrap(), &ones.0) < F32_STACK);
    assert!(difference(&(&fused.1 + &rest.1).unwrap(), &ones.1) < F32_STACK);
    let tape = Tape::recording();
    let few = (&targets[..], Some(&first[..3]));
    let refused = compare_weighted(&tape, &tape.leaf(state.clone()), &head, None, few, weights);
    assert!(refused.is_err());
}
