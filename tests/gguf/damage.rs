//! What is said of a GGUF file that is damaged, or made to harm?

use factorexe::context::Context;
use factorexe::hub::gguf::load_gguf;

use super::fixture;

fn bytes(name: &str) -> Vec<u8> {
    std::fs::read(fixture(name)).unwrap()
}

fn find(file: &[u8], needle: &[u8]) -> usize {
    file.windows(needle.len()).position(|window| window == needle).unwrap()
}

/// The file with the 4 bytes of the number behind `key` replaced.
fn with_number(name: &str, key: &str, number: u32) -> Vec<u8> {
    let mut file = bytes(name);
    let at = find(&file, key.as_bytes()) + key.len() + 4;
    file[at..at + 4].copy_from_slice(&number.to_le_bytes());
    file
}

/// The file with the first `from` replaced by as many bytes.
fn with_text(name: &str, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let mut file = bytes(name);
    let at = find(&file, from);
    file[at..at + to.len()].copy_from_slice(to);
    file
}

/// Loads the bytes as a file and expects an error of the user's with its path and all of `parts`.
fn refused(file: &[u8], parts: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, file).unwrap();
    let error = load_gguf(&path, &Context::cpu()).unwrap_err();
    assert_eq!(error.exit_code(), 1, "{error}");
    let shown = error.to_string();
    assert!(shown.contains("model.gguf"), "{shown}");
    for part in parts {
        assert!(shown.contains(part), "{part:?} is not in {shown:?}");
    }
}

