//! What would the Hub answer?

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use factorexe::hub::client::HubConfig;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What is wrong with the Hub today.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Healthy,
    /// Weights stop in the middle; the connection closes.
    CutsWeights,
    /// Weights are announced, then an error page comes in their place.
    SendsErrorPages,
    /// Weights never come.
    Stalls,
    /// Only for those with the token `secret`.
    Gated,
    /// What the Hub says to strangers of a repository that is not there.
    Secretive,
}

/// A Hub with one repository, `owner/model`, on a port of this machine.
pub struct StandIn {
    pub endpoint: String,
    state: Arc<State>,
}

struct State {
    files: BTreeMap<String, Vec<u8>>,
    mood: Mutex<Mood>,
    requests: Mutex<Vec<String>>,
    address: String,
}

impl StandIn {
    /// Serves the files of a folder.
    pub fn of(folder: &Path) -> Self {
        let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        let files = entries.map(|entry| {
            (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())
        });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(State {
            files: files.collect(),
            mood: Mutex::new(Mood::Healthy),
            requests: Mutex::default(),
            address: endpoint.clone(),
        });
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                std::thread::spawn(move || state.answer(stream));
            }
        });
        Self { endpoint, state }
    }

    pub fn mood(&self, mood: Mood) {
        *self.state.mood.lock().unwrap() = mood;
    }

    /// Every request so far, as `METHOD /path`.
    pub fn requests(&self) -> Vec<String> {
        self.state.requests.lock().unwrap().clone()
    }

    /// A client of this Hub with a cache of its own.
    pub fn client(&self, cache: &Path) -> HubConfig {
        HubConfig {
            endpoint: Some(self.endpoint.clone()),
            cache: Some(cache.to_owned()),
            attempts: Some(1),
            ..HubConfig::default()
        }
    }
}

impl State {
    fn answer(&self, mut stream: TcpStream) -> Option<()> {
        let mut lines = BufReader::new(stream.try_clone().ok()?).lines();
        let request = lines.next()?.ok()?;
        let headers: Vec<_> = lines.map_while(Result::ok).take_while(|l| !l.is_empty()).collect();
        let (method, path) = request.strip_suffix(" HTTP/1.1")?.split_once(' ')?;
        self.requests.lock().unwrap().push(format!("{method} {path}"));
        let token =
            headers.iter().any(|line| line.eq_ignore_ascii_case("authorization: bearer secret"));
        let (status, headers, body) = self.route(path, token);
        let mood = *self.mood.lock().unwrap();
        let is_weight = path.starts_with("/cdn/") && method == "GET";
        let (status, body) = match mood {
            Mood::SendsErrorPages if is_weight => ("503 Busy", b"<html>come back later".to_vec()),
            _ => (status, body),
        };
        if mood == Mood::Stalls && is_weight {
            std::thread::sleep(Duration::from_secs(20));
        }
        let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
        head.push_str("Connection: close\r\n");
        for (name, value) in headers {
            head = head + name + ": " + &value + "\r\n";
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).ok()?;
        let sent = match (method, mood) {
            ("HEAD", _) => 0,
            (_, Mood::CutsWeights) if is_weight => body.len() / 2,
            _ => body.len(),
        };
        stream.write_all(&body[..sent]).ok()
    }

    fn route(
        &self,
        path: &str,
        token: bool,
    ) -> (&'static str, Vec<(&'static str, String)>, Vec<u8>) {
        let code = |code: &str| vec![("X-Error-Code", code.to_owned())];
        match *self.mood.lock().unwrap() {
            Mood::Gated if !token => return ("401 Unauthorized", code("GatedRepo"), Vec::new()),
            Mood::Secretive => return ("401 Unauthorized", code("RepoNotFound"), Vec::new()),
            _ => {}
        }
        if let Some(file) = path.strip_prefix("/cdn/") {
            return ("200 OK", Vec::new(), self.files[file].clone());
        }
        let known = ["main", COMMIT];
        let api = ["/api/models/owner/model".to_owned()].into_iter();
        let mut api = api.chain(known.map(|r| format!("/api/models/owner/model/revision/{r}")));
        if api.any(|known| known == path) {
            let body = format!(r#"{{"id": "owner/model", "sha": "{COMMIT}"}}"#);
            return ("200 OK", Vec::new(), body.into_bytes());
        }
        let resolve = known.map(|revision| format!("/owner/model/resolve/{revision}/"));
        let file = resolve.iter().find_map(|prefix| path.strip_prefix(prefix));
        let Some(file) = file else { return ("404 Not Found", code("RepoNotFound"), Vec::new()) };
        let commit = ("X-Repo-Commit", COMMIT.to_owned());
        let Some(content) = self.files.get(file) else {
            return ("404 Not Found", vec![commit], Vec::new());
        };
        let etag = format!("\"{}\"", blake3_of(content));
        if file.ends_with(".safetensors") {
            // Large files live elsewhere, and say so as the Hub does.
            let size = content.len().to_string();
            let place = ("Location", format!("{}/cdn/{file}", self.address));
            let linked = vec![commit, ("X-Linked-Etag", etag), ("X-Linked-Size", size), place];
            return ("302 Found", linked, Vec::new());
        }
        ("200 OK", vec![commit, ("ETag", etag)], content.clone())
    }
}

fn blake3_of(content: &[u8]) -> String {
    blake3::hash(content).to_hex().to_string()
}
