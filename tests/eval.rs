//! Evaluation: its numbers against means computed from the logits.

use candle_core::{D, Device, Tensor};
use factorexe::autograd::{Params, Tape, Value};
use factorexe::context::Context;
use factorexe::data::{Document, Documents, EvaluationWindow, Spread};
use factorexe::error::Kind;
use factorexe::eval::{EvalConfig, Evaluation, StudentScore, evaluate, repetition_norm};
use factorexe::hub::Source;
use factorexe::model::{
    CausalLm, Description, Injection, LoopedConfig, LoopedTransformer, Parameters, Relaxation,
    Transformer,
};

use crate::support::{random_params, tiny_config, tiny_looped};

/// Means of f32 logarithms, summed in two orders.
const F32_MEANS: f64 = 1e-5;

fn windows() -> Vec<EvaluationWindow> {
    let window = |document: usize, length: u32| EvaluationWindow {
        document,
        tokens: (0..length).map(|i| (i * i + 7 * i + document as u32 * 5) % 37).collect(),
    };
    vec![window(0, 12), window(0, 12), window(0, 5), window(1, 12), window(2, 2), window(3, 9)]
}

fn teacher() -> (Transformer, Params) {
    let config = tiny_config(6);
    let params = random_params(&config.tensors());
    (Transformer::new(&config, &params.tensors()).unwrap(), params)
}

fn student(config: &LoopedConfig) -> LoopedTransformer {
    LoopedTransformer::new(config, &random_params(&config.tensors()).tensors()).unwrap()
}

fn run(
    student: Option<&LoopedTransformer>,
    windows: &[EvaluationWindow],
    config: &EvalConfig,
) -> Evaluation {
    evaluate(&teacher().0, student, windows, config, &Context::cpu()).unwrap()
}

