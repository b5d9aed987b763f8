//! Does a teacher that is remembered teach as one that is asked?

use std::fs::{self, File};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use candle_core::Tensor;
use factorexe::autograd::Params;
use factorexe::context::{Context, Observer};
use factorexe::data::Batch;
use factorexe::distill::*;
use factorexe::model::*;
use factorexe::train::{Objective, StepContext};

use crate::support::{random_params, tiny_config, tiny_looped};

const PRECISIONS: [StatePrecision; 4] =
    [StatePrecision::F32, StatePrecision::F16, StatePrecision::Bf16, StatePrecision::Int8];
/// Two orders of summing the same numbers.
const F32_SUM: f64 = 1e-5;
/// Nothing of this size is near a limit.
const PLENTY: u64 = 1 << 30;
const STEPS: u64 = 8;

/// Remembers what it is told.
#[derive(Clone, Default)]
struct Listener {
    notes: Arc<Mutex<Vec<String>>>,
    warnings: Arc<Mutex<Vec<String>>>,
}

impl Listener {
    fn notes(&self, part: &str) -> usize {
        self.notes.lock().unwrap().iter().filter(|note| note.contains(part)).count()
    }

    fn warnings(&self, part: &str) -> usize {
        self.warnings.lock().unwrap().iter().filter(|warning| warning.contains(part)).count()
    }
}

impl Observer for Listener {
    fn begin(&self, _: &str, _: u64, _: &str) {}
    fn advance(&self, _: u64, _: &str) {}
    fn end(&self) {}
    fn note(&self, message: &str) {
        self.notes.lock().unwrap().push(message.to_owned());
    }
    fn warn(&self, message: &str) {
        self.warnings.lock().unwrap().push(message.to_owned());
    }
}

fn teacher() -> Transformer {
    let config = tiny_config(6);
    Transformer::new(&config, &random_params(&config.tensors()).tensors()).unwrap()
}

/// Three rows of twenty tokens.
fn batch(seed: u64) -> Batch {
    let token = |i: u64| ((i * i * 5 + i * 3 + seed * 7) % 37) as u32;
    let inputs: Vec<u32> = (0..60).map(token).collect();
    Batch {
        targets: (1..61).map(token).collect(),
        inputs,
        rows: 3,
        columns: 20,
        ..Batch::default()
    }
}

/// One row of it.
fn row(batch: &Batch, row: usize) -> Batch {
    let of = |tokens: &[u32]| tokens[row * 20..(row + 1) * 20].to_vec();
    Batch {
        inputs: of(&batch.inputs),
        targets: of(&batch.targets),
        rows: 1,
        columns: 20,
        ..Batch::default()
    }
}

/// All phases within eight steps, and states between layers.
fn distillation() -> DistillConfig {
    let loss = LossConfig { temperature: 2.0, ..LossConfig::default() };
    let phases =
        PhaseConfig { teacher_forced: 0.3, scheduled_until: 0.6, force: Granularity::Layer };
    DistillConfig { loss, phases, ..DistillConfig::default() }
}

fn student_params() -> Params {
    random_params(&tiny_looped(Relaxation::None).tensors())
}

fn open(
    folder: &Path,
    limit_bytes: u64,
    config: TeacherCacheConfig,
    listener: &Listener,
) -> TeacherCache<'static> {
    let context = Context::cpu().with_cache(folder).with_cache_limit(limit_bytes);
    let context = Box::leak(Box::new(context.with_observer(listener.clone())));
    TeacherCache::open("one", config, &tiny_config(6), 2.0, context).unwrap()
}

fn objective<'a>(params: &Params, cache: Option<TeacherCache<'a>>) -> Distillation<'a> {
    let student = LoopedTransformer::new(&tiny_looped(Relaxation::None), params).unwrap();
    let made = Distillation::new(teacher(), student, params.clone(), distillation()).unwrap();
    match cache {
        Some(cache) => made.with_cache(cache),
        None => made,
    }
}

/// Plain descent; the bits of every loss and of every parameter at the end.
fn descend(objective: &Distillation<'_>, steps: Range<u64>) -> Vec<u64> {
    let mut bits = Vec::new();
    for step in steps {
        let mut moment = StepContext::new(9, step, STEPS, 0);
        let loss = objective.loss(&batch(step % 3), &mut moment).unwrap();
        for (name, var) in objective.params().trainable() {
            let Some(gradient) = loss.gradients.get(name) else { continue };
            let gradient: &Tensor = gradient;
            var.set(&(var.as_tensor() - (gradient * 0.02).unwrap()).unwrap()).unwrap();
        }
        bits.push(loss.total.to_bits());
    }
    bits.extend(parameter_bits(objective.params()));
    bits
}

fn parameter_bits(params: &Params) -> Vec<u64> {
    let numbers = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    params.tensors().values().flat_map(numbers).map(|x| u64::from(x.to_bits())).collect()
}

