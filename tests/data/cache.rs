//! Text is tokenised once, and a damaged cache is made again.

use std::path::PathBuf;

use factorexe::context::Context;
use factorexe::data::{Corpus, Encode, Split};

use super::{Bytes, Warnings, caching, config, folder, open, texts, write};

fn stored(folder: &std::path::Path, extension: &str) -> PathBuf {
    let entries = std::fs::read_dir(folder.join(".cache")).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    paths.find(|path| path.extension().is_some_and(|found| found == extension)).unwrap()
}

#[test]
fn a_corpus_is_tokenised_once_wherever_its_files_lie() {
    let (here, cache) = (folder(&[("a.txt", "one"), ("b.txt", "two")]), folder(&[]));
    let there = folder(&[("moved/a.txt", "one"), ("moved/b.txt", "two")]);
    let bytes = Bytes::default();
    let open = |config: &_, base: &tempfile::TempDir, tokenizer: &dyn Encode| {
        Corpus::open(config, base.path(), tokenizer, &Context::cpu().with_cache(cache.path()))
            .unwrap()
    };
    let first = open(&config(&["*.txt"]), &here, &bytes);
    assert_eq!(bytes.calls(), 2);
    let second = open(&config(&["moved"]), &there, &bytes);
    assert_eq!(bytes.calls(), 2);
    assert_eq!(texts(&first.split(Split::Train)), texts(&second.split(Split::Train)));
    assert_eq!(first.fingerprint(), second.fingerprint());

    write(there.path(), "moved/b.txt", b"TWO");
    let changed = open(&config(&["moved"]), &there, &bytes);
    assert_eq!(bytes.calls(), 4);
    assert_eq!(texts(&changed.split(Split::Train)), ["one", "TWO"]);
}

type Damage = fn(&mut Vec<u8>);

#[test]
fn a_damaged_cache_is_made_again_with_a_warning() {
    let damages: [(&str, Damage); 6] = [
        ("tokens", |bytes| bytes.truncate(20)),
        ("tokens", |bytes| bytes[17] ^= 1),
        ("tokens", |bytes| bytes[0] ^= 1),
        ("tokens", Vec::clear),
        ("index", |bytes| bytes.truncate(90)),
        ("index", |bytes| bytes[100] ^= 1),
    ];
    for (file, damage) in damages {
        let folder = folder(&[("a.txt", "some text"), ("b.txt", "more")]);
        let before = open(&config(&["."]), folder.path()).unwrap();
        let path = stored(folder.path(), file);
        let mut bytes = std::fs::read(&path).unwrap();
        damage(&mut bytes);
        // As a new file: the old one is still mapped by `before`.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, bytes).unwrap();

        let warnings = Warnings::default();
        let context = caching(folder.path()).with_observer(warnings.clone());
        let bytes = Bytes::default();
        let after = Corpus::open(&config(&["."]), folder.path(), &bytes, &context).unwrap();
        assert_eq!(bytes.calls(), 2);
        assert_eq!(texts(&after.split(Split::Train)), texts(&before.split(Split::Train)));
        let warnings = warnings.0.lock().unwrap();
        assert!(warnings.len() == 1 && warnings[0].contains("damaged"), "{warnings:?}");
        open(&config(&["."]), folder.path()).unwrap();
    }
}

#[test]
fn what_a_killed_process_left_is_removed() {
    let folder = folder(&[("a.txt", "some text")]);
    open(&config(&["."]), folder.path()).unwrap();
    let tokens = stored(folder.path(), "tokens");
    let part = tokens.with_extension("abc.part");
    std::fs::write(&part, "half").unwrap();
    std::fs::remove_file(&tokens).unwrap();
    open(&config(&["."]), folder.path()).unwrap();
    assert!(!part.exists() && tokens.exists());
}

#[test]
fn two_at_once_tokenise_once() {
    let folder = folder(&[("a.txt", "some text"), ("b.txt", "more")]);
    let bytes = Bytes::default();
    let context = caching(folder.path());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let corpus =
                    Corpus::open(&config(&["."]), folder.path(), &bytes, &context).unwrap();
                assert_eq!(texts(&corpus.split(Split::Train)), ["some text", "more"]);
            });
        }
    });
    assert_eq!(bytes.calls(), 2);
}

#[test]
fn a_large_vocabulary_is_stored_whole() {
    struct Wide;
    impl Encode for Wide {
        fn encode(&self, text: &str) -> factorexe::Result<Vec<u32>> {
            Ok(text.bytes().map(|byte| 100_000 + u32::from(byte)).collect())
        }
        fn fingerprint(&self) -> String {
            "wide".to_owned()
        }
        fn vocabulary(&self) -> usize {
            100_200
        }
        fn document_end(&self) -> Option<u32> {
            None
        }
    }
    let folder = folder(&[("a.txt", "ab")]);
    let context = caching(folder.path());
    let corpus = Corpus::open(&config(&["."]), folder.path(), &Wide, &context).unwrap();
    assert_eq!(corpus.split(Split::Train).document(0), [100_097, 100_098]);
    // Its first byte is 244: token 100,244.
    write(folder.path(), "a.txt", "\u{10ffff}".as_bytes());
    let error = Corpus::open(&config(&["."]), folder.path(), &Wide, &context).unwrap_err();
    assert!(error.message().contains("vocabulary has 100200"), "{error}");
}

#[test]
fn a_corpus_is_given_up_when_it_is_to_stop() {
    let folder = folder(&[("a.txt", "some text"), ("b.txt", "more")]);
    let (cache, bytes) = (folder.path().join(".cache"), Bytes::default());
    // At the third poll: after both files were read, before the first is tokenised.
    for patience in [0, 2] {
        let polls = std::sync::atomic::AtomicUsize::new(0);
        let context = caching(folder.path()).cancelled_when(move || {
            polls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= patience
        });
        let error = Corpus::open(&config(&["."]), folder.path(), &bytes, &context);
        let error = error.unwrap_err();
        assert_eq!(error.kind(), factorexe::error::Kind::Interrupted);
        assert_eq!(error.message(), "stopped while the text was tokenised");
        assert_eq!(bytes.calls(), 0);
    }
    let left: Vec<_> = std::fs::read_dir(&cache).unwrap().flatten().map(|e| e.path()).collect();
    assert!(left.iter().all(|path| path.extension().unwrap() == "lock"), "{left:?}");
}
