//! Which numbers does a model learn, by which names, in which order?

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor, Var};

use crate::error::{Error, Result};

/// A parameter: its values, and whether training may change them.
#[derive(Debug, Clone)]
pub struct Param {
    var: Var,
    trainable: bool,
}

impl Param {
    /// The variable.
    #[must_use]
    pub fn var(&self) -> &Var {
        &self.var
    }

    /// Whether the optimizer steps it.
    #[must_use]
    pub fn is_trainable(&self) -> bool {
        self.trainable
    }
}

/// All parameters of a model by name. Ordered, so that sums over gradients do not depend on a hash.
#[derive(Debug, Clone, Default)]
pub struct Params {
    entries: BTreeMap<String, Param>,
}

impl Params {
    /// No parameters yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `values` under `name` and gives the tensor a model computes with: it records a graph
    /// when trainable and none when frozen, and always shows the current values.
    ///
    /// # Errors
    /// The name is taken.
    pub fn insert(&mut self, name: &str, values: &Tensor, trainable: bool) -> Result<Tensor> {
        if self.entries.contains_key(name) {
            return Err(Error::internal(format!("parameter `{name}` is added twice")));
        }
        let var = Var::from_tensor(&values.contiguous()?)?;
        let tensor = if trainable { var.as_tensor().clone() } else { var.as_detached_tensor() };
        self.entries.insert(name.to_owned(), Param { var, trainable });
        Ok(tensor)
    }

    /// The parameter called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Param> {
        self.entries.get(name)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Param)> {
        self.entries.iter().map(|(name, param)| (name.as_str(), param))
    }

    /// Those that training may change, by name.
    pub fn trainable(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.iter().filter(|(_, param)| param.trainable).map(|(name, param)| (name, &param.var))
    }

    /// How many parameters are stored.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How many numbers the parameters whose name satisfies `keep` hold.
    pub fn count(&self, keep: impl Fn(&str) -> bool) -> usize {
        self.iter().filter(|(name, _)| keep(name)).map(|(_, param)| param.var.elem_count()).sum()
    }

    /// The values by name, in host order, without a graph. They share memory with the parameters.
    #[must_use]
    pub fn tensors(&self) -> BTreeMap<String, Tensor> {
        self.iter().map(|(name, param)| (name.to_owned(), param.var.as_detached_tensor())).collect()
    }

    /// Copies `values` into the parameter `name`.
    ///
    /// # Errors
    /// There is no such parameter, or the shape differs.
    pub fn set(&self, name: &str, values: &Tensor) -> Result<()> {
        let param = self
            .get(name)
            .ok_or_else(|| Error::input(format!("there is no parameter `{name}` in this model")))?;
        if param.var.dims() != values.dims() {
            return Err(Error::input(format!(
                "tensor `{name}` is {:?}, the model expects {:?}",
                values.dims(),
                param.var.dims()
            )));
        }
        let values = values.to_dtype(param.var.dtype())?.to_device(param.var.device())?;
        Ok(param.var.set(&values.contiguous()?)?)
    }
}

/// The element type and the place of a model's numbers.
#[derive(Debug, Clone)]
pub struct Placement {
    /// Element type of weights and activations.
    pub dtype: DType,
    /// Where they live.
    pub device: Device,
}