/// A run of its own from beginning to end.
fn run(folder: &Path, limit: u64, config: TeacherCacheConfig, listener: &Listener) -> Vec<u64> {
    let objective = objective(&student_params(), Some(open(folder, limit, config, listener)));
    let bits = descend(&objective, 0..STEPS);
    objective.close();
    bits
}

fn shards(folder: &Path) -> Vec<PathBuf> {
    let pattern = folder.join("teacher/*/shard-*.safetensors");
    glob::glob(pattern.to_str().unwrap()).unwrap().map(Result::unwrap).collect()
}

fn bytes(folder: &Path) -> u64 {
    let pattern = folder.join("teacher/*/*");
    let files = glob::glob(pattern.to_str().unwrap()).unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

/// Makes a file as old as the hours say.
fn age(path: &Path, hours: u64) {
    let then = SystemTime::now() - Duration::from_secs(hours * 3600);
    File::options().write(true).open(path).unwrap().set_modified(then).unwrap();
}

#[test]
fn a_run_is_the_same_to_the_bit_whatever_the_cache_holds() {
    for states in PRECISIONS {
        let config = TeacherCacheConfig { states, top_k: 5 };
        let (folder, listener) = (tempfile::tempdir().unwrap(), Listener::default());
        let cold = run(folder.path(), PLENTY, config, &listener);
        let warm = run(folder.path(), PLENTY, config, &listener);
        assert!(warm == cold, "{states:?} warm");
        assert_eq!(listener.notes(" 24 rows from the cache, 0 computed"), 1, "{states:?}");
        let nowhere = tempfile::tempdir().unwrap();
        assert!(run(nowhere.path(), 0, config, &listener) == cold, "{states:?} without a disk");
        assert_eq!(fs::read_dir(nowhere.path()).unwrap().count(), 0);

        // One row of each batch is there, from a run that read them alone.
        let half = tempfile::tempdir().unwrap();
        let other =
            objective(&student_params(), Some(open(half.path(), PLENTY, config, &listener)));
        for seed in 0..3 {
            let one = row(&batch(seed), seed as usize);
            other.loss(&one, &mut StepContext::new(1, 7, STEPS, 0)).unwrap();
        }
        other.close();
        assert!(run(half.path(), PLENTY, config, &listener) == cold, "{states:?} half there");
        assert_eq!(listener.warnings(""), 0);
    }
}

#[test]
fn a_run_that_was_killed_goes_on_to_the_same_bits() {
    let config = TeacherCacheConfig { top_k: 5, ..TeacherCacheConfig::default() };
    let (folder, listener) = (tempfile::tempdir().unwrap(), Listener::default());
    let cold = run(tempfile::tempdir().unwrap().path(), PLENTY, config, &listener);
    let params = student_params();
    // Dropped with rows that were never written.
    let limit = 60_000;
    descend(&objective(&params, Some(open(folder.path(), limit, config, &listener))), 0..5);
    assert!(!shards(folder.path()).is_empty());
    let again = objective(&params, Some(open(folder.path(), PLENTY, config, &listener)));
    descend(&again, 5..STEPS);
    assert!(parameter_bits(&params) == cold[STEPS as usize..]);
}

#[test]
fn what_is_remembered_teaches_as_the_live_teacher_within_its_rounding() {
    let live = objective(&student_params(), None);
    // Relative errors of a state, a few times over in a squared difference.
    for (states, tolerance) in PRECISIONS.into_iter().zip([F32_SUM, 1e-3, 1e-2, 1e-2]) {
        let (folder, listener) = (tempfile::tempdir().unwrap(), Listener::default());
        // More than there are: all of them.
        let config = TeacherCacheConfig { states, top_k: 1000 };
        let kept = open(folder.path(), PLENTY, config, &listener);
        let kept = objective(&student_params(), Some(kept));
        for step in [0, 4, 7] {
            let loss = |objective: &Distillation<'_>| {
                objective.loss(&batch(step), &mut StepContext::new(9, step, STEPS, 0)).unwrap()
            };
            let (live, kept) = (loss(&live), loss(&kept));
            assert_eq!(live.terms.len(), kept.terms.len());
            // Of 60 tokens, one that changes its mind is 1.7 %.
            for (name, value) in live.terms.iter().filter(|(name, _)| *name != "agreement") {
                let off = (kept.terms[name] - value).abs() / value.abs().max(1.0);
                assert!(off < tolerance, "{states:?} step {step} {name}: off by {off}");
            }
        }
    }
}

/// Something done to the bytes of a file.
type Harm<'a> = &'a dyn Fn(&mut Vec<u8>);

