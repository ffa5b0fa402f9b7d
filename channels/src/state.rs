//! What a channel is on chain: parameters, halves, lock lists, and their exact bytes.
//!
//! `Params → ChannelId`; `Lock → 56 packed bytes`; `list → LockRoot`; `Halves` = newest half of each side.

use crate::types::{Address, Amount, LockRoot, PaymentHash, Side, Timestamp, Version};
use serde::{Deserialize, Serialize};
use sha3::{Digest, Keccak256};
use thiserror::Error;

/// Most locks in one half: what one block can settle.
pub const MAX_LOCKS: usize = 200;
/// Bytes of a packed lock: hash, u128 amount, u64 expiry, big-endian.
pub const LOCK_BYTES: usize = 56;
/// Shortest dispute window that the contract takes, seconds.
pub const MIN_WINDOW_SECS: u32 = 3600;
/// Longest dispute window that the contract takes, seconds.
pub const MAX_WINDOW_SECS: u32 = 30 * 24 * 3600;
/// The contract settles at the latest this long after a deadline, so no lock may expire later, seconds.
pub const SETTLE_GRACE_SECS: u64 = 24 * 3600;

/// Keccak-256.
pub fn keccak(bytes: &[u8]) -> [u8; 32] {
    Keccak256::digest(bytes).into()
}

/// What names a channel for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Params {
    /// Hot key of side A.
    pub signer_a: Address,
    /// Where side A is paid.
    pub payout_a: Address,
    /// Hot key of side B.
    pub signer_b: Address,
    /// Where side B is paid.
    pub payout_b: Address,
    /// The token; zero for Ether.
    pub token: Address,
    /// Time for a challenge after the first submit, seconds.
    pub window_secs: u32,
    /// Tells channels of the same parties apart.
    pub salt: u64,
}

impl Params {
    /// The key that signs for a side.
    pub fn signer(&self, side: Side) -> Address {
        match side {
            Side::A => self.signer_a,
            Side::B => self.signer_b,
        }
    }

    /// Where a side is paid.
    pub fn payout(&self, side: Side) -> Address {
        match side {
            Side::A => self.payout_a,
            Side::B => self.payout_b,
        }
    }

    /// Whether the contract takes them.
    ///
    /// # Errors
    /// The rule they break.
    pub fn check(&self) -> Result<(), ParamsError> {
        if self.signer_a == Address::ZERO
            || self.signer_b == Address::ZERO
            || self.signer_a == self.signer_b
        {
            return Err(ParamsError::Signers);
        }
        if self.payout_a == Address::ZERO || self.payout_b == Address::ZERO {
            return Err(ParamsError::Payouts);
        }
        if !(MIN_WINDOW_SECS..=MAX_WINDOW_SECS).contains(&self.window_secs) {
            return Err(ParamsError::Window(self.window_secs));
        }
        Ok(())
    }
}

/// Parameters that the contract refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ParamsError {
    /// A signer is zero or both are the same.
    #[error("signers must differ and not be zero")]
    Signers,
    /// A payout address is zero.
    #[error("payout addresses must not be zero")]
    Payouts,
    /// The window is too short or too long.
    #[error("window of {0} s is not within 1 h and 30 days")]
    Window(u32),
}

/// One side's counters. Only that side moves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Half {
    /// Grows with every change.
    pub version: Version,
    /// All that this side ever paid, below 2^112.
    pub paid: u128,
    /// Root of this side's outgoing locks.
    pub locks: LockRoot,
}

impl Half {
    /// The half before the first.
    pub const ZERO: Self = Self {
        version: 0,
        paid: 0,
        locks: LockRoot::EMPTY,
    };
}

/// The newest half of each side: what a snapshot signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Halves {
    /// Side A's.
    pub a: Half,
    /// Side B's.
    pub b: Half,
}

impl Halves {
    /// Before the first message.
    pub const ZERO: Self = Self {
        a: Half::ZERO,
        b: Half::ZERO,
    };

