//! The tables of a model family: its tensor names, configuration keys and defaults.

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
    /// Always; no key controls it.
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
