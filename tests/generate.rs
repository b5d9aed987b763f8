//! Generation: against greedy decoding without a cache, streaming, batches, drafts.

use candle_core::{D, Device, Tensor};
use factorexe::autograd::Tape;
use factorexe::context::Context;
use factorexe::data::{SpecialTokens, Tokenizer};
use factorexe::decode::CacheSharing;
use factorexe::generate::{
    Continuation, End, GenerateConfig, Generator, ReadConfig, Speculation, Stopping,
};
use factorexe::halting::PolicyName;
use factorexe::hub::Source;
use factorexe::model::{
    CausalLm, LoopedConfig, LoopedTransformer, Relaxation, Transformer, TransformerConfig,
};

use crate::support::{random_params, tiny_config, tiny_looped};

const VOCABULARY: usize = 300;

/// Without a token that ends a text, unless `special` names one: random models draw it at once.
fn tokenizer_with(special: SpecialTokens) -> Tokenizer {
    let words = ["the state of the union", "is strong", "naïve café"];
    let texts = (0..60).map(|i| words[i % 3].to_owned());
    let trained = Tokenizer::train_bpe(texts, VOCABULARY).unwrap();
    Tokenizer::from_parts(trained.to_json().unwrap().parse().unwrap(), special)
}

fn tokenizer() -> Tokenizer {
    tokenizer_with(SpecialTokens::default())
}

/// Random, so that it writes nonsense: all kinds of bytes among it.
fn model(config: TransformerConfig) -> Transformer {
    Transformer::new(&config, &random_params(&config.tensors()).tensors()).unwrap()
}

fn config() -> TransformerConfig {
    TransformerConfig { vocabulary: VOCABULARY, max_positions: 40, ..tiny_config(3) }
}

fn looped() -> LoopedTransformer {
    let config = LoopedConfig {
        base: TransformerConfig { vocabulary: VOCABULARY, ..tiny_config(6) },
        ..tiny_looped(Relaxation::Lora { rank: 2 })
    };
    LoopedTransformer::new(&config, &random_params(&config.tensors()).tensors()).unwrap()
}

fn write(model: &dyn CausalLm, prompt: &str, config: &GenerateConfig) -> Continuation {
    let tokenizer = tokenizer();
    let mut streamed = String::new();
    let generator = Generator::new(model, &tokenizer, config).unwrap();
    let mut listen = |piece: &str| {
        streamed.push_str(piece);
        true
    };
    let continuation = generator.generate(prompt, &mut listen).unwrap();
    assert_eq!(streamed, continuation.text, "the pieces add up to the text");
    continuation
}

fn drawn(seed: u64) -> GenerateConfig {
    GenerateConfig { temperature: 1.0, max_tokens: 30, seed, ..Default::default() }
}

/// The likeliest next token of the whole text, again and again.
fn without_a_cache(
    model: &dyn CausalLm,
    prompt: &str,
    repetitions: usize,
    count: usize,
) -> Vec<u32> {
    let mut ids = tokenizer().encode(prompt).unwrap();
    let start = ids.len();
    for _ in 0..count {
        let read = Tensor::new(ids.as_slice(), &Device::Cpu).unwrap().unsqueeze(0).unwrap();
        let states = model.states(&Tape::off(), &read, repetitions).unwrap();
        let logits = model.embedding_and_head().logits(states.last().unwrap().tensor()).unwrap();
        let last = logits.narrow(1, ids.len() - 1, 1).unwrap();
        ids.push(last.argmax(D::Minus1).unwrap().flatten_all().unwrap().to_vec1().unwrap()[0]);
    }
    ids.split_off(start)
}

#[test]
fn a_greedy_continuation_is_the_one_without_a_cache() {
    let (deep, looped) = (model(config()), looped());
    let models: [(&dyn CausalLm, Option<usize>, usize); 4] =
        [(&deep, None, 1), (&looped, None, 2), (&looped, Some(1), 1), (&looped, Some(5), 5)];
    for (model, repetitions, applied) in models {
        let config = GenerateConfig { max_tokens: 12, repetitions, ..Default::default() };
        let written = write(model, "the union is", &config);
        assert_eq!(written.tokens, without_a_cache(model, "the union is", applied, 12));
        assert_eq!(written.end, End::MaxTokens);
    }
}

