//! The teacher's states that a run requires.

use std::collections::BTreeSet;

use crate::distill::config::DistillConfig;
use crate::distill::depth::RepetitionSampling;
use crate::distill::granularity::Granularity;
use crate::model::{Alignment, LoopedConfig, TeacherLayer, equal_steps};

/// Indices of the teacher's states, 0 for the embedding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequiredLayers {
    /// Required by teacher-forced steps.
    pub(crate) teacher_forced: BTreeSet<usize>,
    /// Required by all other steps.
    pub(crate) free_running: BTreeSet<usize>,
}

impl RequiredLayers {
    pub(crate) fn new(student: &LoopedConfig, config: &DistillConfig) -> Self {
        let (middle, hidden) = (student.middle(), &config.loss.hidden);
        let fixed = config.depth.sampling == RepetitionSampling::Fixed && config.depth.ramp <= 0.0;
        if !fixed || hidden.alignment == Alignment::Monotone {
            let all: BTreeSet<usize> = (middle.start..=middle.end).collect();
            return Self { teacher_forced: all.clone(), free_running: all };
        }
        let applications = student.repetitions * student.core_layers;
        let layers = equal_steps(student, applications, hidden.alignment);
        let every = |granularity: Granularity| {
            let stride = match granularity {
                Granularity::Layer => 1,
                Granularity::Repetition => student.core_layers,
            };
            layers.iter().skip(stride - 1).step_by(stride).flat_map(interpolated_states)
        };
        // Scheduled sampling starts repetitions from the teacher's states.
        let starts = every(Granularity::Repetition);
        let free_running: BTreeSet<usize> = every(hidden.every).chain(starts).collect();
        let mut teacher_forced: BTreeSet<usize> =
            every(config.phases.force).chain([middle.start]).collect();
        teacher_forced.extend(&free_running);
        Self { teacher_forced, free_running }
    }
}

/// The indices of the states that a layer is interpolated from.
fn interpolated_states(layer: &TeacherLayer) -> impl Iterator<Item = usize> + use<> {
    layer.lower..=layer.lower + usize::from(layer.fraction > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Injection, Relaxation, RopeScaling, StateNorm, TransformerConfig};

    #[test]
    fn a_fixed_depth_requires_its_aligned_states_and_any_other_the_whole_middle() {
        let mut config = DistillConfig::default();
        // Three repetitions of one layer over the states 1 to 5 end at layers 2 1/3, 3 2/3 and 5.
        let student = student();
        let required = RequiredLayers::new(&student, &config);
        assert_eq!(required.free_running, BTreeSet::from([2, 3, 4, 5]));
        assert_eq!(required.teacher_forced, BTreeSet::from([1, 2, 3, 4, 5]));
        config.loss.hidden.alignment = Alignment::Uniform;
        assert_eq!(RequiredLayers::new(&student, &config).free_running, BTreeSet::from([2, 4, 5]));
        config.depth.sampling = RepetitionSampling::Uniform { least: 1, most: 2 };
        assert_eq!(RequiredLayers::new(&student, &config).free_running, (1..=5).collect());
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
