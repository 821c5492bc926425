//! Quantities as Kubernetes writes memory.

/// Bytes, or with `Ki`, `Mi`, `Gi`, `k`, `M`, `G`; none for anything else.
pub fn parse_bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit: u64 = match unit {
        "" => 1,
        "k" => 1000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_kubernetes() {
        for (text, bytes) in [("12", 12), ("500k", 500_000), ("10Mi", 10 << 20), ("2Gi", 2 << 30), ("0", 0)] {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for text in ["", "Mi", "1.5Gi", "-1", "10 Mi", "10mi", "99999999999999Gi"] {
            assert_eq!(parse_bytes(text), None, "{text}");
        }
    }
}