#[test]
fn the_same_seed_writes_the_same_text() {
    let model = model(config());
    let write = |config: &GenerateConfig| write(&model, "the", config).tokens;
    assert_eq!(write(&drawn(1)), write(&drawn(1)));
    assert_ne!(write(&drawn(1)), write(&drawn(2)));
    let greedy = write(&GenerateConfig { max_tokens: 30, ..Default::default() });
    let narrow = GenerateConfig { top_k: Some(1), ..drawn(3) };
    assert_eq!(write(&narrow), greedy);
    let narrow = GenerateConfig { top_p: Some(1e-6), ..drawn(4) };
    assert_eq!(write(&narrow), greedy);
}

fn reading(
    model: &dyn CausalLm,
    prompts: &[&str],
    read: ReadConfig,
    c: &GenerateConfig,
) -> Vec<Continuation> {
    let tokenizer = tokenizer();
    let generator = Generator::reading(model, &tokenizer, c, read).unwrap();
    generator.generate_all(prompts, &mut |_, _| true).unwrap()
}

#[test]
fn prompts_of_a_batch_are_continued_as_alone() {
    let model = looped();
    let prompts = ["the", "the state of the union is strong", "naïve", "is"];
    let change = |threshold: f64| {
        let policy = PolicyName::Change.with(threshold).unwrap();
        ReadConfig { stopping: Some(Stopping { policy, gate: None }), ..Default::default() }
    };
    for how in [GenerateConfig { max_tokens: 14, ..Default::default() }, drawn(3)] {
        let how = GenerateConfig { repetitions: Some(4), ..how };
        for threshold in [0.0, 0.6, 0.8] {
            let all = reading(&model, &prompts, change(threshold), &how);
            for (prompt, all) in prompts.iter().zip(&all) {
                let alone = &reading(&model, &[prompt], change(threshold), &how)[0];
                assert_eq!((&all.tokens, &all.text), (&alone.tokens, &alone.text));
                assert_eq!(all.repetitions, alone.repetitions);
                assert_eq!(all.tokens.len(), all.repetitions.len());
            }
        }
    }
    let how = GenerateConfig { max_tokens: 30, repetitions: Some(4), ..Default::default() };
    let depths = &reading(&model, &["the"], change(0.6), &how)[0].repetitions;
    assert!(depths.iter().min() < depths.iter().max(), "every token stopped at {depths:?}");
}

#[test]
fn drafts_do_not_change_a_greedy_text() {
    let model = looped();
    let config = GenerateConfig { max_tokens: 25, repetitions: Some(3), ..Default::default() };
    let plain = &reading(&model, &["the state"], ReadConfig::default(), &config)[0];
    for (repetitions, tokens) in [(1, 1), (1, 4), (2, 3), (2, 9)] {
        let speculation = Some(Speculation { repetitions, tokens });
        let read = ReadConfig { speculation, ..Default::default() };
        let drafted = &reading(&model, &["the state"], read, &config)[0];
        assert_eq!((&drafted.tokens, drafted.end), (&plain.tokens, plain.end));
        let [made, accepted] = drafted.drafted;
        assert!(made > 0 && accepted < made, "{made} {accepted}");
        // Only rejected tokens are computed twice: every pass that verifies writes one token more
        // than it accepts of its draft. The last token written is not read.
        let (prompt, written) = (tokenizer().encode("the state").unwrap().len(), 25);
        assert_eq!(plain.computed, 3 * (prompt + written - 1));
        assert_eq!(drafted.computed, 3 * (prompt + written - 1 + made - accepted));
    }
}

#[test]
fn drafts_without_all_keys_are_refused() {
    let (model, tokenizer, config) = (looped(), tokenizer(), GenerateConfig::default());
    let speculation = Some(Speculation { repetitions: 1, tokens: 4 });
    let sharing = CacheSharing::Window(1);
    let read = ReadConfig { speculation, sharing, ..Default::default() };
    assert!(Generator::reading(&model, &tokenizer, &config, read).is_err());
}

