//! A sparse linear model: softmax over classes, trained by AdaGrad, kept as its most used weights, two bytes each.
//!
//! Features are weighted by inverse document frequency and brought to length 1. AdaGrad (Duchi, Hazan and Singer,
//! 2011) keeps one accumulator for each feature. Training is sequential, so the same examples give the same
//! weights on any number of cores.

use rustc_hash::FxHashMap;
use zerocopy::byteorder::little_endian::{F32, U16, U32};

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
    /// How much the number of examples with a feature counts where weights are left out: its power.
    pub(crate) spread: f32,
}

/// The weights of a trained model.
#[derive(Debug, Clone)]
pub(crate) struct Linear {
    classes: usize,
    packing: Packing,
    /// Sorted, and no two alike as far as they are kept.
    keys: Vec<u64>,
    idf: Vec<f32>,
    starts: Vec<u32>,
    cells: Vec<u16>,
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

/// A feature's key, inverse document frequency and weights by class.
type Row = (u64, f32, Vec<(u16, f32)>);

/// How a trained model is taught more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lesson {
    /// Classes to add, in front of the last.
    pub(crate) added: usize,
    /// Only the added classes learn; what is known stays as it is.
    pub(crate) only_added: bool,
    pub(crate) passes: usize,
    pub(crate) rate: f32,
}

/// The inverse document frequency of a feature that a model comes to know later: that of a rare word.
const LATER_IDF: f32 = 10.0;

/// Classes that a model can tell apart: more would leave a weight too few bits.
pub(crate) const MAX_CLASSES: usize = 1 << 12;

/// How keys and weights are cut to two bytes each.
///
/// A key is kept as the bucket that its first bits choose, and the 16 bits behind them: of a million unknown features
/// a few hundred are mistaken for a known one. A cell is a class and, in the bits that classes leave free, a weight,
/// companded: fine steps near zero, coarse ones far out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Packing {
    bucket_bits: u32,
    value_bits: u32,
}

impl Packing {
    fn new(classes: usize, features: usize) -> Packing {
        let class_bits = usize::BITS - classes.saturating_sub(1).leading_zeros();
        Packing { bucket_bits: (features / 16 + 1).ilog2().clamp(4, 14), value_bits: 16 - class_bits.clamp(1, 12) }
    }

    fn bucket(self, key: u64) -> usize {
        (key >> (64 - self.bucket_bits)) as usize
    }

    fn tail(self, key: u64) -> u16 {
        (key >> (64 - self.bucket_bits - 16)) as u16
    }

    /// What is kept of a key.
    fn short(self, key: u64) -> u32 {
        (key >> (64 - self.bucket_bits - 16)) as u32
    }

    /// A key of which as much is kept.
    fn long(self, short: u32) -> u64 {
        u64::from(short) << (64 - self.bucket_bits - 16)
    }

    /// The largest value on either side of zero.
    fn most(self) -> i32 {
        (1 << (self.value_bits - 1)) - 1
    }

    /// None where the weight is too small to be kept.
    fn pack(self, class: usize, weight: f32, scale: f32) -> Option<u16> {
        let most = self.most() as f32;
        let value = ((weight.abs() / scale).sqrt() * most).round().min(most).copysign(weight) as i32;
        (value != 0).then(|| ((class as u16) << self.value_bits) | (value + self.most()) as u16)
    }

