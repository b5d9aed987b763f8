//! Are the examples of a study what it says, and are its points done once and for all?

use std::collections::BTreeSet;

use factorexe::data::tasks::{TaskBatches, TaskConfig, TaskSplit, TaskSupervision};
use factorexe::data::{Batches, IGNORED, SupervisedTokens};
use factorexe::halting::{Calibration, Curve, Gate, PolicyName, Traces};
use factorexe::model::*;
use factorexe::pretrain::{LanguageModeling, ModelConfig, Supervision, initial_looped_tensors};
use factorexe::study::halting::stops::Exits;
use factorexe::study::law::config::StudyEvalConfig;
use factorexe::study::sweep::finish;
use factorexe::study::sweep::job::{Enough, LearnerJob};
use factorexe::study::{Done, Job, LawRecipe, Outcome, StudyKind, Sweep, TextTeacher, law_jobs};
use factorexe::train::{Objective, StepContext};

use crate::support::students::assert_differences;

fn task(name: &str, settings: &[&str]) -> TaskConfig {
    let settings: Vec<String> = settings.iter().map(|&one| one.to_owned()).collect();
    TaskConfig::named(name, &settings).unwrap()
}

fn pointer() -> TaskConfig {
    task("pointer", &["nodes=5", "hops=3", "pointers=edges"])
}

#[test]
fn a_batch_is_a_function_of_its_index_and_holds_whole_examples() {
    let built = pointer().build().unwrap();
    let stream = TaskBatches::new(&built, TaskSplit::Train, 3, 4);
    let batch = stream.batch(7).unwrap();
    assert_eq!(batch, stream.clone().batch(7).unwrap());
    assert_ne!(batch.inputs, stream.batch(8).unwrap().inputs);
    assert_eq!((batch.rows, batch.columns), (4, 8));
    assert_eq!(batch.chain.len(), 3);
    assert_eq!(batch.chain[2], batch.targets);
    for (row, target) in batch.targets.chunks(8).enumerate() {
        assert!(target[..7].iter().all(|&one| one == IGNORED));
        let example = built.example(TaskSplit::Train, 3, 28 + row as u64, 3).unwrap();
        assert_eq!(batch.inputs[row * 8..row * 8 + 6], example.input);
        assert_eq!([target[7]], example.answer[..]);
        assert_eq!([batch.chain[0][row * 8 + 7]], example.steps[0][..]);
    }
    let parts = batch.parts(2);
    assert_eq!([&parts[0].chain[1][..], &parts[1].chain[1]].concat(), batch.chain[1]);
}

#[test]
fn so_many_examples_come_again_and_again_and_lengths_take_turns() {
    let built = pointer().build().unwrap();
    let stream =
        TaskBatches::new(&built, TaskSplit::Train, 3, 4).of_lengths(1, 3).unwrap().of_examples(24);
    let (mut lengths, mut inputs) = ([0; 4], BTreeSet::new());
    for index in 0..60 {
        let batch = stream.batch(index).unwrap();
        lengths[batch.chain.len()] += 1;
        inputs.extend(
            batch.inputs.chunks(batch.columns).map(|row| (batch.chain.len(), row.to_vec())),
        );
    }
    assert_eq!(lengths, [0, 20, 20, 20]);
    // 8 of each length, of which a few may be alike.
    assert!((20..=24).contains(&inputs.len()), "{}", inputs.len());
    let error = TaskBatches::new(&built, TaskSplit::Train, 3, 4).of_length(4).unwrap_err();
    assert!(error.to_string().contains("expected 1 to 3"), "{error}");
}

