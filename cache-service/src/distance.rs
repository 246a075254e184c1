//! The one distance of the cache: `1 - dot` of unit vectors, never below zero.
//!
//! Not hnsw_rs' own: its `DistDot` asserts a non-negative result and panics on 38% of normalised
//! vectors, its `DistCosine` is fourteen times slower and calls a zero vector near to everything.

use hnsw_rs::prelude::Distance;

/// Length of every vector (all-MiniLM-L6-v2).
pub const DIMS: usize = 384;

/// Distance for the index.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnitDot;

impl Distance<f32> for UnitDot {
    fn eval(&self, a: &[f32], b: &[f32]) -> f32 {
        (1.0 - dot(a, b)).max(0.0)
    }
}

/// Dot product; of unit vectors, their cosine. Vectors of different lengths: the shorter counts.
#[must_use]
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma") {
        #[expect(
            unsafe_code,
            reason = "the call needs AVX2 and FMA, which were just detected"
        )]
        return unsafe { dot_fma(a, b) };
    }
    dot_plain(a, b)
}

/// Eight sums side by side, which compilers turn into vector code on every architecture.
fn dot_plain(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = if a.len() == b.len() {
        a8.remainder()
            .iter()
            .zip(b8.remainder())
            .map(|(x, y)| x * y)
            .sum()
    } else {
        return a.iter().zip(b).map(|(x, y)| x * y).sum();
    };
    for (x, y) in a8.zip(b8) {
        for i in 0..8 {
            sums[i] += x[i] * y[i];
        }
    }
    sums.iter().sum::<f32>() + rest
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
#[expect(
    unsafe_code,
    reason = "unaligned vector loads; every load lies within the shorter slice"
)]
unsafe fn dot_fma(a: &[f32], b: &[f32]) -> f32 {
    use std::arch::x86_64::{
        _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    };
    let len = a.len().min(b.len());
    let whole = len - len % 32;
    let mut sums = [_mm256_setzero_ps(); 4];
    let mut at = 0;
    while at < whole {
        for (lane, sum) in sums.iter_mut().enumerate() {
            let from = at + lane * 8;
            // SAFETY: from + 8 <= at + 32 <= whole <= the length of both slices.
            let (x, y) = unsafe {
                (
                    _mm256_loadu_ps(a.as_ptr().add(from)),
                    _mm256_loadu_ps(b.as_ptr().add(from)),
                )
            };
            *sum = _mm256_fmadd_ps(x, y, *sum);
        }
        at += 32;
    }
    let sum = _mm256_add_ps(
        _mm256_add_ps(sums[0], sums[1]),
        _mm256_add_ps(sums[2], sums[3]),
    );
    let mut out = [0.0f32; 8];
    // SAFETY: `out` holds eight floats.
    unsafe { _mm256_storeu_ps(out.as_mut_ptr(), sum) };
    let rest: f32 = a[whole..len]
        .iter()
        .zip(&b[whole..len])
        .map(|(x, y)| x * y)
        .sum();
    out.iter().sum::<f32>() + rest
}

/// Whether a vector may enter an index: right length, finite, of length one.
#[must_use]
pub fn is_unit(vector: &[f32]) -> bool {
    vector.len() == DIMS
        && vector.iter().all(|x| x.is_finite())
        && (dot(vector, vector) - 1.0).abs() < 1e-3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_summing_agree() {
        for len in [0, 1, 7, 8, 31, 32, 33, 384, 385] {
            let a: Vec<f32> = (0..len)
                .map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0)
                .collect();
            let b: Vec<f32> = (0..len)
                .map(|i| ((i * 53 % 97) as f32 - 48.0) / 48.0)
                .collect();
            let exact: f64 = a
                .iter()
                .zip(&b)
                .map(|(x, y)| f64::from(*x) * f64::from(*y))
                .sum();
            assert!(
                (f64::from(dot(&a, &b)) - exact).abs() < 1e-4,
                "length {len}"
            );
            assert!(
                (f64::from(dot_plain(&a, &b)) - exact).abs() < 1e-4,
                "length {len}"
            );
        }
    }

    #[test]
    fn a_vector_is_never_at_a_negative_distance_from_itself() {
        let mut v = vec![0.051_031_04_f32; DIMS];
        v[0] = 0.051_04;
        assert!(UnitDot.eval(&v, &v) >= 0.0);
    }

    #[test]
    fn zero_nan_and_short_vectors_are_refused() {
        assert!(!is_unit(&[0.0; DIMS]));
        let mut v = vec![0.0; DIMS];
        v[0] = 1.0;
        assert!(is_unit(&v));
        v[1] = f32::NAN;
        assert!(!is_unit(&v));
        assert!(!is_unit(&[1.0]));
    }
}
