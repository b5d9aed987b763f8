//! The losses composed of candle's operations: the path of devices without a kernel, and the
//! reference of the kernels. Gradients are explicit, so nothing but the inputs is stored.

use candle_core::{D, DType, Tensor};

use super::terms::{
    HeadTerms, HeadWeights, StateComparison, StateScale, StateTerms, TeacherHead, TeacherOutput,
    TopTokens,
};
use crate::autograd::{Tape, Value, Weight};
use crate::error::Result;

/// Tokens whose logits are in memory at once.
const CHUNK: usize = 1024;

/// x - log sum e^x over the last axis, (tokens, V).
fn log_softmax(logits: &Tensor) -> Result<Tensor> {
    let shifted = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?)?;
    let log_sum = shifted.exp()?.sum_keepdim(D::Minus1)?.log()?;
    Ok(shifted.broadcast_sub(&log_sum)?)
}

fn logits(hidden: &Tensor, head: &Tensor) -> Result<Tensor> {
    Ok(hidden.matmul(&head.t()?)?.to_dtype(DType::F32)?)
}

/// As [`super::output::compare_weighted`].
pub(crate) fn compare(
    tape: &Tape,
    hidden: &Value,
    head: &Weight,
    teacher: Option<&TeacherOutput>,
    (targets, token_weights): (&[u32], Option<&[f32]>),
    weights: HeadWeights,
) -> Result<HeadTerms> {
    let (width, weight) = (head.tensor().dim(1)?, head.tensor());
    let flat = hidden.tensor().reshape(((), width))?.contiguous()?;
    let scale = 1.0 / targets.len() as f64;
    let temperature = f64::from(weights.temperature);
    let ce = f64::from(weights.cross_entropy) * scale;
    let kl = f64::from(weights.kl) * scale * temperature;
    let mut terms = HeadTerms::default();
    let (mut d_hidden, mut d_head) = (Vec::new(), None);
    for start in (0..targets.len()).step_by(CHUNK) {
        let rows = start..(start + CHUNK).min(targets.len());
        let x = flat.narrow(0, rows.start, rows.len())?;
        let next = Tensor::from_slice(&targets[rows.clone()], (rows.len(), 1), flat.device())?;
        let student = logits(&x, weight)?;
        let log_p = log_softmax(&student)?;
        let cross_entropy = log_p.gather(&next, 1)?.neg()?;
        terms.cross_entropy.extend(cross_entropy.flatten_all()?.to_vec1::<f32>()?);
        let target_term = (cross_entropy.ones_like()? * -ce)?;
        let mut d_logits = (log_p.exp()? * ce)?.scatter_add(&next, &target_term, 1)?;
        if let Some(teacher) = teacher {
            let divergence = match teacher {
                TeacherOutput::Head(TeacherHead { hidden, weight }) => {
                    let flat = hidden.reshape(((), weight.dim(1)?))?;
                    let x = flat.narrow(0, rows.start, rows.len())?.contiguous()?;
                    logits_divergence(&student, &logits(&x, weight)?, temperature)?
                }
                TeacherOutput::Logits(all) => {
                    let all = all.reshape(((), all.dim(2)?))?;
                    logits_divergence(
                        &student,
                        &all.narrow(0, rows.start, rows.len())?,
                        temperature,
                    )?
                }
                TeacherOutput::Top(top) => top_k_divergence(&student, top, &rows, temperature)?,
            };
            terms.kl.extend(divergence.kl.to_vec1::<f32>()?);
            terms.agree.extend(divergence.agree.to_vec1::<u8>()?.into_iter().map(|same| same == 1));
            d_logits = (d_logits + (divergence.gradient * kl)?)?;
        }
        if let Some(weights) = token_weights {
            let shape = (rows.len(), 1);
            let weights = Tensor::from_slice(&weights[rows.clone()], shape, flat.device())?;
            d_logits = d_logits.broadcast_mul(&weights)?;
        }
        let d_logits = d_logits.to_dtype(x.dtype())?;
        d_hidden.push(d_logits.matmul(weight)?);
        if tape.requires_grad(&[], &[head]) {
            let part = d_logits.t()?.matmul(&x)?;
            d_head = Some(d_head.map_or(Ok(part.clone()), |sum: Tensor| sum + &part)?);
        }
    }
    tape.push_loss(hidden, Tensor::cat(&d_hidden, 0)?.reshape(hidden.tensor().shape())?);
    if let Some(gradient) = d_head {
        tape.push_weight_loss(head, gradient);
    }
    Ok(terms)
}

/// Divergence of a student's logits from a teacher's.
struct Divergence {
    /// KL of each row, (tokens).
    kl: Tensor,
    /// Whether both have the same most likely token, (tokens) u8.
    agree: Tensor,
    /// Gradient of the KL with respect to the student's logits divided by the temperature, (tokens, V).
    gradient: Tensor,
}

