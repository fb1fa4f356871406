//! What vectors of texts have in common, whoever makes them.

/// The vector with length 1; a vector of zeros stays.
#[must_use]
pub fn normalised(vector: &[f32]) -> Vec<f32> {
    let length = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt();
    if length == 0.0 {
        return vector.to_vec();
    }
    #[expect(clippy::cast_possible_truncation, reason = "back to the precision that it came in")]
    let scale = |x: &f32| (f64::from(*x) / length) as f32;
    vector.iter().map(scale).collect()
}

#[cfg(test)]
mod tests {
    use super::normalised;

    #[test]
    fn vectors_have_length_one() {
        let vector = normalised(&[3.0, -4.0]);
        assert!((vector[0] - 0.6).abs() < 1e-6 && (vector[1] + 0.8).abs() < 1e-6, "{vector:?}");
        assert_eq!(normalised(&[0.0, 0.0]), [0.0, 0.0]);
    }
}
