//! Amounts as people write them: decimal numbers of a token, exact or refused.
//!
//! "1.5" at 18 decimals ↔ 1500000000000000000; "1500wei" or "1500u" are smallest units

use millrace_circuits::amount::{CodecError, FeeCode, Float40};
use millrace_circuits::types::Amount;
use thiserror::Error;

/// Decimals of ETH.
pub const ETH_DECIMALS: u8 = 18;

/// Why a text is no amount.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AmountError {
    /// No decimal number.
    #[error(
        "{0:?} is no amount: write a decimal number such as 1.5, or smallest units such as 1500u"
    )]
    NotANumber(String),
    /// More digits after the point than the token has.
    #[error(
        "{text:?} has more than {decimals} digits after the point, which is all that the token has"
    )]
    TooFine {
        /// What was written.
        text: String,
        /// Decimals of the token.
        decimals: u8,
    },
    /// 2^128 or more.
    #[error("{0:?} is too large: amounts are below 2^128 smallest units")]
    TooLarge(String),
    /// No code states it.
    #[error("{0}; or pass --round-down to send that")]
    NotExact(CodecError),
    /// No fee code states it.
    #[error("fee: {0}")]
    Fee(CodecError),
}

/// Reads an amount of a token with so many decimals.
///
/// # Errors
/// If it is no number, too fine or too large.
pub fn parse(text: &str, decimals: u8) -> Result<Amount, AmountError> {
    let tidy = text.trim().replace('_', "");
    for suffix in ["wei", "u"] {
        if let Some(units) = tidy.strip_suffix(suffix) {
            return digits(text, units.trim_end(), "", 0);
        }
    }
    let (whole, fraction) = tidy.split_once('.').unwrap_or((&tidy, ""));
    let fraction = fraction.trim_end_matches('0');
    if fraction.len() > usize::from(decimals) {
        let text = text.to_owned();
        return Err(AmountError::TooFine { text, decimals });
    }
    digits(text, whole, fraction, decimals)
}

fn digits(text: &str, whole: &str, fraction: &str, decimals: u8) -> Result<Amount, AmountError> {
    let is_number = |part: &str| part.chars().all(|c| c.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || whole.is_empty() {
        return Err(AmountError::NotANumber(text.to_owned()));
    }
    let zeros = usize::from(decimals) - fraction.len();
    format!("{whole}{fraction}{:0<zeros$}", "")
        .parse()
        .map(Amount)
        .map_err(|_| AmountError::TooLarge(text.to_owned()))
}

/// Writes an amount of a token with so many decimals, without trailing zeros.
pub fn format(amount: Amount, decimals: u8) -> String {
    let decimals = usize::from(decimals);
    let digits = format!("{:0>width$}", amount.0, width = decimals + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimals);
    match fraction.trim_end_matches('0') {
        "" => whole.to_owned(),
        fraction => format!("{whole}.{fraction}"),
    }
}

/// The code of a transfer's amount: exact, unless the user allowed to round down.
///
/// # Errors
/// [`AmountError::NotExact`] with the nearest amount below.
pub fn transfer_code(amount: Amount, round_down: bool) -> Result<Float40, AmountError> {
    if round_down {
        Ok(Float40::floor(amount))
    } else {
        Float40::exact(amount).map_err(AmountError::NotExact)
    }
}

/// The code of a fee, which must be exact.
///
/// # Errors
/// [`AmountError::Fee`] with the nearest fee below.
pub fn fee_code(fee: Amount) -> Result<FeeCode, AmountError> {
    FeeCode::exact(fee).map_err(AmountError::Fee)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(amount: u128, decimals in 0u8..30) {
            let amount = Amount(amount);
            prop_assert_eq!(parse(&format(amount, decimals), decimals), Ok(amount));
            prop_assert_eq!(parse(&format!("{amount}u"), decimals), Ok(amount));
        }

        #[test]
        fn no_text_panics(text: String, decimals: u8) {
            let _ = parse(&text, decimals);
        }
    }

    #[test]
    fn usual_spellings_are_read() {
        assert_eq!(parse("1.5", 18), Ok(Amount(1_500_000_000_000_000_000)));
        assert_eq!(parse("1_000", 6), Ok(Amount(1_000_000_000)));
        assert_eq!(parse("0.10", 1), Ok(Amount(1)));
        assert_eq!(parse("7 wei", 18), Ok(Amount(7)));
        assert_eq!(format(Amount(1_050_000), 6), "1.05");
        assert_eq!(format(Amount(0), 18), "0");
    }

    #[test]
    fn wrong_spellings_are_refused() {
        for text in [
            "", ".", ".5", "-1", "1e3", "1,5", "0x10", "1.2.3", "u", "１",
        ] {
            assert!(
                matches!(parse(text, 18), Err(AmountError::NotANumber(_))),
                "{text}"
            );
        }
        assert!(matches!(parse("0.01", 1), Err(AmountError::TooFine { .. })));
        let large = u128::MAX.to_string();
        assert!(matches!(parse(&large, 1), Err(AmountError::TooLarge(_))));
    }

    #[test]
    fn a_transfer_is_rounded_only_when_told() {
        let fine = Amount(123_456_789_012_345);
        assert!(matches!(
            transfer_code(fine, false),
            Err(AmountError::NotExact(_))
        ));
        let rounded = transfer_code(fine, true).unwrap().value().unwrap();
        assert!(rounded < fine);
    }
}
