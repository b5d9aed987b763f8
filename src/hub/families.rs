//! The supported model families, one table each.

use super::adapter::{Defaults, Family, GgufTable, Name, Switch, WindowRule};
use crate::error::{Error, Result};

/// Every family that fits. A new one is a new entry.
pub const FAMILIES: &[Family] = &[
    Family {
        name: "llama",
        architecture: "LlamaForCausalLM",
        qkv_bias: Switch::Key("attention_bias"),
        output_bias: Switch::Key("attention_bias"),
        mlp_bias: Switch::Key("mlp_bias"),
        qk_norm: false,
        window: WindowRule::Never,
        defaults: Defaults { kv_heads: None, head_width: None, max_positions: 2048 },
        gguf: GgufTable { architecture: "llama", permuted_qk: true },
        names: LLAMA_NAMES,
    },
    Family {
        name: "mistral",
        architecture: "MistralForCausalLM",
        qkv_bias: Switch::Off,
        output_bias: Switch::Off,
        mlp_bias: Switch::Off,
        qk_norm: false,
        window: WindowRule::All { absent: 4096 },
        defaults: Defaults { kv_heads: Some(8), head_width: None, max_positions: 131_072 },
        // llama.cpp converts Mistral as a Llama, so a file is read by the entry above.
        gguf: GgufTable { architecture: "llama", permuted_qk: true },
        names: LLAMA_NAMES,
    },
    Family {
        name: "qwen2",
        architecture: "Qwen2ForCausalLM",
        qkv_bias: Switch::On,
        output_bias: Switch::Off,
        mlp_bias: Switch::Off,
        qk_norm: false,
        window: WindowRule::Upper { absent: 4096, from_layer: 28 },
        defaults: Defaults { kv_heads: Some(32), head_width: None, max_positions: 32_768 },
        gguf: GgufTable { architecture: "qwen2", permuted_qk: false },
        names: LLAMA_NAMES,
    },
    Family {
        name: "qwen3",
        architecture: "Qwen3ForCausalLM",
        qkv_bias: Switch::Key("attention_bias"),
        output_bias: Switch::Key("attention_bias"),
        mlp_bias: Switch::Off,
        qk_norm: true,
        window: WindowRule::Upper { absent: 4096, from_layer: 28 },
        defaults: Defaults { kv_heads: Some(32), head_width: Some(128), max_positions: 32_768 },
        gguf: GgufTable { architecture: "qwen3", permuted_qk: false },
        names: LLAMA_NAMES,
    },
];

/// The names Llama gave and the others kept. A family without some of these tensors never looks them up.
const LLAMA_NAMES: &[Name] = &[
    name("embed", "model.embed_tokens", "token_embd"),
    name("norm", "model.norm", "output_norm"),
    name("head", "lm_head", "output"),
    name("layers.{}.attention_norm", "model.layers.{}.input_layernorm", "blk.{}.attn_norm"),
    name("layers.{}.attention.q", "model.layers.{}.self_attn.q_proj", "blk.{}.attn_q"),
    name("layers.{}.attention.k", "model.layers.{}.self_attn.k_proj", "blk.{}.attn_k"),
    name("layers.{}.attention.v", "model.layers.{}.self_attn.v_proj", "blk.{}.attn_v"),
    name("layers.{}.attention.o", "model.layers.{}.self_attn.o_proj", "blk.{}.attn_output"),
    name("layers.{}.attention.q_norm", "model.layers.{}.self_attn.q_norm", "blk.{}.attn_q_norm"),
    name("layers.{}.attention.k_norm", "model.layers.{}.self_attn.k_norm", "blk.{}.attn_k_norm"),
    name("layers.{}.mlp_norm", "model.layers.{}.post_attention_layernorm", "blk.{}.ffn_norm"),
    name("layers.{}.mlp.gate", "model.layers.{}.mlp.gate_proj", "blk.{}.ffn_gate"),
    name("layers.{}.mlp.up", "model.layers.{}.mlp.up_proj", "blk.{}.ffn_up"),
    name("layers.{}.mlp.down", "model.layers.{}.mlp.down_proj", "blk.{}.ffn_down"),
];

const fn name(canonical: &'static str, hf: &'static str, gguf: &'static str) -> Name {
    Name { canonical, hf, gguf }
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
                (None, None) => Err(Error::input("neither `model_type` nor `architectures` names the family")
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
}
