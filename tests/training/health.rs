//! What happens when training goes wrong?

use std::collections::BTreeMap;

use candle_core::{Device, Tensor};
use factorexe::Result;
use factorexe::autograd::Params;
use factorexe::context::Context;
use factorexe::data::Batch;
use factorexe::train::{Loss, Objective, Resume, StepContext, TrainConfig, Trainer, read_steps};

use super::{Counting, Listener, Net, Trouble, config};

fn once(trouble: impl Fn(u64) -> bool + Sync + 'static) -> Net {
    Net::new().troubled(move |call| if trouble(call) { Trouble::NotFinite } else { Trouble::None })
}

#[test]
fn a_step_that_is_not_finite_is_skipped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let config = config();
    let mut trainer = Trainer::new(&config, 3, folder.path(), &Context::cpu());
    // The second micro-batch of step 3; from there on calls are one behind.
    let net = once(|call| call == 5);
    let summary = trainer.fit(&net, &Counting, Resume::Fresh, None).unwrap();
    assert_eq!((summary.steps, summary.skipped), (20, 1));
    let steps = read_steps(&folder.path().join("metrics.jsonl")).unwrap();
    assert_eq!((steps[2].loss, steps[2].grad_norm, steps[2].skipped), (None, None, 1));
    assert!(steps[3].loss.is_some());
    assert!(summary.loss.is_finite());
}

#[test]
fn steps_that_stay_not_finite_end_the_run_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let config = TrainConfig { max_bad_steps: 3, ..config() };
    let mut trainer = Trainer::new(&config, 3, folder.path(), &Context::cpu());
    let net = once(|call| call >= 12);
    let error = trainer.fit(&net, &Counting, Resume::Fresh, None).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("3 steps in a row, up to step 9"), "{text}");
    assert!(text.contains("step-00000005") && text.contains("train.optimizer.lr"), "{text}");
    assert_eq!(error.exit_code(), 1);
}

/// Trains `used` alone, or nothing at all.
struct Half {
    params: Params,
    used: Tensor,
    any: bool,
}

impl Half {
    fn new(any: bool) -> Self {
        let mut params = Params::new();
        let one = Tensor::new(&[1.0_f32], &Device::Cpu).unwrap();
        params.insert("used", &one, true).unwrap();
        let used = params.get("used").unwrap().var().as_tensor().clone();
        params.insert("unused", &one, true).unwrap();
        Self { params, used, any }
    }
}

impl Objective for Half {
    fn params(&self) -> &Params {
        &self.params
    }

    fn loss(&self, _batch: &Batch, _moment: &mut StepContext) -> Result<Loss> {
        let used = if self.any { self.used.clone() } else { self.used.detach() };
        super::backward(&self.params, &used.sqr()?.sum_all()?, BTreeMap::new())
    }
}

#[test]
fn a_parameter_without_gradient_is_left_alone_and_told_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let (config, listener) = (config(), Listener::default());
    let mut trainer = Trainer::new(&config, 3, folder.path(), &listener.context());
    let half = Half::new(true);
    trainer.fit(&half, &Counting, Resume::Fresh, None).unwrap();
    assert!(listener.received("1 of 2 trainable parameters get no gradient at step 1: `unused`"));
    let value = |name: &str| half.params.get(name).unwrap().var().to_vec1::<f32>().unwrap()[0];
    assert!(value("used") < 1.0);
    assert_eq!(value("unused").to_bits(), 1.0_f32.to_bits());
    let steps = read_steps(&folder.path().join("metrics.jsonl")).unwrap();
    assert!(steps.iter().all(|metrics| metrics.params_without_gradient == 1));
}

#[test]
fn a_graph_that_is_cut_everywhere_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let config = config();
    let mut trainer = Trainer::new(&config, 3, folder.path(), &Context::cpu());
    let fit = trainer.fit(&Half::new(false), &Counting, Resume::Fresh, None);
    let text = fit.unwrap_err().to_string();
    assert!(text.contains("none of the 2 trainable parameters"), "{text}");
}
