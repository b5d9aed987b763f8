//! Is a checkpoint read as it was written, and a bad one refused by name?

use std::fs;

use factorexe::context::Context;
use factorexe::data::Tokenizer;
use factorexe::error::Kind;
use factorexe::hub::adapter::Family;
use factorexe::hub::config::read_config;
use factorexe::hub::{HubId, Source};
use serde_json::{Value, json};

use crate::support::checkpoints::{Copy, Warnings, fixture, fixtures, input, says};

#[test]
fn every_config_survives_the_way_out_and_in() {
    for name in fixtures() {
        let text = fs::read(fixture(&name).join("config.json")).unwrap();
        let (family, config) = read_config(&serde_json::from_slice(&text).unwrap()).unwrap();
        let written = family.hf_config(&config).unwrap();
        assert_eq!(read_config(&written).unwrap().1, config, "{name}");
    }
}

#[test]
fn a_family_says_when_it_has_no_key_for_something() {
    let copy = Copy::of("qwen2-tied");
    let config = copy.load().unwrap().config;
    let error = Family::named("llama").unwrap().hf_config(&config).unwrap_err();
    says(&input(&error), &["a llama cannot express in its config.json", "bias"]);
}

#[test]
fn one_model_has_one_fingerprint() {
    let load = |name| Copy::of(name).load().unwrap();
    assert_eq!(load("qwen3").fingerprint, load("qwen3").fingerprint);
    assert_ne!(load("qwen3").fingerprint, load("llama-tied").fingerprint);
    let changed = Copy::of("qwen3");
    changed.poke("model.norm.weight", 3, 0.5);
    assert_ne!(load("qwen3").fingerprint, changed.load().unwrap().fingerprint);
}

#[test]
fn a_source_is_a_folder_a_file_or_a_name() {
    let parse = |text: &str| text.parse::<Source>();
    let folder = fixture("qwen3");
    let text = folder.to_str().unwrap();
    assert_eq!(parse(text).unwrap(), Source::Folder(folder.clone()));
    let hub = |name: &str, revision: Option<&str>| {
        let owner = "HuggingFaceTB".to_owned();
        Source::Hub(HubId { owner, name: name.to_owned(), revision: revision.map(str::to_owned) })
    };
    assert_eq!(parse("HuggingFaceTB/SmolLM2-135M").unwrap(), hub("SmolLM2-135M", None));
    assert_eq!(parse("HuggingFaceTB/x@refs/pr/1").unwrap(), hub("x", Some("refs/pr/1")));
    // A folder that exists wins over a name on the Hub.
    assert_eq!(parse("tests/fixtures").unwrap(), Source::Folder("tests/fixtures".into()));
    for nonsense in ["nonsense", "a/b/c", "../up", "a/b@../../x", "", "/no/such", "a/b@"] {
        says(&input(&parse(nonsense).unwrap_err()), &["folder", "gguf", "owner/name[@revision]"]);
    }
    says(&input(&parse("lost.gguf").unwrap_err()), &["there is no file `lost.gguf`"]);
    let file = folder.join("model.safetensors");
    says(
        &input(&parse(file.to_str().unwrap()).unwrap_err()),
        &["not a GGUF file", "by their folder"],
    );
}

#[test]
fn a_folder_without_a_model_says_what_is_expected() {
    let empty = tempfile::tempdir().unwrap();
    let load =
        || input(&Source::Folder(empty.path().to_owned()).load(&Context::cpu()).unwrap_err());
    says(&load(), &["there is no config.json", "model.safetensors"]);
    fs::create_dir(empty.path().join("student")).unwrap();
    fs::write(empty.path().join("student/config.json"), "{}").unwrap();
    says(&load(), &["this is a run; its model is"]);
    fs::write(empty.path().join("model.gguf"), "").unwrap();
    says(&load(), &["to read the GGUF file, name it"]);
    let copy = Copy::of("qwen3");
    fs::remove_file(copy.file("model.safetensors")).unwrap();
    says(&copy.refused(), &["neither `model.safetensors` nor `model.safetensors.index.json`"]);
    fs::write(copy.file("config.json"), "{\"model_type\": ").unwrap();
    says(&copy.refused(), &["not valid JSON", "config.json"]);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let cases: [(&str, Value, &[&str]); 14] = [
        ("model_type", json!("gpt2"), &["`gpt2` does not fit yet", "llama, mistral, qwen2, qwen3"]),
        ("model_type", json!("mixtral"), &["`mixtral` does not fit yet"]),
        ("model_type", Value::Null, &[]),
        ("architectures", json!(["LlamaForSequenceClassification"]), &["LlamaForCausalLM"]),
        (
            "rope_parameters",
            json!({"rope_type": "yarn", "factor": 4}),
            &["`yarn`", "linear, llama3"],
        ),
        ("rope_scaling", json!({"type": "dynamic", "factor": 4}), &["`dynamic`"]),
        ("rope_scaling", json!({"rope_type": "longrope"}), &["`longrope`"]),
        ("rope_scaling", json!({"rope_type": "linear"}), &["lacks its `factor`"]),
        ("hidden_act", json!("gelu"), &["`hidden_act` is `gelu`, expected `silu`"]),
        ("pretraining_tp", json!(2), &["pretraining_tp"]),
        ("quantization_config", json!({"quant_method": "gptq"}), &["gptq", "GGUF"]),
        ("num_hidden_layers", json!(1_000_000), &["layers is 1000000, expected 1 to 4096"]),
        ("num_attention_heads", json!(0), &["heads is 0, expected 1 to"]),
        ("vocab_size", Value::Null, &["`vocab_size` is missing"]),
    ];
    for (key, value, parts) in cases {
        let copy = Copy::of("llama-head-dim");
        copy.set(key, value);
        if parts.is_empty() {
            copy.load().unwrap(); // `architectures` still says which family this is
        } else {
            let text = copy.refused();
            says(&text, parts);
            says(&text, &["config.json"]);
        }
    }
}