/// The second token of many short texts, drawn with and without drafts: two counts of one
/// distribution.
#[test]
fn drafts_do_not_change_the_distribution() {
    let model = looped();
    let count = |speculation: Option<Speculation>, seeds: std::ops::Range<u64>| {
        let mut counts = std::collections::BTreeMap::new();
        for seed in seeds {
            let config = GenerateConfig { max_tokens: 2, top_k: Some(4), ..drawn(seed) };
            let read = ReadConfig { speculation, ..Default::default() };
            let tokens = &reading(&model, &["the"], read, &config)[0].tokens;
            *counts.entry(tokens.clone()).or_insert(0.0) += 1.0;
        }
        counts
    };
    let plain = count(None, 0..1500);
    let drafts = count(Some(Speculation { repetitions: 1, tokens: 2 }), 5000..6500);
    let (mut chi_square, mut freedom) = (0.0, -1.0_f64);
    for (tokens, a) in &plain {
        let b = drafts.get(tokens).copied().unwrap_or(0.0);
        chi_square += (a - b) * (a - b) / (a + b);
        freedom += 1.0;
    }
    assert!(freedom >= 5.0, "{plain:?}");
    // Mean k and deviation sqrt(2 k): four deviations.
    assert!(chi_square < freedom + 4.0 * (2.0 * freedom).sqrt(), "{chi_square} of {freedom}");
}

#[test]
fn repeated_phrases_are_counted() {
    let mut written = write(&model(config()), "the", &drawn(1));
    written.tokens = vec![1, 2, 3, 4, 5, 6, 7, 8];
    assert_eq!(written.repeated_phrases(), 0.0);
    // 1234 2343 3434 4343 3434 4343: the last two came before.
    written.tokens = vec![1, 2, 3, 4, 3, 4, 3, 4, 3];
    assert!((written.repeated_phrases() - 2.0 / 6.0).abs() < 1e-12);
}

#[test]
fn drafts_of_impossible_sizes_are_refused() {
    let (model, tokenizer, config) = (looped(), tokenizer(), GenerateConfig::default());
    for (repetitions, tokens) in [(0, 4), (2, 4), (1, 0)] {
        let speculation = Some(Speculation { repetitions, tokens });
        let read = ReadConfig { speculation, ..Default::default() };
        assert!(Generator::reading(&model, &tokenizer, &config, read).is_err());
    }
}

#[test]
fn pieces_are_whole_characters_and_add_up() {
    let (model, tokenizer) = (model(config()), tokenizer());
    for seed in 0..40 {
        let written = write(&model, "naïve", &drawn(seed));
        let prompt = tokenizer.encode("naïve").unwrap();
        let all = tokenizer.decode(&[prompt, written.tokens].concat()).unwrap();
        assert_eq!(format!("naïve{}", written.text), all, "seed {seed}");
    }
}

#[test]
fn the_text_ends_before_a_stop_string() {
    let model = model(config());
    for seed in 0..10 {
        let whole = write(&model, "the", &drawn(seed)).text;
        let characters: Vec<char> = whole.chars().collect();
        let stop: String = characters[characters.len() / 2..][..3].iter().collect();
        let config = GenerateConfig { stop: vec![stop.clone(), "never\0".into()], ..drawn(seed) };
        let stopped = write(&model, "the", &config);
        assert_eq!(stopped.text, whole[..whole.find(&stop).unwrap()], "seed {seed}");
        assert_eq!(stopped.end, End::Stop);
        let config = GenerateConfig { stop: vec!["\0\0never".into()], ..drawn(seed) };
        assert_eq!(write(&model, "the", &config).text, whole, "held text is written at the end");
    }
}

#[test]
fn an_end_token_and_the_last_position_end_the_text() {
    let config = || GenerateConfig { max_tokens: 99, ..drawn(5) };
    let whole = write(&model(self::config()), "the", &config());
    let prompt = tokenizer().encode("the").unwrap().len();
    assert_eq!(whole.end, End::MaxPositions);
    assert_eq!(prompt + whole.tokens.len(), 41, "every position was read");
    let eos = whole.tokens[4];
    let ending = model(TransformerConfig { eos_tokens: vec![eos], ..self::config() });
    let ended = write(&ending, "the", &config());
    assert_eq!(ended.end, End::Model);
    let first = whole.tokens.iter().position(|&id| id == eos).unwrap();
    assert_eq!(ended.tokens, whole.tokens[..first]);
}

