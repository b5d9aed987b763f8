//! Blocks of a README between a marker and `<!-- end -->`.

use std::process::Command;

use super::{index, root};

const END: &str = "<!-- end -->\n";

/// The text with every block rendered anew, and how many there are.
pub fn rendered(text: &str) -> (String, usize) {
    let (mut expected, mut rest, mut count) = (String::new(), text, 0);
    while let Some((before, marker, after)) = next_marker(rest) {
        let (_, after) =
            after.split_once(END).unwrap_or_else(|| panic!("`{marker}` has no `{}`", END.trim()));
        expected.extend([before, marker, "\n\n", &content(marker), "\n", END]);
        (rest, count) = (after, count + 1);
    }
    (expected + rest, count)
}

/// What stands before the next marker, the marker, and what follows it.
fn next_marker(text: &str) -> Option<(&str, &str, &str)> {
    let starts = ["<!-- results:", "<!-- recipes -->"];
    let start = starts.iter().filter_map(|start| text.find(start)).min()?;
    let end = start + text[start..].find("-->")? + "-->".len();
    Some((&text[..start], &text[start..end], &text[end..]))
}

fn content(marker: &str) -> String {
    let inside = marker.trim_start_matches("<!--").trim_end_matches("-->").trim();
    match inside.strip_prefix("results:") {
        Some(arguments) => report(arguments.split_whitespace()),
        None => index::of_recipes(),
    }
}

fn report<'a>(arguments: impl Iterator<Item = &'a str>) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_factorize"))
        .args(["report", "--markdown"])
        .args(arguments)
        .current_dir(root())
        .output()
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaint.is_empty(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_block_that_differs_is_replaced_and_the_rest_stays() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("speeds.csv"), "name,speed\nfast,6.5\n").unwrap();
    let marker = format!("<!-- results: {} -->", folder.path().display());
    let table = "| name | speed |\n| --- | ---: |\n| fast | 6.5 |\n";
    let right = format!("before\n{marker}\n\n{table}\n{END}after\n");
    let wrong = right.replace("6.5", "7.5");
    assert_eq!(rendered(&wrong), (right.clone(), 1));
    assert_eq!(rendered(&right), (right.clone(), 1));
}
