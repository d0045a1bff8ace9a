//! A sparse linear model: softmax over classes, trained by AdaGrad, kept as the largest weights in 8 bits.
//!
//! Features are weighted by inverse document frequency and brought to length 1. AdaGrad (Duchi, Hazan and Singer,
//! 2011) keeps one accumulator for each feature. Training is sequential, so the same examples give the same
//! weights on any number of cores.

use rustc_hash::FxHashMap;
use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{F32, U16, U32, U64};

use super::features::Feature;
use crate::index::Index;
use crate::index::format::Writer;

/// An example: features, the classes it belongs to with their shares (which sum to 1), and how much it counts.
#[derive(Debug, Clone)]
pub(crate) struct Example {
    pub(crate) features: Vec<Feature>,
    pub(crate) target: Vec<(u32, f32)>,
    pub(crate) weight: f32,
}

/// How a model is trained.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recipe {
    pub(crate) classes: usize,
    pub(crate) passes: usize,
    pub(crate) rate: f32,
    /// Features in fewer examples are left out.
    pub(crate) min_examples: u32,
    /// Weights kept, the largest of them.
    pub(crate) keep: usize,
    /// Shrinks a weight a little each time its feature is met.
    pub(crate) decay: f32,
}

/// The weights of a trained model.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    pub(crate) classes: usize,
    keys: Vec<u64>,
    idf: Vec<f32>,
    starts: Vec<u32>,
    columns: Vec<u16>,
    values: Vec<i8>,
    scale: f32,
    bias: Vec<f32>,
}

/// splitmix64 (Steele, Lea and Flood, 2014): shuffles examples the same way everywhere.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, (self.next() % (i as u64 + 1)) as usize);
        }
    }
}

/// A weight in 8 bits, companded: fine steps near zero, coarse ones far out.
fn expand(value: i8, scale: f32) -> f32 {
    let x = f32::from(value) / 127.0;
    x * x.abs() * scale
}

fn compress(value: f32, scale: f32) -> i8 {
    let x = (value.abs() / scale).sqrt() * 127.0;
    x.round().min(127.0).copysign(value) as i8
}

impl Linear {
    /// Trains on examples.
    pub(crate) fn train(examples: &[Example], recipe: Recipe) -> Linear {
        let mut counts: FxHashMap<u64, u32> = FxHashMap::default();
        for (feature, _) in examples.iter().flat_map(|e| &e.features) {
            *counts.entry(*feature).or_default() += 1;
        }
        let mut keys: Vec<u64> = counts.iter().filter(|(_, n)| **n >= recipe.min_examples).map(|(k, _)| *k).collect();
        keys.sort_unstable();
        let total = examples.len() as f32;
        let idf: Vec<f32> = keys.iter().map(|k| ((1.0 + total) / (1.0 + counts[k] as f32)).ln() + 1.0).collect();
        let index: FxHashMap<u64, u32> = keys.iter().enumerate().map(|(i, k)| (*k, i as u32)).collect();
        let vectors: Vec<Vec<(u32, f32)>> = examples.iter().map(|e| vector(&e.features, |k| index.get(&k).copied(), &idf)).collect();

        let classes = recipe.classes;
        let mut weights = vec![0.0_f32; keys.len() * classes];
        let mut squares = vec![0.0_f32; keys.len()];
        let mut bias = vec![0.0_f32; classes];
        let mut bias_squares = 1.0_f32;
        let mut order: Vec<u32> = (0..examples.len() as u32).collect();
        let mut random = Random(20_240_917);
        let mut scores = vec![0.0_f32; classes];
        for _ in 0..recipe.passes {
            random.shuffle(&mut order);
            for at in &order {
                let (example, x) = (&examples[*at as usize], &vectors[*at as usize]);
                if x.is_empty() {
                    continue;
                }
                scores.copy_from_slice(&bias);
                for (f, v) in x {
                    let row = &weights[*f as usize * classes..(*f as usize + 1) * classes];
                    for (s, w) in scores.iter_mut().zip(row) {
                        *s += v * w;
                    }
                }
                softmax(&mut scores);
                for (class, share) in &example.target {
                    scores[*class as usize] -= share;
                }
                let norm: f32 = scores.iter().map(|g| g * g).sum::<f32>() * example.weight * example.weight;
                for (f, v) in x {
                    let f = *f as usize;
                    squares[f] += norm * v * v;
                    let step = recipe.rate * example.weight * v / (squares[f].sqrt() + 1e-6);
                    let keep = 1.0 - recipe.decay;
                    let row = &mut weights[f * classes..(f + 1) * classes];
                    for (w, g) in row.iter_mut().zip(&scores) {
                        *w = *w * keep - step * g;
                    }
                }
                bias_squares += norm;
                let step = 0.2 * recipe.rate * example.weight / bias_squares.sqrt();
                for (b, g) in bias.iter_mut().zip(&scores) {
                    *b -= step * g;
                }
            }
        }
        Linear::pruned(classes, keys, idf, &weights, bias, recipe.keep)
    }