#[test]
fn chains_of_every_length_go_on_as_their_answer() {
    let built = task("word", &["length=3"]).build().unwrap();
    let stream = TaskBatches::new(&built, TaskSplit::Train, 3, 4).of_lengths(2, 3).unwrap();
    for index in 0..4 {
        let own = stream.batch(index).unwrap();
        let steps = stream.clone().supervised(TaskSupervision::Steps, 5).batch(index).unwrap();
        assert_eq!((&steps.inputs, &steps.targets), (&own.inputs, &own.targets));
        assert_eq!((steps.chain.len(), &steps.chain[..own.chain.len()]), (5, &own.chain[..]));
        assert!(steps.chain[own.chain.len()..].iter().all(|step| *step == own.targets));
        let answers = stream.clone().supervised(TaskSupervision::Answers, 5).batch(index).unwrap();
        assert_eq!(answers.chain, vec![own.targets; 5]);
    }
}

/// Four places of three repetitions, which say 1, 2 or 3 and are to say 3: two of chains of one step,
/// one of which is right at once and one never, one of two steps and one of three.
fn four_places() -> (Traces, [usize; 4]) {
    let mut traces = Traces::new(3, 1);
    for said in [[3, 3, 3], [1, 2, 2], [1, 3, 3], [3, 1, 3]] {
        for (r, top) in said.into_iter().enumerate() {
            let kl = (r > 0).then(|| if said[r - 1] == top { 0.0 } else { 1.0 });
            traces.output.push(factorexe::halting::Output { top, gap: 0.5, kl });
            traces.agree.push(top == 3);
            traces.states.push(1.0);
            traces.change.push(1.0);
            traces.second_difference.push(None);
            traces.kl.push(0.0);
            traces.nll.push(0.0);
        }
    }
    (traces, [1, 1, 2, 3])
}

#[test]
fn exits_are_counted_by_length_and_ranked_with_it() {
    let (traces, lengths) = four_places();
    let stable = traces.sweep(PolicyName::Stable, None).unwrap();
    let stable =
        Calibration { threshold: 1.0, gate: None, learned: Default::default(), curve: stable };
    // ACT spends half of what it has at each repetition: what is right after two is that of the means.
    let act = Calibration {
        threshold: 0.99,
        gate: Some(Gate::new(1, 3, 0.0)),
        curve: traces
            .sweep(PolicyName::Stable, None)
            .map(|c| Curve { policy: PolicyName::Act, ..c })
            .unwrap(),
        ..stable.clone()
    };
    let means = |_: &Gate| Ok(Traces { agree: vec![true; 12], ..four_places().0 });
    let found = Exits::of(&traces, &means, &lengths, &[stable, act]).unwrap();
    let right: Vec<_> =
        found.lengths.iter().map(|at| (at.length, at.places, &at.right[..])).collect();
    let expected: [(usize, usize, &[f64]); 3] =
        [(1, 2, &[0.5; 3]), (2, 1, &[0.0, 1.0, 1.0]), (3, 1, &[1.0, 0.0, 1.0])];
    assert_eq!(right, expected);
    let rule = |name: &str| found.rules.iter().find(|rule| rule.name == name).unwrap();
    let all = rule("all repetitions");
    assert_eq!((all.mean_repetitions, all.right, all.changed), (3.0, 0.75, 0.0));
    assert_eq!((&all.stops[..], all.rank_correlation), (&[3.0; 3][..], None));
    // Settled after 1, 2, 2, 3: ranks 1, 2.5, 2.5, 4 beside 1.5, 1.5, 3, 4 of the lengths.
    // Deviations from 2.5: products 1.5 + 0 + 0 + 2.25, squares 4.5 and 4.5.
    let oracle = rule("oracle");
    assert_eq!((&oracle.stops[..], oracle.changed), (&[1.5, 2.0, 3.0][..], 0.0));
    assert!((oracle.rank_correlation.unwrap() - 3.75 / 4.5).abs() < 1e-12, "{oracle:?}");
    // As long as the chain: the second place stops before it says what it says in the end.
    let known = rule("length of the chain");
    assert_eq!((&known.stops[..], known.changed), (&[1.0, 2.0, 3.0][..], 0.25));
    assert!((known.rank_correlation.unwrap() - 1.0).abs() < 1e-12);
    // The same word twice: after 2, 3, 3 and, as it never is, 3.
    assert_eq!(rule("stable").stops, [2.5, 3.0, 3.0]);
    let act = rule("act");
    assert_eq!((&act.stops[..], act.right, act.changed), (&[2.0; 3][..], 1.0, 0.25));
    assert_eq!(Exits::mean(&[found.clone(), found.clone()]).rules, found.rules);
    assert!(Exits::of(&traces, &means, &[1, 2], &[]).is_err());
}

