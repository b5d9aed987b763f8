//! Does a browser show the page, and does it ask for nothing?

use std::io::Read;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use factorexe::report::write;

use super::data::{HOSTILE, METRICS, evaluation, folder, halting, law, scaling};

/// What a browser asks for itself, whatever page is open: time, updates, accounts.
const ITS_OWN: [&str; 6] = [
    "://clients2.google.com/",
    "://update.googleapis.com/",
    " update.googleapis.com:443",
    " redirector.gvt1.com:443",
    " accounts.google.com:443",
    "://redirector.gvt1.com/",
];

/// Every request of the browser comes here instead of where it should go, and is written down.
fn proxy() -> (u16, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let received = Arc::clone(&requests);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut start = [0; 512];
            let length = stream.and_then(|mut stream| stream.read(&mut start)).unwrap_or(0);
            let line = String::from_utf8_lossy(&start[..length]);
            received.lock().unwrap().push(line.lines().next().unwrap_or_default().to_owned());
        }
    });
    (port, requests)
}

fn chromium(program: &str, profile: &Path, port: u16, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"])
        .args(["--disable-background-networking", "--disable-component-update"])
        .args(["--no-first-run", "--window-size=1000,3000"])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--proxy-server=127.0.0.1:{port}"))
        .arg("--proxy-bypass-list=<-loopback>")
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
#[ignore = "needs a browser: FACTOREXE_CHROMIUM=chromium cargo test -- --ignored chromium"]
fn the_page_opens_in_chromium() {
    let program = std::env::var("FACTOREXE_CHROMIUM").expect("FACTOREXE_CHROMIUM names a browser");
    let folder = folder(&[
        ("law.json", &law().to_string()),
        ("scaling.json", &scaling().to_string()),
        ("eval.json", &evaluation().to_string()),
        ("metrics.jsonl", METRICS),
        ("student/halting.json", &halting().to_string()),
    ]);
    let page = format!("file://{}", write(folder.path()).unwrap().display());
    let profile = tempfile::TempDir::new().unwrap();
    let (port, requests) = proxy();
    let dom = chromium(&program, profile.path(), port, &["--dump-dom", &page]);
    for mark in [
        "data-series=\"width ratio 2\" data-x=\"4\" data-y=\"16\" data-low=\"16\"",
        "data-series=\"loss\" data-x=\"1 3\" data-y=\"4 2\"",
        "data-series=\"shared\"",
    ] {
        assert!(dom.contains(mark), "{mark}");
    }
    assert!(!dom.contains("<script") && !dom.contains("<img") && !dom.contains("<title>owned"));
    let picture = folder.path().join("page.png");
    let screenshot = format!("--screenshot={}", picture.display());
    chromium(&program, profile.path(), port, &[&screenshot, &page]);
    let picture = resvg::tiny_skia::Pixmap::load_png(&picture).unwrap();
    let first = picture.pixels()[0];
    assert!(picture.pixels().iter().filter(|pixel| **pixel != first).count() > 10_000);
    let its_own = |line: &str| ITS_OWN.iter().any(|host| line.contains(host));
    let requests = requests.lock().unwrap();
    let asked: Vec<_> = requests.iter().filter(|line| !its_own(line)).collect();
    assert!(asked.is_empty(), "{asked:?}");
}

#[test]
#[ignore = "needs a browser: FACTOREXE_CHROMIUM=chromium cargo test -- --ignored chromium"]
fn a_request_in_chromium_would_be_noticed() {
    let program = std::env::var("FACTOREXE_CHROMIUM").expect("FACTOREXE_CHROMIUM names a browser");
    let folder = folder(&[("page.html", HOSTILE)]);
    let page = format!("file://{}", folder.path().join("page.html").display());
    let profile = tempfile::TempDir::new().unwrap();
    let (port, requests) = proxy();
    chromium(&program, profile.path(), port, &["--dump-dom", &page]);
    let requests = requests.lock().unwrap();
    assert!(requests.iter().any(|line| line.contains("elsewhere.invalid/x")), "{requests:?}");
}
