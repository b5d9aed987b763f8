//! Does a name on the Hub become a model, or a clear refusal?

use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use factorexe::context::Context;
use factorexe::error::Kind;
use factorexe::hub::client::HubConfig;
use factorexe::hub::remote::fetch;
use factorexe::hub::{HubId, Source};

use crate::support::checkpoints::{fixture, input, says};
use crate::support::stand_in::{COMMIT, Mood, StandIn};

fn id(text: &str) -> HubId {
    let Source::Hub(id) = text.parse().unwrap() else { panic!("{text} is no hub id") };
    id
}

fn fingerprint(folder: &Path) -> String {
    Source::Folder(folder.to_owned()).load(&Context::cpu()).unwrap().fingerprint
}

/// Fetches `owner/model`.
fn get(config: &HubConfig) -> factorexe::Result<std::path::PathBuf> {
    fetch(&id("owner/model"), config, &Context::cpu())
}

/// Files of the cache that a later run could take for whole weights.
fn cached_weights(cache: &Path) -> Vec<std::path::PathBuf> {
    let pattern = format!("{}/models--owner--model/snapshots/*/*.safetensors", cache.display());
    glob::glob(&pattern).unwrap().flatten().collect()
}

#[test]
fn a_repository_is_fetched_once_and_found_offline() {
    for name in ["llama-tied", "llama-sharded"] {
        let (hub, cache) = (StandIn::of(&fixture(name)), tempfile::tempdir().unwrap());
        let config = hub.client(cache.path());
        let folder = get(&config).unwrap();
        assert_eq!(fingerprint(&folder), fingerprint(&fixture(name)));
        assert!(folder.ends_with(COMMIT));
        assert!(!folder.join("reference.safetensors").exists(), "only what is needed is fetched");
        let before = hub.requests().len();
        let offline = HubConfig { offline: true, ..config };
        assert_eq!(get(&offline).unwrap(), folder);
        assert_eq!(hub.requests().len(), before, "offline asks nobody");
    }
}

#[test]
fn offline_without_a_cache_says_where_it_looked() {
    let (hub, cache) = (StandIn::of(&fixture("qwen3")), tempfile::tempdir().unwrap());
    let offline = HubConfig { offline: true, ..hub.client(cache.path()) };
    let text = input(&get(&offline).unwrap_err());
    let place = cache.path().display().to_string();
    says(
        &text,
        &["`config.json` of owner/model is not in the cache", &place, "HF_HUB_OFFLINE is set"],
    );
    assert!(hub.requests().is_empty());
}

#[test]
fn all_files_are_of_the_commit_that_the_config_is_of() {
    let (hub, cache) = (StandIn::of(&fixture("qwen3")), tempfile::tempdir().unwrap());
    get(&hub.client(cache.path())).unwrap();
    let late = hub.requests().into_iter().filter(|request| request.contains("/resolve/main/"));
    assert!(late.into_iter().all(|request| request.ends_with("config.json")), "the rest is pinned");
}

#[test]
fn what_the_hub_does_not_know_is_named() {
    let (hub, cache) = (StandIn::of(&fixture("qwen3")), tempfile::tempdir().unwrap());
    let config = hub.client(cache.path());
    let refused = |name| input(&fetch(&id(name), &config, &Context::cpu()).unwrap_err());
    says(&refused("owner/other"), &["knows no model owner/other", "spelling", "folder"]);
    says(&refused("owner/model@v9"), &["owner/model@v9: there is no such revision"]);
    hub.mood(Mood::Secretive);
    says(&refused("owner/model"), &["knows no model owner/model", "HF_TOKEN"]);
}

#[test]
fn a_repository_without_safetensors_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("qwen3").join("config.json"), folder.path().join("config.json")).unwrap();
    let (hub, cache) = (StandIn::of(folder.path()), tempfile::tempdir().unwrap());
    let text = input(&get(&hub.client(cache.path())).unwrap_err());
    says(&text, &["owner/model holds no `model.safetensors`"]);
}

#[test]
fn a_gated_model_opens_to_a_token() {
    let (hub, cache) = (StandIn::of(&fixture("qwen3")), tempfile::tempdir().unwrap());
    hub.mood(Mood::Gated);
    let config = HubConfig { token: Some("wrong".to_owned()), ..hub.client(cache.path()) };
    says(&input(&get(&config).unwrap_err()), &["owner/model is gated or private", "HF_TOKEN"]);
    let config = HubConfig { token: Some("secret".to_owned()), ..config };
    get(&config).unwrap();
}

#[test]
fn half_a_download_is_never_taken_for_a_whole_one() {
    for (mood, part) in [(Mood::CutsWeights, "was cut"), (Mood::SendsErrorPages, "announced")] {
        let (hub, cache) = (StandIn::of(&fixture("qwen3")), tempfile::tempdir().unwrap());
        let config = hub.client(cache.path());
        hub.mood(mood);
        let text = input(&get(&config).unwrap_err());
        says(&text, &[part, "model.safetensors", "nothing half was kept"]);
        assert!(cached_weights(cache.path()).is_empty());
        let offline = HubConfig { offline: true, ..config.clone() };
        says(&input(&get(&offline).unwrap_err()), &["not in the cache"]);
        hub.mood(Mood::Healthy);
        assert_eq!(fingerprint(&get(&config).unwrap()), fingerprint(&fixture("qwen3")));
    }
}

#[test]
fn without_a_network_the_hint_is_to_go_on_without() {
    let cache = tempfile::tempdir().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = HubConfig {
        endpoint: Some(format!("http://{closed}")),
        cache: Some(cache.path().to_owned()),
        attempts: Some(1),
        ..HubConfig::default()
    };
    says(&input(&get(&config).unwrap_err()), &["cannot be reached", "folder", "HF_HUB_OFFLINE=1"]);
}

#[test]
fn control_c_ends_a_download_that_stalls() {
    let (hub, cache) = (StandIn::of(&fixture("qwen3")), tempfile::tempdir().unwrap());
    let config = hub.client(cache.path());
    hub.mood(Mood::Stalls);
    let start = Instant::now();
    let context =
        Context::cpu().cancelled_when(move || start.elapsed() > Duration::from_millis(400));
    let error = fetch(&id("owner/model"), &config, &context).unwrap_err();
    assert_eq!(error.kind(), Kind::Interrupted);
    says(&error.to_string(), &["stopped during a download", "the same command resumes"]);
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(cached_weights(cache.path()).is_empty());
}
