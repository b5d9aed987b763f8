//! Numbers within sentences, which a comment at the end of the paragraph traces to data.

use std::path::Path;

use super::lookup;

/// Results under a heading that begins so have no data any more.
const EARLIER: &str = "Measured earlier";

/// The text with the numbers of every paragraph as its data say.
///
/// # Errors
/// A paragraph has a decimal or a percentage that no comment traces, or more or fewer numbers than
/// its comment.
pub fn rendered(text: &str, folder: &Path) -> Result<String, String> {
    let (mut is_code, mut is_block, mut is_earlier) = (false, false, false);
    let mut parts = Vec::new();
    for part in paragraphs(text) {
        let first = part.lines().next().unwrap_or_default();
        if first.starts_with('#') {
            is_earlier = first.contains(EARLIER);
        }
        is_block |= part.contains("<!-- results:") || part.contains("<!-- recipes -->");
        let fences = part.lines().filter(|line| line.trim_start().starts_with("```")).count();
        let is_prose = !is_code && fences == 0 && !is_block && !is_earlier;
        is_code ^= fences % 2 == 1;
        is_block &= !part.contains("<!-- end -->");
        parts.push(if is_prose { paragraph(part, folder)? } else { part.to_owned() });
    }
    Ok(parts.concat())
}

/// Pieces that end with an empty line; each item of a list is one, and so is a line of a table.
fn paragraphs(text: &str) -> Vec<&str> {
    let is_start = |line: &str| {
        let line = line.trim_start();
        ["- ", "| ", "#"].iter().any(|start| line.starts_with(start))
    };
    let (mut starts, mut at, mut after_gap) = (Vec::new(), 0, true);
    for line in text.split_inclusive('\n') {
        if after_gap || is_start(line) {
            starts.push(at);
        }
        after_gap = line.trim().is_empty();
        at += line.len();
    }
    starts.push(text.len());
    starts.windows(2).map(|ends| &text[ends[0]..ends[1]]).collect()
}

fn paragraph(text: &str, folder: &Path) -> Result<String, String> {
    let (prose, comment) = text.split_at(text.find("<!-- from ").unwrap_or(text.len()));
    let sources = sources(comment, folder)?;
    let mut wanted = sources.iter().peekable();
    let (mut expected, mut done) = (String::new(), 0);
    for found in numbers(prose) {
        let written = match wanted.peek() {
            Some(&&value) if found.must_match || found.like(value) == found.text => {
                wanted.next();
                found.like(value)
            }
            None if found.must_match => {
                return Err(format!("no data for {} in: {prose}", found.text));
            }
            _ => found.text.to_owned(),
        };
        expected.extend([&prose[done..found.start], &written]);
        done = found.start + found.text.len();
    }
    match wanted.next() {
        Some(value) => Err(format!("{value} of the data is not in: {prose}")),
        None => Ok(expected + &prose[done..] + comment),
    }
}

/// The values that `<!-- from FILE: KEY, KEY; FILE: KEY -->` names, in their order.
fn sources(comment: &str, folder: &Path) -> Result<Vec<f64>, String> {
    let Some(inside) = comment.trim().strip_prefix("<!-- from ") else { return Ok(Vec::new()) };
    let inside = inside.strip_suffix("-->").ok_or("text follows the comment of a paragraph")?;
    let mut values = Vec::new();
    for source in inside.split(';') {
        let (file, keys) = source.split_once(": ").ok_or("expected `FILE: KEY, KEY`")?;
        for key in keys.split(',') {
            values.push(lookup::number(&folder.join(file.trim()), key.trim())?);
        }
    }
    Ok(values)
}

/// A number in a sentence.
struct Found<'a> {
    start: usize,
    text: &'a str,
    /// What it is multiplied with on its way from the data: 100 of a percentage, 1e-6 of millions.
    scale: f64,
    /// It has decimals or is a percentage, so it must come from data.
    must_match: bool,
}