fn learner(supervision: Supervision) -> LanguageModeling<LoopedTransformer> {
    let built = pointer().build().unwrap();
    let model = ModelConfig { layers: 1, width: 16, heads: 2, ..ModelConfig::default() };
    let config = LoopedConfig {
        base: model.transformer(built.vocabulary(), &Default::default()).unwrap(),
        prelude_layers: 0,
        core_layers: 1,
        repetitions: 3,
        coda_layers: 0,
        relaxation: Relaxation::None,
        injection: Injection::None,
        state_norm: StateNorm::None,
        gate: None,
    };
    let start = initial_looped_tensors(&config, 5).unwrap();
    LanguageModeling::looped(&config, &start).unwrap().supervised(supervision, 3)
}

#[test]
fn every_step_of_a_chain_is_asked_after_its_repetition_with_the_gradient_of_differences() {
    let built = pointer().build().unwrap();
    let stream = TaskBatches::new(&built, TaskSplit::Train, 3, 6);
    let batch = stream.batch(0).unwrap();
    let objective = learner(Supervision::Chain);
    assert_differences(&objective, &batch, objective.params());
    // The loss of a chain is the mean of the losses of shorter chains, each its own answer.
    let loss = |objective: &dyn Objective, batch: &factorexe::data::Batch| {
        objective.loss(batch, &mut StepContext::new(0, 0, 1, 0)).unwrap().total
    };
    let last = learner(Supervision::Final);
    let shorter = |steps: usize| {
        let mut short = batch.clone();
        short.chain.truncate(steps);
        short.targets = short.chain[steps - 1].clone();
        loss(&last, &short)
    };
    let mean = (1..=3).map(shorter).sum::<f64>() / 3.0;
    assert!((loss(&objective, &batch) - mean).abs() < 1e-6, "{mean}");
    assert_eq!(SupervisedTokens::in_targets(&batch.targets).unwrap().places.len(), 6);
}

#[test]
fn some_steps_are_evenly_spaced() {
    assert_eq!(Supervision::Chain.steps(4), [0, 1, 2]);
    assert_eq!(Supervision::Final.steps(4), [] as [usize; 0]);
    assert_eq!(Supervision::Some { steps: 1 }.steps(4), [1]);
    assert_eq!(Supervision::Some { steps: 3 }.steps(8), [1, 3, 5]);
    assert_eq!(Supervision::Some { steps: 9 }.steps(3), [0, 1]);
}

fn job(seed: u64) -> Job {
    Job::Learner(LearnerJob {
        task: pointer(),
        model: ModelConfig::default(),
        repetitions: 3,
        injection: Injection::None,
        supervision: Supervision::Chain,
        train: Default::default(),
        seed,
        lengths: vec![3],
        eval: StudyEvalConfig::default(),
    })
}

fn study(folder: &std::path::Path, jobs: Vec<Job>) -> Sweep {
    Sweep::new(folder, StudyKind::Law, "factorize law x.toml", jobs).unwrap()
}