    /// Unpacks cells; what is the same for all of them is worked out once.
    fn unpack(self, scale: f32) -> impl Fn(u16) -> (usize, f32) {
        let (bits, mask, most) = (self.value_bits, (1_i32 << self.value_bits) - 1, self.most());
        let scale = scale / (most * most) as f32;
        move |cell| {
            let value = (i32::from(cell) & mask) - most;
            (usize::from(cell >> bits), (value * value.abs()) as f32 * scale)
        }
    }
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
                let norm = gradient(example, x, &weights, &bias, &mut scores);
                for (f, v) in x {
                    let f = *f as usize;
                    squares[f] += norm * v * v;
                    let step = recipe.rate * example.weight * v / (squares[f].sqrt() + 1e-6);
                    let row = &mut weights[f * classes..(f + 1) * classes];
                    for (w, g) in row.iter_mut().zip(&scores) {
                        *w -= step * g;
                    }
                }
                bias_squares += norm;
                let step = 0.2 * recipe.rate * example.weight / bias_squares.sqrt();
                for (b, g) in bias.iter_mut().zip(&scores) {
                    *b -= step * g;
                }
            }
        }
        let spread: Vec<f32> = keys.iter().zip(&idf).map(|(k, idf)| idf * (counts[k] as f32).powf(recipe.spread)).collect();
        Linear::pruned(classes, &keys, &idf, &spread, weights, bias, recipe.keep)
    }

    /// Keeps the largest weights and the features that have any.
    fn pruned(classes: usize, keys: &[u64], idf: &[f32], spread: &[f32], mut weights: Vec<f32>, mut bias: Vec<f32>, keep: usize) -> Linear {
        if classes == 2 {
            // Of two classes only the difference counts: half of the weights are enough.
            for pair in weights.chunks_exact_mut(2).chain(bias.chunks_exact_mut(2)) {
                pair[1] -= pair[0];
                pair[0] = 0.0;
            }
        }
        // What a weight moves is its size times that of its feature, which grows with the idf, and how often: rare
        // features have large weights and hardly ever a say.
        let mut sizes: Vec<f32> = weights.iter().enumerate().map(|(i, w)| w.abs() * spread[i / classes]).filter(|s| *s > 1e-4).collect();
        let limit = if sizes.len() > keep {
            let (_, limit, _) = sizes.select_nth_unstable_by(keep, |a, b| b.total_cmp(a));
            *limit
        } else {
            0.0
        };
        let scale = weights.iter().fold(1e-6_f32, |m, w| m.max(w.abs()));
        let rows = keys.iter().enumerate().map(|(f, key)| {
            let row = weights[f * classes..(f + 1) * classes].iter().enumerate();
            (*key, idf[f], row.filter(|(_, w)| w.abs() * spread[f] > limit).map(|(c, w)| (c as u16, *w)).collect())
        });
        let features = weights.chunks_exact(classes).zip(spread).filter(|(row, s)| row.iter().any(|w| w.abs() * *s > limit)).count();
        Linear::packed(classes, Packing::new(classes, features), scale, bias, rows)
    }

    /// Packs rows, which come sorted by key; those without a weight are left out.
    fn packed(classes: usize, packing: Packing, scale: f32, bias: Vec<f32>, rows: impl Iterator<Item = Row>) -> Linear {
        let mut out = Linear { classes, packing, keys: Vec::new(), idf: Vec::new(), starts: vec![0], cells: Vec::new(), scale, bias };
        for (key, idf, row) in rows {
            // Of two keys that are alike as far as they are kept, which hardly happens, the first stays.
            if out.keys.last().is_some_and(|last| packing.short(*last) == packing.short(key)) {
                continue;
            }
            let before = out.cells.len();
            out.cells.extend(row.into_iter().filter_map(|(class, w)| packing.pack(usize::from(class), w, scale)));
            if out.cells.len() > before {
                out.keys.push(key);
                out.idf.push(idf);
                out.starts.push(out.cells.len() as u32);
            }
        }
        out
    }

    /// Goes on training from a trained model (a warm start). Targets count the added classes: they stand in front
    /// of the last class, which is "none".
    pub(crate) fn taught(base: &LinearRef<'_>, examples: &[Example], lesson: Lesson) -> Linear {
        let classes = base.classes + lesson.added;
        let old_last = base.classes - 1;
        let moved = |class: usize| if class >= old_last { class + lesson.added } else { class };
        // Rows of the features that the examples have; all others stay as they are.
        let mut rows: FxHashMap<u32, usize> = FxHashMap::default();
        let mut keys: Vec<u64> = Vec::new();
        for (key, _) in examples.iter().flat_map(|e| &e.features) {
            rows.entry(base.packing.short(*key)).or_insert_with(|| {
                keys.push(*key);
                keys.len() - 1
            });
        }
        let mut weights = vec![0.0_f32; keys.len() * classes];
        let mut idf = vec![LATER_IDF; keys.len()];
        for (row, key) in keys.iter().enumerate() {
            if let Some(place) = base.place(*key) {
                idf[row] = base.idf_of(place);
                for (class, w) in base.row(place) {
                    weights[row * classes + moved(class)] = w;
                }
            }
        }
        let mut bias = vec![0.0_f32; classes];
        for (class, b) in base.bias.iter().enumerate() {
            bias[moved(class)] = b.get();
        }
        // A class without examples so far is as unlikely as the least likely.
        let least = base.bias.iter().map(|b| b.get()).fold(f32::INFINITY, f32::min);
        bias[old_last..old_last + lesson.added].fill(least);
        let learns = |class: usize| !lesson.only_added || (old_last..old_last + lesson.added).contains(&class);
        let vectors: Vec<Vec<(u32, f32)>> =
            examples.iter().map(|e| vector(&e.features, |k| rows.get(&base.packing.short(k)).map(|r| *r as u32), &idf)).collect();
        let mut squares = vec![0.5_f32; keys.len()];
        let mut order: Vec<u32> = (0..examples.len() as u32).collect();
        let mut random = Random(20_251_104);
        let mut scores = vec![0.0_f32; classes];
        for _ in 0..lesson.passes {
            random.shuffle(&mut order);
            for at in &order {
                let (example, x) = (&examples[*at as usize], &vectors[*at as usize]);
                let norm = gradient(example, x, &weights, &bias, &mut scores);
                for (f, v) in x {
                    let f = *f as usize;
                    squares[f] += norm * v * v;
                    let step = lesson.rate * example.weight * v / squares[f].sqrt();
                    for (class, g) in scores.iter().enumerate().filter(|(class, _)| learns(*class)) {
                        weights[f * classes + class] -= step * g;
                    }
                }
            }
        }
        let mut all: Vec<Row> = Vec::with_capacity(base.tails.len());
        for (place, short) in base.shorts().enumerate().filter(|(_, short)| !rows.contains_key(short)) {
            let row = base.row(place as u32).map(|(c, w)| (moved(c) as u16, w)).collect();
            all.push((base.packing.long(short), base.idf_of(place as u32), row));
        }
        for (row, key) in keys.iter().enumerate() {
            let kept = weights[row * classes..(row + 1) * classes].iter().enumerate().filter(|(_, w)| w.abs() > 0.02);
            all.push((*key, idf[row], kept.map(|(c, w)| (c as u16, *w)).collect()));
        }
        all.sort_by_key(|(key, _, _)| *key);
        let scale = all.iter().flat_map(|(_, _, row)| row).fold(1e-6_f32, |m, (_, w)| m.max(w.abs()));
        // As many bits of the keys as were known before: of those there are no more.
        let packing = Packing { bucket_bits: base.packing.bucket_bits, ..Packing::new(classes, all.len()) };
        Linear::packed(classes, packing, scale, bias, all.into_iter())
    }

    /// Writes the model as bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        let scales = [F32::new(self.scale), F32::new(IDF_SCALE)];
        writer.put(*b"CLAS", &[U32::new(self.classes as u32)]);
        writer.put(*b"SCAL", &scales);
        let mut buckets = vec![0_u32; (1 << self.packing.bucket_bits) + 1];
        for key in &self.keys {
            buckets[self.packing.bucket(*key) + 1] += 1;
        }
        for i in 1..buckets.len() {
            buckets[i] += buckets[i - 1];
        }
        writer.put(*b"BUCK", &buckets.iter().map(|b| U32::new(*b)).collect::<Vec<_>>());
        writer.put(*b"KEYS", &self.keys.iter().map(|k| U16::new(self.packing.tail(*k))).collect::<Vec<_>>());
        writer.put(*b"IDFS", &self.idf.iter().map(|i| (i / IDF_SCALE * 255.0).round().clamp(1.0, 255.0) as u8).collect::<Vec<_>>());
        writer.put(*b"STRT", &self.starts.iter().step_by(BLOCK).map(|s| U32::new(*s)).collect::<Vec<_>>());
        writer.put(*b"CNTS", &self.starts.windows(2).map(|w| U16::new((w[1] - w[0]) as u16)).collect::<Vec<_>>());
        writer.put(*b"CELL", &self.cells.iter().map(|c| U16::new(*c)).collect::<Vec<_>>());
        writer.put(*b"BIAS", &self.bias.iter().map(|b| F32::new(*b)).collect::<Vec<_>>());
        writer.finish()
    }
}

