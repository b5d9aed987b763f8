//! Does a GGUF file give the model that was packed into it?
//!
//! The fixtures and what is expected of them come from `scripts/make_gguf_fixtures.py`, that is
//! from the `gguf`, `tokenizers` and `transformers` packages.

mod damage;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use factorexe::context::Context;
use factorexe::hub::Checkpoint;
use factorexe::hub::gguf::{BlockType, load_gguf};
use factorexe::model::RopeScaling;
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf").join(name)
}

fn expected(name: &str) -> BTreeMap<String, Tensor> {
    candle_core::safetensors::load(fixture(name), &Device::Cpu).unwrap().into_iter().collect()
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    assert_eq!(tensor.dtype(), DType::F32);
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().map(|x| x.to_bits()).collect()
}

/// The model, once its tensors are those of the safetensors file beside it.
fn load(name: &str) -> Checkpoint {
    let model = load_gguf(&fixture(&format!("{name}.gguf")), &Context::cpu()).unwrap();
    for (tensor, expected) in expected(&format!("{name}.safetensors")) {
        let found = &model.tensors[&tensor];
        assert_eq!(found.dims(), expected.dims(), "{tensor}");
        assert_eq!(bits(found), bits(&expected), "{tensor}");
    }
    let names: Vec<_> = model.tensors.keys().cloned().collect();
    let mut table: Vec<_> = model.config.tensors().into_iter().map(|(name, _)| name).collect();
    table.sort();
    assert_eq!(names, table);
    model
}

/// Ids, and text again, as the reference gives them.
fn check_texts(name: &str, model: &Checkpoint) -> Value {
    let text = std::fs::read_to_string(fixture(&format!("{name}.json"))).unwrap();
    let record: Value = serde_json::from_str(&text).unwrap();
    let tokenizer = model.tokenizer.as_ref().unwrap();
    for case in record["texts"].as_array().unwrap() {
        let text = case[0].as_str().unwrap();
        let ids: Vec<u32> = serde_json::from_value(case[1].clone()).unwrap();
        assert_eq!(tokenizer.encode(text).unwrap(), ids, "{text:?}");
    }
    record
}

#[test]
fn every_block_type_unpacks_to_the_bit() {
    let types = [
        (0, BlockType::F32, "F32"),
        (1, BlockType::F16, "F16"),
        (2, BlockType::Q4_0, "Q4_0"),
        (3, BlockType::Q4_1, "Q4_1"),
        (6, BlockType::Q5_0, "Q5_0"),
        (7, BlockType::Q5_1, "Q5_1"),
        (8, BlockType::Q8_0, "Q8_0"),
        (12, BlockType::Q4_K, "Q4_K"),
        (13, BlockType::Q5_K, "Q5_K"),
        (14, BlockType::Q6_K, "Q6_K"),
        (30, BlockType::BF16, "BF16"),
    ];
    let cases = expected("blocks.safetensors");
    assert_eq!(cases.len(), 2 * types.len());
    for (code, kind, name) in types {
        assert_eq!(BlockType::from_code(code).unwrap(), kind);
        let packed: Vec<u8> = cases[&format!("{name}.bytes")].to_vec1().unwrap();
        let found: Vec<u32> = kind.unpack(&packed).iter().map(|x| x.to_bits()).collect();
        assert_eq!(found, bits(&cases[&format!("{name}.numbers")]), "{name}");
    }
}

#[test]
fn a_llama_has_its_rows_tokens_and_template_back() {
    let model = load("llama");
    let config = &model.config;
    assert_eq!((config.family.as_str(), config.layers, config.width), ("llama", 2, 32));
    assert_eq!((config.heads, config.kv_heads, config.head_width), (4, 2, 8));
    assert!(config.tied_head && !config.qkv_bias && !config.qk_norm);
    assert_eq!(config.norm_eps.to_bits(), 1e-5f64.to_bits(), "the f32 of the file is 1e-5");
    assert_eq!(config.rope_theta.to_bits(), 5e5f64.to_bits());
    let llama3 = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_positions: 8192,
    };
    assert_eq!(config.rope_scaling, llama3);
    assert_eq!((config.bos_token, config.eos_tokens.as_slice()), (Some(1), &[2, 0][..]));

    let record = check_texts("llama", &model);
    let tokenizer = model.tokenizer.unwrap();
    assert_eq!(tokenizer.vocabulary() + 2, config.vocabulary, "the embedding is padded");
    assert_eq!((tokenizer.special().bos, tokenizer.special().add_bos), (Some(1), false));
    assert_eq!(tokenizer.special().eos, [2, 0]);
    let messages: Vec<(String, String)> =
        serde_json::from_value(record["messages"].clone()).unwrap();
    assert_eq!(tokenizer.chat_prompt(&messages).unwrap(), record["prompt"].as_str().unwrap());
    let text = "The capital of France is <|im_start|>";
    assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), text);
}