#[test]
fn a_listener_can_end_the_text() {
    let (model, tokenizer, config) = (model(config()), tokenizer(), drawn(6));
    let generator = Generator::new(&model, &tokenizer, &config).unwrap();
    let mut pieces = 0;
    let mut listen = |_: &str| {
        pieces += 1;
        pieces < 2
    };
    assert_eq!(generator.generate("the", &mut listen).unwrap().end, End::Listener);
    assert_eq!(pieces, 2);
}

#[test]
fn a_text_begins_with_the_token_that_the_tokenizer_adds() {
    let (model, plain) = (model(config()), tokenizer());
    let bos = plain.id("<|endoftext|>").unwrap();
    let with = |add_bos: bool, bos: Option<u32>| {
        tokenizer_with(SpecialTokens { bos, add_bos, ..Default::default() })
    };
    let config = drawn(7);
    let write = |tokenizer: &Tokenizer, prompt: &str| {
        let generator = Generator::new(&model, tokenizer, &config)?;
        generator.generate(prompt, &mut |_| true).map(|written| written.tokens)
    };
    let opened = with(true, Some(bos));
    assert_eq!(write(&opened, "the").unwrap(), write(&plain, "<|endoftext|>the").unwrap());
    assert_eq!(write(&opened, "<|endoftext|>the").unwrap(), write(&opened, "the").unwrap());
    assert_eq!(
        write(&with(false, Some(bos)), "").unwrap(),
        write(&plain, "<|endoftext|>").unwrap()
    );
    let error = write(&with(false, None), "").unwrap_err();
    assert!(error.to_string().contains("the prompt is empty"), "{error}");
    let error = write(&plain, &"the state of the union ".repeat(40)).unwrap_err();
    assert!(error.to_string().contains("this model reads 1 to 40"), "{error}");
}

#[test]
fn settings_out_of_range_are_refused() {
    for (config, word) in [
        (GenerateConfig { temperature: f64::NAN, ..Default::default() }, "temperature"),
        (GenerateConfig { top_k: Some(0), ..Default::default() }, "top_k"),
        (GenerateConfig { top_p: Some(1.5), ..Default::default() }, "top_p"),
        (GenerateConfig { min_p: Some(0.0), ..Default::default() }, "min_p"),
        (GenerateConfig { repetition_penalty: 0.0, ..Default::default() }, "repetition_penalty"),
        (GenerateConfig { repetitions: Some(0), ..Default::default() }, "repetitions"),
        (GenerateConfig { stop: vec![String::new()], ..Default::default() }, "stop"),
    ] {
        let error = config.validate().unwrap_err();
        assert!(error.message().contains(word), "{error}");
    }
}

/// `FACTOREXE_SMOLLM2=file.gguf cargo test .. -- --ignored`
#[test]
#[ignore = "needs SmolLM2-135M-Instruct"]
fn smollm2_continues_as_known() {
    let path = std::env::var("FACTOREXE_SMOLLM2").expect("FACTOREXE_SMOLLM2 names a file");
    let checkpoint = path.parse::<Source>().unwrap().load(&Context::cpu()).unwrap();
    let model = Transformer::new(&checkpoint.config, &checkpoint.tensors).unwrap();
    let tokenizer = checkpoint.tokenizer.unwrap();
    let config = GenerateConfig { max_tokens: 12, ..Default::default() };
    let generator = Generator::new(&model, &tokenizer, &config).unwrap();
    let write = |prompt: &str| generator.generate(prompt, &mut |_| true).unwrap().text;
    let text = write("The capital of France is");
    assert!(text.starts_with(" Paris."), "{text:?}");
    // The chat template would add a system message, which makes the answer longer.
    let chat = "<|im_start|>user\nWhat is 2+2?<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(write(chat), "The answer is 4.");
}