/// Where a feature's weights start is kept of every so many; the counts between are added up.
const BLOCK: usize = 32;

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

/// The gradient of one example's loss by the classes' scores, into `scores`; gives the square of its length, weighted.
fn gradient(example: &Example, x: &[(u32, f32)], weights: &[f32], bias: &[f32], scores: &mut [f32]) -> f32 {
    let classes = bias.len();
    scores.copy_from_slice(bias);
    for (f, v) in x {
        let row = &weights[*f as usize * classes..(*f as usize + 1) * classes];
        for (s, w) in scores.iter_mut().zip(row) {
            *s += v * w;
        }
    }
    softmax(scores);
    for (class, share) in &example.target {
        scores[*class as usize] -= share;
    }
    scores.iter().map(|g| g * g).sum::<f32>() * example.weight * example.weight
}

/// e to the power of `x`, for x up to 0: the polynomial of Cephes' `expf`, within two units in the last place.
///
/// Written without branches and calls so that it is computed for several numbers at a time, and gives the same bits on
/// every machine, which a C library's does not.
fn exp(x: f32) -> f32 {
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Added to a small number, it leaves that rounded to an integer in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    let x = x.max(-87.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let p = (((1.987_569_2e-4 * r + 1.398_199_9e-3) * r + 8.333_452e-3) * r + 4.166_579_6e-2) * r + 1.666_666_5e-1;
    let p = (p * r + 0.5) * r * r + r + 1.0;
    // 2^n: n in the place of the exponent.
    let power = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    p * f32::from_bits(power)
}

/// Makes scores into probabilities. Gives their entropy, in nats.
pub(crate) fn softmax(scores: &mut [f32]) -> f32 {
    const LANES: usize = 8;
    let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // Sums of every eighth: the order of adding is the same everywhere, and eight are added at a time.
    let (mut sums, mut spreads) = ([0.0_f32; LANES], [0.0_f32; LANES]);
    for chunk in scores.chunks_mut(LANES) {
        for ((s, sum), spread) in chunk.iter_mut().zip(&mut sums).zip(&mut spreads) {
            let below = (*s - top).max(-87.0);
            *s = exp(below);
            *sum += *s;
            *spread += *s * below;
        }
    }
    let sum: f32 = sums.iter().sum();
    let by = 1.0 / sum;
    for s in scores.iter_mut() {
        *s *= by;
    }
    // -sum of p ln p, with ln p = (score - top) - ln sum.
    sum.ln() - spreads.iter().sum::<f32>() * by
}

/// Bits of a weight up to which [`LinearRef::scores`] makes a table of them.
const FEW_BITS: u32 = 7;

/// A trained model over bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LinearRef<'a> {
    pub(crate) classes: usize,
    packing: Packing,
    /// Where each bucket's features begin, and where the last ends.
    buckets: &'a [U32],
    /// The features' keys behind the bits of the bucket, sorted in each bucket.
    tails: &'a [U16],
    idf: &'a [u8],
    starts: &'a [U32],
    counts: &'a [U16],
    cells: &'a [U16],
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
        let floats = |tag| <[F32] as zerocopy::FromBytes>::ref_from_bytes(section(tag)?).ok();
        let words = |tag| <[U32] as zerocopy::FromBytes>::ref_from_bytes(section(tag)?).ok();
        let halves = |tag| <[U16] as zerocopy::FromBytes>::ref_from_bytes(section(tag)?).ok();
        let classes = words(*b"CLAS")?.first()?.get() as usize;
        let scales = floats(*b"SCAL")?;
        let buckets = words(*b"BUCK")?;
        let bucket_bits = buckets.len().checked_sub(1).filter(|n| n.is_power_of_two())?.ilog2();
        let out = LinearRef {
            classes,
            packing: Packing { bucket_bits, ..Packing::new(classes, 0) },
            buckets,
            tails: halves(*b"KEYS")?,
            idf: section(*b"IDFS")?,
            starts: words(*b"STRT")?,
            counts: halves(*b"CNTS")?,
            cells: halves(*b"CELL")?,
            bias: floats(*b"BIAS")?,
            scale: scales.first()?.get(),
            idf_scale: scales.get(1)?.get(),
        };
        let fits = (4..=14).contains(&bucket_bits)
            && out.idf.len() == out.tails.len()
            && out.starts.len() == out.tails.len() / BLOCK + 1
            && out.counts.len() == out.tails.len()
            && out.bias.len() == classes
            && (1..=MAX_CLASSES).contains(&classes);
        fits.then_some(out)
    }

    /// Weights kept.
    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    fn place(&self, key: u64) -> Option<u32> {
        let bucket = self.packing.bucket(key);
        let (low, high) = (self.buckets[bucket].get(), self.buckets[bucket + 1].get());
        let tails = self.tails.get(low as usize..high as usize)?;
        let at = tails.binary_search_by_key(&self.packing.tail(key), |t| t.get()).ok()?;
        Some(low + at as u32)
    }

    /// What is kept of each feature's key, in order.
    fn shorts(&self) -> impl Iterator<Item = u32> + '_ {
        self.buckets.windows(2).enumerate().flat_map(|(bucket, ends)| {
            let tails = self.tails.get(ends[0].get() as usize..ends[1].get() as usize).unwrap_or_default();
            tails.iter().map(move |t| (bucket as u32) << 16 | u32::from(t.get()))
        })
    }

    fn idf_of(&self, place: u32) -> f32 {
        f32::from(self.idf[place as usize]) / 255.0 * self.idf_scale
    }

    /// The known features of a segment, weighted.
    pub(crate) fn vector(&self, features: &[Feature]) -> Vec<(u32, f32)> {
        let mut out: Vec<(u32, f32)> = features.iter().filter_map(|(key, tf)| self.place(*key).map(|p| (p, tf * self.idf_of(p)))).collect();
        let length = out.iter().map(|(_, v)| v * v).sum::<f32>().sqrt();
        if length > 0.0 {
            for (_, v) in &mut out {
                *v /= length;
            }
        }
        out
    }

    fn cells(&self, feature: u32) -> &'a [U16] {
        let f = feature as usize;
        if self.cells.len() == self.tails.len() {
            // Every feature that is kept has a weight; as many weights as features is one each.
            return &self.cells[f..=f];
        }
        let block = f / BLOCK;
        let before: u32 = self.counts[block * BLOCK..f].iter().map(|c| u32::from(c.get())).sum();
        let start = self.starts[block].get() as usize + before as usize;
        let range = start..start + usize::from(self.counts[f].get());
        self.cells.get(range).unwrap_or_default()
    }

    fn row(&self, feature: u32) -> impl Iterator<Item = (usize, f32)> + '_ {
        let unpack = self.packing.unpack(self.scale);
        self.cells(feature).iter().map(move |cell| unpack(cell.get()))
    }

    /// Scores of all classes, before any softmax.
    pub(crate) fn scores(&self, vector: &[(u32, f32)], out: &mut Vec<f32>) {
        out.clear();
        out.extend(self.bias.iter().map(|b| b.get()));
        let bits = self.packing.value_bits;
        if bits <= FEW_BITS {
            // So few different weights are looked up. The second mask tells the compiler that it stays in the table.
            let unpack = self.packing.unpack(self.scale);
            let weights: [f32; 1 << FEW_BITS] = std::array::from_fn(|value| unpack((value & ((1 << bits) - 1)) as u16).1);
            for (f, v) in vector {
                for cell in self.cells(*f) {
                    let cell = usize::from(cell.get());
                    if let Some(s) = out.get_mut(cell >> bits) {
                        *s += v * weights[cell & ((1 << bits) - 1) & ((1 << FEW_BITS) - 1)];
                    }
                }
            }
            return;
        }
        for (f, v) in vector {
            for (c, w) in self.row(*f) {
                if let Some(s) = out.get_mut(c) {
                    *s += v * w;
                }
            }
        }
    }

    /// What each feature of a segment adds to one class's score, by the feature's hash.
    pub(crate) fn contributions(&self, features: &[Feature], class: usize) -> Vec<(u64, f32)> {
        // The features that are known, in their order, are those of the vector.
        let known = features.iter().filter(|(key, _)| self.place(*key).is_some());
        let weight = |f: u32| self.row(f).find(|(c, _)| *c == class).map(|(_, w)| w);
        known.zip(self.vector(features)).filter_map(|((key, _), (f, v))| Some((*key, weight(f)? * v))).collect()
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
        let recipe = Recipe { classes: 2, passes: 5, rate: 0.5, min_examples: 2, keep: 1000, spread: 0.5 };
        let bytes = Linear::train(&examples, recipe).to_bytes();
        assert_eq!(bytes, Linear::train(&examples, recipe).to_bytes());
        let model = LinearRef::open(&bytes).unwrap();
        let mut scores = Vec::new();
        for e in &examples {
            model.scores(&model.vector(&e.features), &mut scores);
            assert_eq!(scores[1] > scores[0], e.target[0].0 == 1);
        }
        assert!(LinearRef::open(&bytes[..bytes.len() - 9]).is_none());
        let more = [Example { features: vec![(77 << 40, 1.0)], target: vec![(1, 1.0)], weight: 1.0 }];
        let lesson = Lesson { added: 1, only_added: true, passes: 10, rate: 0.5 };
        let taught = Linear::taught(&model, &more, lesson).to_bytes();
        let taught = LinearRef::open(&taught).unwrap();
        taught.scores(&taught.vector(&more[0].features), &mut scores);
        assert!(scores.len() == 3 && scores[1] > scores[0] && scores[1] > scores[2], "{scores:?}");
        for e in &examples {
            taught.scores(&taught.vector(&e.features), &mut scores);
            assert_eq!(scores[2] > scores[0], e.target[0].0 == 1);
        }
        // Of two classes the second holds the difference.
        let parts = model.contributions(&examples[1].features, 1);
        assert!(parts.iter().any(|(key, w)| *key == 3_u64.wrapping_mul(0x9e37_79b9_7f4a_7c15) && *w > 0.0));
    }
}
