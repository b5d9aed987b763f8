//! Reading of `config.json` into a decoder configuration.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::model::{RopeScaling, TransformerConfig};

use super::adapter::{Family, WindowRule};
use super::settings::{Settings, brief};

pub(super) const SLIDING: &str = "sliding_attention";
pub(super) const FULL: &str = "full_attention";

/// Reads the `config.json` of a published checkpoint.
///
/// # Errors
/// The family does not fit, a feature it needs does not, or a value is out of range.
pub fn read_config(value: &Value) -> Result<(&'static Family, TransformerConfig)> {
    let settings = Settings::new(value)?;
    let class = match settings.get("architectures") {
        Some(Value::Array(classes)) => classes.first().and_then(Value::as_str),
        _ => None,
    };
    let family = Family::of_config(settings.text("model_type")?, class)?;
    refuse_features(&settings)?;
    let heads = settings.required_count("num_attention_heads")?;
    let width = settings.required_count("hidden_size")?;
    let layers = settings.required_count("num_hidden_layers")?;
    let max_positions =
        settings.count("max_position_embeddings")?.unwrap_or(family.defaults.max_positions);
    let (rope_theta, rope_scaling) = rope(&settings, max_positions)?;
    let mut config = TransformerConfig {
        family: family.name.to_owned(),
        layers,
        width,
        heads,
        kv_heads: kv_heads(&settings, family, heads)?,
        head_width: settings
            .count("head_dim")?
            .or(family.defaults.head_width)
            .unwrap_or(width.checked_div(heads).unwrap_or(0)),
        mlp_width: settings.required_count("intermediate_size")?,
        vocabulary: settings.required_count("vocab_size")?,
        max_positions,
        norm_eps: settings.number("rms_norm_eps")?.unwrap_or(1e-6),
        rope_theta,
        rope_scaling,
        tied_head: settings.flag("tie_word_embeddings")?,
        qkv_bias: settings.switch(family.qkv_bias)?,
        output_bias: settings.switch(family.output_bias)?,
        mlp_bias: settings.switch(family.mlp_bias)?,
        qk_norm: family.qk_norm,
        sliding_window: None,
        windowed_layers: None,
        bos_token: settings.tokens("bos_token_id")?.first().copied(),
        eos_tokens: settings.tokens("eos_token_id")?,
    };
    // Before the list of windows is allocated: a config may name a million layers.
    config.validate()?;
    (config.sliding_window, config.windowed_layers) = windows(&settings, family, layers)?;
    config.validate()?;
    Ok((family, config))
}

/// An absent key means the family's default, a `null` as many as query heads.
fn kv_heads(settings: &Settings, family: &Family, heads: usize) -> Result<usize> {
    let absent = family.defaults.kv_heads.filter(|_| !settings.mentions("num_key_value_heads"));
    Ok(settings.count("num_key_value_heads")?.or(absent).unwrap_or(heads))
}

/// What would silently change the numbers is refused by name.
fn refuse_features(settings: &Settings) -> Result<()> {
    let refuse = |what: String, hint: &str| Err(Error::input(what).hint(hint));
    if let Some(method) = settings.object("quantization_config")? {
        let method = method.text("quant_method")?.unwrap_or("unknown");
        return refuse(
            format!(
                "`quantization_config` names {method}-quantised weights, which are not supported"
            ),
            "take the repository this one was quantised from, or a GGUF file of it",
        );
    }
    let activation = settings.text("hidden_act")?.unwrap_or("silu");
    if !matches!(activation, "silu" | "swish") {
        return refuse(
            format!("`hidden_act` is `{activation}`, expected `silu`"),
            "only gated SiLU mlps fit yet",
        );
    }
    if settings.count("pretraining_tp")?.is_some_and(|ranks| ranks > 1) {
        return refuse(
            "`pretraining_tp` above 1 changes the order of sums, and does not fit".to_owned(),
            "set it to 1 in config.json: the weights are the same",
        );
    }
    if settings.number("partial_rotary_factor")?.is_some_and(|part| part < 1.0) {
        return refuse(
            "`partial_rotary_factor` rotates part of a head, which does not fit yet".to_owned(),
            "take a model that rotates complete heads",
        );
    }
    Ok(())
}

/// Base and stretching of the rotary frequencies, in the spelling of transformers 4
/// (`rope_theta` beside `rope_scaling`) or 5 (both in `rope_parameters`).
fn rope(settings: &Settings, max_positions: usize) -> Result<(f64, RopeScaling)> {
    let outer_theta = settings.number("rope_theta")?.unwrap_or(10_000.0);
    let scaling = match settings.object("rope_scaling")? {
        Some(scaling) => Some(scaling),
        None => settings.object("rope_parameters")?,
    };
    let Some(scaling) = scaling else { return Ok((outer_theta, RopeScaling::None)) };
    let theta = scaling.number("rope_theta")?.unwrap_or(outer_theta);
    refuse_features(&scaling)?;
    let kind = match scaling.text("rope_type")? {
        Some(kind) => kind,
        None => scaling.text("type")?.unwrap_or("default"),
    };
    let number = |key: &str| {
        let missing = || Error::input(format!("rope scaling `{kind}` lacks its `{key}`"));
        scaling.number(key)?.ok_or_else(missing)
    };
    let stretched = match kind {
        "default" if scaling.get(FULL).is_some() || scaling.get(SLIDING).is_some() => {
            return Err(Error::input("rope parameters by layer type do not fit yet")
                .hint("rope scalings that fit: none, linear, llama3"));
        }
        "default" => RopeScaling::None,
        "linear" => RopeScaling::Linear { factor: number("factor")? },
        "llama3" => RopeScaling::Llama3 {
            factor: number("factor")?,
            low_freq_factor: number("low_freq_factor")?,
            high_freq_factor: number("high_freq_factor")?,
            original_positions: match settings.count("original_max_position_embeddings")? {
                Some(positions) => positions,
                None => scaling.count("original_max_position_embeddings")?.unwrap_or(max_positions),
            },
        },
        other => {
            return Err(Error::input(format!("rope scaling `{other}` does not fit yet"))
                .hint("rope scalings that fit: none, linear, llama3"));
        }
    };
    Ok((theta, stretched))
}

