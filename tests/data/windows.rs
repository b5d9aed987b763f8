//! Every token is predicted once an epoch, and a batch is a function of its index.

use factorexe::data::{Batches, Document, Documents, Spread};
use proptest::prelude::*;

use super::{Bytes, END};

fn documents(texts: &[String]) -> Documents {
    let document = |text: &String| Document { source: "memory".to_owned(), text: text.clone() };
    let documents: Vec<_> = texts.iter().map(document).collect();
    Documents::encode(&documents, &Bytes::default()).unwrap()
}

proptest! {
    #[test]
    fn an_epoch_is_the_packed_text(
        texts in prop::collection::vec("[a-z]{1,40}", 2..12),
        window_tokens in 1_usize..4,
        rows in 1_usize..5,
        seed: u64,
    ) {
        let documents = documents(&texts);
        let packed: Vec<u32> = texts
            .iter()
            .flat_map(|text| text.bytes().map(u32::from).chain([END]))
            .collect();
        let windows = documents.windows(window_tokens, rows, seed).unwrap();
        let count = windows.windows_per_epoch() as usize;
        prop_assert_eq!(count, (packed.len() - 1) / window_tokens);

        let mut expected: Vec<_> = (0..count)
            .map(|window| packed[window * window_tokens..][..=window_tokens].to_vec())
            .collect();
        expected.sort();
        let mut read = Vec::new();
        for index in 0..(2 * count).div_ceil(rows) as u64 {
            let batch = windows.batch(index).unwrap();
            prop_assert_eq!(&batch, &windows.batch(index).unwrap());
            prop_assert_eq!((batch.rows, batch.columns), (rows, window_tokens));
            let rows = batch.inputs.chunks(window_tokens).zip(batch.targets.chunks(window_tokens));
            for (inputs, targets) in rows {
                prop_assert_eq!(&inputs[1..], &targets[..window_tokens - 1]);
                read.push([inputs, &targets[window_tokens - 1..]].concat());
            }
        }
        for epoch in read[..2 * count].chunks_mut(count) {
            epoch.sort();
            prop_assert_eq!(&*epoch, &*expected);
        }
    }
}

#[test]
fn epochs_and_seeds_differ_in_order() {
    let documents = documents(&[(0..=200).map(|byte| char::from(byte % 128)).collect()]);
    let order = |seed, epoch: u64| {
        let windows = documents.windows(1, 1, seed).unwrap();
        let range = epoch * windows.windows_per_epoch()..(epoch + 1) * windows.windows_per_epoch();
        range.map(|index| windows.batch(index).unwrap().inputs[0]).collect::<Vec<_>>()
    };
    assert_ne!(order(0, 0), order(0, 1));
    assert_ne!(order(0, 0), order(1, 0));
    assert!(!order(0, 0).is_sorted());
    documents.windows(1, 7, 0).unwrap().batch(u64::MAX).unwrap();
}

#[test]
fn too_little_text_is_told_with_numbers() {
    let documents = documents(&["four".to_owned()]);
    assert_eq!(documents.windows(4, 1, 0).unwrap().windows_per_epoch(), 1);
    let error = documents.windows(5, 1, 0).unwrap_err();
    assert!(error.message().contains("has 5 tokens in 1 documents"), "{error}");
    assert!(error.message().contains("need 6"), "{error}");
    assert!(documents.windows(0, 1, 0).is_err());
    assert!(documents.windows(1, 0, 0).is_err());
    assert!(documents.windows(usize::MAX, 1, 0).is_err());
}

#[test]
fn evaluation_windows_stay_within_documents() {
    let documents = documents(&["abcdefg".to_owned(), "hi".to_owned(), "jklmn".to_owned()]);
    let windows = |max_tokens, spread| {
        let windows = documents.evaluation_windows(3, max_tokens, spread);
        let text = |tokens: Vec<u32>| tokens.into_iter().map(|token| token as u8 as char).collect();
        windows
            .into_iter()
            .map(|window| (window.document, text(window.tokens)))
            .collect::<Vec<(usize, String)>>()
    };
    let expected = |windows: &[(usize, &str)]| -> Vec<(usize, String)> {
        windows.iter().map(|(document, text)| (*document, (*text).to_owned())).collect()
    };
    // The lonely g predicts nothing.
    let all = expected(&[(0, "abc"), (0, "def"), (1, "hi"), (2, "jkl"), (2, "mn")]);
    assert_eq!(windows(100, Spread::InOrder), all);
    assert_eq!(windows(100, Spread::EvenOverDocuments), all);
    assert_eq!(windows(5, Spread::InOrder), expected(&[(0, "abc"), (0, "de")]));
    assert_eq!(windows(4, Spread::InOrder), expected(&[(0, "abc")]));
    let even = expected(&[(0, "abc"), (1, "hi"), (2, "jkl")]);
    assert_eq!(windows(8, Spread::EvenOverDocuments), even);
    assert!(windows(1, Spread::InOrder).is_empty());
}
