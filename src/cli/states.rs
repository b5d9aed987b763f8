//! What goes on inside a model?

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use super::Session;
use super::args::StatesArgs;
use crate::autograd::Tape;
use crate::context::Observer;
use crate::disk::write_atomically;
use crate::error::{Error, Result};
use crate::model::CausalLm;
use crate::run::Loaded;

pub(super) fn states(args: &StatesArgs, session: &Session) -> Result<()> {
    let progress = &session.progress;
    let loaded = Loaded::read(&args.model, &session.context)?;
    let model = loaded.model.lm();
    check(args, model)?;
    let ids =
        Tensor::from_slice(&args.ids, (1, args.ids.len()), model.embedding_and_head().device())?;
    let repetitions = args.repetitions.unwrap_or(model.repetitions());
    let states = model.states(&Tape::off(), &ids, repetitions)?;
    let on_host =
        |tensor: &Tensor| tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.contiguous();
    let last = states.last().ok_or_else(|| Error::internal("a model without states"))?;
    let mut tensors = BTreeMap::from([(
        "logits".to_owned(),
        on_host(&model.embedding_and_head().logits(last.tensor())?)?,
    )]);
    for (index, state) in states.iter().enumerate() {
        tensors.insert(format!("hidden.{index}"), on_host(state.tensor())?);
    }
    let bytes = safetensors::serialize(&tensors, None)
        .map_err(|error| Error::internal(format!("writing safetensors: {error}")))?;
    write_atomically(&args.out, &bytes)?;
    progress.note(&format!("wrote {} tensors to {}", tensors.len(), args.out.display()));
    Ok(())
}

fn check(args: &StatesArgs, model: &dyn CausalLm) -> Result<()> {
    let vocabulary = model.base().vocabulary;
    if let Some(id) = args.ids.iter().find(|&&id| id as usize >= vocabulary) {
        return Err(Error::input(format!("token {id} is past the vocabulary of {vocabulary}")));
    }
    if args.repetitions == Some(0) {
        return Err(Error::input("0 repetitions leave the core out, expected 1 or more"));
    }
    Ok(())
}
