//! The scores of an evaluation, and their tables.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::bootstrap::Interval;
use super::cost::ModelCost;
use super::policies::PolicyReport;
use crate::error::counted;

/// Scores and costs of a teacher and a student, as `eval.json` holds them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The teacher, or the only model that was evaluated.
    #[serde(default)]
    pub teacher: TeacherScore,
    /// The student, by repetitions; empty when there is none.
    #[serde(default)]
    pub student: Vec<StudentScore>,
    /// The student under halting policies; none when they were not evaluated.
    #[serde(flatten)]
    pub halting: Option<PolicyReport>,
    /// N of the student: more repetitions than it was trained for lie past it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_repetitions: Option<usize>,
    /// Number of documents in the text.
    #[serde(default)]
    pub documents: usize,
    /// Tokens of a full window.
    #[serde(default)]
    pub window_tokens: usize,
    /// UTF-8 bytes of the predicted text, where a tokenizer could tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_bytes: Option<u64>,
    /// Costs of the teacher.
    #[serde(default)]
    pub teacher_cost: ModelCost,
    /// Costs of the student at N repetitions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub student_cost: Option<ModelCost>,
    /// Parameters of the student over those of the teacher.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_ratio: Option<SizeRatio>,
    /// Peak resident memory of the process: both models and the text.
    pub peak_rss_mib: Option<f64>,
}

/// Scores of a teacher on a text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TeacherScore {
    /// exp of the mean -log p of the next token.
    #[serde(with = "super::finite", default = "super::finite::missing")]
    pub perplexity: f64,
    /// Mean -log p of the next token, in nats.
    #[serde(with = "super::finite", default = "super::finite::missing")]
    pub nll_nats: f64,
    /// -log2 p of the predicted text, per UTF-8 byte of it: comparable between tokenizers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_per_byte: Option<f64>,
    /// Number of predicted tokens.
    #[serde(default)]
    pub tokens: u64,
    /// 95 % interval of the perplexity, over documents.
    pub perplexity_interval: Option<Interval>,
}

/// Scores of a student on a text, at one number of repetitions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StudentScore {
    /// Number of times the core was applied.
    #[serde(default)]
    pub repetitions: usize,
    /// exp of the mean -log p of the next token.
    #[serde(with = "super::finite", default = "super::finite::missing")]
    pub perplexity: f64,
    /// Mean -log p of the next token, in nats.
    #[serde(with = "super::finite", default = "super::finite::missing")]
    pub nll_nats: f64,
    /// -log2 p of the predicted text, per UTF-8 byte of it: comparable between tokenizers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bits_per_byte: Option<f64>,
    /// KL(teacher || student) per token.
    #[serde(with = "super::finite", default = "super::finite::missing")]
    pub kl_nats: f64,
    /// Share of tokens for which teacher and student have the same top-1 token, 0..1.
    #[serde(with = "super::finite", default = "super::finite::missing")]
    pub agreement: f64,
    /// Mean cosine between the state after this repetition and the teacher's state at the aligned
    /// layer; past N, at the end of its middle. None when the teacher's layers or width differ.
    pub cosine: Option<f64>,
    /// Mean cosine with every dimension scaled by its size in the teacher and without first tokens,
    /// so that a few huge dimensions do not dominate.
    pub cosine_scaled: Option<f64>,
    /// Root mean square of the state after this repetition, mean over tokens. It keeps growing past
    /// N when the repetitions do not converge.
    pub state_rms: Option<f64>,
    /// Norm of the change that this repetition makes over the norm of the state, mean over tokens.
    pub step_ratio: Option<f64>,
    /// Largest singular value of the Jacobian of this repetition at the state before it, a lower
    /// bound, on the first 16 tokens of the longest window. Below 1 the repetition is contractive.
    pub jacobian_norm: Option<f64>,
    /// 95 % interval of the perplexity, over documents.
    pub perplexity_interval: Option<Interval>,
    /// 95 % interval of the KL divergence, over documents.
    pub kl_interval: Option<Interval>,
    /// 95 % interval of the agreement, over documents.
    pub agreement_interval: Option<Interval>,
    /// Floating point operations of the forward pass per token.
    #[serde(with = "super::finite", default = "super::finite::missing")]
    pub flops_per_token: f64,
}

/// Parameters of the student over those of the teacher.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SizeRatio {
    /// Ratio of the parameters of the layers.
    #[serde(with = "super::finite", default = "super::finite::missing")]
    pub blocks: f64,
    /// Ratio of all parameters, embeddings included.
    #[serde(with = "super::finite", default = "super::finite::missing")]
    pub total: f64,
}

impl Default for TeacherScore {
    fn default() -> Self {
        Self {
            perplexity: f64::NAN,
            nll_nats: f64::NAN,
            bits_per_byte: None,
            tokens: 0,
            perplexity_interval: None,
        }
    }
}

impl SizeRatio {
    pub(super) fn of(student: &ModelCost, teacher: &ModelCost) -> Self {
        let ratio = |student: usize, teacher: usize| student as f64 / teacher as f64;
        Self {
            blocks: ratio(student.parameters.blocks, teacher.parameters.blocks),
            total: ratio(student.parameters.total, teacher.parameters.total),
        }
    }
}

