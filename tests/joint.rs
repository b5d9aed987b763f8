//! A gate that learns together with its student: its loss, its gradients, and that decoding and
//! calibration use it.

use candle_core::{Device, Tensor};
use factorexe::autograd::{Tape, Value};
use factorexe::context::Context;
use factorexe::decode::{CacheSharing, Decoder, ReadDepth};
use factorexe::distill::*;
use factorexe::eval::{CalibrateConfig, OwnGate, calibrate};
use factorexe::halting::{Gate, GateTraining, JointPolicy, PolicyName, geometric, survival};
use factorexe::hub::{Card, Source, StoredType, export_student};
use factorexe::kernels::WeightType;
use factorexe::model::*;
use factorexe::train::Loss;

use crate::support::objectives::{ObjectiveBuilder, free_running, teacher_forced};
use crate::support::students::{
    F32_STACK, Student, Teacher, Training, assert_recomputes, batch, half_batch, size, student,
};
use crate::support::{difference, log_softmax, random, random_params, tiny_looped};

const POLICIES: [JointPolicy; 2] = [JointPolicy::Ponder, JointPolicy::ExitGate];
const ALL: [JointPolicy; 3] = [JointPolicy::Ponder, JointPolicy::ExitGate, JointPolicy::Act];
const GATE: [&str; 2] = ["halt.weight", "halt.bias"];

fn joint(policy: JointPolicy) -> HaltingConfig {
    let weight = WeightSchedule::Constant(0.7);
    HaltingConfig { weight, cost_weight: Some(0.2), ..HaltingConfig::new(policy) }
}

/// A student whose gate outputs random logits times `scale`, after `bias` where there is one.
fn gated(policy: JointPolicy, repetitions: usize, scale: f64, bias: Option<&[f32]>) -> Student {
    let weight = (random(77, &[16]) * scale).unwrap();
    let student = student().repetitions(repetitions).gate(policy).with(GATE[0], weight);
    match bias {
        None => student,
        Some(bias) => {
            student.with(GATE[1], Tensor::from_slice(bias, bias.len(), &Device::Cpu).unwrap())
        }
    }
}

/// The same, learning with its gate.
fn training(policy: JointPolicy, scale: f64, bias: Option<&[f32]>) -> Training {
    gated(policy, 3, scale, bias).learning(free_running().halting(joint(policy)))
}

fn step(student: &Student, objective: ObjectiveBuilder) -> Loss {
    student.learning(objective).step()
}

#[test]
fn every_parameter_has_the_gradient_of_finite_differences() {
    // Where the number of an ACT token's repetitions changes, there is a step: gates that hardly vary
    // keep away from it, three repetitions first and then two.
    let gated = |policy, bias: &[f32]| match policy {
        JointPolicy::Act => gated(policy, 3, 0.1, Some(bias)),
        _ => gated(policy, 3, 0.4, None),
    };
    for policy in ALL {
        for (recompute, coda, bias) in
            [(Recompute::Never, 1, [-0.4, 0.0]), (Recompute::Always, 0, [0.2, 0.8])]
        {
            println!("{policy:?} {recompute:?}");
            let objective = free_running().halting(joint(policy)).recompute(recompute);
            let training = gated(policy, &bias).coda(coda).learning(objective);
            let gates = training.params.trainable().filter(|(name, _)| GATE.contains(name));
            assert_eq!(gates.count(), 2);
            training.assert_differences(&batch(2));
        }
        let training = gated(policy, &[0.2, 0.8]).learning(free_running().halting(joint(policy)));
        training.assert_differences(&half_batch());
    }
}

#[test]
fn recomputed_repetitions_give_the_gradients_of_stored_ones() {
    for (repetitions, policy) in [2, 5, 20].into_iter().flat_map(|n| ALL.map(|policy| (n, policy)))
    {
        let objective = free_running().halting(joint(policy));
        assert_recomputes(&gated(policy, repetitions, 0.4, None), &objective);
    }
}