impl Found<'_> {
    /// A value with the decimals of this number.
    fn like(&self, value: f64) -> String {
        let decimals = self.text.split_once('.').map_or(0, |(_, decimals)| decimals.len());
        let written = format!("{:.decimals$}", value * self.scale);
        if !self.text.contains(',') {
            return written;
        }
        let (digits, rest) = written.split_at(written.find('.').unwrap_or(written.len()));
        let groups: Vec<&[u8]> = digits.as_bytes().rchunks(3).rev().collect();
        groups.join(&b',').iter().map(|&digit| char::from(digit)).collect::<String>() + rest
    }
}

/// Numbers outside `code` and links; a number that is part of a word, such as SmolLM2, is none.
fn numbers(prose: &str) -> Vec<Found<'_>> {
    let bytes = prose.as_bytes();
    let (mut found, mut at, mut is_code) = (Vec::new(), 0, false);
    while at < bytes.len() {
        is_code ^= bytes[at] == b'`';
        let link = prose[at..].strip_prefix("](").and_then(|rest| rest.find(')'));
        if let Some(length) = link {
            at += 2 + length;
            continue;
        }
        let is_word = at > 0
            && (bytes[at - 1].is_ascii_alphanumeric()
                || bytes[at - 1] == b'-' && at > 1 && bytes[at - 2].is_ascii_alphanumeric());
        if is_code || is_word || !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let length = length(&bytes[at..]);
        let (text, rest) = (&prose[at..at + length], &prose[at + length..]);
        let is_level = ["CI", "confidence", "bootstrap", "interval"]
            .iter()
            .any(|word| rest.starts_with(&format!(" % {word}")));
        let is_share = rest.starts_with(" %") && !is_level;
        let is_millions = rest.starts_with(" M ");
        let scale = if is_share {
            100.0
        } else if is_millions {
            1e-6
        } else {
            1.0
        };
        let must_match = is_share || text.contains('.') || text.contains(',');
        found.push(Found { start: at, text, scale, must_match });
        at += length;
    }
    found
}

/// Digits, with `.` and `,` between them.
fn length(bytes: &[u8]) -> usize {
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let mut length = 0;
    while is_digit(length)
        || (matches!(bytes.get(length), Some(b'.' | b',')) && is_digit(length + 1))
    {
        length += 1;
    }
    length
}

#[test]
fn a_number_that_the_data_do_not_say_is_found() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.json"), r#"{"p": 54.24, "share": 0.812, "n": 1622.4}"#)
        .unwrap();
    let checked = |text: &str| rendered(text, folder.path());
    let right = "At N = 5 it has 54.2, or 81 % of 1,622. <!-- from a.json: p, share, n -->\n";
    assert_eq!(checked(right).as_deref(), Ok(right));
    assert_eq!(checked(&right.replace("54.2", "53.9")).as_deref(), Ok(right));
    assert_eq!(checked(&right.replace("81 %", "8 %")).as_deref(), Ok(right));
    for untraced in [
        "It has 54.2.\n",
        "It has 81 % of them.\n",
        "- 54.2 here. <!-- from a.json: p -->\n- 54.2 there.\n",
        "It has 54.2 and 60.1. <!-- from a.json: p -->\n",
        "It has 54.2. <!-- from a.json: p, n -->\n",
        "It has 54.2. <!-- from a.json: q -->\n",
        "It has 54.2. <!-- from b.json: p -->\n",
    ] {
        assert!(checked(untraced).is_err(), "{untraced}");
    }
    for free in [
        "SmolLM2-135M has 30 layers, `lr = 0.5`, and [a link](v1.5).\n",
        "```sh\nfactorize --set train.lr=0.5\n```\n",
        "## Measured earlier\n\nIt was 54.2.\n",
        "<!-- results: x -->\n\n| 54.2 |\n\n<!-- end -->\n",
    ] {
        assert_eq!(checked(free).as_deref(), Ok(free));
    }
}
