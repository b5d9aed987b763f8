//! How does a published family name its tensors and its settings?

use crate::error::{Error, Result};

use super::families::FAMILIES;

/// One module by its three names. `{}` stands for the index of the layer; `.weight` or `.bias`
/// follows unchanged.
#[derive(Debug, Clone, Copy)]
pub struct Name {
    /// In this product.
    pub canonical: &'static str,
    /// In a Hugging Face checkpoint.
    pub hf: &'static str,
    /// In a GGUF file (llama.cpp).
    pub gguf: &'static str,
}

/// Whether a family has an optional part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Switch {
    /// Never.
    Off,
    /// Always; no key says so.
    On,
    /// When this key of `config.json` is true.
    Key(&'static str),
}

/// Which layers attend through a sliding window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowRule {
    /// None.
    Never,
    /// All, when `sliding_window` is a number; where the key is absent this many tokens.
    All {
        /// What the family's own code assumes for an absent key.
        absent: usize,
    },
    /// Those from `max_window_layers` on, when `use_sliding_window` is true.
    Upper {
        /// What the family's own code assumes for an absent `sliding_window`.
        absent: usize,
        /// What it assumes for an absent `max_window_layers`.
        from_layer: usize,
    },
}

/// What a family's own code assumes for keys that a `config.json` leaves out.
#[derive(Debug, Clone, Copy)]
pub struct Defaults {
    /// `num_key_value_heads`; none: as many as query heads.
    pub kv_heads: Option<usize>,
    /// `head_dim`; none: width / heads.
    pub head_width: Option<usize>,
    /// `max_position_embeddings`.
    pub max_positions: usize,
}

/// How llama.cpp stores a family.
#[derive(Debug, Clone, Copy)]
pub struct GgufTable {
    /// `general.architecture`, which is also the prefix of the metadata keys.
    pub architecture: &'static str,
    /// Whether the rows of Q and K are reordered from halves to neighbouring pairs.
    pub permuted_qk: bool,
}

/// A published family as a table: read forward to load a checkpoint, backward to export one.
#[derive(Debug)]
pub struct Family {
    /// Its name here, and its `model_type`.
    pub name: &'static str,
    /// The class that stock loaders use for it.
    pub architecture: &'static str,
    /// Bias of query, key and value.
    pub qkv_bias: Switch,
    /// Bias of the attention output.
    pub output_bias: Switch,
    /// Bias of the three mlp matrices.
    pub mlp_bias: Switch,
    /// Query and key are normed per head.
    pub qk_norm: bool,
    /// Its sliding windows.
    pub window: WindowRule,
    /// Absent keys.
    pub defaults: Defaults,
    /// Its place in llama.cpp.
    pub gguf: GgufTable,
    /// Its tensors.
    pub names: &'static [Name],
}

impl Family {
    /// The family called `name`.
    ///
    /// # Errors
    /// There is none.
    pub fn named(name: &str) -> Result<&'static Self> {
        FAMILIES.iter().find(|family| family.name == name).ok_or_else(|| refuse("family", name))
    }

    /// The family whose checkpoints have this `model_type`, or failing that this class.
    ///
    /// # Errors
    /// There is none, or the checkpoint is not a causal language model.
    pub fn of_config(model_type: Option<&str>, class: Option<&str>) -> Result<&'static Self> {
        let by_class = || FAMILIES.iter().find(|family| Some(family.architecture) == class);
        let Some(model_type) = model_type else {
            return match (by_class(), class) {
                (Some(family), _) => Ok(family),
                (None, Some(class)) => Err(refuse("architecture", class)),
                (None, None) => Err(Error::input("neither `model_type` nor `architectures` says which family this is")
                    .hint("is this the config.json of a language model? Add \"model_type\", for example \"llama\"")),
            };
        };
        let by_type = FAMILIES.iter().find(|family| family.name == model_type);
        let family = by_type.ok_or_else(|| refuse("model_type", model_type))?;
        match class {
            Some(class) if class != family.architecture => {
                Err(Error::input(format!("this is a {class}, expected a {}", family.architecture))
                    .hint("only causal language models have logits to distil"))
            }
            _ => Ok(family),
        }
    }

    /// The family llama.cpp calls `architecture`.
    ///
    /// # Errors
    /// There is none.
    pub fn of_gguf(architecture: &str) -> Result<&'static Self> {
        let found = FAMILIES.iter().find(|family| family.gguf.architecture == architecture);
        found.ok_or_else(|| refuse("general.architecture", architecture))
    }

    /// The Hugging Face name of a canonical tensor.
    #[must_use]
    pub fn hf_name(&self, canonical: &str) -> Option<String> {
        self.rename(canonical, |name| name.hf)
    }

    /// The GGUF name of a canonical tensor.
    #[must_use]
    pub fn gguf_name(&self, canonical: &str) -> Option<String> {
        self.rename(canonical, |name| name.gguf)
    }

    fn rename(&self, canonical: &str, column: fn(&Name) -> &'static str) -> Option<String> {
        let (module, suffix) = canonical.rsplit_once('.')?;
        let (layer, module) = match module.strip_prefix("layers.") {
            Some(rest) => {
                let (layer, module) = rest.split_once('.')?;
                (layer.parse::<usize>().ok()?.to_string(), format!("layers.{{}}.{module}"))
            }
            None => (String::new(), module.to_owned()),
        };
        let name = self.names.iter().find(|name| name.canonical == module)?;
        Some(format!("{}.{suffix}", column(name).replace("{}", &layer)))
    }
}

/// The families that fit, for messages.
#[must_use]
pub fn family_names() -> String {
    FAMILIES.iter().map(|family| family.name).collect::<Vec<_>>().join(", ")
}

fn refuse(what: &str, found: &str) -> Error {
    Error::input(format!("{what} `{found}` does not fit yet"))
        .hint(format!("families that fit: {}", family_names()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canonical_name_has_one_name_in_each_world() {
        let family = Family::named("qwen3").unwrap();
        let hf = |name| family.hf_name(name).unwrap();
        assert_eq!(hf("layers.3.attention.q.weight"), "model.layers.3.self_attn.q_proj.weight");
        assert_eq!(
            hf("layers.0.attention.k_norm.weight"),
            "model.layers.0.self_attn.k_norm.weight"
        );
        assert_eq!(hf("head.weight"), "lm_head.weight");
        let gguf = |name| family.gguf_name(name).unwrap();
        assert_eq!(gguf("layers.12.mlp.down.weight"), "blk.12.ffn_down.weight");
        assert_eq!(gguf("embed.weight"), "token_embd.weight");
        assert_eq!(family.hf_name("layers.0.nonsense.weight"), None);
        assert_eq!(family.hf_name("layers.x.attention.q.weight"), None);
    }

    #[test]
    fn every_tensor_of_every_family_has_its_names() {
        for family in FAMILIES {
            let keys = serde_json::json!({
                "model_type": family.name, "num_hidden_layers": 1, "hidden_size": 8,
                "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 12,
                "vocab_size": 16, "attention_bias": true, "mlp_bias": true,
            });
            let (_, config) = crate::hub::config::read_config(&keys).unwrap();
            for (name, _) in config.tensors() {
                assert!(family.hf_name(&name).is_some(), "{} {name}", family.name);
                assert!(family.gguf_name(&name).is_some(), "{} {name}", family.name);
            }
        }
    }
}