    /// Halves from a side's point of view.
    pub fn of(side: Side, own: Half, other: Half) -> Self {
        match side {
            Side::A => Self { a: own, b: other },
            Side::B => Self { a: other, b: own },
        }
    }

    /// A side's half.
    pub fn side(&self, side: Side) -> &Half {
        match side {
            Side::A => &self.a,
            Side::B => &self.b,
        }
    }
}

/// An amount locked to a hash until an expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lock {
    /// What the preimage hashes to.
    pub hash: PaymentHash,
    /// What it moves; peers accept none of zero.
    pub amount: Amount,
    /// Last L1 time at which a reveal counts.
    pub expiry: Timestamp,
}

impl Lock {
    /// The 56 bytes that are hashed and sent to the contract.
    pub fn pack(&self) -> [u8; LOCK_BYTES] {
        let mut bytes = [0; LOCK_BYTES];
        bytes[..32].copy_from_slice(&self.hash.0);
        bytes[32..48].copy_from_slice(&self.amount.get().to_be_bytes());
        bytes[48..].copy_from_slice(&self.expiry.to_be_bytes());
        bytes
    }

    /// A lock from its 56 bytes. An amount of zero is read: the contract takes it, so a dispute may hold it.
    ///
    /// # Errors
    /// [`ListError::Amount`] if the amount is 2^100 or more.
    pub fn unpack(bytes: &[u8; LOCK_BYTES]) -> Result<Self, ListError> {
        let (hash, rest) = bytes.split_at(32);
        let (amount, expiry) = rest.split_at(16);
        let units = u128::from_be_bytes(amount.try_into().expect("16 bytes were split off"));
        Ok(Self {
            hash: PaymentHash(hash.try_into().expect("32 bytes were split off")),
            amount: Amount::new(units).map_err(|_| ListError::Amount(units))?,
            expiry: u64::from_be_bytes(expiry.try_into().expect("8 bytes are left")),
        })
    }
}

/// A lock list that neither a peer nor the contract takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ListError {
    /// More than [`MAX_LOCKS`].
    #[error("{0} locks, at most 200 are allowed")]
    TooMany(usize),
    /// An amount is 2^100 or more.
    #[error("lock amount {0} is not below 2^100")]
    Amount(u128),
    /// The contract could not settle in time.
    #[error("lock expires at {expiry}, later than {latest}")]
    Expiry {
        /// The lock's.
        expiry: Timestamp,
        /// The latest allowed.
        latest: Timestamp,
    },
    /// The bytes are no whole number of locks.
    #[error("{0} bytes are no whole number of locks")]
    Length(usize),
    /// The list is not the one that was signed.
    #[error("list hashes to {found}, the half says {signed}")]
    Root {
        /// Root of the list.
        found: LockRoot,
        /// Root in the half.
        signed: LockRoot,
    },
}

/// A list's packed bytes, in order of adding.
pub fn pack_list(list: &[Lock]) -> Vec<u8> {
    list.iter().flat_map(Lock::pack).collect()
}

/// A list from its packed bytes.
///
/// # Errors
/// [`ListError::Length`] or [`ListError::Amount`].
pub fn unpack_list(bytes: &[u8]) -> Result<Vec<Lock>, ListError> {
    let (locks, rest) = bytes.as_chunks::<LOCK_BYTES>();
    if !rest.is_empty() {
        return Err(ListError::Length(bytes.len()));
    }
    locks.iter().map(Lock::unpack).collect()
}

/// A list's root.
pub fn list_root(list: &[Lock]) -> LockRoot {
    if list.is_empty() {
        LockRoot::EMPTY
    } else {
        LockRoot(keccak(&pack_list(list)))
    }
}

