//! Turns in exact shares, smoothly spread: 3:2 is a b a b a.

/// Shares are whole numbers that add up to no more than this, or to one each.
const LENGTH_MAX: f64 = 1_000.0;

/// Whose turn it is, slot by slot (nginx's smooth weighted round robin, run once ahead).
pub(crate) fn schedule(weights: &[f64]) -> Vec<u32> {
    let shares = whole(weights);
    let length: i64 = shares.iter().sum();
    let mut credit = vec![0_i64; shares.len()];
    (0..length)
        .map(|_| {
            for (credit, share) in credit.iter_mut().zip(&shares) {
                *credit += share;
            }
            let best = (0..credit.len()).rev().max_by_key(|&at| credit[at]);
            let best = best.unwrap_or(0);
            credit[best] -= length;
            u32::try_from(best).unwrap_or(u32::MAX)
        })
        .collect()
}

/// The weights as small whole numbers. Nothing below nothing; a tiny share is one slot.
fn whole(weights: &[f64]) -> Vec<i64> {
    let sum: f64 = weights.iter().filter(|w| w.is_finite() && **w > 0.0).sum();
    if sum <= 0.0 {
        return vec![1; weights.len()];
    }
    let most = LENGTH_MAX.max(weights.len() as f64);
    // Written with a few decimals they are exact; else as near as the length allows.
    let exact = |scale: &f64| {
        let near = |weight: &f64| (weight * scale - (weight * scale).round()).abs() < 1e-9;
        sum * scale <= most && weights.iter().all(near)
    };
    let scale = [1.0, 10.0, 100.0, 1_000.0].into_iter().find(exact);
    let scale = scale.unwrap_or(most / sum);
    let shares: Vec<i64> = weights
        .iter()
        .map(|&weight| {
            if weight > 0.0 && weight.is_finite() {
                ((weight * scale).round() as i64).max(1)
            } else {
                0
            }
        })
        .collect();
    let common = shares.iter().fold(0, |a, &b| gcd(a, b)).max(1);
    shares.into_iter().map(|share| share / common).collect()
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_exact_and_spread() {
        assert_eq!(schedule(&[0.6, 0.4]), [0, 1, 0, 1, 0]);
        assert_eq!(schedule(&[1.0, 1.0]), [0, 1]);
        assert_eq!(schedule(&[5.0, 1.0, 1.0]).len(), 7);
        assert_eq!(schedule(&[0.0, 0.0]), [0, 1]);
        assert_eq!(schedule(&[1.0, 0.0]), [0]);
        assert_eq!(schedule(&vec![1.0; 3_000]).len(), 3_000);
    }
}