/// A header of version 3 that promises `tensors` and `keys`, followed by `rest`.
fn header(tensors: u64, keys: u64, rest: &[&[u8]]) -> Vec<u8> {
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend(tensors.to_le_bytes());
    file.extend(keys.to_le_bytes());
    file.extend(rest.concat());
    file
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

/// A key with the value type `kind`.
fn key(name: &str, kind: u32, value: &[u8]) -> Vec<u8> {
    [text(name), kind.to_le_bytes().to_vec(), value.to_vec()].concat()
}

fn tensor(name: &str, shape: &[u64], kind: u32, offset: u64) -> Vec<u8> {
    let axes = shape.iter().flat_map(|axis| axis.to_le_bytes()).collect();
    let count = (shape.len() as u32).to_le_bytes().to_vec();
    [text(name), count, axes, kind.to_le_bytes().to_vec(), offset.to_le_bytes().to_vec()].concat()
}

const HUGE: [u8; 8] = (1u64 << 60).to_le_bytes();

#[test]
fn other_formats_are_refused_by_name() {
    refused(b"", &["empty"]);
    refused(b"PK\x03\x04 something else", &["not a GGUF file"]);
    refused(b"GGUF\x01\0\0\0\0\0\0\0", &["version 1"]);
    refused(b"GGUF\x09\0\0\0\0\0\0\0", &["version 9", "2 or 3"]);
    refused(b"GGUF\0\0\0\x03\0\0\0\0", &["big-endian"]);
    refused(b"tjgg\x01\0\0\0", &["before GGUF"]);
}

#[test]
fn a_lying_header_allocates_nothing() {
    refused(&header(0, 1 << 60, &[]), &["bytes"]);
    refused(&header(0, 1, &[&HUGE, b"key"]), &["1152921504606846976 bytes", "truncated"]);
    refused(&header(0, 1, &[&key("k", 8, &HUGE)]), &["1152921504606846976 bytes"]);
    let list = |kind: u32, count: &[u8]| [kind.to_le_bytes().to_vec(), count.to_vec()].concat();
    refused(&header(0, 1, &[&key("k", 9, &list(8, &HUGE))]), &["bytes"]);
    refused(&header(0, 1, &[&key("k", 9, &list(4, &HUGE))]), &["4611686018427387904 bytes"]);
    refused(&header(0, 1, &[&key("k", 9, &list(10, &u64::MAX.to_le_bytes()))]), &["any file"]);
    refused(&header(0, 1, &[&key("k", 9, &list(9, &[1; 8]))]), &["arrays of arrays"]);
    refused(&header(0, 1, &[&key("k", 77, &[])]), &["value type 77"]);
    refused(&header(0, 2, &[&key("k", 7, &[1]), &key("k", 7, &[1])]), &["`k` twice"]);
    refused(&header(0, 1, &[&2u64.to_le_bytes(), &[0xff, 0xfe]]), &["not UTF-8"]);
}

#[test]
fn tensors_that_cannot_be_are_refused_by_name() {
    let one = |tensor: &[u8]| header(1, 0, &[tensor, &[0; 64]]);
    refused(&one(&tensor("t", &[1 << 40, 1 << 40], 0, 0)), &["`t`", "any memory"]);
    refused(&one(&tensor("t", &[u64::MAX], 0, 0)), &["`t`", "any memory"]);
    refused(&one(&tensor("t", &[0, 4], 0, 0)), &["`t`"]);
    refused(&one(&tensor("t", &[1, 1, 1, 1, 1], 0, 0)), &["`t`", "5 axes"]);
    refused(&one(&tensor("t", &[33], 2, 0)), &["`t`", "Q4_0", "32"]);
    refused(&one(&tensor("t", &[256], 10, 0)), &["`t`", "Q2_K", "Q8_0"]);
    refused(&one(&tensor("t", &[256], 999, 0)), &["`t`", "999"]);
    refused(&one(&tensor("t", &[4], 0, 1 << 60)), &["`t`", "the file has only"]);
    refused(&one(&tensor("t", &[4], 0, u64::MAX - 15)), &["`t`"]);
    refused(&one(&tensor("t", &[4], 0, 8)), &["`t`", "multiple of 32"]);
    let two = |other: &[u8]| header(2, 0, &[&tensor("t", &[16], 0, 0), other, &[0; 256]]);
    refused(&two(&tensor("t", &[4], 0, 64)), &["`t` twice"]);
    refused(&two(&tensor("u", &[4], 0, 32)), &["`t`", "`u`", "upon each other"]);
}

#[test]
fn an_alignment_is_a_power_of_two() {
    for alignment in [0u32, 3, 48] {
        let key = key("general.alignment", 4, &alignment.to_le_bytes());
        refused(&header(0, 1, &[&key]), &["power of two"]);
    }
}

#[test]
fn a_model_that_does_not_fit_is_refused_with_the_reason() {
    let family = with_text("qwen2.gguf", b"\x05\0\0\0\0\0\0\0qwen2", b"\x05\0\0\0\0\0\0\0gemma");
    refused(&family, &["`gemma`", "llama, mistral, qwen2, qwen3"]);
    refused(&with_number("llama.gguf", "llama.block_count", 1_000_000), &["layers is 1000000"]);
    refused(&with_number("llama.gguf", "llama.block_count", 3), &["`blk.2.", "3 layers"]);
    refused(&with_number("llama.gguf", "llama.block_count", 1), &["`blk.1.", "no place"]);
    refused(&with_number("llama.gguf", "attention.head_count", 0), &["heads is 0"]);
    refused(&with_number("llama.gguf", "embedding_length", 64), &["`token_embd.weight`", "64"]);
    let missing = with_text("llama.gguf", b"context_length", b"context_widths");
    refused(&missing, &["no `llama.context_length`"]);
    let renamed = with_text("llama.gguf", b"token_embd.weight", b"token_embd.gewich");
    refused(&renamed, &["`token_embd.weight`"]);
    // Not one of the divisors of the frequencies is 2.
    let mut frequencies = bytes("llama.gguf");
    let at = frequencies.windows(4).rposition(|window| window == 8f32.to_le_bytes()).unwrap();
    frequencies[at..at + 4].copy_from_slice(&2f32.to_le_bytes());
    refused(&frequencies, &["rope_freqs.weight"]);
}

#[test]
fn a_tokenizer_that_does_not_fit_is_refused_with_the_reason() {
    refused(&with_text("llama.gguf", b"smollm", b"smolly"), &["`smolly`", "smollm", "qwen2"]);
    let mut model = bytes("llama.gguf");
    let at = find(&model, b"tokenizer.ggml.model") + b"tokenizer.ggml.model".len() + 12;
    model[at..at + 4].copy_from_slice(b"bert");
    refused(&model, &["`bert`", "gpt2"]);
    refused(&with_number("llama.gguf", "bos_token_id", 7777), &["token 7777"]);
    let pair = |second: &str| [text("h"), text(second)].concat();
    refused(&with_text("llama.gguf", &pair("i"), &pair("h")), &["token \"h\" twice"]);
    let merge = with_text("llama.gguf", "Ġ t".as_bytes(), "Ġ ~".as_bytes());
    refused(&merge, &["merge", "makes no token"]);
}

#[test]
fn weights_that_are_not_finite_are_refused_by_name() {
    let mut file = bytes("qwen3.gguf");
    let end = file.len();
    // The last tensor is bf16: its last number becomes a NaN.
    file[end - 2..].copy_from_slice(&0x7fc0u16.to_le_bytes());
    refused(&file, &["layers.0.mlp.down.weight", "not finite", "NaN"]);
}

#[test]
fn no_cut_file_loads_and_none_panics() {
    let file = bytes("llama.gguf");
    for length in (0..file.len() - 32).step_by(61) {
        refused(&file[..length], &[]);
    }
}

#[test]
fn no_single_wrong_byte_panics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    for name in ["llama.gguf", "pieces.gguf"] {
        let mut file = bytes(name);
        let weights = find(&file, b"token_embd.weight") + 2048;
        for at in (0..weights.min(file.len())).step_by(23) {
            let kept = file[at];
            file[at] = [0xff, 0, kept ^ 1, kept.wrapping_add(1)][at / 23 % 4];
            std::fs::write(&path, &file).unwrap();
            if let Err(error) = load_gguf(&path, &Context::cpu()) {
                assert_eq!(error.exit_code(), 1, "byte {at} of {name}: {error}");
            }
            file[at] = kept;
        }
    }
}
