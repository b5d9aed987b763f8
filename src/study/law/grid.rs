//! The grid of points of a depth law.

use super::config::{LawRecipe, StepsConfig, TextConfig};
use crate::data::tasks::TaskConfig;
use crate::distill::RepetitionSampling;
use crate::model::Relaxation;
use crate::pretrain::ModelConfig;
use crate::study::sweep::Job;
use crate::study::sweep::job::{Role, StudentJob, TeacherJob, TextJob};

/// Shape of a teacher of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextTeacher {
    /// L.
    pub layers: usize,
    /// D.
    pub width: usize,
}

/// All jobs of a law, in order.
#[must_use]
pub fn law_jobs(recipe: &LawRecipe, text: Option<TextTeacher>) -> Vec<Job> {
    let mut jobs = Vec::new();
    for &seed in &recipe.seeds {
        if let (Some(of), Some(shape)) = (&recipe.text, text) {
            jobs.extend(text_jobs(recipe, of, shape, seed));
        }
        for task in &recipe.tasks {
            let layers = match recipe.teachers.layers.as_slice() {
                [] => vec![task.length()],
                layers => layers.to_vec(),
            };
            for layers in layers {
                let teacher = teacher(recipe, task, layers, seed);
                let widths = match recipe.students.widths.as_slice() {
                    [] => vec![teacher.model.width],
                    widths => widths.to_vec(),
                };
                for &width in &widths {
                    for &core in &recipe.students.core_layers {
                        jobs.extend(students(recipe, &teacher, core, width));
                    }
                }
            }
        }
    }
    jobs
}

fn teacher(recipe: &LawRecipe, task: &TaskConfig, layers: usize, seed: u64) -> TeacherJob {
    TeacherJob {
        task: task.clone(),
        model: ModelConfig { layers, ..recipe.teachers.model.clone() }.filled(),
        supervision: recipe.teachers.supervision,
        train: recipe.teachers.train.clone(),
        seed,
        eval: recipe.eval.clone(),
    }
}

/// Every N of the grid that is not too deep, and the controls.
fn students(recipe: &LawRecipe, teacher: &TeacherJob, core: usize, width: usize) -> Vec<Job> {
    let layers = teacher.model.layers;
    let grid = depths(recipe, layers, core);
    if core > layers || grid.is_empty() {
        return Vec::new();
    }
    let at_n = |&repetitions: &usize| student(recipe, teacher, core, width, repetitions);
    let mut jobs: Vec<StudentJob> = grid.iter().map(at_n).collect();
    let most = grid.iter().copied().max().unwrap_or(1);
    if recipe.students.random_depth {
        jobs.push(StudentJob {
            role: Role::RandomN,
            depth: RepetitionSampling::Uniform { least: 1, most },
            read_at: (1..=most).collect(),
            ..student(recipe, teacher, core, width, most)
        });
    }
    if width == teacher.model.width {
        jobs.extend(controls(recipe, teacher, core));
    }
    jobs.into_iter().map(Job::Student).collect()
}

/// The numbers of repetitions of the grid at which a core of so many layers is not too deep.
fn depths(recipe: &LawRecipe, layers: usize, core: usize) -> Vec<usize> {
    let deepest = (recipe.students.deepest * layers as f64).floor() as usize;
    let fits = |repetitions: &usize| core * repetitions <= deepest.max(core);
    recipe.students.repetitions.iter().copied().filter(fits).collect()
}

fn student(
    recipe: &LawRecipe,
    teacher: &TeacherJob,
    core_layers: usize,
    width: usize,
    repetitions: usize,
) -> StudentJob {
    let students = &recipe.students;
    StudentJob {
        teacher: teacher.clone(),
        role: Role::AtN,
        core_layers,
        width,
        repetitions,
        depth: RepetitionSampling::Fixed,
        read_at: vec![repetitions],
        relaxation: students.relaxation,
        injection: students.injection,
        state_norm: students.state_norm,
        start: students.start,
        init: students.init,
        hidden_weight: students.hidden_weight,
        layers_weight: students.layers_weight,
        kl_weight: students.kl_weight,
        train: students.train.clone(),
        seed: teacher.seed,
    }
}

/// Beside the smallest core, at as many applications as the teacher has layers.
fn controls(recipe: &LawRecipe, teacher: &TeacherJob, core: usize) -> Vec<StudentJob> {
    if recipe.students.core_layers.iter().min() != Some(&core) {
        return Vec::new();
    }
    let (layers, width) = (teacher.model.layers, teacher.model.width);
    let repetitions = layers / core;
    let base = || student(recipe, teacher, core, width, repetitions);
    let mut jobs = Vec::new();
    if recipe.controls.untied {
        let once = student(recipe, teacher, core * repetitions, width, 1);
        jobs.push(StudentJob { role: Role::Untied, ..once });
    }
    if recipe.controls.scratch {
        jobs.push(StudentJob { role: Role::Scratch, ..base() });
    }
    for &rank in &recipe.controls.lora_ranks {
        let relaxation = Relaxation::Lora { rank };
        jobs.push(StudentJob { role: Role::Lora, relaxation, ..base() });
    }
    jobs
}

fn text_jobs(recipe: &LawRecipe, of: &TextConfig, shape: TextTeacher, seed: u64) -> Vec<Job> {
    let StepsConfig { steps, .. } = recipe.students.train;
    let widths = match recipe.students.widths.as_slice() {
        [] => vec![shape.width],
        widths => widths.to_vec(),
    };
    let mut jobs = Vec::new();
    for &width in &widths {
        for &core_layers in &recipe.students.core_layers {
            let grid = depths(recipe, shape.layers, core_layers);
            let job = |role, repetitions, read_at| TextJob {
                text: of.clone(),
                teacher_layers: shape.layers,
                teacher_width: shape.width,
                role,
                core_layers,
                width,
                repetitions,
                read_at,
                steps,
                seed,
            };
            jobs.extend(grid.iter().map(|&n| job(Role::AtN, n, vec![n])));
            if let Some(most) = grid.iter().copied().max().filter(|_| recipe.students.random_depth)
            {
                jobs.push(job(Role::RandomN, most, (1..=most).collect()));
            }
        }
    }
    jobs.into_iter().map(Job::Text).collect()
}
