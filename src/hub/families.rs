//! Which published families fit?

use super::adapter::{Defaults, Family, GgufTable, Name, Switch, WindowRule};

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

/// The names Llama gave and the others kept. A family without some of these tensors never asks.
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
