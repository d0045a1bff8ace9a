//! What PyTorch wrote (safetensors: a length in 8 bytes, a JSON header, numbers) as sections of a model file.

use std::collections::BTreeMap;

use serde::Deserialize;
use zerocopy::byteorder::little_endian::{F32, U32};

use super::WHOLE;
use super::kernel::pack;
use super::layers::PLACES;
use crate::index::format::Writer;
use crate::kb::id::AttackId;

/// Why weights can't be taken.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Error(String);

#[derive(Deserialize)]
struct Tensor {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

/// The tensors of a file.
struct Tensors<'b> {
    tensors: BTreeMap<String, Tensor>,
    numbers: &'b [u8],
}

impl Tensors<'_> {
    fn floats(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        let tensor = self.tensors.get(name).ok_or_else(|| Error(format!("there is no {name}")))?;
        let [start, end] = tensor.data_offsets;
        let bytes = self.numbers.get(start..end).ok_or_else(|| Error(format!("{name} lies outside the file")))?;
        if tensor.dtype != "F32" || tensor.shape != shape || bytes.len() != 4 * shape.iter().product::<usize>() {
            return Err(Error(format!("{name} is {} {:?} and not F32 {shape:?}", tensor.dtype, tensor.shape)));
        }
        Ok(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
    }

    fn size(&self, name: &str, dimension: usize) -> Result<usize, Error> {
        let size = self.tensors.get(name).and_then(|t| t.shape.get(dimension).copied());
        size.ok_or_else(|| Error(format!("there is no {name}")))
    }
}

/// Rows in 8 bits, each with a scale: its largest number is 127.
fn eight_bits(rows: &[f32], columns: usize) -> (Vec<i8>, Vec<f32>) {
    let mut out = Vec::with_capacity(rows.len());
    let mut scales = Vec::with_capacity(rows.len() / columns.max(1));
    for row in rows.chunks_exact(columns) {
        let scale = (row.iter().fold(0.0_f32, |m, x| m.max(x.abs())) / 127.0).max(1e-12);
        out.extend(row.iter().map(|x| (x / scale).round().clamp(-127.0, 127.0) as i8));
        scales.push(scale);
    }
    (out, scales)
}

/// Puts the encoder of a safetensors file into a model file: vocabulary, techniques and weights, the latter in 8 bits.
///
/// # Errors
/// What is missing or of another shape.
pub(crate) fn put(bytes: &[u8], writer: &mut Writer) -> Result<(), Error> {
    let bad = |e: serde_json::Error| Error(format!("not what tools/encoder writes: {e}"));
    let length = bytes.first_chunk::<8>().map(|b| u64::from_le_bytes(*b) as usize);
    let header = length.and_then(|l| bytes.get(8..8_usize.checked_add(l)?)).ok_or_else(|| Error("not a safetensors file".into()))?;
    let mut header: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header).map_err(bad)?;
    let meta: BTreeMap<String, String> = serde_json::from_value(header.remove("__metadata__").unwrap_or_default()).map_err(bad)?;
    let list = |name: &str| serde_json::from_str::<Vec<String>>(meta.get(name).map_or("[]", String::as_str)).map_err(bad);
    let tensors = header.into_iter().map(|(k, v)| Ok((k, serde_json::from_value(v).map_err(bad)?))).collect::<Result<_, Error>>()?;
    let tensors = Tensors { tensors, numbers: &bytes[8 + length.unwrap_or(0)..] };
    let (pieces, classes) = (list("pieces")?, list("classes")?);
    let alone: usize = serde_json::from_str(meta.get("alone").map_or("", String::as_str)).map_err(bad)?;
    let labels: Vec<AttackId> =
        classes.iter().map(|c| c.parse().map_err(|e| Error(format!("{c} is no technique: {e}")))).collect::<Result<_, _>>()?;

    let width = tensors.size("words.weight", 1)?;
    let inner = tensors.size("layers.0.up.weight", 0)?;
    let layers = (0..).take_while(|i| tensors.tensors.contains_key(&format!("layers.{i}.up.weight"))).count();
    let places = tensors.size("places.weight", 0)?;
    if alone >= layers || places < PLACES {
        let wanted = format!("fewer than all must, and {PLACES} pieces need a place");
        return Err(Error(format!("{alone} of {layers} layers read a text by itself, and {places} pieces have a place: {wanted}")));
    }
    let (words, word_scales) = eight_bits(&tensors.floats("words.weight", &[pieces.len(), width])?, width);
    let mut eight: Vec<i8> = Vec::new();
    let mut floats = tensors.floats("places.weight", &[places, width])?;
    floats.truncate(PLACES * width);
    // Every text is of BERT's first type.
    let types = tensors.floats("types.weight", &[2, width])?;
    floats.chunks_exact_mut(width).for_each(|place| place.iter_mut().zip(&types).for_each(|(p, t)| *p += t));
    floats.extend(tensors.floats("marks.weight", &[2, width])?);
    floats.extend(tensors.floats("norm.weight", &[width])?);
    floats.extend(tensors.floats("norm.bias", &[width])?);
    let mut matrix = |weights: Vec<f32>, biases: Vec<f32>, columns: usize, floats: &mut Vec<f32>| {
        let (whole, scales) = eight_bits(&weights, columns);
        eight.extend(pack(&whole, columns));
        floats.extend(scales);
        floats.extend(biases);
    };
    for i in 0..layers {
        for (name, rows, columns) in [("qkv", 3 * width, width), ("out", width, width), ("up", inner, width), ("down", width, inner)] {
            let weights = tensors.floats(&format!("layers.{i}.{name}.weight"), &[rows, columns])?;
            matrix(weights, tensors.floats(&format!("layers.{i}.{name}.bias"), &[rows])?, columns, &mut floats);
        }
        for name in ["norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"] {
            floats.extend(tensors.floats(&format!("layers.{i}.{name}"), &[width])?);
        }
    }
    let mut stacked = |heads: &[(&str, usize)]| {
        let (mut rows, mut biases) = (Vec::new(), Vec::new());
        for (head, count) in heads {
            rows.extend(tensors.floats(&format!("{head}.weight"), &[*count, width])?);
            biases.extend(tensors.floats(&format!("{head}.bias"), &[*count])?);
        }
        matrix(rows, biases, width, &mut floats);
        Ok::<(), Error>(())
    };
    let techniques = classes.len() + 1;
    stacked(&[("techniques", techniques), ("look", techniques)])?;
    stacked(&[("behaviour", 1), ("statuses", WHOLE - 1)])?;

    writer.put(*b"ESIZ", &[width, inner, layers, alone, techniques, WHOLE].map(|n| U32::new(n as u32)));
    writer.put(*b"ECLS", &labels.iter().map(|id| U32::new(id.key())).collect::<Vec<_>>());
    writer.put(*b"EPIE", pieces.join("\n").as_bytes());
    writer.put(*b"EWRD", &words);
    writer.put(*b"EWRS", &word_scales.into_iter().map(F32::new).collect::<Vec<_>>());
    writer.put(*b"EWEI", &eight);
    writer.put(*b"EFLO", &floats.into_iter().map(F32::new).collect::<Vec<_>>());
    Ok(())
}
