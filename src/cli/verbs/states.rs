//! `states`: writes logits and hidden states.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use serde_json::json;

use crate::autograd::Tape;
use crate::cli::args::model::StatesArgs;
use crate::cli::output;
use crate::cli::session::Session;
use crate::cli::verbs::depth::only_for_students;
use crate::disk::write_atomically;
use crate::error::{Error, Result, counted};
use crate::model::CausalLm;
use crate::run::Loaded;

pub(crate) fn states(args: &StatesArgs, session: &Session) -> Result<()> {
    let context = &session.context;
    let loaded = Loaded::read(&args.model, &session.context)?;
    let model = loaded.model.lm();
    only_for_students(&loaded, &[("--repetitions", args.repetitions.is_some())])?;
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
    let bytes = safetensors::serialize(&tensors, None).map_err(|error| {
        Error::internal(format!("writing safetensors: {error}")).caused_by(error)
    })?;
    write_atomically(&args.out, &bytes)?;
    if session.json {
        let shapes: BTreeMap<&str, &[usize]> =
            tensors.iter().map(|(name, tensor)| (name.as_str(), tensor.dims())).collect();
        return output::json(&json!({
            "file": args.out,
            "repetitions": repetitions,
            "tensors": shapes,
        }));
    }
    context.note(&format!("wrote {} to {}", counted(tensors.len(), "tensor"), args.out.display()));
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