impl Evaluation {
    /// With bits per byte, for a predicted text of so many UTF-8 bytes.
    #[must_use]
    pub fn with_text_bytes(mut self, bytes: u64) -> Self {
        self.text_bytes = Some(bytes);
        self.teacher.bits_per_byte = self.bits_per_byte(self.teacher.nll_nats);
        let bits: Vec<_> = self.student.iter().map(|s| self.bits_per_byte(s.nll_nats)).collect();
        self.student.iter_mut().zip(bits).for_each(|(score, bits)| score.bits_per_byte = bits);
        self
    }

    /// Bits per byte of the text at this loss per token.
    fn bits_per_byte(&self, nll_nats: f64) -> Option<f64> {
        let bytes = self.text_bytes.filter(|bytes| *bytes > 0)? as f64;
        let bits = nll_nats * self.teacher.tokens as f64 / std::f64::consts::LN_2 / bytes;
        bits.is_finite().then_some(bits)
    }

    /// A table of teacher and student, by repetitions: a head, then rows of as many cells. Narrow enough
    /// for a terminal: the intervals of KL and agreement are in the JSON.
    #[must_use]
    pub fn table(&self) -> Vec<Vec<String>> {
        let teacher = &self.teacher;
        let mut rows = vec![
            COLUMNS.map(str::to_owned).to_vec(),
            vec![
                "teacher".to_owned(),
                String::new(),
                with_interval(teacher.perplexity, teacher.perplexity_interval),
                bits(self.bits_per_byte(teacher.nll_nats)),
                String::new(),
                String::new(),
                String::new(),
                mega(self.teacher_cost.flops_per_token),
            ],
        ];
        rows.extend(self.student.iter().map(|score| self.row(score)));
        rows
    }

    fn row(&self, score: &StudentScore) -> Vec<String> {
        let trained = self.trained_repetitions.unwrap_or(score.repetitions);
        let note = match score.repetitions.cmp(&trained) {
            std::cmp::Ordering::Equal => " = N",
            std::cmp::Ordering::Greater => " > N",
            std::cmp::Ordering::Less => "",
        };
        vec![
            "student".to_owned(),
            format!("{}{note}", score.repetitions),
            with_interval(score.perplexity, score.perplexity_interval),
            bits(self.bits_per_byte(score.nll_nats)),
            format!("{:.3}", score.kl_nats),
            format!("{:.1} %", 100.0 * score.agreement),
            score.cosine.map_or_else(|| "-".to_owned(), |cosine| format!("{cosine:.3}")),
            mega(score.flops_per_token),
        ]
    }

    /// What the table rests on, and what its columns are, in sentences.
    #[must_use]
    pub fn caption(&self) -> String {
        let (tokens, documents) = (self.teacher.tokens, counted(self.documents, "document"));
        let mut text = format!(
            "Measured on {tokens} predicted tokens of {documents}, in windows of at most {}.",
            counted(self.window_tokens, "token")
        );
        text.push_str(match self.teacher.perplexity_interval {
            Some(_) => " [low, high] is a 95 % confidence interval, a bootstrap over documents.",
            None => " No intervals: they need two documents or more, and resamples.",
        });
        if let Some(trained) = self.trained_repetitions {
            // Writing to a String never fails.
            let _ = write!(
                text,
                " Repetitions are those of the core; the student was trained at N = {trained}. KL, \
                 top-1 and cosine compare it with its teacher."
            );
        }
        text
    }

    /// A table of the costs of both models: a head, then rows of as many cells.
    #[must_use]
    pub fn costs(&self) -> Vec<Vec<String>> {
        let head =
            ["model", "M parameters", "in blocks", "applied in blocks", "of teacher", "tokens/s"];
        let row = |name: &str, cost: &ModelCost| {
            let ratio = cost.parameters.blocks as f64 / self.teacher_cost.parameters.blocks as f64;
            vec![
                name.to_owned(),
                mega(cost.parameters.total as f64),
                mega(cost.parameters.blocks as f64),
                mega(cost.effective_parameters.blocks as f64),
                format!("{ratio:.3}"),
                format!("{:.0}", cost.tokens_per_s),
            ]
        };
        let mut rows = vec![head.map(str::to_owned).to_vec(), row("teacher", &self.teacher_cost)];
        rows.extend(self.student_cost.as_ref().map(|cost| row("student", cost)));
        rows
    }
}

/// The head of the table of results.
const COLUMNS: [&str; 8] = [
    "model",
    "repeti- tions",
    "perplexity [95\u{a0}%\u{a0}CI]",
    "bits/ byte",
    "KL, nats",
    "same top-1",
    "state cosine",
    "MFLOP/ token",
];

/// Columns that a narrow terminal does without, the first first.
pub const OPTIONAL_COLUMNS: [&str; 3] = [COLUMNS[6], COLUMNS[7], COLUMNS[3]];

fn with_interval(value: f64, interval: Option<Interval>) -> String {
    let shown = short(value);
    interval.map_or_else(
        || shown.clone(),
        |interval| format!("{shown} [{}, {}]", short(interval.low), short(interval.high)),
    )
}

fn bits(bits: Option<f64>) -> String {
    bits.map_or_else(|| "-".to_owned(), |bits| format!("{bits:.3}"))
}

/// About three digits: an interval of a bootstrap is not known better.
fn short(value: f64) -> String {
    let digits = match value {
        ..10.0 => 2,
        10.0..100.0 => 1,
        _ => 0,
    };
    if value < 1e7 { format!("{value:.digits$}") } else { format!("{value:.2e}") }
}

/// A number in millions.
fn mega(value: f64) -> String {
    let digits = if value < 1e7 { 2 } else { 1 };
    format!("{:.digits$}", value / 1e6)
}
