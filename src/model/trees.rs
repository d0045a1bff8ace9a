//! Boosted regression trees for yes-or-no questions: logistic loss, histograms, few small trees.
//!
//! After Friedman (2001) with Newton leaves as in Chen and Guestrin (2016), on 64 bins a feature. Trees are
//! complete to their depth, so that a walk is a few compares without branches to guess.

use rayon::prelude::*;
use zerocopy::byteorder::little_endian::F32;

use crate::index::Index;
use crate::index::format::Writer;

const BINS: usize = 64;

/// How trees are grown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recipe {
    pub(crate) trees: usize,
    pub(crate) depth: usize,
    pub(crate) rate: f32,
    /// L2 on leaves.
    pub(crate) lambda: f32,
    /// The least weight (sum of p(1-p)) of a leaf.
    pub(crate) min_weight: f32,
}

/// Grown trees.
#[derive(Debug, Clone)]
pub(crate) struct Trees {
    depth: usize,
    base: f32,
    /// Inner nodes of all trees, 2^depth - 1 each, breadth first; a node that doesn't split sends all left.
    features: Vec<u8>,
    limits: Vec<f32>,
    /// 2^depth a tree.
    leaves: Vec<f32>,
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Bin edges of one feature: at most `BINS - 1`, by quantiles.
fn edges(rows: &[f32], width: usize, feature: usize) -> Vec<f32> {
    let count = rows.len() / width;
    let stride = (count / 20_000).max(1);
    let mut values: Vec<f32> = (0..count).step_by(stride).map(|r| rows[r * width + feature]).collect();
    values.sort_unstable_by(f32::total_cmp);
    let distinct = {
        let mut d = values.clone();
        d.dedup();
        d
    };
    let middle = |a: f32, b: f32| a + (b - a) / 2.0;
    if distinct.len() < BINS {
        return distinct.windows(2).map(|w| middle(w[0], w[1])).collect();
    }
    let mut edges: Vec<f32> = (1..BINS).map(|i| values[i * (values.len() - 1) / BINS]).collect();
    edges.dedup();
    edges
}

impl Trees {
    /// Grows trees on rows of `width` numbers each, with their answers and weights.
    pub(crate) fn grow(rows: &[f32], width: usize, answers: &[bool], weights: &[f32], recipe: Recipe) -> Trees {
        let count = answers.len();
        let edges: Vec<Vec<f32>> = (0..width).into_par_iter().map(|f| edges(rows, width, f)).collect();
        // Column by column, for the histograms read one feature at a time.
        let bins: Vec<Vec<u8>> = (0..width)
            .into_par_iter()
            .map(|f| (0..count).map(|r| edges[f].partition_point(|e| *e < rows[r * width + f]) as u8).collect())
            .collect();
        let positive: f32 = answers.iter().zip(weights).map(|(a, w)| if *a { *w } else { 0.0 }).sum();
        let total: f32 = weights.iter().sum();
        let share = (positive / total.max(1e-6)).clamp(1e-4, 1.0 - 1e-4);
        let base = (share / (1.0 - share)).ln();
        let mut out = Trees { depth: recipe.depth, base, features: Vec::new(), limits: Vec::new(), leaves: Vec::new() };
        let mut scores = vec![base; count];
        for _ in 0..recipe.trees {
            let gradients: Vec<(f32, f32)> = scores
                .par_iter()
                .zip(answers)
                .zip(weights)
                .map(|((s, a), w)| {
                    let p = sigmoid(*s);
                    ((p - f32::from(u8::from(*a))) * w, (p * (1.0 - p)).max(1e-6) * w)
                })
                .collect();
            let nodes = out.tree(&bins, &edges, &gradients, recipe);
            let first = out.leaves.len() - (1 << recipe.depth);
            let leaves = &out.leaves[first..];
            scores.par_iter_mut().zip(&nodes).for_each(|(s, n)| *s += leaves[*n as usize]);
        }
        out
    }