/// A step of a student made for `made_for` repetitions, without a gate, at so many.
fn alone(repetitions: usize, made_for: usize) -> Loss {
    let teacher = Teacher::random(6);
    let (looped, params) = student().repetitions(made_for).params(&teacher);
    let looped = LoopedConfig { repetitions, ..looped };
    Training::new(teacher, &looped, params, free_running().into()).unwrap().step()
}

#[track_caller]
fn assert_close(found: f64, expected: f64) {
    assert!((found - expected).abs() < 1e-5 * expected.abs().max(1.0), "{found} {expected}");
}

/// Mean repetitions of tokens that stop with these probabilities after 1, 2, ..
fn mean_repetitions(stops: &[f32]) -> f64 {
    stops.iter().zip(1..).map(|(p, n)| f64::from(*p) * f64::from(n)).sum()
}

#[test]
fn the_loss_is_that_expected_over_where_tokens_stop_beside_that_of_the_last_repetition() {
    let bias = [-0.4_f32, 0.3];
    let stops = survival(&[bias[0], bias[1], 0.0]);
    // Cross entropy and KL at a temperature of 2 of students of 1, 2 and 3 repetitions.
    let steps = [1, 2, 3].map(|repetitions| alone(repetitions, 3));
    let losses =
        steps.each_ref().map(|loss| 0.3 * loss.terms["cross_entropy"] + 4.0 * loss.terms["kl"]);
    let expected: f64 = stops.iter().zip(losses).map(|(p, loss)| f64::from(*p) * loss).sum();
    for policy in POLICIES {
        let prior = match policy {
            JointPolicy::Ponder => geometric(0.3, 3),
            _ => vec![1.0; 3],
        };
        let cost: f32 = stops.iter().zip(&prior).map(|(p, q)| p * (p / q).ln()).sum();
        let cost = f64::from(cost);
        let prior = (policy == JointPolicy::Ponder).then_some(0.3);
        let halting = HaltingConfig { prior, ..joint(policy) };
        let loss = step(&gated(policy, 3, 0.0, Some(&bias)), free_running().halting(halting));
        assert_close(loss.terms["halting"], expected);
        assert_close(loss.terms["halting_cost"], cost);
        assert_close(loss.terms["halting_repetitions"], mean_repetitions(&stops));
        assert_close(loss.total, steps[2].total + 0.7 * (expected + 0.2 * cost));
        assert_eq!(loss.terms["kl"].to_bits(), steps[2].terms["kl"].to_bits());
    }
}

