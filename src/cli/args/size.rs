//! Sizes in bytes as written on the command line: `8GB`, `500MB`, `1.5GiB`.

use crate::error::{Error, Result};

const UNITS: [(&str, f64); 9] = [
    ("KIB", 1024.0),
    ("MIB", 1_048_576.0),
    ("GIB", 1_073_741_824.0),
    ("TIB", 1_099_511_627_776.0),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("B", 1.0),
];

/// A number of bytes, with or without a unit.
pub(crate) fn size(text: &str) -> Result<u64> {
    let upper = text.trim().to_ascii_uppercase();
    let unit = UNITS.iter().find_map(|(name, bytes)| Some((upper.strip_suffix(name)?, *bytes)));
    let (number, unit) = unit.unwrap_or((&upper, 1.0));
    let plain = number.trim_end();
    let is_number = plain.chars().all(|digit| digit.is_ascii_digit() || digit == '.');
    let bytes = plain.parse::<f64>().ok().filter(|_| is_number).map(|number| number * unit);
    bytes.filter(|bytes| *bytes < u64::MAX as f64).map(|bytes| bytes as u64).ok_or_else(|| {
        Error::input(format!("`{text}` is no size: expected bytes such as 8GB, 500MB, 1.5GiB or 0"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_both_kinds_of_units_and_nonsense_is_refused() {
        for (text, bytes) in [
            ("0", 0),
            ("8GB", 8_000_000_000),
            ("500 mb", 500_000_000),
            ("1.5GiB", 1_610_612_736),
            ("12B", 12),
            ("64", 64),
        ] {
            assert_eq!(size(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "GB", "-1GB", "8XB", "inf", "nan", "1e3", "much"] {
            assert!(size(text).unwrap_err().to_string().contains("is no size"), "{text}");
        }
    }
}
