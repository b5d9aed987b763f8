//! Figures and tables of a run: quality, motion of the states, and cost.

use super::fitted::Fitted;
use super::header::{fitted, known};
use super::page::Item;
use super::plot::{Axis, Figure, Point, Reference, Scale, Series, Shape, Style, slug};
use super::table::{Cell, Column, Table};
use crate::eval::{Evaluation, Interval, ModelCost, StudentScore};
use crate::run::Report;

/// A quality of a student and its interval.
type Quality = fn(&StudentScore) -> Fitted;

/// Perplexity, KL and agreement by repetitions.
pub(super) fn quality(found: &Evaluation) -> Vec<Item> {
    let level = |y: Option<f64>| {
        y.map(|y| Reference { name: "teacher".to_owned(), shape: Shape::Level(y) })
    };
    let qualities: [(&str, Quality, Option<Reference>); 3] = [
        (
            "Perplexity",
            |score| fitted(score.perplexity, score.perplexity_interval),
            level(known(found.teacher.perplexity)),
        ),
        (
            "KL to the teacher (nats per token)",
            |score| fitted(score.kl_nats, score.kl_interval),
            level(Some(0.0)),
        ),
        (
            "Agreement with the teacher",
            |score| fitted(score.agreement, score.agreement_interval),
            level(Some(1.0)),
        ),
    ];
    let caption = "Whiskers are 95 % intervals over documents. The upright line is N, the \
        repetitions it was trained for.";
    let figures = qualities
        .map(|(name, of, level)| Item::figure(quality_figure(found, name, of, level), caption));
    figures.into()
}

fn quality_figure(found: &Evaluation, name: &str, of: Quality, level: Option<Reference>) -> Figure {
    let points = found.student.iter().map(|score| {
        let value = of(score);
        Point::new(score.repetitions as f64, value.estimate).between(value.low, value.high)
    });
    let trained = found.trained_repetitions.map(|n| Shape::Upright(n as f64));
    let trained = trained.map(|shape| Reference { name: "N".to_owned(), shape });
    Figure {
        name: format!("run-{}", slug(name)),
        title: format!("{name} by repetitions"),
        x: Axis::new("repetitions", Scale::Linear),
        y: Axis::new(name, Scale::Linear),
        series: vec![Series {
            name: "student".to_owned(),
            style: Style::LineMarkers,
            points: points.collect(),
        }],
        references: level.into_iter().chain(trained).collect(),
    }
}

/// How far repetitions move the state, and how much a small change of it can grow in one.
pub(super) fn motion(found: &Evaluation) -> Option<Item> {
    let told = |score: &StudentScore| score.step_ratio.or(score.jacobian_norm).is_some();
    if !found.student.iter().any(told) {
        return None;
    }
    let series = |name: &str, of: fn(&StudentScore) -> Option<f64>| Series {
        name: name.to_owned(),
        style: Style::LineMarkers,
        points: found
            .student
            .iter()
            .map(|score| Point::new(score.repetitions as f64, of(score)))
            .collect(),
    };
    let trained = found.trained_repetitions.map(|n| Shape::Upright(n as f64));
    let trained = trained.map(|shape| Reference { name: "N".to_owned(), shape });
    let figure = Figure {
        name: "run-motion".into(),
        title: "How repetitions move the state".into(),
        x: Axis::new("repetitions", Scale::Linear),
        y: Axis::new("ratio", Scale::Linear),
        series: vec![
            series("step over state", |score| score.step_ratio),
            series("norm of the Jacobian", |score| score.jacobian_norm),
        ],
        references: trained.into_iter().collect(),
    };
    let caption = "A step that falls towards 0 comes to rest; a repetition whose Jacobian has a norm \
        below 1 forgets how it began.";
    Some(Item::figure(figure, caption))
}