/// What the coda makes of the mean of the states after three repetitions, (B, T, D) normed.
fn of_the_mean(student: &LoopedTransformer, p: &[Vec<f32>]) -> Tensor {
    let (off, ids) = (Tape::off(), batch(2).input_tensor(&Device::Cpu).unwrap());
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
fn act_reads_the_mean_of_its_states_and_pays_for_repetitions_and_the_remainder() {
    let logit = |p: f32| (p / (1.0 - p)).ln();
    // By hand: 0.2 + 0.5 < 0.99, so three repetitions and 0.3 are left; 0.7 + 0.6 is enough, so two.
    for (gates, p, cost) in [([0.2, 0.5], [0.2, 0.5, 0.3], 3.3), ([0.7, 0.6], [0.7, 0.3, 0.0], 2.3)]
    {
        let gated = gated(JointPolicy::Act, 3, 0.0, Some(&gates.map(logit)));
        let objective = free_running().kl(0.0);
        let training = gated.learning(objective.clone().halting(joint(JointPolicy::Act)));
        let loss = training.step();
        let student = training.student();
        let normed = of_the_mean(student, &p.map(|p| vec![p; 60])).reshape((60, 16)).unwrap();
        let head = student.embedding_and_head().head().tensor().t().unwrap();
        let log_p = log_softmax(&normed.matmul(&head).unwrap());
        let nll = log_p.iter().zip(batch(2).targets).map(|(row, target)| -row[target as usize]);
        let expected = 0.3 * nll.sum::<f64>() / 60.0;
        assert_close(loss.terms["halting"], expected);
        assert_close(loss.terms["halting_cost"], cost);
        assert_close(loss.terms["halting_repetitions"], cost.floor());
        let without = step(&student_alone(), objective).total;
        assert_close(loss.total, without + 0.7 * (expected + 0.2 * cost));
    }
}

/// The same student without a gate.
fn student_alone() -> Student {
    student().repetitions(3)
}

#[test]
fn an_act_gate_learns_what_decoding_computes() {
    let training = training(JointPolicy::Act, 0.4, Some(&[-0.4, 0.8]));
    let (student, batch) = (training.student(), batch(2));
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
        let logits = student.halting_logits(&Tape::off(), &states[2 + n], n).unwrap().unwrap();
        let logits = logits.tensor().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        logits.into_iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect::<Vec<f32>>()
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
    let learned = training.step().terms["halting_repetitions"];
    assert!((taken - learned).abs() < 1e-9, "{taken} {learned}");
}

#[test]
fn a_gate_that_learns_alone_leaves_the_student_as_it_would_be() {
    let policy = POLICIES[0];
    let student = gated(policy, 3, 0.4, None);
    let gate = HaltingConfig { trains: Trains::Gate, ..joint(policy) };
    let alone = step(&student, free_running().halting(gate));
    let without = step(&student, free_running());
    let both = step(&student, free_running().halting(joint(policy)));
    assert_eq!(alone.total.to_bits(), both.total.to_bits());
    for (name, gradient) in &without.gradients {
        assert_eq!(difference(gradient, &alone.gradients[name]), 0.0, "{name}");
    }
    for name in GATE {
        assert!(difference(&alone.gradients[name], &both.gradients[name]) < F32_STACK, "{name}");
        assert!(size(&alone, name) > 0.0, "{name}");
    }
    let moved = |name: &&str| difference(&without.gradients[*name], &both.gradients[*name]) > 1e-4;
    assert!(["core.0.mlp.up.weight", "prelude.0.mlp.up.weight"].iter().all(moved));
}

#[test]
fn without_its_weight_no_gate_learns_and_nothing_changes() {
    let ramp = WeightSchedule::Ramp { from: 0.0, to: 1.0, begin: 0.9, end: 1.0 };
    let halting = HaltingConfig { weight: ramp, ..joint(POLICIES[0]) };
    let loss = step(&gated(POLICIES[0], 3, 0.4, None), free_running().halting(halting));
    let without = step(&student_alone(), free_running());
    assert_eq!(loss.total.to_bits(), without.total.to_bits());
    assert!(loss.partial && !without.partial && !loss.terms.contains_key("halting"));
    assert!(!loss.gradients.contains_key(GATE[0]));
}

#[test]
fn a_step_at_one_repetition_and_one_past_those_it_was_made_for_are_learned_from() {
    let bias = [-0.4_f32, 0.3];
    for (policy, depth) in ALL.into_iter().flat_map(|policy| [(policy, 1), (policy, 5)]) {
        let objective = free_running().halting(joint(policy)).depths(depth, depth);
        let training = gated(policy, 3, 0.1, Some(&bias)).learning(objective);
        let [first, last] = training.learned(10);
        assert_eq!(first.terms["repetitions"], depth as f64);
        // Every parameter of a student of three repetitions learns from one as well, but for a gate
        // that has nothing to choose.
        for (name, _) in training.params.trainable() {
            let (size, chooses) = (size(&first, name), depth > 1 || !GATE.contains(&name));
            assert!(size.is_finite() && (size > 0.0) == chooses, "{policy:?} {name}: {size}");
        }
        // Past three the last gate decides again and again.
        let found = first.terms["halting_repetitions"];
        let mean = mean_repetitions(&survival(&[bias[0], bias[1], bias[1], bias[1], 0.0]));
        match policy {
            _ if depth == 1 => assert!((found - 1.0).abs() < 1e-6, "{found}"),
            // Gates of 0.40 and 0.57 are spent after three.
            JointPolicy::Act => assert!(found > 2.0 && found < 4.0, "{found}"),
            // States change the gates a little.
            _ => assert!((found - mean).abs() < 0.2, "{found} {mean}"),
        }
        let (first, last) = (first.total, last.total);
        assert!(last < 0.9 * first, "{policy:?} {depth}: {first} {last}");
    }
}

#[test]
fn training_lowers_the_loss_and_spends_fewer_repetitions_where_they_bring_nothing() {
    for policy in ALL {
        let [first, last] = training(policy, 0.0, None).learned(40);
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
        let value = Value::constant(state.clone());
        let logits = model.halting_logits(&Tape::off(), &value, repetition - 1).unwrap().unwrap();
        let logits: Vec<f32> = logits.tensor().flatten_all().unwrap().to_vec1().unwrap();
        let rows = state.squeeze(0).unwrap().to_vec2::<f32>().unwrap();
        for (logit, row) in logits.iter().zip(&rows) {
            let read = gate.logit(row, 0.3, repetition);
            assert!((logit - read).abs() < 1e-5, "{logit} {read}");
        }
    }
    let plain = tiny_looped(Relaxation::None);
    let plain = LoopedTransformer::new(&plain, &random_params(&plain.tensors())).unwrap();
    assert!(plain.halting_gate().unwrap().is_none());
}

#[test]
fn calibration_keeps_the_gate_unless_it_is_to_fit_another() {
    let teacher = Teacher::random(6).model;
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
        calibrate(&teacher, &student, "it", &windows, &how, &Context::cpu()).unwrap()
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
        let config: DistillConfig = free_running().exits(exits_weight, 1).halting(halting).into();
        config.validate().unwrap_err().to_string()
    };
    let ponder = joint(JointPolicy::Ponder);
    let prior = |prior| HaltingConfig { prior: Some(prior), ..ponder };
    assert!(refused(prior(0.0), 0.0).contains("loss.halting.prior is 0"));
    let of_none = HaltingConfig { policy: JointPolicy::ExitGate, ..prior(0.5) };
    assert!(refused(of_none, 0.0).contains("only `ponder` has a prior"));
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
    let objective = free_running().halting(ponder).into();
    assert!(student().try_learning(Teacher::random(6), objective).is_err());
}

