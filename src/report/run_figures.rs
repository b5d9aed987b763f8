//! Figures and tables of a run: quality, motion of the states, and cost.

use super::fitted::Fitted;
use super::page::Item;
use super::plot::{Axis, Figure, Point, Reference, Scale, Series, Shape, Style, slug};
use super::run_data::{Cost, Ends, Evaluation, Score};
use super::table::{Cell, Column, Table};

/// A quality of a student and its interval.
type Quality = fn(&Score) -> (Option<f64>, Ends);

/// Perplexity, KL and agreement by repetitions.
pub(super) fn quality(found: &Evaluation) -> Vec<Item> {
    let level = |y: Option<f64>| {
        y.map(|y| Reference { name: "teacher".to_owned(), shape: Shape::Level(y) })
    };
    let qualities: [(&str, Quality, Option<Reference>); 3] = [
        (
            "Perplexity",
            |score| (score.perplexity, score.perplexity_interval),
            level(found.teacher.perplexity),
        ),
        (
            "KL to the teacher (nats per token)",
            |score| (score.kl_nats, score.kl_interval),
            level(Some(0.0)),
        ),
        (
            "Agreement with the teacher",
            |score| (score.agreement, score.agreement_interval),
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
        let (value, ends) = of(score);
        Point::new(score.repetitions, value).between(ends.low, ends.high)
    });
    let trained = found.trained_repetitions.map(Shape::Upright);
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
    let told = |score: &Score| score.step_ratio.or(score.jacobian_norm).is_some();
    if !found.student.iter().any(told) {
        return None;
    }
    let series = |name: &str, of: fn(&Score) -> Option<f64>| Series {
        name: name.to_owned(),
        style: Style::LineMarkers,
        points: found
            .student
            .iter()
            .map(|score| Point::new(score.repetitions, of(score)))
            .collect(),
    };
    let trained = found.trained_repetitions.map(Shape::Upright);
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
pub(super) fn scores(found: &Evaluation) -> Item {
    let row = |name: &str, score: &Score| {
        vec![
            name.into(),
            score.repetitions.into(),
            ranged(score.perplexity, score.perplexity_interval),
            ranged(score.kl_nats, score.kl_interval),
            ranged(score.agreement, score.agreement_interval),
            score.cosine.into(),
            score.flops_per_token.map(|flops| flops / 1e6).into(),
        ]
    };
    let teacher = Score {
        perplexity: found.teacher.perplexity,
        perplexity_interval: found.teacher.perplexity_interval,
        flops_per_token: found.teacher_cost.as_ref().and_then(|cost| cost.flops_per_token),
        ..Score::default()
    };
    let mut rows = vec![row("teacher", &teacher)];
    rows.extend(found.untrained.as_ref().map(|score| row("student, untrained", score)));
    rows.extend(found.student.iter().map(|score| row("student", score)));
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
pub(super) fn ranged(estimate: Option<f64>, ends: Ends) -> Cell {
    Fitted { estimate, low: ends.low, high: ends.high }.into()
}

/// Parameters of both models, as a picture and as a table.
pub(super) fn costs(found: &Evaluation) -> Vec<Item> {
    let models: Vec<(&str, &Cost)> =
        [("teacher", &found.teacher_cost), ("student", &found.student_cost)]
            .into_iter()
            .filter_map(|(name, cost)| Some((name, cost.as_ref()?)))
            .collect();
    if models.is_empty() {
        return vec![Item::Note("eval.json does not say what the models cost.".into())];
    }
    let rows = models.iter().map(|(name, cost)| {
        vec![
            (*name).into(),
            million(cost.parameters.total),
            million(cost.parameters.embedding),
            million(cost.parameters.blocks),
            million(cost.effective_parameters.blocks),
            cost.tokens_per_s.into(),
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

fn parameters(models: &[(&str, &Cost)]) -> Figure {
    let names = ["total", "embedding", "blocks"];
    let categories = names.map(|name| [format!("{name}, stored"), format!("{name}, applied")]);
    let series = models.iter().map(|(name, cost)| {
        let [stored, applied] = [&cost.parameters, &cost.effective_parameters]
            .map(|count| [count.total, count.embedding, count.blocks]);
        let values =
            stored.into_iter().zip(applied).flat_map(|(stored, applied)| [stored, applied]);
        let point = |(at, value): (usize, Option<f64>)| {
            Point::new(at as f64, value.map(|value| value / 1e6))
        };
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

fn million(value: Option<f64>) -> Cell {
    value.map(|value| value / 1e6).into()
}