/// Teacher beside student, by repetitions.
pub(super) fn scores(report: &Report) -> Item {
    let evaluation = &report.evaluation;
    let row = |name: &str, score: &StudentScore| {
        vec![
            name.into(),
            Cell::Number(score.repetitions as f64),
            ranged(score.perplexity, score.perplexity_interval),
            ranged(score.kl_nats, score.kl_interval),
            ranged(score.agreement, score.agreement_interval),
            score.cosine.into(),
            known(score.flops_per_token / 1e6).into(),
        ]
    };
    let teacher = &evaluation.teacher;
    let mut rows = vec![vec![
        "teacher".into(),
        Cell::Missing,
        ranged(teacher.perplexity, teacher.perplexity_interval),
        Cell::Missing,
        Cell::Missing,
        Cell::Missing,
        known(evaluation.teacher_cost.flops_per_token / 1e6).into(),
    ]];
    rows.extend(report.untrained.as_ref().map(|score| row("student, untrained", score)));
    rows.extend(evaluation.student.iter().map(|score| row("student", score)));
    let columns = vec![
        Column::new("model"),
        Column::fixed("repetitions", 0),
        Column::fixed("perplexity (95 % CI)", 1),
        Column::fixed("KL, nats/token (95 % CI)", 3),
        Column::percent("top-1 agreement (95 % CI)"),
        Column::fixed("cosine", 3),
        Column::fixed("MFLOP/token", 1),
    ];
    let caption = "On held-out text, with 95 % intervals over documents";
    Item::Table(Table::new("scores", caption, columns, rows))
}

/// A number with its interval.
pub(super) fn ranged(value: f64, ends: Option<Interval>) -> Cell {
    fitted(value, ends).into()
}

/// Parameters of both models, as a picture and as a table.
pub(super) fn costs(evaluation: &Evaluation) -> Vec<Item> {
    let student = evaluation.student_cost.as_ref().map(|cost| ("student", cost));
    let models: Vec<(&str, &ModelCost)> =
        std::iter::once(("teacher", &evaluation.teacher_cost)).chain(student).collect();
    if models.iter().all(|(_, cost)| cost.parameters.total == 0) {
        return vec![Item::Note("eval.json does not say what the models cost.".into())];
    }
    let rows = models.iter().map(|(name, cost)| {
        vec![
            (*name).into(),
            million(cost.parameters.total),
            million(cost.parameters.embedding),
            million(cost.parameters.blocks),
            million(cost.effective_parameters.blocks),
            known(cost.tokens_per_s).into(),
        ]
    });
    let columns = vec![
        Column::new("model"),
        Column::fixed("M parameters", 2),
        Column::fixed("in the embedding", 2),
        Column::fixed("in blocks", 2),
        Column::fixed("applied in blocks", 2),
        Column::fixed("tokens/s", 0),
    ];
    vec![
        Item::figure(
            parameters(&models),
            "Blocks that are applied again and again are stored once: applied counts them each \
             time.",
        ),
        Item::Table(Table::new("costs", "What the models cost", columns, rows.collect())),
    ]
}

fn parameters(models: &[(&str, &ModelCost)]) -> Figure {
    let names = ["total", "embedding", "blocks"];
    let categories = names.map(|name| [format!("{name}, stored"), format!("{name}, applied")]);
    let series = models.iter().map(|(name, cost)| {
        let [stored, applied] = [&cost.parameters, &cost.effective_parameters]
            .map(|count| [count.total, count.embedding, count.blocks]);
        let values =
            stored.into_iter().zip(applied).flat_map(|(stored, applied)| [stored, applied]);
        let point = |(place, count): (usize, usize)| Point::new(place as f64, count as f64 / 1e6);
        Series {
            name: (*name).to_owned(),
            style: Style::Bars,
            points: values.enumerate().map(point).collect(),
        }
    });
    Figure {
        name: "run-parameters".into(),
        title: "Parameters of teacher and student".into(),
        x: Axis::new("", Scale::Categories(categories.concat())),
        y: Axis::new("millions of parameters", Scale::Linear),
        series: series.collect(),
        references: Vec::new(),
    }
}

fn million(count: usize) -> Cell {
    Cell::Number(count as f64 / 1e6)
}