fn logits_divergence(student: &Tensor, teacher: &Tensor, temperature: f64) -> Result<Divergence> {
    let cold = log_softmax(&(student / temperature)?)?;
    let target = log_softmax(&(teacher / temperature)?)?;
    let p = target.exp()?;
    Ok(Divergence {
        kl: (&p * (&target - &cold)?)?.sum(1)?,
        agree: student.argmax(1)?.eq(&teacher.argmax(1)?)?,
        gradient: (cold.exp()? - p)?,
    })
}

fn top_k_divergence(
    student: &Tensor,
    top: &TopTokens,
    rows: &std::ops::Range<usize>,
    temperature: f64,
) -> Result<Divergence> {
    let (k, device) = (top.k(), student.device());
    let shape = (rows.len(), k);
    let span = rows.start * k..rows.end * k;
    let ids = Tensor::from_slice(&top.ids[span.clone()], shape, device)?;
    let log_p = Tensor::from_slice(&top.log_p[span], shape, device)?;
    let p = log_p.exp()?;
    let cold = log_softmax(&(student / temperature)?)?;
    let q = cold.exp()?;
    let agree = student.argmax(1)?.eq(&ids.narrow(1, 0, 1)?.squeeze(1)?)?;
    let mut kl = (&p * (log_p - cold.gather(&ids, 1)?)?)?.sum(1)?;
    let mut share = Tensor::zeros((rows.len(), 1), DType::F32, device)?;
    if k < student.dim(1)? {
        let log_tail = &top.log_tail[rows.clone()];
        let tail: Vec<f32> = log_tail.iter().map(|log| log.exp()).collect();
        let finite: Vec<f32> = log_tail.iter().map(|log| log.max(-87.0)).collect();
        let tail = Tensor::from_vec(tail, (rows.len(), 1), device)?;
        let log_tail = Tensor::from_vec(finite, (rows.len(), 1), device)?;
        let others = q.scatter(&ids, &p.zeros_like()?, 1)?.sum_keepdim(1)?;
        let others = others.clamp(1e-37, f32::MAX)?;
        kl = (kl + (&tail * (log_tail - others.log()?)?)?.squeeze(1)?)?;
        share = (tail / others)?;
    }
    let gradient = (&q - q.broadcast_mul(&share)?)?.scatter(&ids, &(q.gather(&ids, 1)? - p)?, 1)?;
    Ok(Divergence { kl, agree, gradient })
}

/// As [`super::hidden::compare_states`].
pub(crate) fn compare_states(
    tape: &Tape,
    state: &Value,
    target: &Tensor,
    comparison: &StateComparison,
    weight: f32,
) -> Result<StateTerms> {
    let (batch, tokens, width) = state.tensor().dims3()?;
    let skip = comparison.skip_tokens.min(tokens.saturating_sub(1));
    let compared = |x: &Tensor| x.narrow(1, skip, tokens - skip)?.to_dtype(DType::F32);
    let (h, t) = (compared(state.tensor())?, compared(target)?);
    let scales = match comparison.scale {
        StateScale::Raw => Tensor::ones((1, 1, width), DType::F32, t.device())?,
        StateScale::Dimension => {
            let squares = t.sqr()?.mean_keepdim(0)?.mean_keepdim(1)?;
            let floor = (squares.mean_all()? * 1e-4)?.clamp(1e-20, f32::MAX)?;
            squares.broadcast_maximum(&floor.reshape((1, 1, 1))?)?.recip()?
        }
    };
    let sum = |x: &Tensor| Ok::<_, crate::Error>(x.broadcast_mul(&scales)?.sum_keepdim(2)?);
    let (hh, tt) =
        (sum(&h.sqr()?)?.clamp(1e-20, f32::MAX)?, sum(&t.sqr()?)?.clamp(1e-20, f32::MAX)?);
    let gap = (&h - &t)?;
    let squared = (sum(&gap.sqr()?)? / &tt)?;
    let norms = (&hh * &tt)?.sqrt()?;
    let cosine = (sum(&(&h * &t)?)? / &norms)?;
    let mean = |x: &Tensor| Ok::<_, crate::Error>(f64::from(x.mean_all()?.to_scalar::<f32>()?));
    let terms = StateTerms { squared: mean(&squared)?, cosine: mean(&cosine)? };
    let share = f64::from(weight) / (batch * (tokens - skip)).max(1) as f64;
    let d_squared = (gap.broadcast_div(&tt)? * (2.0 * share * f64::from(comparison.squared)))?;
    let d_cosine = (t.broadcast_div(&norms)? - h.broadcast_mul(&(cosine / hh)?)?)?;
    let gradient = (d_squared - (d_cosine * (share * f64::from(comparison.cosine)))?)?;
    let gradient = gradient.broadcast_mul(&scales)?.pad_with_zeros(1, skip, 0)?;
    tape.push_loss(state, gradient.to_dtype(state.tensor().dtype())?);
    Ok(terms)
}