    /// Keeps the largest weights and the features that have any.
    fn pruned(classes: usize, keys: Vec<u64>, idf: Vec<f32>, weights: &[f32], bias: Vec<f32>, keep: usize) -> Linear {
        // What a weight moves is its size times that of its feature, which grows with the idf.
        let mut sizes: Vec<f32> = weights.iter().enumerate().map(|(i, w)| w.abs() * idf[i / classes]).filter(|s| *s > 1e-4).collect();
        let limit = if sizes.len() > keep {
            let (_, limit, _) = sizes.select_nth_unstable_by(keep, |a, b| b.total_cmp(a));
            *limit
        } else {
            0.0
        };
        let scale = weights.iter().fold(1e-6_f32, |m, w| m.max(w.abs()));
        let mut out =
            Linear { classes, keys: Vec::new(), idf: Vec::new(), starts: vec![0], columns: Vec::new(), values: Vec::new(), scale, bias };
        for (f, key) in keys.iter().enumerate() {
            for (c, w) in weights[f * classes..(f + 1) * classes].iter().enumerate() {
                if w.abs() * idf[f] > limit {
                    let value = compress(*w, scale);
                    if value != 0 {
                        out.columns.push(c as u16);
                        out.values.push(value);
                    }
                }
            }
            if out.columns.len() as u32 > *out.starts.last().unwrap_or(&0) {
                out.keys.push(*key);
                out.idf.push(idf[f]);
                out.starts.push(out.columns.len() as u32);
            }
        }
        out
    }

    /// Writes the model as bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        let scales = [F32::new(self.scale), F32::new(IDF_SCALE)];
        writer.put(*b"CLAS", &[U32::new(self.classes as u32)]);
        writer.put(*b"SCAL", &scales);
        writer.put(*b"KEYS", &self.keys.iter().map(|k| U64::new(*k)).collect::<Vec<_>>());
        writer.put(*b"IDFS", &self.idf.iter().map(|i| (i / IDF_SCALE * 255.0).round().clamp(1.0, 255.0) as u8).collect::<Vec<_>>());
        writer.put(*b"STRT", &self.starts.iter().map(|s| U32::new(*s)).collect::<Vec<_>>());
        writer.put(*b"COLS", &self.columns.iter().map(|c| U16::new(*c)).collect::<Vec<_>>());
        writer.put(*b"VALS", self.values.as_bytes());
        writer.put(*b"BIAS", &self.bias.iter().map(|b| F32::new(*b)).collect::<Vec<_>>());
        writer.finish()
    }
}

/// The largest inverse document frequency that is told apart: of one text in a million or so.
const IDF_SCALE: f32 = 16.0;

/// Features as places with weights: idf applied, brought to length 1. Unknown features are left out.
fn vector(features: &[Feature], place: impl Fn(u64) -> Option<u32>, idf: &[f32]) -> Vec<(u32, f32)> {
    let mut out: Vec<(u32, f32)> = features.iter().filter_map(|(key, tf)| place(*key).map(|p| (p, tf * idf[p as usize]))).collect();
    let length = out.iter().map(|(_, v)| v * v).sum::<f32>().sqrt();
    if length > 0.0 {
        for (_, v) in &mut out {
            *v /= length;
        }
    }
    out
}

/// In place; the largest score is taken away first, so nothing overflows.
pub(crate) fn softmax(scores: &mut [f32]) {
    let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0;
    for s in scores.iter_mut() {
        *s = (*s - top).exp();
        sum += *s;
    }
    for s in scores.iter_mut() {
        *s /= sum;
    }
}

/// A trained model over bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinearRef<'a> {
    pub(crate) classes: usize,
    keys: &'a [U64],
    idf: &'a [u8],
    starts: &'a [U32],
    columns: &'a [U16],
    values: &'a [u8],
    bias: &'a [F32],
    scale: f32,
    idf_scale: f32,
}

