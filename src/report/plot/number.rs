//! Formatting of numbers in figures.

/// Three or four digits.
#[must_use]
pub fn short(value: f64) -> String {
    let size = value.abs();
    if !value.is_finite() {
        return "not finite".to_owned();
    }
    if size != 0.0 && !(1e-4..1e6).contains(&size) {
        let text = format!("{value:.3e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        return format!("{}e{exponent}", trimmed(digits));
    }
    let whole_digits = if size < 1.0 { 0 } else { size.log10().floor() as i32 };
    let leading_zeros = if size > 0.0 && size < 0.1 { -(size.log10().ceil() as i32) } else { 0 };
    let decimals = (3 - whole_digits + leading_zeros).clamp(0, 7) as usize;
    trimmed(&format!("{value:.decimals$}")).to_owned()
}

/// With as many decimals as tell multiples of `step` apart.
pub(super) fn stepped(value: f64, step: f64) -> String {
    if value != 0.0 && !(1e-4..1e6).contains(&value.abs()) {
        return short(value);
    }
    let decimals = (-step.log10().floor()).clamp(0.0, 9.0) as usize;
    format!("{value:.decimals$}")
}

fn trimmed(digits: &str) -> &str {
    if digits.contains('.') { digits.trim_end_matches('0').trim_end_matches('.') } else { digits }
}

/// A name that any file system takes: `a-z`, `0-9` and single `-`, 60 at most.
#[must_use]
pub fn slug(name: &str) -> String {
    let mut slug = String::new();
    for character in name.chars().flat_map(char::to_lowercase) {
        match character {
            'a'..='z' | '0'..='9' => slug.push(character),
            _ if !slug.is_empty() && !slug.ends_with('-') => slug.push('-'),
            _ => {}
        }
        if slug.len() == 60 {
            break;
        }
    }
    slug.trim_end_matches('-').to_owned()
}
