//! Is everything about a run written down once?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use factorexe::context::Context;
use factorexe::train::{Resume, TrainConfig, Trainer, read_records, read_steps};

use super::{Counting, Net, config};

fn event_files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("tensorboard")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn steps_and_validations_are_lines_and_events() {
    let folder = tempfile::tempdir().unwrap();
    let config = TrainConfig { validate_every_steps: 10, ..config() };
    let mut trainer = Trainer::new(&config, 3, folder.path(), &Context::cpu());
    let mut asked = Vec::new();
    let mut validate = |step: u64| {
        asked.push(step);
        Ok(BTreeMap::from([("perplexity".to_owned(), 6.5)]))
    };
    let net = Net::new();
    trainer.fit(&net, &Counting, Resume::Fresh, Some(&mut validate)).unwrap();
    assert_eq!(asked, [10, 20]);

    let path = folder.path().join("metrics.jsonl");
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.lines().count(), 22);
    assert!(text.contains("{\"step\":10,\"validation\":{\"perplexity\":6.5}}"), "{text}");
    let steps = read_steps(&path).unwrap();
    assert_eq!((steps.len(), steps[19].tokens), (20, 320));
    assert!(steps[4].terms.contains_key("cross_entropy") && steps[4].grad_norm.unwrap() > 0.0);

    let files = event_files(folder.path());
    assert_eq!(files.len(), 1);
    // The version, the start, and one event for each line.
    let records = read_records(&files[0]).unwrap();
    assert_eq!(records.len(), 24);
    let holds =
        |record: &[u8], text: &str| record.windows(text.len()).any(|w| w == text.as_bytes());
    assert!(holds(&records[0], "brain.Event:2"));
    assert!(holds(&records[2], "train/cross_entropy") && holds(&records[2], "train/grad_norm"));
    // Field 2 of Value, wire type 5, then the number: 6.5 in f32 is 0x40d00000.
    let perplexity = b"validation/perplexity\x15\x00\x00\xd0\x40";
    assert!(records.iter().any(|record| record.ends_with(perplexity)));
}

#[test]
fn a_damaged_event_file_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let config = config();
    let mut trainer = Trainer::new(&config, 3, folder.path(), &Context::cpu());
    trainer.fit(&Net::new(), &Counting, Resume::Fresh, None).unwrap();
    let file = event_files(folder.path()).remove(0);
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    assert!(read_records(&file).unwrap_err().to_string().contains("damaged"));
}
