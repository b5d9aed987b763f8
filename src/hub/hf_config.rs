//! Writing of a `config.json` that stock loaders read.

use serde_json::{Map, Value, json};

use crate::error::{Error, Result};
use crate::model::{RopeScaling, TransformerConfig};

use super::adapter::{Family, Switch, WindowRule};
use super::config::{FULL, SLIDING};

impl Family {
    /// The `config.json` from which stock loaders build this decoder: the spelling of
    /// transformers 4, which 5 and other loaders read too.
    ///
    /// # Errors
    /// The family has no key for something this decoder has.
    pub fn hf_config(&self, config: &TransformerConfig) -> Result<Value> {
        let Value::Object(mut keys) = self.plain_keys(config) else {
            return Err(Error::internal("the keys of config.json are no object"));
        };
        let parts = [
            ("bias of Q, K and V", self.qkv_bias, config.qkv_bias),
            ("bias of the attention output", self.output_bias, config.output_bias),
            ("bias of the mlp", self.mlp_bias, config.mlp_bias),
        ];
        for (part, switch, wanted) in parts {
            write_switch(&mut keys, switch, wanted).ok_or_else(|| self.no_key_for(part))?;
        }
        if self.qk_norm != config.qk_norm {
            return Err(self.no_key_for("norm of Q and K"));
        }
        self.write_windows(config, &mut keys)?;
        Ok(Value::Object(keys))
    }

    fn plain_keys(&self, config: &TransformerConfig) -> Value {
        let eos = match config.eos_tokens.as_slice() {
            [] => Value::Null,
            [one] => json!(one),
            several => json!(several),
        };
        json!({
            "architectures": [self.architecture],
            "model_type": self.name,
            "num_hidden_layers": config.layers,
            "hidden_size": config.width,
            "num_attention_heads": config.heads,
            "num_key_value_heads": config.kv_heads,
            "head_dim": config.head_width,
            "intermediate_size": config.mlp_width,
            "vocab_size": config.vocabulary,
            "max_position_embeddings": config.max_positions,
            "rms_norm_eps": config.norm_eps,
            "hidden_act": "silu",
            "rope_theta": config.rope_theta,
            "rope_scaling": rope_scaling(&config.rope_scaling),
            "tie_word_embeddings": config.tied_head,
            "bos_token_id": config.bos_token,
            "eos_token_id": eos,
            "torch_dtype": "float32",
        })
    }

    fn write_windows(
        &self,
        config: &TransformerConfig,
        keys: &mut Map<String, Value>,
    ) -> Result<()> {
        let windows: Vec<_> = (0..config.layers).map(|layer| config.window(layer)).collect();
        let windowed = windows.iter().any(Option::is_some);
        match self.window {
            WindowRule::Never if windowed => return Err(self.no_key_for("sliding window")),
            WindowRule::Never => {}
            WindowRule::All { .. } if windowed && !windows.iter().all(Option::is_some) => {
                return Err(self.no_key_for("sliding window of some layers"));
            }
            WindowRule::All { .. } => {
                let window = config.sliding_window.filter(|_| windowed);
                keys.insert("sliding_window".to_owned(), json!(window));
            }
            WindowRule::Upper { .. } => {
                let kind = |window: &Option<usize>| if window.is_some() { SLIDING } else { FULL };
                let types: Vec<_> = windows.iter().map(kind).collect();
                let below = windows.iter().take_while(|window| window.is_none()).count();
                keys.insert("use_sliding_window".to_owned(), json!(windowed));
                keys.insert("sliding_window".to_owned(), json!(config.sliding_window));
                keys.insert("max_window_layers".to_owned(), json!(below));
                keys.insert("layer_types".to_owned(), json!(types));
            }
        }
        Ok(())
    }

    fn no_key_for(&self, part: &str) -> Error {
        Error::input(format!("a {} cannot express in its config.json: {part}", self.name))
            .hint("export it as another family")
    }
}

/// `Some` when the family can express it. Two parts may share a key; then they must agree.
fn write_switch(keys: &mut Map<String, Value>, switch: Switch, wanted: bool) -> Option<()> {
    match switch {
        Switch::Off => (!wanted).then_some(()),
        Switch::On => wanted.then_some(()),
        Switch::Key(key) => {
            let before = keys.insert(key.to_owned(), json!(wanted));
            before.is_none_or(|before| before == json!(wanted)).then_some(())
        }
    }
}

fn rope_scaling(scaling: &RopeScaling) -> Value {
    match scaling {
        RopeScaling::None => Value::Null,
        RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
        RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_positions } => {
            json!({
                "rope_type": "llama3",
                "factor": factor,
                "low_freq_factor": low_freq_factor,
                "high_freq_factor": high_freq_factor,
                "original_max_position_embeddings": original_positions,
            })
        }
    }
}
