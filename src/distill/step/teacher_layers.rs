//! Which of the teacher's states can a run ask for?

use std::collections::BTreeSet;

use crate::distill::config::DistillConfig;
use crate::distill::depth::RepetitionSampling;
use crate::distill::granularity::Granularity;
use crate::model::alignment::{TeacherLayer, equal_steps};
use crate::model::{Alignment, LoopedConfig};

/// Indices of states, 0 for the embedding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequiredLayers {
    /// While the core alone stands on the teacher's states.
    pub(crate) forced: BTreeSet<usize>,
    /// Afterwards.
    pub(crate) closed: BTreeSet<usize>,
}

impl RequiredLayers {
    pub(crate) fn new(student: &LoopedConfig, config: &DistillConfig) -> Self {
        let (middle, hidden) = (student.middle(), &config.loss.hidden);
        let fixed = config.depth.sampling == RepetitionSampling::Fixed && config.depth.ramp <= 0.0;
        if !fixed || hidden.alignment == Alignment::Monotone {
            let all: BTreeSet<usize> = (middle.start..=middle.end).collect();
            return Self { forced: all.clone(), closed: all };
        }
        let count = student.repetitions * student.core_layers;
        let depths = equal_steps(student, count, hidden.alignment);
        let every = |stride: usize| depths.iter().skip(stride - 1).step_by(stride);
        let stride = |every: Granularity| match every {
            Granularity::Layer => 1,
            Granularity::Repetition => student.core_layers,
        };
        // The first step after the forced phase may still start repetitions from the teacher.
        let starts = every(student.core_layers);
        let closed: BTreeSet<usize> =
            every(stride(hidden.every)).chain(starts).flat_map(ends).collect();
        let mut forced: BTreeSet<usize> =
            every(stride(config.phases.force)).flat_map(ends).chain([middle.start]).collect();
        forced.extend(&closed);
        Self { forced, closed }
    }
}

/// The states that a depth is blended of.
fn ends(depth: &TeacherLayer) -> impl Iterator<Item = usize> + use<> {
    depth.lower..=depth.lower + usize::from(depth.fraction > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Injection, Relaxation, RopeScaling, StateNorm, TransformerConfig};

    #[test]
    fn a_fixed_depth_needs_its_own_states_and_any_other_the_whole_middle() {
        let mut config = DistillConfig::default();
        // Three repetitions of one layer for a middle of states 1 to 5: 2 1/3, 3 2/3, 5.
        let student = student();
        let needs = RequiredLayers::new(&student, &config);
        assert_eq!(needs.closed, BTreeSet::from([2, 3, 4, 5]));
        assert_eq!(needs.forced, BTreeSet::from([1, 2, 3, 4, 5]));
        config.loss.hidden.alignment = Alignment::Uniform;
        assert_eq!(RequiredLayers::new(&student, &config).closed, BTreeSet::from([2, 4, 5]));
        config.depth.sampling = RepetitionSampling::Uniform { least: 1, most: 2 };
        assert_eq!(RequiredLayers::new(&student, &config).closed, (1..=5).collect());
    }

    fn student() -> LoopedConfig {
        let base = TransformerConfig {
            family: "llama".into(),
            layers: 6,
            width: 8,
            heads: 1,
            kv_heads: 1,
            head_width: 8,
            mlp_width: 8,
            vocabulary: 8,
            max_positions: 8,
            norm_eps: 1e-5,
            rope_theta: 1e4,
            rope_scaling: RopeScaling::None,
            tied_head: false,
            qkv_bias: false,
            output_bias: false,
            mlp_bias: false,
            qk_norm: false,
            sliding_window: None,
            windowed_layers: None,
            bos_token: None,
            eos_tokens: vec![],
        };
        LoopedConfig {
            base,
            prelude_layers: 1,
            core_layers: 1,
            repetitions: 3,
            coda_layers: 1,
            relaxation: Relaxation::None,
            injection: Injection::None,
            state_norm: StateNorm::None,
            gate: None,
        }
    }
}
