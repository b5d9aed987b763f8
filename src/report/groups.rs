//! Grouping of points by a key, and means over seeds.

use std::collections::BTreeMap;

use super::fitted::Fitted;

/// Groups in the order of their keys.
pub(super) fn grouped<'a, T, K: Ord>(
    items: impl IntoIterator<Item = &'a T>,
    key: impl Fn(&T) -> K,
) -> Vec<(K, Vec<&'a T>)> {
    let mut groups: BTreeMap<K, Vec<&'a T>> = BTreeMap::new();
    items.into_iter().for_each(|item| groups.entry(key(item)).or_default().push(item));
    groups.into_iter().collect()
}

/// A number as a key: numbers that are not known come last.
pub(super) fn ordered(value: Option<f64>) -> (bool, i64) {
    // Bits of positive floats are in the order of the numbers: IEEE 754, totalOrder.
    value.map_or((true, 0), |value| (false, value.max(0.0).to_bits() as i64))
}

/// Values of one quantity under one setting: their mean, and the least and the largest if there are
/// several.
pub(super) fn over_seeds(values: impl IntoIterator<Item = Option<f64>>) -> Option<Fitted> {
    let values: Vec<f64> = values.into_iter().flatten().collect();
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let end = |of: fn(f64, f64) -> f64| values.iter().copied().reduce(of);
    let several = values.len() > 1;
    let (low, high) = if several { (end(f64::min), end(f64::max)) } else { (None, None) };
    (!values.is_empty()).then_some(Fitted { estimate: Some(mean), low, high })
}