#[test]
fn what_every_repetition_has_of_its_own_starts_as_no_difference() {
    let built = pointer().build().unwrap();
    let model = ModelConfig { layers: 1, width: 16, heads: 2, ..ModelConfig::default() };
    let config = |relaxation| LoopedConfig {
        base: model.transformer(built.vocabulary(), &Default::default()).unwrap(),
        prelude_layers: 0,
        core_layers: 1,
        repetitions: 3,
        coda_layers: 0,
        relaxation,
        injection: Injection::None,
        state_norm: StateNorm::None,
        gate: None,
    };
    let batch = TaskBatches::new(&built, TaskSplit::Train, 3, 4).batch(0).unwrap();
    let loss = |relaxation| {
        let config = config(relaxation);
        let start = initial_looped_tensors(&config, 5).unwrap();
        let norms = start.iter().filter(|(name, _)| name.contains("norm"));
        for (name, gain) in norms {
            let gain = gain.to_vec1::<f32>().unwrap();
            assert!(gain.iter().all(|&one| (one - 1.0).abs() < 1e-9), "{name}");
        }
        let objective = LanguageModeling::looped(&config, &start).unwrap();
        objective.loss(&batch, &mut StepContext::new(0, 0, 1, 0)).unwrap().total
    };
    let plain = loss(Relaxation::None);
    assert!((loss(Relaxation::Lora { rank: 2 }) - plain).abs() < 1e-6);
    assert!((loss(Relaxation::Norms) - plain).abs() < 1e-6);
}

#[test]
fn a_point_is_what_its_job_says_and_half_a_result_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let sweep = study(folder.path(), vec![job(0), job(1), job(0)]);
    assert_eq!((sweep.points().len(), sweep.duplicates()), (2, 1));
    sweep.write().unwrap();
    assert_eq!(sweep.missing().len(), 2);
    let read = Sweep::read(folder.path()).unwrap().unwrap();
    assert_eq!(read.points(), sweep.points());
    assert_eq!(read.command(), "factorize law x.toml");
    let point = &sweep.points()[1];
    let done =
        Done { job: point.job.clone(), outcome: Outcome::Enough(Enough::default()), seconds: 1.5 };
    finish(folder.path(), &point.id, &done).unwrap();
    assert_eq!(sweep.done(point), Some(done.clone()));
    // Another study that has the same job has it done too; one with another job has not.
    let again = study(folder.path(), vec![job(1), job(2)]);
    assert_eq!(again.missing().len(), 1);
    assert_eq!(again.points()[0].id, point.id);
    let path = folder.path().join("points").join(format!("{}.json", point.id));
    let text = std::fs::read(&path).unwrap();
    std::fs::write(&path, &text[..text.len() / 2]).unwrap();
    assert_eq!(sweep.done(point), None);
    // What another job gave is not taken for this one's.
    let other = Done { job: job(7), ..done };
    finish(folder.path(), &point.id, &other).unwrap();
    assert_eq!(sweep.done(point), None);
}

#[test]
fn the_grid_has_every_cell_once_and_none_that_is_too_deep() {
    let mut recipe =
        LawRecipe { seeds: vec![0, 1], tasks: vec![pointer()], ..LawRecipe::default() };
    recipe.teachers.layers = vec![4];
    recipe.students.core_layers = vec![1, 2];
    recipe.students.repetitions = vec![1, 2, 4, 9];
    recipe.students.deepest = 1.0;
    recipe.controls.untied = true;
    recipe.validate().unwrap();
    let jobs = law_jobs(&recipe, None);
    // K = 1: N = 1, 2, 4 and a drawn one; K = 2: 1, 2 and a drawn one; one untied stack.
    assert_eq!(jobs.len(), 2 * (4 + 3 + 1));
    let sweep = study(std::path::Path::new("x"), jobs);
    assert_eq!(sweep.duplicates(), 0);
    assert_eq!(sweep.points().len(), 2 * (1 + 8));
    assert!(matches!(sweep.points()[0].job, Job::Teacher(_)));
    // What a point is called says nothing of a norm that is not there.
    let called = |job: &Job| serde_json::to_string(job).unwrap();
    assert!(law_jobs(&recipe, None).iter().all(|job| !called(job).contains("state_norm")));
    recipe.students.state_norm = StateNorm::Norm;
    let normed = |job: &Job| matches!(job, Job::Student(job) if job.state_norm == StateNorm::Norm);
    assert!(law_jobs(&recipe, None).iter().all(normed));
    recipe.seeds.clear();
    assert!(recipe.validate().unwrap_err().to_string().contains("seeds"));
    assert_eq!(law_jobs(&recipe, Some(TextTeacher { layers: 3, width: 8 })), []);
}