#[test]
fn a_damaged_or_lying_file_is_told_removed_and_made_again() {
    let config = TeacherCacheConfig { top_k: 5, ..TeacherCacheConfig::default() };
    let cold = run(tempfile::tempdir().unwrap().path(), PLENTY, config, &Listener::default());
    let flip = |bytes: &mut Vec<u8>| {
        let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        bytes[8 + header as usize] ^= 1;
    };
    // Those without states stay whole.
    let replace = |bytes: &mut Vec<u8>, old: &[u8], new: &[u8]| {
        if let Some(at) = bytes.windows(old.len()).position(|part| part == old) {
            bytes[at..at + new.len()].copy_from_slice(new);
        }
    };
    let lie = |bytes: &mut Vec<u8>| replace(bytes, b"\"BF16\"", b"\"F16\" ");
    let shape = |bytes: &mut Vec<u8>| replace(bytes, b",20,16]", b",16,20]");
    let cut = |bytes: &mut Vec<u8>| bytes.truncate(bytes.len() / 2);
    let length = |bytes: &mut Vec<u8>| bytes[..8].fill(0xff);
    let empty = |bytes: &mut Vec<u8>| bytes.clear();
    let harms: [Harm; 6] = [&flip, &lie, &shape, &cut, &length, &empty];
    for (index, harm) in harms.iter().enumerate() {
        let (folder, listener) = (tempfile::tempdir().unwrap(), Listener::default());
        run(folder.path(), PLENTY, config, &listener);
        let damaged = shards(folder.path());
        for path in &damaged {
            let mut bytes = fs::read(path).unwrap();
            harm(&mut bytes);
            fs::write(path, bytes).unwrap();
        }
        assert!(run(folder.path(), PLENTY, config, &listener) == cold, "harm {index}");
        assert!(listener.warnings("is damaged and will be rebuilt") > 0, "harm {index}");
        run(folder.path(), PLENTY, config, &listener);
        assert_eq!(listener.notes(" 24 rows from the cache, 0 computed"), 1, "harm {index}");
    }
}

#[test]
fn the_limit_holds_and_idle_teachers_go_first() {
    let config = TeacherCacheConfig { states: StatePrecision::F32, top_k: 37 };
    let (folder, listener) = (tempfile::tempdir().unwrap(), Listener::default());
    let other = |name: &str, hours: u64| {
        let other = folder.path().join("teacher").join(name);
        fs::create_dir_all(&other).unwrap();
        fs::write(other.join("shard-a.safetensors"), vec![0; 20_000]).unwrap();
        fs::write(other.join("opened"), "").unwrap();
        age(&other.join("opened"), hours);
        other
    };
    let (old, older, recent) = (other("old", 2), other("older", 3), other("recent", 0));
    let limit = 75_000;
    let bits = run(folder.path(), limit, config, &listener);
    assert!(bytes(folder.path()) <= limit, "{}", bytes(folder.path()));
    assert!(recent.exists() && !old.exists() && !older.exists());
    assert_eq!(listener.notes("--cache-limit is reached"), 1);
    assert!(bits == run(tempfile::tempdir().unwrap().path(), 0, config, &listener));
}

#[test]
fn what_a_killed_process_left_is_removed_and_what_another_writes_stays() {
    let config = TeacherCacheConfig { top_k: 5, ..TeacherCacheConfig::default() };
    let (folder, listener) = (tempfile::tempdir().unwrap(), Listener::default());
    run(folder.path(), PLENTY, config, &listener);
    let own = shards(folder.path())[0].parent().unwrap().to_owned();
    let part = |name: &str, hours: u64| {
        let path = own.join(format!("shard-{name}.safetensors.part"));
        fs::write(&path, "half").unwrap();
        age(&path, hours);
        path
    };
    let (stale, young) = (part("stale", 2), part("young", 0));
    run(folder.path(), PLENTY, config, &listener);
    assert!(!stale.exists() && young.exists());
    assert_eq!(listener.notes(" 24 rows from the cache, 0 computed"), 1);
}

#[test]
fn several_processes_may_fill_one_folder() {
    let config = TeacherCacheConfig { top_k: 5, ..TeacherCacheConfig::default() };
    let (folder, listener) = (tempfile::tempdir().unwrap(), Listener::default());
    let runs: Vec<Vec<u64>> = std::thread::scope(|scope| {
        let one = || run(folder.path(), 400_000, config, &listener);
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(runs.iter().all(|bits| *bits == runs[0]));
    let before = listener.notes(" 24 rows from the cache, 0 computed");
    assert!(run(folder.path(), PLENTY, config, &listener) == runs[0]);
    assert_eq!(listener.notes(" 24 rows from the cache, 0 computed"), before + 1);
    assert_eq!(listener.warnings(""), 0);
}

#[test]
fn a_teacher_that_would_keep_nothing_is_refused() {
    let config = TeacherCacheConfig { top_k: 0, ..TeacherCacheConfig::default() };
    let error = config.validate().unwrap_err().to_string();
    assert!(error.contains("teacher.cache.top_k") && error.contains("hint"), "{error}");
}
