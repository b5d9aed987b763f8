//! Every shipped study, its grid cut down: teachers, students and learners of tasks and of text.

use toml::{Table, Value};

use super::STEPS;
use super::compare::Trajectory;
use super::program::{Bench, recipe};

pub fn trajectories(bench: &Bench) -> Vec<Trajectory> {
    let law_tasks = bench.study_of("law-tasks", "law", |recipe| {
        shorten(recipe, "tasks", 1);
        shorten(table(recipe, "students"), "widths", 2);
        shorten(table(recipe, "students"), "repetitions", 2);
        shorten(table(recipe, "controls"), "lora_ranks", 1);
    });
    let law_chains = bench.study_of("law-chains", "law", |recipe| {
        let tasks = list(recipe, "tasks");
        *tasks = vec![tasks[0].clone(), tasks[3].clone()];
        table(recipe, "students").insert("repetitions".into(), Value::from(vec![2]));
        recipe.remove("controls");
    });
    let law_text = bench.study_of("law-text", "law", |recipe| {
        let text = table(recipe, "text");
        list(text, "set").extend(TEXT.iter().map(|&set| Value::from(set)));
        shorten(table(recipe, "students"), "core_layers", 1);
        shorten(table(recipe, "students"), "repetitions", 2);
    });
    let scaling = bench.study_of("scaling-tasks", "scaling", |recipe| {
        let samples = table(recipe, "samples");
        samples.insert("lengths".into(), Value::from(vec![2]));
        samples.insert("examples".into(), Value::from(vec![128]));
        shorten(table(recipe, "horizon"), "widths", 1);
        shorten(table(recipe, "horizon"), "lengths", 2);
        let joint = table(recipe, "joint");
        shorten(joint, "widths", 1);
        joint.insert("cores".into(), Value::from(vec![vec![1, 1], vec![1, 2], vec![2, 1]]));
        joint.insert("steps".into(), Value::from(vec![STEPS as i64]));
        joint.insert("window_tokens".into(), Value::from(32));
        joint.insert("test_tokens".into(), Value::from(64));
    });
    let exits = bench.study_of("exits-tasks", "exits", |_| {});
    [law_tasks, law_chains, law_text, scaling, exits].concat()
}

/// The recipe of the text of a law, as small as the others are.
const TEXT: &[&str] = &[
    "data.files=[\"text/sotu-validation.parquet\"]",
    "data.validation=0.0",
    "data.window_tokens=32",
    "train.batch_rows=2",
    "student.calibration_tokens=128",
    "eval.window_tokens=32",
    "eval.max_tokens=32",
    "eval.bootstrap_samples=2",
    "teacher.cache={ states = \"bf16\", top_k = 16 }",
];

impl Bench {
    /// A shipped study of one seed, changed, with trainings of as many steps as all others.
    fn study_of(&self, name: &str, verb: &str, change: impl FnOnce(&mut Table)) -> Vec<Trajectory> {
        let path = recipe(name);
        let mut recipe: Table = toml::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        change(&mut recipe);
        shorten(&mut recipe, "seeds", 1);
        shrink(&mut recipe);
        let evaluation = recipe.entry("eval").or_insert_with(|| Value::from(Table::new()));
        evaluation.as_table_mut().unwrap().insert("examples".into(), Value::from(16));
        self.study(name, verb, &path, &toml::to_string(&recipe).unwrap())
    }
}

/// Makes every `train` in a recipe a short one.
fn shrink(recipe: &mut Table) {
    for (key, value) in recipe.iter_mut() {
        match value {
            Value::Table(train) if key == "train" => {
                train.insert("steps".into(), Value::from(STEPS as i64));
                train.insert("batch_rows".into(), Value::from(16));
                train.insert("warmup_steps".into(), Value::from(4));
            }
            Value::Table(inner) => shrink(inner),
            Value::Array(items) => {
                items.iter_mut().filter_map(Value::as_table_mut).for_each(shrink);
            }
            _ => {}
        }
    }
}

fn table<'a>(recipe: &'a mut Table, key: &str) -> &'a mut Table {
    recipe.get_mut(key).and_then(Value::as_table_mut).unwrap_or_else(|| panic!("no [{key}]"))
}

fn list<'a>(recipe: &'a mut Table, key: &str) -> &'a mut Vec<Value> {
    recipe.get_mut(key).and_then(Value::as_array_mut).unwrap_or_else(|| panic!("no {key} = []"))
}

fn shorten(recipe: &mut Table, key: &str, length: usize) {
    list(recipe, key).truncate(length);
}