impl<'a> LinearRef<'a> {
    /// None where the bytes are no model.
    pub(crate) fn open(bytes: &'a [u8]) -> Option<LinearRef<'a>> {
        let index = Index::new(bytes).ok()?;
        // The sections outlive the index: they borrow the bytes it was made over.
        let section = |tag: [u8; 4]| index.range(tag).and_then(|r| bytes.get(r));
        let cast = |tag| <[F32] as zerocopy::FromBytes>::ref_from_bytes(section(tag)?).ok();
        let classes = <[U32] as zerocopy::FromBytes>::ref_from_bytes(section(*b"CLAS")?).ok()?.first()?.get() as usize;
        let scales = cast(*b"SCAL")?;
        let out = LinearRef {
            classes,
            keys: zerocopy::FromBytes::ref_from_bytes(section(*b"KEYS")?).ok()?,
            idf: section(*b"IDFS")?,
            starts: zerocopy::FromBytes::ref_from_bytes(section(*b"STRT")?).ok()?,
            columns: zerocopy::FromBytes::ref_from_bytes(section(*b"COLS")?).ok()?,
            values: section(*b"VALS")?,
            bias: cast(*b"BIAS")?,
            scale: scales.first()?.get(),
            idf_scale: scales.get(1)?.get(),
        };
        let fits = out.idf.len() == out.keys.len()
            && out.starts.len() == out.keys.len() + 1
            && out.columns.len() == out.values.len()
            && out.bias.len() == classes
            && (1..=usize::from(u16::MAX)).contains(&classes);
        fits.then_some(out)
    }

    /// Weights kept.
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    fn place(&self, key: u64) -> Option<u32> {
        // Hashes are spread evenly: a guess by proportion lands within a few places.
        let n = self.keys.len();
        if n == 0 {
            return None;
        }
        let guess = ((u128::from(key) * n as u128) >> 64) as usize;
        let (mut low, mut high, mut step) = (guess, guess + 1, 8);
        while low > 0 && self.keys[low].get() > key {
            low = low.saturating_sub(step);
            step *= 2;
        }
        step = 8;
        while high < n && self.keys[high - 1].get() < key {
            high = (high + step).min(n);
            step *= 2;
        }
        let at = self.keys[low..high].binary_search_by_key(&key, |k| k.get()).ok()?;
        Some((low + at) as u32)
    }

    /// The known features of a segment, weighted.
    pub(crate) fn vector(&self, features: &[Feature]) -> Vec<(u32, f32)> {
        let mut out: Vec<(u32, f32)> = features
            .iter()
            .filter_map(|(key, tf)| self.place(*key).map(|p| (p, tf * f32::from(self.idf[p as usize]) / 255.0 * self.idf_scale)))
            .collect();
        let length = out.iter().map(|(_, v)| v * v).sum::<f32>().sqrt();
        if length > 0.0 {
            for (_, v) in &mut out {
                *v /= length;
            }
        }
        out
    }

    fn row(&self, feature: u32) -> impl Iterator<Item = (usize, f32)> + '_ {
        let f = feature as usize;
        let range = self.starts[f].get() as usize..self.starts[f + 1].get() as usize;
        let columns = self.columns.get(range.clone()).unwrap_or_default();
        let values = self.values.get(range).unwrap_or_default();
        columns.iter().zip(values).map(|(c, v)| (usize::from(c.get()), expand(*v as i8, self.scale)))
    }

    /// Scores of all classes, before any softmax.
    pub(crate) fn scores(&self, vector: &[(u32, f32)], out: &mut Vec<f32>) {
        out.clear();
        out.extend(self.bias.iter().map(|b| b.get()));
        for (f, v) in vector {
            for (c, w) in self.row(*f) {
                if let Some(s) = out.get_mut(c) {
                    *s += v * w;
                }
            }
        }
    }

    /// What each feature of a segment adds to one class's score, by the feature's key.
    pub(crate) fn contributions(&self, features: &[Feature], class: usize) -> Vec<(u64, f32)> {
        let vector = self.vector(features);
        vector
            .iter()
            .filter_map(|(f, v)| self.row(*f).find(|(c, _)| *c == class).map(|(_, w)| (self.keys[*f as usize].get(), w * v)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(features: &[u64], class: u32) -> Example {
        Example {
            features: features.iter().map(|f| (f.wrapping_mul(0x9e37_79b9_7f4a_7c15), 1.0)).collect(),
            target: vec![(class, 1.0)],
            weight: 1.0,
        }
    }

    #[test]
    fn a_model_learns_keeps_and_reads_back() {
        let examples: Vec<Example> =
            (0..60).map(|i| if i % 2 == 0 { example(&[1, 2, 10 + i % 5], 0) } else { example(&[3, 4, 10 + i % 5], 1) }).collect();
        let recipe = Recipe { classes: 2, passes: 5, rate: 0.5, min_examples: 2, keep: 1000, decay: 0.0 };
        let bytes = Linear::train(&examples, recipe).to_bytes();
        assert_eq!(bytes, Linear::train(&examples, recipe).to_bytes());
        let model = LinearRef::open(&bytes).unwrap();
        let mut scores = Vec::new();
        for e in &examples {
            model.scores(&model.vector(&e.features), &mut scores);
            assert_eq!(scores[1] > scores[0], e.target[0].0 == 1);
        }
        assert!(LinearRef::open(&bytes[..bytes.len() - 9]).is_none());
        let parts = model.contributions(&examples[0].features, 0);
        assert!(parts.iter().any(|(key, w)| *key == 1_u64.wrapping_mul(0x9e37_79b9_7f4a_7c15) && *w > 0.0));
    }
}
