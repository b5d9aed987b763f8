//! The shape of a student that a template proposes for a teacher of so many layers.

/// Teachers from this depth on keep more of their first and last layers.
const DEEP: usize = 24;
/// Share of the layers between prelude and coda that the core has: about half of the blocks.
const CORE_SHARE: f64 = 0.4;

/// Layers of prelude and core, repetitions, layers of the coda: the core, written out, is as deep as
/// the layers it replaces, or nearly so.
#[must_use]
pub fn shape_of_student(layers: usize) -> [usize; 4] {
    let (prelude, coda) = match layers {
        0..3 => (0, 0),
        3..DEEP => (1, 1),
        _ => (2, 3),
    };
    let middle = layers - prelude - coda;
    let wanted = CORE_SHARE * middle as f64;
    let shapes = (2..=6_usize).flat_map(|n| (1..=middle.max(1)).map(move |core| (core, n)));
    let best = shapes.min_by(|a, b| {
        let cost =
            |(core, n): (usize, usize)| ((core * n).abs_diff(middle), (core as f64 - wanted).abs());
        let (a, b) = (cost(*a), cost(*b));
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
    });
    let (core, repetitions) = best.unwrap_or((1, 2));
    [prelude, core, repetitions, coda]
}

#[cfg(test)]
mod tests {
    use super::shape_of_student;

    #[test]
    fn the_core_written_out_is_about_as_deep_as_what_it_replaces() {
        assert_eq!(shape_of_student(12), [1, 5, 2, 1]);
        assert_eq!(shape_of_student(6), [1, 2, 2, 1]);
        assert_eq!(shape_of_student(2), [0, 1, 2, 0]);
        for layers in 3..100 {
            let [prelude, core, repetitions, coda] = shape_of_student(layers);
            let middle = layers - prelude - coda;
            assert!(repetitions >= 2 && core >= 1, "{layers}");
            assert!((core * repetitions).abs_diff(middle) <= 1, "{layers}");
            assert!(prelude + core + coda < layers.max(4), "{layers}");
        }
    }
}
