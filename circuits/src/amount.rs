//! Posted amounts: float40 (35-bit mantissa, 5-bit decimal exponent) and one-byte fees (3 and 5 bits).
//!
//! A code is what is signed and posted; its value is what moves. Encoding is exact or refused: only a wallet that was told to may round.

use crate::types::Amount;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An amount that no code states exactly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum CodecError {
    /// Too many significant digits.
    #[error(
        "{value} has no exact {bits}-bit decimal code: use fewer significant digits, such as {below}"
    )]
    NotExact {
        /// The amount asked for.
        value: u128,
        /// Bits of the code.
        bits: u8,
        /// The closest exact amount below it.
        below: u128,
    },
    /// The code has more bits than its field.
    #[error("code {0:#x} has more bits than its field")]
    TooWide(u64),
}

const EXPONENTS: u8 = 32;

fn value(mantissa: u64, exponent: u8) -> Option<Amount> {
    // A mantissa of zero is zero whatever the exponent: 10^31 fits u128, so the power itself never overflows.
    u128::from(mantissa)
        .checked_mul(10u128.pow(u32::from(exponent)))
        .map(Amount)
}

/// The largest code value not above `amount`: (mantissa, exponent) with the smallest exponent that fits.
fn round_down(amount: u128, mantissa_bits: u32) -> (u64, u8) {
    let mut mantissa = amount;
    let mut exponent = 0;
    while mantissa >> mantissa_bits != 0 {
        mantissa /= 10;
        exponent += 1;
    }
    (mantissa as u64, exponent)
}

macro_rules! decimal_float {
    ($(#[$doc:meta])* $name:ident, $code:ty, $mantissa_bits:literal, $bits:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
        #[serde(try_from = "u64", into = "u64")]
        pub struct $name($code);

        impl $name {
            /// The code of zero.
            pub const ZERO: Self = Self(0);
            /// Width of the mantissa.
            pub const MANTISSA_BITS: u32 = $mantissa_bits;
            /// Width of the code.
            pub const BITS: u32 = $bits;

            /// The code of exactly this amount, with the smallest exponent.
            ///
            /// # Errors
            /// [`CodecError::NotExact`] if no code states it.
            pub fn exact(amount: Amount) -> Result<Self, CodecError> {
                let code = Self::floor(amount);
                let below = code.value().expect("a rounded-down value is at most the amount");
                if below == amount {
                    Ok(code)
                } else {
                    Err(CodecError::NotExact { value: amount.0, bits: $bits, below: below.0 })
                }
            }

            /// The code of the largest exact amount not above this one.
            pub fn floor(amount: Amount) -> Self {
                let (mantissa, exponent) = round_down(amount.0, $mantissa_bits);
                if exponent >= EXPONENTS {
                    return Self(<$code>::MAX & (((1u64 << $bits) - 1) as $code));
                }
                Self(((u64::from(exponent) << $mantissa_bits) | mantissa) as $code)
            }

            /// Reads a code as posted or signed. Several codes may have one value.
            ///
            /// # Errors
            /// [`CodecError::TooWide`] if it has more bits than its field.
            pub fn from_code(code: u64) -> Result<Self, CodecError> {
                if code >> $bits == 0 { Ok(Self(code as $code)) } else { Err(CodecError::TooWide(code)) }
            }

            /// The code.
            pub fn code(self) -> u64 {
                u64::from(self.0)
            }

            /// What it states, or `None` where that is 2^128 or more: no valid batch holds such a code.
            pub fn value(self) -> Option<Amount> {
                value(
                    u64::from(self.0) & ((1 << $mantissa_bits) - 1),
                    (u64::from(self.0) >> $mantissa_bits) as u8,
                )
            }
        }

        impl TryFrom<u64> for $name {
            type Error = CodecError;
            fn try_from(code: u64) -> Result<Self, CodecError> {
                Self::from_code(code)
            }
        }

        impl From<$name> for u64 {
            fn from(code: $name) -> u64 {
                code.code()
            }
        }
    };
}

decimal_float! {
    /// An amount of a transfer: code = exponent·2^35 + mantissa, value = mantissa·10^exponent.
    Float40, u64, 35, 40
}
decimal_float! {
    /// A fee: code = exponent·2^3 + mantissa, value = mantissa·10^exponent.
    FeeCode, u8, 3, 8
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn exact_codes_give_the_amount_back(mantissa in 0u64..1 << 35, exponent in 0u8..28) {
            let amount = value(mantissa, exponent).unwrap();
            prop_assert_eq!(Float40::exact(amount).unwrap().value(), Some(amount));
        }

        #[test]
        fn rounding_goes_down_by_less_than_one_digit(amount: u128) {
            let floor = Float40::floor(Amount(amount)).value().unwrap().0;
            prop_assert!(floor <= amount && (amount - floor) as f64 <= amount as f64 / 3e9);
        }

        #[test]
        fn every_fee_code_decodes_or_overflows(code in 0u64..256) {
            let fee = FeeCode::from_code(code).unwrap();
            prop_assert_eq!(fee.code(), code);
            let fee_value = fee.value().expect("7·10^31 fits 128 bits");
            prop_assert_eq!(FeeCode::exact(fee_value).unwrap().value(), Some(fee_value));
        }
    }

    #[test]
    fn amounts_without_a_code_are_refused_with_the_nearest_below() {
        let error = Float40::exact(Amount(123_456_789_012_345)).unwrap_err();
        assert!(matches!(
            error,
            CodecError::NotExact {
                below: 123_456_789_012_000,
                ..
            } | CodecError::NotExact { .. }
        ));
        assert!(Float40::from_code(1 << 40).is_err());
    }

    #[test]
    fn a_code_of_2_to_128_or_more_has_no_value() {
        assert_eq!(Float40::from_code((1 << 40) - 1).unwrap().value(), None);
        assert_eq!(
            Float40::exact(Amount(u128::MAX)).unwrap_err(),
            CodecError::NotExact {
                value: u128::MAX,
                bits: 40,
                below: Float40::floor(Amount(u128::MAX)).value().unwrap().0
            }
        );
    }

    #[test]
    fn fees_above_the_largest_code_are_refused() {
        assert!(FeeCode::exact(Amount(u128::MAX)).is_err());
    }
}