#[test]
fn a_gate_does_not_learn_under_teacher_forcing() {
    let objective = teacher_forced().halting(joint(POLICIES[0]));
    let loss = step(&gated(POLICIES[0], 3, 0.4, None), objective);
    assert!(loss.partial && !loss.gradients.contains_key(GATE[0]));
}

#[test]
fn tokens_with_weights_of_their_own_agree_with_the_composed_comparison_and_sum() {
    use factorexe::autograd::Weights;
    use factorexe::losses::{HeadWeights, TeacherHead, TeacherOutput, compare_weighted};
    let params = random_params(&[("head".to_owned(), vec![37, 12])]);
    let head = params.weight("head").unwrap();
    let state = (random(2, &[2, 9, 12]) * 3.0).unwrap();
    let hidden = random(3, &[2, 9, 5]);
    let output = TeacherOutput::Head(TeacherHead { hidden, weight: random(4, &[37, 5]) });
    let targets: Vec<u32> = (0..18).map(|i| (i * 11) % 37).collect();
    let weights = HeadWeights { cross_entropy: 0.7, kl: 1.3, temperature: 2.0 };
    let run = |tape: Tape, of_tokens: Option<&[f32]>| {
        let leaf = tape.leaf(state.clone());
        let targets = (&targets[..], of_tokens);
        compare_weighted(&tape, &leaf, &head, Some(&output), targets, weights).unwrap();
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
