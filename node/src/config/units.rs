//! Amounts in the configuration: in a token's smallest unit, beyond what a number of TOML holds.

use serde::{Deserialize, Serialize};
use std::fmt;

/// An amount in a token's smallest unit: a whole number, or its digits in quotes. *A number of TOML ends at 2^63, which is 9.2 Ether.*
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "String")]
pub struct Units(pub u128);

/// A number below 2^128 as decimal text. Digits only: a number's own parser takes a sign as well.
pub fn digits(text: &str) -> Option<u128> {
    let only_digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| only_digits)
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "an amount in the token's smallest unit: a whole number, or its digits in quotes"
)]
enum Written {
    Number(u64),
    Digits(String),
}

impl TryFrom<Written> for Units {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        match written {
            Written::Number(number) => Ok(Self(u128::from(number))),
            Written::Digits(text) => digits(&text).map(Self).ok_or_else(|| {
                format!(
                    "{text:?} is no amount in the token's smallest unit: digits only, below 2^128"
                )
            }),
        }
    }
}

impl From<Units> for String {
    fn from(units: Units) -> Self {
        units.to_string()
    }
}

impl fmt::Display for Units {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}
