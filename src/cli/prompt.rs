//! A prompt from the command line or from stdin.

use std::io::Read;

use crate::error::{Error, Result};

/// `given`, or for `-` all of stdin without its last line break.
pub(super) fn prompt(given: &str) -> Result<String> {
    if given != "-" {
        return Ok(given.to_owned());
    }
    let mut text = String::new();
    std::io::stdin()
        .read_to_string(&mut text)
        .map_err(|error| Error::io("reading the prompt", "stdin", &error))?;
    text.truncate(without_line_break(&text).len());
    Ok(text)
}

/// What `echo` or an editor put after the last character is not part of the prompt.
fn without_line_break(text: &str) -> &str {
    let Some(text) = text.strip_suffix('\n') else { return text };
    text.strip_suffix('\r').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::without_line_break;

    #[test]
    fn one_line_break_at_the_end_goes_and_no_other() {
        for (given, expected) in
            [("a\n", "a"), ("a\r\n", "a"), ("a", "a"), ("a\n\n", "a\n"), ("\n", ""), ("a \n", "a ")]
        {
            assert_eq!(without_line_break(given), expected, "{given:?}");
        }
    }
}
