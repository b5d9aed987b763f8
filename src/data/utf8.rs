//! Validation of UTF-8, with the byte at which a file stops being text.

use crate::error::{Error, Result};

/// `bytes`, which start at `offset` of their file, as text.
pub(super) fn utf8(bytes: Vec<u8>, offset: u64) -> Result<String> {
    String::from_utf8(bytes).map_err(|error| {
        let bytes = error.as_bytes();
        let good = error.utf8_error().valid_up_to();
        let wide =
            offset == 0 && (bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff"));
        let encoding = if wide { "UTF-16" } else { "LATIN1" };
        Error::input(format!(
            "this is not UTF-8: byte {:#04x} at offset {} begins no character",
            bytes[good],
            offset + good as u64
        ))
        .hint(format!(
            "if it is text in another encoding, convert it: \
             iconv -f {encoding} -t UTF-8 old.txt > new.txt"
        ))
    })
}
