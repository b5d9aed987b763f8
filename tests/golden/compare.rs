//! Trajectories as a file, and what it takes to be the same.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// How far losses may be apart on another kind of machine, relative to the golden one. Where every
/// weight of the teacher is changed by one unit in its last place of 24 bits, which is what another
/// order of sums does, losses of these steps change by up to 7e-5: fifteen times as much.
pub const LOSS_TOLERANCE: f64 = 1e-3;
/// The same of gradient norms, which change by up to 3e-4.
pub const NORM_TOLERANCE: f64 = 5e-3;

/// Instructions that the kernels choose between.
const FEATURES: &[&str] = &["avx2", "fma", "avx512f", "avx512bw", "avx512vl", "avx512dq"];

#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Step {
    pub loss: f64,
    pub grad_norm: f64,
}

/// The first steps of a training.
#[derive(Debug, Clone, PartialEq)]
pub struct Trajectory {
    pub name: String,
    pub steps: Vec<Step>,
}

/// Asserts that `found` is what `tests/fixtures/golden/<group>.csv` holds, or writes that file.
#[track_caller]
pub fn check(group: &str, found: &[Trajectory]) {
    let path = file(group);
    if std::env::var_os("FACTOREXE_GOLDEN").is_some_and(|value| value == "write") {
        fs::write(path, write(&machine(), found)).unwrap();
        return;
    }
    let text = fs::read_to_string(&path).unwrap();
    let (recorded_on, golden) = read(&text);
    let closeness = if recorded_on == machine() { Closeness::Bits } else { Closeness::Tolerance };
    let complaints = differences(&golden, found, closeness);
    assert!(
        complaints.is_empty(),
        "numbers are not those of {} ({closeness:?}):\n{}",
        path.display(),
        complaints.join("\n")
    );
}

