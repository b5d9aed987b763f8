//! Does text survive the tokenizer, and does a tokenizer survive its files?

use std::path::Path;

use factorexe::data::{SpecialTokens, Tokenizer};

const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + \
    message['content'].strip() + '<|im_end|>' + '\n' }}{% endfor %}\n\
    {% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}\n";

fn texts() -> impl Iterator<Item = String> {
    let words = ["the state of the union", "is strong", "it's 2015", "naïve café", "日本語"];
    (0..200).map(move |i| format!("{} {} {i}\n", words[i % 5], words[(i * 3 + 1) % 5]))
}

fn trained() -> Tokenizer {
    Tokenizer::train_bpe(texts(), 300).unwrap()
}

fn failure(folder: &Path, text: &str) -> String {
    let path = folder.join("tokenizer.json");
    std::fs::write(&path, text).unwrap();
    let error = Tokenizer::from_file(&path).unwrap_err();
    assert_eq!(error.exit_code(), 1);
    let shown = error.to_string();
    assert!(shown.contains(path.to_str().unwrap()), "{shown}");
    shown
}

#[test]
fn training_twice_gives_the_same_tokenizer() {
    assert_eq!(trained().to_json().unwrap(), trained().to_json().unwrap());
    assert_eq!(trained().fingerprint(), trained().fingerprint());
    assert_eq!(trained().vocabulary(), 300);
}

#[test]
fn any_text_comes_back_and_separators_are_one_token() {
    let tokenizer = trained();
    for text in ["", "the union\n\n  is  strong", "Ünseen 🦀 bytes\0", "a<|endoftext|>b"] {
        let ids = tokenizer.encode(text).unwrap();
        assert_eq!(tokenizer.decode(&ids).unwrap(), text);
    }
    let end = tokenizer.special().eos[0];
    assert_eq!(tokenizer.encode("a<|endoftext|>b").unwrap()[1], end);
}

#[test]
fn half_a_character_decodes_to_the_replacement_character() {
    let tokenizer = trained();
    let ids = tokenizer.encode("🦀").unwrap();
    assert_eq!(ids.len(), 4, "an unseen character is spelled in bytes");
    assert_eq!(tokenizer.decode(&ids[..2]).unwrap(), "\u{fffd}");
}

#[test]
fn a_vocabulary_too_small_for_the_bytes_is_refused() {
    let error = Tokenizer::train_bpe(texts(), 256).unwrap_err().to_string();
    assert!(error.contains("256") && error.contains("257"), "{error}");
    assert!(Tokenizer::train_bpe(std::iter::empty(), 300).is_err());
}

#[test]
fn a_saved_tokenizer_loads_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let special =
        SpecialTokens { chat_template: Some(CHATML.into()), ..trained().special().clone() };
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, trained().to_json().unwrap()).unwrap();
    let inner = tokenizers::Tokenizer::from_file(&path).unwrap();
    let tokenizer = Tokenizer::from_parts(inner, special);
    tokenizer.save(folder.path()).unwrap();
    let loaded = Tokenizer::from_file(&path).unwrap();
    assert_eq!(loaded.special(), tokenizer.special());
    assert_eq!(loaded.fingerprint(), tokenizer.fingerprint());
}

#[test]
fn files_beside_the_tokenizer_name_the_special_tokens() {
    let folder = tempfile::tempdir().unwrap();
    trained().save(folder.path()).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "tokenizer_config.json",
        r#"{"bos_token": {"content": "<|endoftext|>"}, "eos_token": "!",
        "chat_template": [{"name": "rag", "template": "r"}, {"name": "default", "template": "d"}]}"#,
    );
    write("generation_config.json", r#"{"eos_token_id": [7, 0]}"#);
    let load = || Tokenizer::from_file(&folder.path().join("tokenizer.json")).unwrap();
    let special = load().special().clone();
    let exclamation = load().id("!").unwrap();
    assert_eq!((special.bos, special.eos), (Some(0), vec![exclamation, 7, 0]));
    assert_eq!(special.chat_template.as_deref(), Some("d"));
    write("chat_template.jinja", "file");
    assert_eq!(load().special().chat_template.as_deref(), Some("file"));
}

#[test]
fn lengths_left_in_the_file_do_not_cut_the_text() {
    let folder = tempfile::tempdir().unwrap();
    let json = trained().to_json().unwrap().replacen(
        "\"truncation\": null",
        "\"truncation\": \
        {\"direction\":\"Right\",\"max_length\":3,\"strategy\":\"LongestFirst\",\"stride\":0}",
        1,
    );
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, json).unwrap();
    let text = "one two three four five six seven";
    let loaded = Tokenizer::from_file(&path).unwrap();
    assert_eq!(loaded.encode(text).unwrap(), trained().encode(text).unwrap());
}

#[test]
fn a_damaged_tokenizer_is_refused_with_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let json = trained().to_json().unwrap();
    failure(folder.path(), &json[..json.len() / 2]);
    failure(folder.path(), "{}");
    failure(folder.path(), "[1, 2]");
    let shown =
        failure(folder.path(), &json.replacen("\"merges\": [", "\"merges\": [[\"zq\",\"a\"],", 1));
    assert!(shown.contains("merge 0"), "{shown}");
    let missing = Tokenizer::from_file(&folder.path().join("absent.json")).unwrap_err();
    assert_eq!(missing.exit_code(), 1);
}

#[test]
fn a_conversation_renders_and_a_refusing_template_says_why() {
    let with = |template: &str| {
        let inner = tokenizers::Tokenizer::from_bytes(trained().to_json().unwrap()).unwrap();
        let chat_template = Some(template.to_owned());
        Tokenizer::from_parts(inner, SpecialTokens { chat_template, ..trained().special().clone() })
    };
    let messages = [("user".to_owned(), " What is 2+2? ".to_owned())];
    let prompt = with(CHATML).chat_prompt(&messages).unwrap();
    assert_eq!(prompt, "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n");
    let methods = "{{ bos_token }}{% for k, v in messages[0].items() %}{{ k.upper() }};{% endfor %}\
        {{ messages[0].get('name', 'x') }}{{ 'a-b'.split('-')[-1] }}{{ 'ab'.startswith('a') }}";
    assert_eq!(with(methods).chat_prompt(&messages).unwrap(), "<|endoftext|>CONTENT;ROLE;xbTrue");
    // What Qwen3's template does to find the last question.
    let qwen3 = "{%- set ns = namespace(last=9) %}{%- for message in messages[::-1] %}\
        {%- set index = (messages|length - 1) - loop.index0 %}{%- if message.content is string \
        and not message.content.startswith('<tool>') and not tools %}{%- set ns.last = index %}\
        {%- endif %}{%- endfor %}{{- ns.last }}{{- '<think>a</think>\n b'.split('</think>')[-1]\
        .lstrip('\n') }}";
    assert_eq!(with(qwen3).chat_prompt(&messages).unwrap(), "0 b");
    let refusal = with("{{ raise_exception('roles must alternate') }}").chat_prompt(&messages);
    assert!(refusal.unwrap_err().message().contains("roles must alternate"));
    assert!(trained().chat_prompt(&messages).unwrap_err().message().contains("no chat template"));
}