/// The window and, when it does not hold for all layers, the layers it holds for.
fn windows(
    settings: &Settings,
    family: &Family,
    layers: usize,
) -> Result<(Option<usize>, Option<Vec<bool>>)> {
    let window = |absent: usize| -> Result<Option<usize>> {
        let absent = (!settings.mentions("sliding_window")).then_some(absent);
        Ok(settings.count("sliding_window")?.or(absent))
    };
    match family.window {
        WindowRule::Never => Ok((None, None)),
        WindowRule::All { absent } => Ok((window(absent)?, None)),
        WindowRule::Upper { .. } if !settings.flag("use_sliding_window")? => Ok((None, None)),
        WindowRule::Upper { absent, from_layer } => {
            let Some(window) = window(absent)? else { return Ok((None, None)) };
            let from = settings.count("max_window_layers")?.unwrap_or(from_layer);
            let windowed = match settings.get("layer_types") {
                Some(types) => layer_types(types)?,
                None => (0..layers).map(|layer| layer >= from).collect(),
            };
            Ok(match windowed.iter().filter(|&&windowed| windowed).count() {
                0 => (None, None),
                count if count == windowed.len() && count == layers => (Some(window), None),
                _ => (Some(window), Some(windowed)),
            })
        }
    }
}

fn layer_types(types: &Value) -> Result<Vec<bool>> {
    let list = types.as_array().map(Vec::as_slice).unwrap_or_default();
    let windowed = list.iter().map(|kind| match kind.as_str() {
        Some(SLIDING) => Ok(true),
        Some(FULL) => Ok(false),
        _ => Err(Error::input(format!("layer type {} does not fit yet", brief(kind)))
            .hint(format!("layer types that fit: {FULL}, {SLIDING}"))),
    });
    windowed.collect()
}

#[cfg(test)]
mod tests {
    use super::super::families::FAMILIES;
    use super::*;
    use serde_json::json;

    fn qwen(extra: &Value) -> Value {
        let mut value = json!({
            "model_type": "qwen2", "num_hidden_layers": 4, "hidden_size": 8, "vocab_size": 16,
            "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 12,
        });
        for (key, extra) in extra.as_object().unwrap() {
            value[key] = extra.clone();
        }
        value
    }

    #[test]
    fn the_two_spellings_of_rope_are_one() {
        let four = json!({"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 2}});
        let five = json!({"rope_parameters":
            {"rope_theta": 5e5, "rope_type": "linear", "factor": 2.0}});
        let (_, four) = read_config(&qwen(&four)).unwrap();
        let (_, five) = read_config(&qwen(&five)).unwrap();
        assert_eq!(four, five);
        assert_eq!(four.rope_scaling, RopeScaling::Linear { factor: 2.0 });
        assert_eq!(four.rope_theta.to_bits(), 5e5_f64.to_bits());
    }

    #[test]
    fn windows_of_some_layers_survive_the_way_out_and_in() {
        let keys = json!({"use_sliding_window": true, "sliding_window": 3, "max_window_layers": 3});
        let (family, config) = read_config(&qwen(&keys)).unwrap();
        assert_eq!(config.window(2), None);
        assert_eq!(config.window(3), Some(3));
        let written = family.hf_config(&config).unwrap();
        assert_eq!(read_config(&written).unwrap().1, config);
        let unused = json!({"use_sliding_window": false, "sliding_window": 3});
        assert_eq!(read_config(&qwen(&unused)).unwrap().1.sliding_window, None);
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused_by_key() {
        let error = read_config(&qwen(&json!({"hidden_size": "wide"}))).unwrap_err();
        assert_eq!(error.message(), "`hidden_size` is \"wide\", expected a whole number");
    }

    #[test]
    fn every_tensor_of_every_family_has_its_names() {
        for family in FAMILIES {
            let keys = serde_json::json!({
                "model_type": family.name, "num_hidden_layers": 1, "hidden_size": 8,
                "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 12,
                "vocab_size": 16, "attention_bias": true, "mlp_bias": true,
            });
            let (_, config) = read_config(&keys).unwrap();
            for (name, _) in config.tensors() {
                assert!(family.hf_name(&name).is_some(), "{} {name}", family.name);
                assert!(family.gguf_name(&name).is_some(), "{} {name}", family.name);
            }
        }
    }
}