    /// Grows one tree; gives the leaf of every row.
    fn tree(&mut self, bins: &[Vec<u8>], edges: &[Vec<f32>], gradients: &[(f32, f32)], recipe: Recipe) -> Vec<u16> {
        let mut nodes = vec![0_u16; gradients.len()];
        for level in 0..recipe.depth {
            let open = 1 << level;
            // Every feature's histograms over all nodes of the level, in parallel over features; the sums of one
            // feature are taken in the order of the rows, so they are the same on any number of cores.
            let best: Vec<Vec<(f32, u8)>> = bins
                .par_iter()
                .map(|column| {
                    let mut sums = vec![(0.0_f64, 0.0_f64); open * BINS];
                    for ((node, bin), (g, h)) in nodes.iter().zip(column).zip(gradients) {
                        let slot = &mut sums[*node as usize * BINS + usize::from(*bin)];
                        slot.0 += f64::from(*g);
                        slot.1 += f64::from(*h);
                    }
                    sums.chunks(BINS).map(|node| best_split(node, recipe)).collect()
                })
                .collect();
            let mut splits = Vec::with_capacity(open);
            for node in 0..open {
                let pick =
                    best.iter().enumerate().map(|(f, nodes)| (nodes[node], f)).max_by(|a, b| a.0.0.total_cmp(&b.0.0).then(b.1.cmp(&a.1)));
                match pick {
                    Some(((gain, bin), feature)) if gain > 0.0 && usize::from(bin) < edges[feature].len() => {
                        splits.push(Some((feature, bin)));
                        self.features.push(feature as u8);
                        self.limits.push(edges[feature][usize::from(bin)]);
                    }
                    _ => {
                        splits.push(None);
                        self.features.push(0);
                        self.limits.push(f32::INFINITY);
                    }
                }
            }
            nodes.par_iter_mut().enumerate().for_each(|(row, node)| {
                let right = splits[*node as usize].is_some_and(|(feature, bin)| bins[feature][row] > bin);
                *node = *node * 2 + u16::from(right);
            });
        }
        let mut sums = vec![(0.0_f64, 0.0_f64); 1 << recipe.depth];
        for (node, (g, h)) in nodes.iter().zip(gradients) {
            sums[*node as usize].0 += f64::from(*g);
            sums[*node as usize].1 += f64::from(*h);
        }
        self.leaves.extend(sums.iter().map(|(g, h)| (-g / (h + f64::from(recipe.lambda))) as f32 * recipe.rate));
        nodes
    }

    /// Writes the trees as bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let floats = |list: &[f32]| list.iter().map(|v| F32::new(*v)).collect::<Vec<_>>();
        let mut writer = Writer::default();
        writer.put(*b"DPTH", &[self.depth as u8]);
        writer.put(*b"BASE", &floats(&[self.base]));
        writer.put(*b"FEAT", &self.features);
        writer.put(*b"LIMT", &floats(&self.limits));
        writer.put(*b"LEAF", &floats(&self.leaves));
        writer.finish()
    }
}

/// Stretch and shift of log-odds under which they tell how often the answer is yes (Platt, 1999), by gradient descent on
/// the logistic loss.
pub(crate) fn fit(cases: &[(f32, bool)]) -> (f32, f32) {
    let (mut stretch, mut shift) = (1.0_f64, 0.0_f64);
    let n = cases.len().max(1) as f64;
    for _ in 0..500 {
        let (mut by_stretch, mut by_shift) = (0.0, 0.0);
        for (score, yes) in cases {
            let x = f64::from(*score);
            let error = 1.0 / (1.0 + (-(stretch * x + shift)).exp()) - f64::from(u8::from(*yes));
            by_stretch += error * x;
            by_shift += error;
        }
        stretch -= 0.3 * by_stretch / n;
        shift -= 0.6 * by_shift / n;
    }
    (stretch as f32, shift as f32)
}