/// Log probabilities of one window by candle's own operations, (T, V).
fn log_probabilities(
    model: &dyn CausalLm,
    window: &EvaluationWindow,
    repetitions: usize,
) -> Vec<Vec<f32>> {
    let inputs = &window.tokens[..window.tokens.len() - 1];
    let ids = Tensor::new(inputs, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let states = model.states(&Tape::off().with_reference(), &ids, repetitions).unwrap();
    let logits = model
        .embedding_and_head()
        .logits(states.last().unwrap().tensor())
        .unwrap()
        .squeeze(0)
        .unwrap();
    candle_nn::ops::log_softmax(&logits, D::Minus1).unwrap().to_vec2().unwrap()
}

/// Sums over the tokens of one window of the size of the state after `repetitions`, and of the step
/// to it over its length.
fn motions(
    looped: &LoopedTransformer,
    window: &EvaluationWindow,
    repetitions: usize,
) -> (f64, f64) {
    let inputs = &window.tokens[..window.tokens.len() - 1];
    let ids = Tensor::new(inputs, &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    let states = looped.states(&Tape::off().with_reference(), &ids, repetitions).unwrap();
    let config = looped.config();
    let after = |repetition: usize| {
        let state = states[config.prelude_layers + repetition * config.core_layers].tensor();
        state.squeeze(0).unwrap().to_vec2::<f32>().unwrap()
    };
    let length = |x: &[f32]| x.iter().map(|x| f64::from(x * x)).sum::<f64>().sqrt();
    let pairs = after(repetitions - 1).into_iter().zip(after(repetitions));
    pairs.fold((0.0, 0.0), |(sizes, ratios), (before, after)| {
        let step: Vec<f32> = before.iter().zip(&after).map(|(x, y)| x - y).collect();
        let size = length(&after);
        (sizes + size / (after.len() as f64).sqrt(), ratios + length(&step) / size)
    })
}

#[test]
fn every_score_is_the_mean_over_tokens_of_its_value_from_the_logits() {
    let plain = tiny_looped(Relaxation::Lora { rank: 2 });
    let gated = LoopedConfig { injection: Injection::Gate, ..plain.clone() };
    for config in [plain, gated] {
        assert_means(&student(&config));
    }
}

fn assert_means(looped: &LoopedTransformer) {
    let (teacher, _) = teacher();
    let evaluation = run(Some(looped), &windows(), &EvalConfig::default());
    assert_eq!(evaluation.student.len(), 4, "1 to 2N");
    assert_eq!(evaluation.teacher.tokens, 11 + 11 + 4 + 11 + 1 + 8);
    for score in &evaluation.student {
        let (mut teacher_nll, mut nll, mut kl, mut agreed, mut tokens) = (0.0, 0.0, 0.0, 0.0, 0.0);
        let (mut rms, mut ratio) = (0.0, 0.0);
        for window in &windows() {
            let p = log_probabilities(&teacher, window, 1);
            let (sizes, ratios) = motions(looped, window, score.repetitions);
            (rms, ratio) = (rms + sizes, ratio + ratios);
            let q = log_probabilities(looped, window, score.repetitions);
            for ((p, q), &target) in p.iter().zip(&q).zip(&window.tokens[1..]) {
                let best = |row: &[f32]| (0..37).max_by(|&a, &b| row[a].total_cmp(&row[b]));
                teacher_nll -= f64::from(p[target as usize]);
                nll -= f64::from(q[target as usize]);
                kl += p.iter().zip(q).map(|(p, q)| f64::from(p.exp() * (p - q))).sum::<f64>();
                agreed += f64::from(u8::from(best(p) == best(q)));
                tokens += 1.0;
            }
        }
        let close = |score: f64, sum: f64| {
            assert!((score - sum / tokens).abs() < F32_MEANS, "{score} {}", sum / tokens);
        };
        close(evaluation.teacher.nll_nats, teacher_nll);
        close(score.nll_nats, nll);
        close(score.kl_nats, kl);
        close(score.agreement, agreed);
        close(score.state_rms.unwrap(), rms);
        close(score.step_ratio.unwrap(), ratio);
        assert!((score.perplexity.ln() - score.nll_nats).abs() < 1e-12);
        assert!(score.cosine.unwrap() < 0.99 && score.cosine_scaled.unwrap() < 0.99);
    }
}

#[test]
fn jacobians_are_taken_at_the_first_tokens_of_the_longest_window() {
    let looped = student(&tiny_looped(Relaxation::None));
    let windows = windows();
    let evaluation = run(Some(&looped), &windows, &EvalConfig::default());
    let longest = windows.iter().max_by_key(|window| window.tokens.len()).unwrap();
    let ids = Tensor::new(&longest.tokens[..11], &Device::Cpu).unwrap().unsqueeze(0).unwrap();
    for score in &evaluation.student {
        let norm = |rounds, seed| {
            repetition_norm(&looped, &ids, score.repetitions - 1, rounds, seed).unwrap()
        };
        let estimate = score.jacobian_norm.unwrap();
        assert_eq!(estimate.to_bits(), norm(8, 0).to_bits());
        // A lower bound; the differences in f32 have an error of a thousandth.
        let longer = norm(60, 5);
        assert!(estimate > 0.7 * longer && estimate < 1.01 * longer, "{estimate} {longer}");
        // Files of older versions have no such key.
        let mut before = serde_json::to_value(score).unwrap();
        assert!(before.as_object_mut().unwrap().remove("jacobian_norm").is_some());
        let before: StudentScore = serde_json::from_value(before).unwrap();
        assert_eq!(before, StudentScore { jacobian_norm: None, ..score.clone() });
    }
}

#[test]
fn a_student_equal_to_its_teacher_has_its_scores() {
    let (_, params) = teacher();
    let config = LoopedConfig {
        prelude_layers: 2,
        core_layers: 3,
        repetitions: 1,
        coda_layers: 1,
        ..tiny_looped(Relaxation::None)
    };
    let tensors = params.tensors().into_iter().map(|(name, tensor)| {
        let Some((layer, rest)) = name.strip_prefix("layers.").and_then(|n| n.split_once('.'))
        else {
            return (name, tensor);
        };
        let part = match layer.parse().unwrap() {
            layer @ 0..2 => format!("prelude.{layer}"),
            layer @ 2..5 => format!("core.{}", layer - 2),
            layer => format!("coda.{}", layer - 5),
        };
        (format!("{part}.{rest}"), tensor)
    });
    let looped =
        LoopedTransformer::new(&config, &tensors.collect::<std::collections::BTreeMap<_, _>>())
            .unwrap();
    let evaluation = run(Some(&looped), &windows(), &EvalConfig::default());
    let score = &evaluation.student[0];
    assert!(score.kl_nats < 1e-6 && score.agreement == 1.0, "{score:?}");
    assert!((score.nll_nats - evaluation.teacher.nll_nats).abs() < 1e-6);
    assert!(score.cosine.unwrap() > 0.999_999 && score.cosine_scaled.unwrap() > 0.999_999);
    assert!(evaluation.student[1].cosine.unwrap() < 0.999, "past N the state changes");
    assert!((evaluation.size_ratio.unwrap().total - 1.0).abs() < 1e-12);
}

#[test]
fn scores_do_not_depend_on_the_batch_size() {
    let looped = student(&tiny_looped(Relaxation::Norms));
    let with = |batch_rows: usize| {
        let config = EvalConfig { batch_rows, repetitions: vec![3, 1, 3], ..Default::default() };
        run(Some(&looped), &windows(), &config)
    };
    let (single, batched) = (with(1), with(8));
    assert_eq!(single.student.iter().map(|score| score.repetitions).collect::<Vec<_>>(), [1, 3]);
    for (single, batched) in single.student.iter().zip(&batched.student) {
        assert!((single.nll_nats - batched.nll_nats).abs() < F32_MEANS);
        assert!((single.kl_nats - batched.kl_nats).abs() < F32_MEANS);
        assert!((single.cosine.unwrap() - batched.cosine.unwrap()).abs() < F32_MEANS);
        let interval = single.perplexity_interval.unwrap();
        assert!(interval.low < single.perplexity && single.perplexity < interval.high);
    }
}

#[test]
fn the_json_has_the_fields_that_scripts_read_and_is_read_back() {
    let looped = student(&tiny_looped(Relaxation::None));
    let mut evaluation = run(Some(&looped), &windows(), &EvalConfig::default());
    evaluation.student[3].perplexity = f64::INFINITY;
    let json = serde_json::to_value(&evaluation).unwrap();
    for field in ["perplexity", "nll_nats", "tokens"] {
        assert!(json["teacher"][field].is_number(), "{field}");
    }
    for field in ["repetitions", "perplexity", "kl_nats", "agreement", "cosine"] {
        assert!(json["student"][1][field].is_number(), "{field}");
    }
    assert!(json["student"][3]["perplexity"].is_null());
    let back: Evaluation = serde_json::from_value(json).unwrap();
    assert_eq!(back.student[..3], evaluation.student[..3]);
    assert!(back.student[3].perplexity.is_nan());
    for table in [evaluation.table(), evaluation.costs()] {
        assert!(table.iter().all(|row| row.len() == table[0].len()), "{table:?}");
    }
    assert_eq!(evaluation.table()[3][1], "2 = N");
}

#[test]
fn costs_are_counted_as_stored_and_as_applied() {
    let config = tiny_looped(Relaxation::Lora { rank: 2 });
    let looped = student(&config);
    let evaluation = run(Some(&looped), &windows(), &EvalConfig::default());
    let (teacher, cost) = (&evaluation.teacher_cost, evaluation.student_cost.as_ref().unwrap());
    let stored = random_params(&config.tensors()).count(|_| true);
    assert_eq!(cost.parameters.total, stored);
    // 1 + 2 x 2 + 1 layers are applied, as many as the teacher has.
    assert_eq!(cost.effective_parameters, teacher.parameters);
    assert!(cost.flops_per_token > teacher.flops_per_token, "corrections are extra work");
    let layer: f64 = 2.0 * (2 * 24 * 16 + 2 * 12 * 16 + 3 * 24 * 16) as f64;
    // A window of 5 in 11 tokens: a token attends to (1 + 2 + 3 + 4 + 7 * 5) / 11 on average.
    let attention = 4.0 * 24.0 * 45.0 / 11.0;
    let expected = 6.0 * (layer + attention) + 2.0 * 16.0 * 37.0;
    assert!(
        (teacher.flops_per_token - expected).abs() < 1e-6,
        "{} {expected}",
        teacher.flops_per_token
    );
    assert!(cost.tokens_per_s > 0.0 && teacher.tokens_per_s > 0.0);
}

#[test]
fn models_and_windows_that_cannot_be_compared_are_refused() {
    let (teacher, _) = teacher();
    let refuse =
        |student: Option<&LoopedTransformer>, windows: &[EvaluationWindow], stopped: bool| {
            let config = EvalConfig::default();
            evaluate(
                &teacher,
                student,
                windows,
                &config,
                &Context::cpu().cancelled_when(move || stopped),
            )
            .unwrap_err()
        };
    let mut other = tiny_looped(Relaxation::None);
    other.base.vocabulary = 41;
    let error = refuse(Some(&student(&other)), &windows(), false);
    assert!(error.message().contains("vocabulary is 41, the teacher's 37"), "{error}");
    let error = refuse(None, &[], false);
    assert!(error.message().contains("no text"), "{error}");
    assert_eq!(refuse(None, &windows(), true).kind(), Kind::Interrupted);
    let mut strange = windows();
    strange[0].tokens[3] = 99;
    assert_eq!(refuse(None, &strange, false).kind(), Kind::Input);
}

#[test]
fn a_description_has_the_fields_that_scripts_read() {
    let config = tiny_looped(Relaxation::Norms);
    let json = serde_json::to_value(Description::new(&config.base, Some(&config))).unwrap();
    for field in ["layers", "width", "heads", "kv_heads", "vocabulary", "prelude", "core", "coda"] {
        assert!(json[field].is_number(), "{field}");
    }
    assert_eq!(json["family"], "llama");
    assert_eq!(json["relaxation"]["kind"], "norms");
    assert_eq!(json["repetitions"], 2);
    assert!(json["size_ratio"].as_f64().unwrap() < 1.0);
    let parts = Parameters::of_stack(&config.base);
    assert_eq!(json["parameters"]["embedding"], parts.embedding);
    assert_eq!(parts.total, parts.embedding + parts.blocks + config.base.width);
    let plain = serde_json::to_value(Description::new(&config.base, None)).unwrap();
    assert!(plain.get("core").is_none() && plain["parameters"]["total"] == parts.total);
}

/// `FACTOREXE_SMOLLM2=file.gguf FACTOREXE_SOTU_2015=file.txt cargo test .. -- --ignored`
#[test]
#[ignore = "needs SmolLM2-135M-Instruct and the State of the Union of 2015"]
fn smollm2_has_its_known_perplexity() {
    let path = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let source: Source = path("FACTOREXE_SMOLLM2").parse().unwrap();
    let checkpoint = source.load(&Context::cpu()).unwrap();
    let teacher = Transformer::new(&checkpoint.config, &checkpoint.tensors).unwrap();
    let text = std::fs::read_to_string(path("FACTOREXE_SOTU_2015")).unwrap();
    let document = Document { text, source: "2015".into() };
    let tokenizer = checkpoint.tokenizer.unwrap();
    let documents = Documents::encode(&[document], &tokenizer).unwrap();
    let windows = documents.evaluation_windows(256, 1024, Spread::InOrder);
    let config = EvalConfig::default();
    let evaluation = evaluate(&teacher, None, &windows, &config, &Context::cpu()).unwrap();
    // Measured with a plain PyTorch reading of the same file.
    assert!((evaluation.teacher.perplexity - 24.3).abs() < 0.2, "{evaluation:?}");
    assert_eq!(evaluation.teacher.tokens, 4 * 255);
    println!("{}", serde_json::to_string_pretty(&evaluation).unwrap());
}

#[test]
fn the_norm_of_a_repetition_is_the_largest_singular_value_of_its_jacobian() {
    for injection in [Injection::None, Injection::Gate] {
        let looped = student(&LoopedConfig { injection, ..tiny_looped(Relaxation::None) });
        let ids = Tensor::new(&[[3_u32, 11]], &Device::Cpu).unwrap();
        let (tape, table) = (Tape::off(), looped.embedding_and_head().rope(0, 2));
        let prelude = looped.prelude(&tape, &ids, &table).unwrap().pop().unwrap();
        let repeat = |state: &Value, repetition: usize| {
            let state = looped.inject(&tape, state, &prelude, repetition).unwrap();
            looped.repeat(&tape, &state, repetition, &table).unwrap().pop().unwrap()
        };
        let state = repeat(&prelude, 0).tensor().clone();
        // All 32 columns of the Jacobian by central differences.
        let elements = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let moved = |index: usize, change: f32| {
            let mut values = elements(&state);
            values[index] += change;
            let moved = Tensor::from_vec(values, state.shape(), &Device::Cpu).unwrap();
            elements(repeat(&Value::constant(moved), 1).tensor())
        };
        let column = |index: usize| -> Vec<f64> {
            let (up, down) = (moved(index, 1e-2), moved(index, -1e-2));
            up.iter().zip(&down).map(|(up, down)| f64::from(up - down) / 2e-2).collect()
        };
        let columns: Vec<Vec<f64>> = (0..32).map(column).collect();
        let mut v = vec![1.0; 32];
        let mut expected = 0.0;
        for _ in 0..200 {
            let mut jv = vec![0.0; 32];
            for (column, v) in columns.iter().zip(&v) {
                jv.iter_mut().zip(column).for_each(|(sum, x)| *sum += v * x);
            }
            let size = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
            expected = size(&jv) / size(&v);
            v = columns.iter().map(|c| c.iter().zip(&jv).map(|(x, y)| x * y).sum()).collect();
            let long = size(&v);
            v.iter_mut().for_each(|x| *x /= long);
        }
        let norm = repetition_norm(&looped, &ids, 1, 60, 5).unwrap();
        assert!((norm - expected).abs() < 1e-2 * expected, "{injection:?}: {norm} {expected}");
    }
}