#[test]
fn a_shape_unequal_to_the_config_names_both() {
    let copy = Copy::of("llama-tied");
    copy.set("intermediate_size", json!(24));
    let place = copy.file("config.json");
    let text = copy.refused();
    says(&text, &["tensor `model.layers.0.mlp.gate_proj.weight` is [40, 32]"]);
    says(&text, &[", the config implies [24, 32]\n", place.to_str().unwrap()]);
}

#[test]
fn a_missing_tensor_is_named_and_an_unused_one_noted() {
    let copy = Copy::of("llama-tied");
    copy.set("tie_word_embeddings", json!(false));
    says(&copy.refused(), &["tensor `lm_head.weight` is missing", "tie_word_embeddings"]);
    let copy = Copy::of("llama-tied");
    copy.set("num_hidden_layers", json!(4));
    says(&copy.refused(), &["tensor `model.layers.3.", "is missing"]);
    copy.set("num_hidden_layers", json!(2));
    let warnings = Warnings::default();
    Source::Folder(copy.path().to_owned())
        .load(&Context::cpu().with_observer(warnings.clone()))
        .unwrap();
    let warnings = warnings.0.lock().unwrap();
    says(&warnings.join("\n"), &["9 tensors this family does not use", "model.layers.2."]);
}

#[test]
fn a_file_that_is_not_whole_is_refused() {
    let copy = Copy::of("qwen3");
    let path = copy.file("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let refused = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        copy.refused()
    };
    let (cut, all) = (whole.len() - 100, whole.len());
    let text = refused(&whole[..cut]);
    says(
        &text,
        &[&format!("the file is {cut} bytes, its header accounts for {all}"), "fetch it again"],
    );
    says(&refused(&[&whole[..], b"more"].concat()), &["its header accounts for"]);
    says(&refused(&whole[..200]), &["the header claims", "the file has 200"]);
    says(&refused(&whole[..3]), &["3 bytes are too few"]);
    let lie = [&u64::MAX.to_le_bytes(), &whole[8..]].concat();
    says(&refused(&lie), &["the header claims 18446744073709551615 bytes"]);
    says(&refused(&[&whole[..8], &vec![b'{'; all - 8]].concat()), &["the header is not usable"]);
}

#[test]
fn a_header_that_lies_about_offsets_is_refused() {
    let lies: [fn(&mut Value); 3] = [
        |header| header["model.norm.weight"]["data_offsets"] = json!([0, 128]),
        |header| header["model.norm.weight"]["data_offsets"] = json!([128, 0]),
        |header| header["model.norm.weight"]["shape"] = json!([33]),
    ];
    for lie in lies {
        let copy = Copy::of("qwen3");
        copy.edit_header("model.safetensors", lie);
        says(&copy.refused(), &["the header is not usable", "model.safetensors"]);
    }
}

#[test]
fn a_type_that_is_no_float_is_refused() {
    let copy = Copy::of("qwen3");
    copy.edit_header("model.safetensors", |header| {
        header["model.norm.weight"]["dtype"] = json!("I32");
    });
    says(&copy.refused(), &["tensor `model.norm.weight` is I32, expected F32, F16 or BF16"]);
}

#[test]
fn weights_that_are_not_finite_are_refused_by_place() {
    for (number, found) in [(f32::NAN, "NaN"), (f32::NEG_INFINITY, "-inf")] {
        let copy = Copy::of("mistral-full");
        copy.poke("model.layers.1.self_attn.v_proj.weight", 7, number);
        let name = "tensor `model.layers.1.self_attn.v_proj.weight`";
        says(&copy.refused(), &[&format!("{name} is {found} at 7, expected a finite number")]);
    }
}

#[test]
fn an_index_is_not_trusted() {
    let shard = "model-00002-of-00003.safetensors";
    let index = "model.safetensors.index.json";
    for outside in ["../elsewhere.safetensors", "/etc/passwd", "a/../../b", "", "C:\\x", "."] {
        let copy = Copy::of("llama-sharded");
        copy.edit(index, |index| index["weight_map"]["lm_head.weight"] = json!(outside));
        says(&copy.refused(), &["the index points outside its folder", index]);
    }
    let copy = Copy::of("llama-sharded");
    copy.edit(index, |index| index["weight_map"]["lm_head.weight"] = json!(shard));
    says(
        &copy.refused(),
        &["the index places `lm_head.weight` in `model-00002", "does not hold it"],
    );
    let copy = Copy::of("llama-sharded");
    fs::remove_file(copy.file(shard)).unwrap();
    says(&copy.refused(), &[&format!("shard `{shard}` is missing"), "1 of 3 shards"]);
    let copy = Copy::of("llama-sharded");
    copy.edit(index, |index| index["weight_map"] = json!({}));
    says(&copy.refused(), &["`weight_map` is missing"]);
}

#[test]
fn a_tokenizer_of_another_model_is_refused() {
    let copy = Copy::of("qwen3");
    let text = "We hold these truths to be self-evident. ".repeat(20);
    Tokenizer::train_bpe([text].into_iter(), 270).unwrap().save(copy.path()).unwrap();
    says(&copy.refused(), &["the tokenizer has ids up to", "the model's vocabulary is 56"]);
}

#[test]
fn loading_stops_when_asked() {
    let source = Source::Folder(fixture("qwen3"));
    assert_eq!(
        source.load(&Context::cpu().cancelled_when(move || true)).unwrap_err().kind(),
        Kind::Interrupted
    );
}