/// The best place to split a node by one feature: gain and the last bin that goes left. Gain 0 for none.
fn best_split(bins: &[(f64, f64)], recipe: Recipe) -> (f32, u8) {
    let (lambda, min) = (f64::from(recipe.lambda), f64::from(recipe.min_weight));
    let (total_g, total_h) = bins.iter().fold((0.0, 0.0), |(g, h), b| (g + b.0, h + b.1));
    let worth = |g: f64, h: f64| g * g / (h + lambda);
    let whole = worth(total_g, total_h);
    let (mut left_g, mut left_h) = (0.0, 0.0);
    let mut best = (0.0_f64, 0_u8);
    for (bin, (g, h)) in bins.iter().enumerate().take(BINS - 1) {
        left_g += g;
        left_h += h;
        let (right_g, right_h) = (total_g - left_g, total_h - left_h);
        if left_h < min || right_h < min {
            continue;
        }
        let gain = worth(left_g, left_h) + worth(right_g, right_h) - whole;
        if gain > best.0 + 1e-9 {
            best = (gain, bin as u8);
        }
    }
    (best.0 as f32, best.1)
}

/// Grown trees over bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TreesRef<'a> {
    depth: usize,
    base: f32,
    features: &'a [u8],
    limits: &'a [F32],
    leaves: &'a [F32],
}

impl<'a> TreesRef<'a> {
    /// None where the bytes are no trees.
    pub(crate) fn open(bytes: &'a [u8]) -> Option<TreesRef<'a>> {
        let index = Index::new(bytes).ok()?;
        let section = |tag: [u8; 4]| index.range(tag).and_then(|r| bytes.get(r));
        let floats = |tag| <[F32] as zerocopy::FromBytes>::ref_from_bytes(section(tag)?).ok();
        let depth = usize::from(*section(*b"DPTH")?.first()?);
        let out = TreesRef {
            depth,
            base: floats(*b"BASE")?.first()?.get(),
            features: section(*b"FEAT")?,
            limits: floats(*b"LIMT")?,
            leaves: floats(*b"LEAF")?,
        };
        let trees = out.leaves.len() >> depth.min(16);
        let fits = (1..=12).contains(&depth)
            && out.leaves.len() == trees << depth
            && out.features.len() == trees * ((1 << depth) - 1)
            && out.limits.len() == out.features.len();
        fits.then_some(out)
    }

    /// The log-odds of yes for one row.
    pub(crate) fn score(&self, row: &[f32]) -> f32 {
        let inner = (1 << self.depth) - 1;
        // Every feature's number is an index into this; what the row lacks is 0.
        let mut numbers = [0.0; 1 << u8::BITS];
        let known = row.len().min(numbers.len());
        numbers[..known].copy_from_slice(&row[..known]);
        let trees = self.features.chunks_exact(inner).zip(self.limits.chunks_exact(inner)).zip(self.leaves.chunks_exact(inner + 1));
        let mut sum = self.base;
        for ((features, limits), leaves) in trees {
            let mut node = 0;
            for _ in 0..self.depth {
                node = node * 2 + 1 + usize::from(numbers[usize::from(features[node])] > limits[node].get());
            }
            sum += leaves[node - inner].get();
        }
        sum
    }

    /// The probability of yes for one row.
    pub(crate) fn probability(&self, row: &[f32]) -> f32 {
        sigmoid(self.score(row))
    }

    /// The same, with the log-odds stretched and shifted by a [`fit`].
    pub(crate) fn calibrated(&self, row: &[f32], (stretch, shift): (f32, f32)) -> f32 {
        sigmoid(stretch * self.score(row) + shift)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::linear::Random;

    #[test]
    fn trees_learn_what_no_line_can() {
        let mut random = Random(7);
        let mut number = || (random.next() % 1000) as f32 / 1000.0;
        let rows: Vec<f32> = (0..6000).map(|_| number()).collect();
        let answers: Vec<bool> = rows.chunks(3).map(|r| (r[0] > 0.5) != (r[1] > 0.5)).collect();
        let recipe = Recipe { trees: 40, depth: 3, rate: 0.3, lambda: 1.0, min_weight: 1.0 };
        let bytes = Trees::grow(&rows, 3, &answers, &vec![1.0; answers.len()], recipe).to_bytes();
        let trees = TreesRef::open(&bytes).unwrap();
        let right = rows.chunks(3).zip(&answers).filter(|(r, a)| (trees.probability(r) > 0.5) == **a).count();
        assert!(right > answers.len() * 95 / 100, "{right} of {}", answers.len());
        assert!(TreesRef::open(&bytes[..40]).is_none());
    }
}
