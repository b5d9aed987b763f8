//! The parameters of a model by name, and the weights that layers compute with.

use std::collections::BTreeMap;
use std::sync::Arc;

use candle_core::{DType, Tensor, Var};

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

    /// Whether the optimizer updates it.
    #[must_use]
    pub fn is_trainable(&self) -> bool {
        self.trainable
    }
}

/// A weight of a layer: the current values of a parameter and, when it is trainable, the name its
/// gradient is collected under. Clones share the values.
#[derive(Debug, Clone)]
pub struct Weight {
    tensor: Tensor,
    trained: Option<(Arc<str>, Var)>,
}

impl Weight {
    /// A weight that is not trained.
    #[must_use]
    pub fn frozen(tensor: Tensor) -> Self {
        Self { tensor, trained: None }
    }

    /// The values, without a graph.
    #[must_use]
    pub fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// The values as f32, flattened.
    pub(crate) fn to_vec(&self) -> Result<Vec<f32>> {
        Ok(self.tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
    }

    /// The name its gradient is collected under; none when it is frozen.
    #[must_use]
    pub fn trained_name(&self) -> Option<&Arc<str>> {
        self.trained.as_ref().map(|(name, _)| name)
    }

    /// The variable behind a trainable weight.
    #[must_use]
    pub fn var(&self) -> Option<&Var> {
        self.trained.as_ref().map(|(_, var)| var)
    }
}

/// A source of weights by name: trainable parameters, or tensors as they were loaded.
pub trait Weights {
    /// The weight called `name`.
    ///
    /// # Errors
    /// There is none.
    fn weight(&self, name: &str) -> Result<Weight>;

    /// Whether there is one called `name`.
    fn has(&self, name: &str) -> bool;
}

impl Weights for Params {
    fn weight(&self, name: &str) -> Result<Weight> {
        let param = self.entries.get(name).ok_or_else(|| missing(name))?;
        let trained = param.trainable.then(|| (Arc::from(name), param.var.clone()));
        Ok(Weight { tensor: param.var.as_detached_tensor(), trained })
    }

    fn has(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }
}

impl Weights for BTreeMap<String, Tensor> {
    fn weight(&self, name: &str) -> Result<Weight> {
        self.get(name).map(|tensor| Weight::frozen(tensor.clone())).ok_or_else(|| missing(name))
    }

    fn has(&self, name: &str) -> bool {
        self.contains_key(name)
    }
}

fn missing(name: &str) -> Error {
    Error::input(format!("tensor `{name}` is missing"))
        .hint("was the checkpoint written by another version, or for another configuration?")
}

/// The gradient of a loss for each trainable parameter it depends on, by name.
pub type Gradients = BTreeMap<Arc<str>, Tensor>;

/// All parameters of a model, ordered by name so that sums over gradients are reproducible.
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

    /// Adds `values` under `name` and returns the weight that a layer computes with.
    ///
    /// # Errors
    /// The name is taken.
    pub fn insert(&mut self, name: &str, values: &Tensor, trainable: bool) -> Result<Weight> {
        if self.entries.contains_key(name) {
            return Err(Error::internal(format!("parameter `{name}` is added twice")));
        }
        let var = Var::from_tensor(&values.contiguous()?)?;
        self.entries.insert(name.to_owned(), Param { var, trainable });
        self.weight(name)
    }

    /// The parameter called `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Param> {
        self.entries.get(name)
    }

    /// All parameters with their names, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Param)> {
        self.entries.iter().map(|(name, param)| (name.as_str(), param))
    }

    /// The trainable parameters with their names, in order.
    pub fn trainable(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.iter().filter(|(_, param)| param.trainable).map(|(name, param)| (name, &param.var))
    }

    /// Number of named parameters.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Number of elements of the parameters whose name satisfies `keep`.
    pub fn count(&self, keep: impl Fn(&str) -> bool) -> usize {
        self.iter().filter(|(name, _)| keep(name)).map(|(_, param)| param.var.elem_count()).sum()
    }

    /// The values by name, without a graph. They share memory with the parameters.
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
