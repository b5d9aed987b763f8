//! A teacher computes the states and logits of the transformers library, for every family.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use factorexe::autograd::{Tape, Value};
use factorexe::context::Context;
use factorexe::hub::{Checkpoint, Source};
use factorexe::model::{CausalLm, Relaxation, Transformer};
use serde_json::json;

use crate::support::checkpoints::{fixture, fixtures, input, says};
use crate::support::{random_params, tiny_looped};

/// Two float32 programs that sum in different orders; states and logits here are up to 30.
const ABSOLUTE: f32 = 1e-4;

fn load(name: &str) -> Checkpoint {
    Source::Folder(fixture(name)).load(&Context::cpu()).unwrap()
}

/// The logits and the states after the embedding and each layer, under the names of the reference:
/// `logits` and `hidden.0` to `hidden.L`.
fn compute(checkpoint: &Checkpoint, ids: &Tensor) -> BTreeMap<String, Tensor> {
    let model = Transformer::new(&checkpoint.config, &checkpoint.tensors).unwrap();
    let states: Vec<Value> = model.states(&Tape::off(), ids, 1).unwrap();
    let named = states.iter().enumerate();
    let mut results: BTreeMap<_, _> =
        named.map(|(layer, state)| (format!("hidden.{layer}"), state.tensor().clone())).collect();
    let logits = model.embedding_and_head().logits(states.last().unwrap().tensor()).unwrap();
    results.insert("logits".to_owned(), logits);
    results
}

/// The ids, (2, T) u32, and the states and logits that transformers computed.
fn reference(name: &str) -> (Tensor, BTreeMap<String, Tensor>) {
    let path = fixture(name).join("reference.safetensors");
    let mut tensors: BTreeMap<_, _> =
        candle_core::safetensors::load(path, &Device::Cpu).unwrap().into_iter().collect();
    let ids = tensors.remove("ids").unwrap().to_dtype(candle_core::DType::U32).unwrap();
    (ids, tensors)
}

fn max_distance(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (a, b) = (flat(a), flat(b));
    assert!(a.iter().all(|value| value.is_finite()));
    a.iter().zip(&b).fold(0.0, |max, (a, b)| max.max((a - b).abs()))
}

#[test]
fn every_family_gives_the_states_and_logits_of_transformers() {
    for name in fixtures() {
        let (ids, expected) = reference(&name);
        let checkpoint = load(&name);
        let computed = compute(&checkpoint, &ids);
        assert_eq!(computed.len(), checkpoint.config.layers + 2);
        assert_eq!(computed.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (tensor, expected) in &expected {
            let distance = max_distance(&computed[tensor], expected);
            assert!(distance < ABSOLUTE, "{name}: {tensor} is off by {distance}");
        }
    }
}

#[test]
fn every_option_of_the_fixtures_changes_their_logits() {
    type Change = fn(&mut Checkpoint);
    let changes: [(&str, Change); 9] = [
        ("mistral-window", |model| model.config.sliding_window = None),
        ("mistral-window", |model| model.config.sliding_window = Some(6)),
        ("qwen2-window", |model| model.config.windowed_layers = None),
        ("llama-rope-llama3", |model| model.config.rope_scaling = Default::default()),
        ("llama-rope-linear", |model| model.config.rope_scaling = Default::default()),
        ("llama-rope-linear", |model| model.config.rope_theta = 10_000.0),
        ("llama-biases", |model| zero(model, "layers.0.attention.o.bias")),
        ("qwen2-tied", |model| zero(model, "layers.1.attention.v.bias")),
        ("qwen3", |model| zero(model, "layers.2.attention.q_norm.weight")),
    ];
    for (name, change) in changes {
        let (ids, expected) = reference(name);
        let mut checkpoint = load(name);
        change(&mut checkpoint);
        let distance = max_distance(&compute(&checkpoint, &ids)["logits"], &expected["logits"]);
        assert!(
            distance > 100.0 * ABSOLUTE,
            "{name}: a change moves the logits by {distance} alone"
        );
    }
}

fn zero(checkpoint: &mut Checkpoint, tensor: &str) {
    let values = checkpoint.tensors.get_mut(tensor).unwrap();
    *values = values.zeros_like().unwrap();
}

#[test]
fn a_student_is_loaded_as_it_was_saved() {
    let folder = tempfile::tempdir().unwrap();
    let config = tiny_looped(Relaxation::Lora { rank: 2 });
    let tensors = random_params(&config.tensors()).tensors();
    let stored = tensors.clone().into_iter().collect();
    candle_core::safetensors::save(&stored, folder.path().join("model.safetensors")).unwrap();
    let write = |value: serde_json::Value| {
        std::fs::write(folder.path().join("config.json"), value.to_string()).unwrap();
    };
    let read = || Source::Folder(folder.path().to_owned()).load(&Context::cpu());
    write(json!({"model_type": "factorexe-looped", "factorexe": config}));
    let student = read().unwrap();
    assert_eq!(student.looped.as_ref(), Some(&config));
    assert_eq!(student.config, config.base);
    assert!(student.tensors.keys().eq(tensors.keys()));
    assert!(
        student.tensors.iter().all(|(name, loaded)| max_distance(loaded, &tensors[name]) == 0.0)
    );
    write(json!({"model_type": "factorexe-looped", "factorexe": {"base": 3}}));
    says(&input(&read().unwrap_err()), &["does not describe the factorization of this student"]);
}

/// candle-transformers returns the logits of the last token alone.
#[test]
fn candles_own_llama_gives_the_same_last_logits() {
    use candle_nn::VarBuilder;
    use candle_transformers::models::llama;
    for name in ["llama-tied", "llama-f16"] {
        let (checkpoint, (ids, _)) = (load(name), reference(name));
        let family = factorexe::hub::Family::named("llama").unwrap();
        let published = checkpoint.tensors.iter();
        let published =
            published.map(|(name, values)| (family.hf_name(name).unwrap(), values.clone()));
        let config = &checkpoint.config;
        let config = llama::Config {
            hidden_size: config.width,
            intermediate_size: config.mlp_width,
            vocab_size: config.vocabulary,
            num_hidden_layers: config.layers,
            num_attention_heads: config.heads,
            num_key_value_heads: config.kv_heads,
            use_flash_attn: false,
            rms_norm_eps: config.norm_eps,
            rope_theta: config.rope_theta as f32,
            bos_token_id: None,
            eos_token_id: None,
            rope_scaling: None,
            max_position_embeddings: config.max_positions,
            tie_word_embeddings: config.tied_head,
        };
        let f32 = candle_core::DType::F32;
        let weights = VarBuilder::from_tensors(published.collect(), f32, &Device::Cpu);
        let oracle = llama::Llama::load(weights, &config).unwrap();
        let mut cache = llama::Cache::new(false, f32, &config, &Device::Cpu).unwrap();
        let expected = oracle.forward(&ids, 0, &mut cache).unwrap();
        let last = ids.dim(1).unwrap() - 1;
        let logits = compute(&checkpoint, &ids)["logits"].narrow(1, last, 1).unwrap();
        let distance = max_distance(&logits.squeeze(1).unwrap(), &expected);
        assert!(distance < ABSOLUTE, "{name}: the last logits are off by {distance}");
    }
}