#[test]
fn a_qwen2_has_its_biases_and_keeps_its_rows() {
    let model = load("qwen2");
    assert_eq!(model.config.family, "qwen2");
    assert!(model.config.qkv_bias && !model.config.tied_head);
    assert_eq!(model.config.rope_scaling, RopeScaling::None);
    check_texts("qwen2", &model);
}

#[test]
fn a_qwen3_has_norms_and_wide_heads() {
    let model = load("qwen3");
    assert!(model.config.qk_norm && !model.config.qkv_bias);
    assert_eq!(model.config.heads * model.config.head_width, 2 * model.config.width);
    assert!(model.tokenizer.is_none());
}

#[test]
fn a_vocabulary_of_pieces_spells_with_bytes() {
    let model = load("pieces");
    assert_eq!(model.config.rope_scaling, RopeScaling::Linear { factor: 4.0 });
    assert!(model.config.qkv_bias, "the biases are re-ordered with their rows");
    check_texts("pieces", &model);
    let tokenizer = model.tokenizer.unwrap();
    assert!(tokenizer.special().add_bos, "the default of this kind");
    for text in ["The capital 日本", "  two  spaces"] {
        assert_eq!(tokenizer.decode(&tokenizer.encode(text).unwrap()).unwrap(), text);
    }
}

#[test]
fn a_rebuilt_tokenizer_is_saved_and_loaded_as_it_is() {
    for name in ["llama", "qwen2", "pieces"] {
        let tokenizer = load(name).tokenizer.unwrap();
        let folder = tempfile::tempdir().unwrap();
        tokenizer.save(folder.path()).unwrap();
        let path = folder.path().join("tokenizer.json");
        let loaded = factorexe::data::Tokenizer::from_file(&path).unwrap();
        assert_eq!(loaded.fingerprint(), tokenizer.fingerprint(), "{name}");
        assert_eq!(loaded.special().add_bos, tokenizer.special().add_bos, "{name}");
        let text = "it's 2015 <|im_end|>";
        assert_eq!(loaded.encode(text).unwrap(), tokenizer.encode(text).unwrap());
    }
}

/// `FACTOREXE_SMOLLM2=SmolLM2-135M-Instruct.Q4_1.gguf`, and `FACTOREXE_SOTU` the folder of the
/// State of the Union, for the count of its tokens.
#[test]
#[ignore = "needs a real model: FACTOREXE_SMOLLM2=path"]
fn smollm2_is_what_is_published() {
    let path = std::env::var("FACTOREXE_SMOLLM2").unwrap();
    let model = load_gguf(Path::new(&path), &Context::cpu()).unwrap();
    let config = &model.config;
    assert_eq!((config.layers, config.width, config.mlp_width), (30, 576, 1536));
    assert_eq!((config.heads, config.kv_heads, config.head_width), (9, 3, 64));
    assert_eq!((config.vocabulary, config.tied_head), (49152, true));
    assert_eq!(config.rope_theta.to_bits(), 1e5f64.to_bits());
    let parameters: usize = model.tensors.values().map(Tensor::elem_count).sum();
    assert_eq!(parameters, 134_515_008);

    let tokenizer = model.tokenizer.unwrap();
    assert_eq!(tokenizer.encode("The capital of France is").unwrap(), [504, 3575, 282, 4649, 314]);
    let json: Value = serde_json::from_str(&tokenizer.to_json().unwrap()).unwrap();
    assert_eq!(json["model"]["merges"].as_array().unwrap().len(), 48_900);
    assert_eq!(json["added_tokens"].as_array().unwrap().len(), 17);
    let prompt = tokenizer.chat_prompt(&[("user".into(), "What is 2+2?".into())]).unwrap();
    assert_eq!(
        prompt,
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face\
         <|im_end|>\n<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n"
    );
    let Ok(folder) = std::env::var("FACTOREXE_SOTU") else { return };
    let files = glob::glob(&format!("{folder}/*.txt")).unwrap();
    let texts = files.map(|path| std::fs::read_to_string(path.unwrap()).unwrap());
    let tokens: usize = texts.map(|text| tokenizer.encode(&text).unwrap().len()).sum();
    assert_eq!(tokens, 2_124_205);
}