fn file(group: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/fixtures/golden/{group}.csv"))
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Closeness {
    Bits,
    Tolerance,
}

impl Closeness {
    fn holds(self, golden: &Step, found: &Step) -> bool {
        let bits = |step: &Step| (step.loss.to_bits(), step.grad_norm.to_bits());
        let near = |a: f64, b: f64, tolerance: f64| (a - b).abs() <= tolerance * a.abs();
        match self {
            Self::Bits => bits(golden) == bits(found),
            Self::Tolerance => {
                near(golden.loss, found.loss, LOSS_TOLERANCE)
                    && near(golden.grad_norm, found.grad_norm, NORM_TOLERANCE)
            }
        }
    }

    fn same(self, golden: &Trajectory, found: &Trajectory) -> bool {
        golden.steps.len() == found.steps.len()
            && golden.steps.iter().zip(&found.steps).all(|(a, b)| self.holds(a, b))
    }
}

/// What is wrong, a line for each trajectory. Those of a study have no names of their own, `a/0`,
/// `a/1`, so each golden one takes any of the same study that fits.
fn differences(golden: &[Trajectory], found: &[Trajectory], closeness: Closeness) -> Vec<String> {
    let mut left: Vec<&Trajectory> = found.iter().collect();
    let mut complaints = Vec::new();
    for golden in golden {
        let kin = |found: &&&Trajectory| family(&found.name) == family(&golden.name);
        let taken = left.iter().position(|one| kin(&one) && closeness.same(golden, one));
        if let Some(at) = taken {
            left.remove(at);
            continue;
        }
        let nearest = left.iter().filter(kin).max_by_key(|one| agreeing(golden, one, closeness));
        complaints.push(match nearest {
            None => format!("{}: gone", golden.name),
            Some(nearest) => first_difference(golden, nearest, closeness),
        });
    }
    if complaints.is_empty() {
        complaints.extend(left.iter().map(|one| format!("{}: not recorded", one.name)));
    }
    complaints
}

fn family(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

fn agreeing(golden: &Trajectory, found: &Trajectory, closeness: Closeness) -> usize {
    let pairs = golden.steps.iter().zip(&found.steps);
    pairs.take_while(|(golden, found)| closeness.holds(golden, found)).count()
}

fn first_difference(golden: &Trajectory, found: &Trajectory, closeness: Closeness) -> String {
    let at = agreeing(golden, found, closeness);
    match golden.steps.get(at).zip(found.steps.get(at)) {
        Some((a, b)) => format!(
            "{}: step {}: loss {:?}, was {:?}; gradient norm {:?}, was {:?}",
            golden.name,
            at + 1,
            b.loss,
            a.loss,
            b.grad_norm,
            a.grad_norm
        ),
        None => format!(
            "{}: {} steps, {} were recorded",
            golden.name,
            found.steps.len(),
            golden.steps.len()
        ),
    }
}

fn write(machine: &str, trajectories: &[Trajectory]) -> String {
    let mut text = format!("# recorded on: {machine}\ntraining,step,loss,grad_norm\n");
    for Trajectory { name, steps } in trajectories {
        for (at, step) in steps.iter().enumerate() {
            // The shortest decimals that read back as the same bits.
            writeln!(text, "{name},{},{:?},{:?}", at + 1, step.loss, step.grad_norm).unwrap();
        }
    }
    text
}

fn read(text: &str) -> (&str, Vec<Trajectory>) {
    let mut lines = text.lines();
    let machine = lines.next().and_then(|line| line.strip_prefix("# recorded on: ")).unwrap();
    let mut trajectories: Vec<Trajectory> = Vec::new();
    for line in lines.skip(1) {
        let cells: Vec<&str> = line.split(',').collect();
        let [name, at, loss, grad_norm] = cells[..] else { panic!("four cells: {line}") };
        let step = Step { loss: loss.parse().unwrap(), grad_norm: grad_norm.parse().unwrap() };
        if trajectories.last().is_none_or(|last| last.name != name) {
            trajectories.push(Trajectory { name: name.to_owned(), steps: Vec::new() });
        }
        let steps = &mut trajectories.last_mut().unwrap().steps;
        steps.push(step);
        assert_eq!(at, steps.len().to_string(), "{line}");
    }
    (machine, trajectories)
}

/// All that decides in which order products and sums are taken: the processor, its caches (blocks
/// of products follow them), and its instructions.
fn machine() -> String {
    let information = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let value = |key: &str| {
        let line = information.lines().find(|line| line.split(':').next().unwrap().trim() == key);
        line.and_then(|line| line.split_once(':')).map_or("?", |(_, value)| value.trim())
    };
    let flags: Vec<&str> = value("flags").split(' ').collect();
    let features = FEATURES.iter().filter(|feature| flags.contains(feature));
    let features: Vec<&str> = features.copied().collect();
    let caches: Vec<String> = (0..4).map_while(cache).collect();
    format!(
        "{} {}; {} family {} model {}; caches {}; {}",
        std::env::consts::OS,
        std::env::consts::ARCH,
        value("model name"),
        value("cpu family"),
        value("model"),
        caches.join(" "),
        features.join(" ")
    )
}

fn cache(index: usize) -> Option<String> {
    let folder = format!("/sys/devices/system/cpu/cpu0/cache/index{index}");
    let part = |name: &str| fs::read_to_string(format!("{folder}/{name}")).ok();
    Some(format!("L{} {}", part("level")?.trim(), part("size")?.trim()))
}

#[test]
fn a_trajectory_is_the_same_only_to_the_bit_and_elsewhere_within_a_tolerance() {
    let steps = |losses: &[f64]| -> Vec<Step> {
        losses.iter().map(|&loss| Step { loss, grad_norm: 1.0 / 3.0 }).collect()
    };
    let one = |name: &str, losses: &[f64]| Trajectory { name: name.into(), steps: steps(losses) };
    let golden = [one("a", &[0.1, 0.2]), one("b/0", &[1.0]), one("b/1", &[2.0])];
    let text = write("here", &golden);
    assert_eq!(read(&text), ("here", golden.to_vec()));

    // Trajectories of a study may come in another order, others may not change their names.
    let [a, b0, b1] = golden.clone();
    let swapped = [a.clone(), one("b/0", &[2.0]), one("b/1", &[1.0])];
    assert_eq!(differences(&golden, &swapped, Closeness::Bits), [""; 0]);
    let renamed = [one("c", &[0.1, 0.2]), b0.clone(), b1.clone()];
    assert_eq!(differences(&golden, &renamed, Closeness::Bits), ["a: gone"]);
    let more = [a.clone(), b0.clone(), b1.clone(), one("c", &[1.0])];
    assert_eq!(differences(&golden, &more, Closeness::Bits), ["c: not recorded"]);

    let ulp = [one("a", &[0.1, 0.2_f64.next_up()]), b0.clone(), b1.clone()];
    let complaints = differences(&golden, &ulp, Closeness::Bits);
    assert!(complaints[0].starts_with("a: step 2: loss 0.2000"), "{complaints:?}");
    assert_eq!(differences(&golden, &ulp, Closeness::Tolerance), [""; 0]);
    let far = [one("a", &[0.1, 0.2 * (1.0 + 2.0 * LOSS_TOLERANCE)]), b0.clone(), b1.clone()];
    assert_eq!(differences(&golden, &far, Closeness::Tolerance).len(), 1);
    let mut short = [a, b0, b1];
    short[0].steps.pop();
    let complaints = differences(&golden, &short, Closeness::Tolerance);
    assert_eq!(complaints, ["a: 1 steps, 2 were recorded"]);
}
