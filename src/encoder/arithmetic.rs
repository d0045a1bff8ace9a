//! Floating point of the layers, element by element or in sixteen lanes, so that any processor gives the same bits.

/// Lanes of a sum.
pub(super) const LANES: usize = 16;

/// The sum of a row, in lanes.
#[inline(always)]
pub(super) fn sum(row: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let (whole, rest) = row.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += x;
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += x;
    }
    lanes.iter().sum()
}

/// The largest of a row in absolute value; 0 for none.
#[inline(always)]
pub(super) fn largest(row: &[f32]) -> f32 {
    // Without their sign numbers are in the order of their bits, and those are compared many at a time.
    let mut lanes = [0_u32; LANES];
    let (whole, rest) = row.as_chunks::<LANES>();
    for chunk in whole {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane = (*lane).max(x.to_bits() & 0x7fff_ffff);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = (*lane).max(x.to_bits() & 0x7fff_ffff);
    }
    f32::from_bits(lanes.iter().fold(0, |m, x| m.max(*x)))
}

/// Adding it to a number below 2^22 leaves the nearest whole number, half to even, in the low bits.
const ROUND: f32 = 12_582_912.0;

/// The nearest whole number of one below 2^15.
#[inline(always)]
pub(super) fn whole(x: f32) -> i16 {
    (x + ROUND).to_bits() as i16
}

/// e^x: x = n ln 2 + r, a polynomial of r (Taylor to the sixth power, |r| <= ln 2 / 2: relative error below 2e-7), and
/// n into the exponent. The standard library's differs between systems.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let p = 1.0 + r * (1.0 + r * (0.5 + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0))))));
    let power = (shifted.to_bits() << 23).wrapping_add(0x3f80_0000);
    p * f32::from_bits(power)
}

/// x times the normal distribution's share below x (Hendrycks and Gimpel 2016), by Abramowitz and Stegun 7.1.26: error
/// below 2e-7 times x.
#[inline(always)]
pub(super) fn gelu(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let p = t * (0.254_829_6 + t * (-0.284_496_74 + t * (1.421_413_7 + t * (-1.453_152 + t * 1.061_405_4))));
    let erf = 1.0 - p * exp(-z * z);
    0.5 * x * (1.0 + if x < 0.0 { -erf } else { erf })
}

/// Probabilities of scores, in place.
#[inline(always)]
pub(super) fn softmax(row: &mut [f32]) {
    let mut top = f32::NEG_INFINITY;
    for x in row.iter() {
        top = if *x > top { *x } else { top };
    }
    for x in row.iter_mut() {
        *x = exp(*x - top);
    }
    let total = 1.0 / sum(row);
    for x in row.iter_mut() {
        *x *= total;
    }
}

/// The same for the first `count` of a row of whole lanes; the rest become 0.
#[inline(always)]
pub(super) fn softmax_padded(row: &mut [f32], count: usize) {
    row[count..].fill(f32::NEG_INFINITY);
    let mut tops = [f32::NEG_INFINITY; LANES];
    for chunk in row.as_chunks::<LANES>().0 {
        for (top, x) in tops.iter_mut().zip(chunk) {
            *top = if *x > *top { *x } else { *top };
        }
    }
    let top = tops.iter().fold(f32::NEG_INFINITY, |m, x| if *x > m { *x } else { m });
    for chunk in row.as_chunks_mut::<LANES>().0 {
        for x in chunk {
            *x = exp(*x - top);
        }
    }
    row[count..].fill(0.0);
    let total = 1.0 / sum(row);
    for chunk in row.as_chunks_mut::<LANES>().0 {
        for x in chunk {
            *x *= total;
        }
    }
}

/// A row with mean 0 and variance 1, times a weight, plus a bias (Ba et al. 2016).
#[inline(always)]
pub(super) fn normalise(row: &mut [f32], weight: &[f32], bias: &[f32]) {
    let count = row.len() as f32;
    let mean = sum(row) / count;
    let mut lanes = [0.0_f32; LANES];
    for (i, x) in row.iter_mut().enumerate() {
        *x -= mean;
        lanes[i % LANES] += *x * *x;
    }
    let variance = lanes.iter().sum::<f32>() / count;
    let scale = 1.0 / (variance + 1e-12).sqrt();
    for ((x, w), b) in row.iter_mut().zip(weight).zip(bias) {
        *x = *x * scale * w + b;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_those_of_the_library() {
        for i in -8700..=8700 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) / exact - 1.0).abs() < 1e-6, "exp {x}");
        }
        // Values of the error function from Abramowitz and Stegun, table 7.1.
        for (z, erf) in [(0.0, 0.0), (0.5, 0.520_499_9), (1.0, 0.842_700_8), (2.0, 0.995_322_3)] {
            let x = z * std::f32::consts::SQRT_2;
            assert!((gelu(x) - 0.5 * x * (1.0 + erf)).abs() < 1e-6, "gelu {x}");
            assert!((gelu(-x) + 0.5 * x * (1.0 - erf)).abs() < 1e-6, "gelu -{x}");
        }
    }

    #[test]
    fn a_row_becomes_probabilities() {
        let mut row: Vec<f32> = (0..45).map(|i| (i % 7) as f32 * 3.0).collect();
        softmax(&mut row);
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert!(row[6] > row[5]);
        let mut padded: Vec<f32> = (0..48).map(|i| if i < 45 { (i % 7) as f32 * 3.0 } else { 99.0 }).collect();
        softmax_padded(&mut padded, 45);
        assert!(row.iter().zip(&padded).all(|(a, b)| (a - b).abs() < 1e-7) && padded[45..] == [0.0; 3]);
        assert_eq!(largest(&[-3.0, 2.0]), 3.0);
        assert_eq!([-32767.0, -1.6, 0.4, 2.5, 32766.7].map(whole), [-32767, -2, 0, 2, 32767]);
        assert_eq!(sum(&(0..40).map(|i| i as f32).collect::<Vec<_>>()), 780.0);
    }
}
