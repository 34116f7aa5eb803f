//! Reads [quantities](https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/)
//! of bytes, such as `10Gi`.

use serde_json::value::RawValue;

use super::json::text;

/// A quantity as a number of bytes, rounded up. `None` if it is not one, or too large to count.
pub(super) fn bytes(raw: &RawValue) -> Option<u64> {
    // A quantity without a suffix may be written as a number.
    let text = text(raw).unwrap_or_else(|| raw.get().into());
    let digits_end = text
        .find(|character: char| !character.is_ascii_digit() && character != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at_checked(digits_end)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    // Further decimals are far below a byte, whatever the suffix.
    let fraction = fraction.get(..fraction.len().min(18))?;
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let (factor, divisor) = scale(suffix)?;
    let decimals = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let scaled = digits.checked_mul(factor)?;
    u64::try_from(scaled.div_ceil(decimals.checked_mul(divisor)?)).ok()
}

/// The factor and the divisor that a suffix stands for.
fn scale(suffix: &str) -> Option<(u128, u128)> {
    const THOUSAND: u128 = 1000;
    let prefixes = "kMGTPE";
    let power = |prefix: &str| {
        let index = prefixes.find(prefix).filter(|_| prefix.len() == 1)?;
        u32::try_from(index + 1).ok()
    };
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, THOUSAND.pow(3)),
        "u" => (1, THOUSAND.pow(2)),
        "m" => (1, THOUSAND),
        "Ki" => (1024, 1),
        _ => {
            if let Some(prefix) = suffix.strip_suffix('i').filter(|prefix| *prefix != "k") {
                (1024_u128.checked_pow(power(prefix)?)?, 1)
            } else if let Some(power) = power(suffix) {
                (THOUSAND.checked_pow(power)?, 1)
            } else {
                let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
                let factor = 10_u128.checked_pow(exponent.unsigned_abs())?;
                if exponent < 0 { (1, factor) } else { (factor, 1) }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantity_is_read_in_bytes() {
        for (text, expected) in [
            ("\"0\"", Some(0)),
            ("\"1073741824\"", Some(1 << 30)),
            ("1073741824", Some(1 << 30)),
            ("\"1Ki\"", Some(1024)),
            ("\"10Gi\"", Some(10 << 30)),
            ("\"1.5Gi\"", Some(3 << 29)),
            ("\".5Mi\"", Some(1 << 19)),
            ("\"2Ei\"", Some(2 << 60)),
            ("\"1k\"", Some(1000)),
            ("\"10G\"", Some(10_000_000_000)),
            ("\"1E\"", Some(1_000_000_000_000_000_000)),
            ("\"1e3\"", Some(1000)),
            ("\"12E2\"", Some(1200)),
            ("\"5e-1\"", Some(1)),
            ("\"1500m\"", Some(2)),
            ("\"1n\"", Some(1)),
            ("\"1.0000000000000000000001\"", Some(1)),
            ("\"\"", None),
            ("\".\"", None),
            ("\"Gi\"", None),
            ("\"-1Gi\"", None),
            ("\"1ki\"", None),
            ("\"1K\"", None),
            ("\"1gi\"", None),
            ("\"1kM\"", None),
            ("\"1e\"", None),
            ("\"1.2.3\"", None),
            ("\"99999999999Ei\"", None),
            ("\"1e999999999\"", None),
            ("true", None),
            ("{}", None),
        ] {
            let raw: &RawValue = serde_json::from_str(text).unwrap();
            assert_eq!(bytes(raw), expected, "{text}");
        }
    }
}