/// The checks that a peer's message and the contract's `submit` share: what is accepted off chain can be submitted.
/// The range of amounts is the type's.
///
/// # Errors
/// The first rule that the list breaks.
pub fn check_list(list: &[Lock], signed: LockRoot, latest: Timestamp) -> Result<(), ListError> {
    if list.len() > MAX_LOCKS {
        return Err(ListError::TooMany(list.len()));
    }
    for lock in list {
        if lock.expiry > latest {
            return Err(ListError::Expiry {
                expiry: lock.expiry,
                latest,
            });
        }
    }
    let found = list_root(list);
    if found != signed {
        return Err(ListError::Root { found, signed });
    }
    Ok(())
}

/// Sum of a list; at most 200 · 2^100, so it fits.
pub fn list_sum<'a>(list: impl IntoIterator<Item = &'a Lock>) -> u128 {
    list.into_iter().map(|lock| lock.amount.get()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::AMOUNT_LIMIT;

    fn lock(amount: u128) -> Lock {
        Lock {
            hash: PaymentHash([7; 32]),
            amount: Amount::new(amount).unwrap(),
            expiry: 1_000,
        }
    }

    #[test]
    fn a_packed_lock_is_56_bytes_and_comes_back() {
        let lock = lock(0x0102);
        let bytes = lock.pack();
        assert_eq!(&bytes[..32], &[7; 32]);
        assert_eq!(&bytes[46..48], &[1, 2]);
        assert_eq!(&bytes[54..], &[3, 232]);
        assert_eq!(Lock::unpack(&bytes), Ok(lock));
        assert_eq!(unpack_list(&pack_list(&[lock, lock])), Ok(vec![lock, lock]));
        assert_eq!(unpack_list(&bytes[1..]), Err(ListError::Length(55)));
    }

    #[test]
    fn amounts_end_at_two_to_the_hundred() {
        assert!(Amount::new(AMOUNT_LIMIT - 1).is_ok());
        assert_eq!(
            Amount::new(AMOUNT_LIMIT),
            Err(crate::types::AmountTooLarge(AMOUNT_LIMIT))
        );
        let mut bytes = lock(1).pack();
        bytes[32..48].copy_from_slice(&AMOUNT_LIMIT.to_be_bytes());
        assert_eq!(Lock::unpack(&bytes), Err(ListError::Amount(AMOUNT_LIMIT)));
        bytes[32..48].fill(0);
        assert_eq!(Lock::unpack(&bytes), Ok(lock(0)));
    }

    #[test]
    fn the_shared_list_checks_name_the_broken_rule() {
        let list = vec![lock(1); MAX_LOCKS];
        assert_eq!(check_list(&list, list_root(&list), 1_000), Ok(()));
        let long = vec![lock(1); MAX_LOCKS + 1];
        assert_eq!(
            check_list(&long, list_root(&long), 1_000),
            Err(ListError::TooMany(201))
        );
        assert_eq!(
            check_list(&list, list_root(&list), 999),
            Err(ListError::Expiry {
                expiry: 1_000,
                latest: 999
            })
        );
        assert!(matches!(
            check_list(&list, LockRoot::EMPTY, 1_000),
            Err(ListError::Root { .. })
        ));
        assert_eq!(list_root(&[]), LockRoot::EMPTY);
    }

    #[test]
    fn parameters_that_the_contract_refuses_are_named() {
        let good = Params {
            signer_a: Address([1; 20]),
            payout_a: Address([2; 20]),
            signer_b: Address([3; 20]),
            payout_b: Address([4; 20]),
            token: Address::ZERO,
            window_secs: 86_400,
            salt: 0,
        };
        assert_eq!(good.check(), Ok(()));
        let same = Params {
            signer_b: good.signer_a,
            ..good
        };
        assert_eq!(same.check(), Err(ParamsError::Signers));
        let nobody = Params {
            payout_b: Address::ZERO,
            ..good
        };
        assert_eq!(nobody.check(), Err(ParamsError::Payouts));
        let short = Params {
            window_secs: 3_599,
            ..good
        };
        assert_eq!(short.check(), Err(ParamsError::Window(3_599)));
    }
}
