//! The contract as plain Rust: what `Channels.sol` does, without gas, tokens or calls.
//!
//! `deposit, cooperate, submit, settle, reveal` with the contract's checks in the contract's order. The simulator runs on it,
//! and the real contract can be compared with it, call by call.

use millrace_channels::digest::{self, Coop};
use millrace_channels::machine::dispute::{ChainPhase, Dispute, OnChain};
use millrace_channels::state::{
    Half, Halves, ListError, Lock, Params, ParamsError, SETTLE_GRACE_SECS, check_list,
};
use millrace_channels::types::{
    AMOUNT_LIMIT, Address, ChannelId, Hash32, PaymentHash, Preimage, Side, Signature, Timestamp,
};
use std::collections::{BTreeMap, BTreeSet};

/// Why a call reverts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revert {
    /// The parameters are out of bounds.
    Params(ParamsError),
    /// A deposit of nothing or of 2^100 and more.
    Amount(u128),
    /// The channel is closing or closed.
    NotOpen,
    /// Nothing was deposited, or it was closed for good.
    NoChannel,
    /// Neither the sender nor a signature authorises it.
    Unauthorised,
    /// The payout is too late.
    Expired,
    /// The payout is of another epoch.
    Epoch,
    /// More than the pot.
    Overdraw,
    /// It advances neither half.
    Stale,
    /// The window is over.
    Late,
    /// The window is not over, or a lock is undecided.
    Early,
    /// A list breaks a rule.
    List(ListError),
    /// Version 0 is the zero half.
    ZeroVersion,
}

/// How halves are merged; anything but [`Merge::PerHalf`] is a mutation that the simulator must catch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Merge {
    /// The higher version of each half.
    PerHalf,
    /// The snapshot with the higher sum of versions, whole.
    Whole,
}

/// The signatures of a submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Signatures {
    /// Side A's over the snapshot.
    pub a: Option<Signature>,
    /// Side B's over the snapshot.
    pub b: Option<Signature>,
    /// A signer's over a close, and until when.
    pub close: Option<(Signature, Timestamp)>,
}

/// Whether an address signed a digest.
pub type SignedBy = fn(&Address, &Hash32, &Signature) -> bool;

/// The contract's state.
#[derive(Debug, Clone)]
pub struct Contract {
    separator: Hash32,
    signed_by: SignedBy,
    merge: Merge,
    /// Channels by id.
    pub channels: BTreeMap<ChannelId, (Params, OnChain)>,
    /// First reveal of each hash.
    pub reveals: BTreeMap<PaymentHash, (Timestamp, Preimage)>,
    /// Receivers that refuse money.
    pub refusing: BTreeSet<Address>,
    /// What they could not be paid.
    pub claimable: BTreeMap<Address, u128>,
    /// What was paid out, by address.
    pub paid_out: BTreeMap<Address, u128>,
    /// What was deposited, by payout address of the side.
    pub deposited: BTreeMap<Address, u128>,
    /// Disputes that were settled: deposits less payouts before, and what each side got.
    pub settlements: BTreeMap<ChannelId, Settlement>,
}

/// A settled dispute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settlement {
    /// Side A's and side B's deposits less payouts.
    pub net: (i128, i128),
    /// What side A and side B got.
    pub pay: (i128, i128),
    /// What side A and side B had paid the other: their counters and the locks that were won.
    pub counted: (u128, u128),
}

impl Contract {
    /// A fresh contract.
    pub fn new(separator: Hash32, signed_by: SignedBy, merge: Merge) -> Self {
        Self {
            separator,
            signed_by,
            merge,
            channels: BTreeMap::new(),
            reveals: BTreeMap::new(),
            refusing: BTreeSet::new(),
            claimable: BTreeMap::new(),
            paid_out: BTreeMap::new(),
            deposited: BTreeMap::new(),
            settlements: BTreeMap::new(),
        }
    }

    /// What the contract holds.
    pub fn pot(&self) -> i128 {
        self.channels.values().map(|(_, chain)| chain.pot()).sum()
    }

    fn id(&self, params: &Params) -> ChannelId {
        digest::channel_id(&self.separator, params)
    }

    /// Deposits for a side; opens the channel.
    ///
    /// # Errors
    /// [`Revert`].
    pub fn deposit(&mut self, params: &Params, side: Side, amount: u128) -> Result<(), Revert> {
        params.check().map_err(Revert::Params)?;
        if amount == 0 {
            return Err(Revert::Amount(amount));
        }
        let id = self.id(params);
        let known = self.channels.get(&id).map(|(_, chain)| chain);
        if known.is_some_and(|chain| !chain.is_open()) {
            return Err(Revert::NotOpen);
        }
        let pot = known.map_or(0, OnChain::pot).unsigned_abs();
        if amount >= AMOUNT_LIMIT || pot + amount >= AMOUNT_LIMIT {
            return Err(Revert::Amount(amount));
        }
        let (_, chain) = self.channels.entry(id).or_insert((
            *params,
            OnChain {
                net_a: 0,
                net_b: 0,
                epoch: 0,
                phase: ChainPhase::Open,
            },
        ));
        match side {
            Side::A => chain.net_a += amount as i128,
            Side::B => chain.net_b += amount as i128,
        }
        *self.deposited.entry(params.payout(side)).or_default() += amount;
        Ok(())
    }

    fn authorised(
        &self,
        sender: &Address,
        signer: &Address,
        digest: &Hash32,
        signature: Option<Signature>,
    ) -> Result<(), Revert> {
        let signed = |signature| (self.signed_by)(signer, digest, &signature);
        if sender == signer || signature.is_some_and(signed) {
            Ok(())
        } else {
            Err(Revert::Unauthorised)
        }
    }

    /// Pays free balances with both signatures.
    ///
    /// # Errors
    /// [`Revert`].
    pub fn cooperate(
        &mut self,
        sender: &Address,
        now: Timestamp,
        params: &Params,
        coop: &Coop,
        signatures: (Option<Signature>, Option<Signature>),
    ) -> Result<(), Revert> {
        let id = self.id(params);
        let digest = digest::coop(&self.separator, &id, coop);
        let (_, chain) = self.channels.get(&id).ok_or(Revert::NoChannel)?;
        if chain.is_closed() {
            return Err(Revert::NoChannel);
        }
        if now > coop.valid_until {
            return Err(Revert::Expired);
        }
        if coop.epoch != chain.epoch {
            return Err(Revert::Epoch);
        }
        self.authorised(sender, &params.signer_a, &digest, signatures.0)?;
        self.authorised(sender, &params.signer_b, &digest, signatures.1)?;
        let (_, chain) = self.channels.get_mut(&id).ok_or(Revert::NoChannel)?;
        let rest = chain.pot() - coop.pay_a as i128 - coop.pay_b as i128;
        if rest < 0 {
            return Err(Revert::Overdraw);
        }
        chain.net_a -= coop.pay_a as i128;
        chain.net_b -= coop.pay_b as i128;
        chain.epoch += 1;
        if rest == 0 {
            (chain.net_a, chain.net_b) = (0, 0);
            chain.phase = ChainPhase::Cooperated;
        }
        self.pay(params.payout_a, coop.pay_a);
        self.pay(params.payout_b, coop.pay_b);
        Ok(())
    }

    fn pay(&mut self, to: Address, amount: u128) {
        let account = if self.refusing.contains(&to) {
            &mut self.claimable
        } else {
            &mut self.paid_out
        };
        *account.entry(to).or_default() += amount;
    }

    /// Closes or challenges with a snapshot.
    ///
    /// # Errors
    /// [`Revert`].
    pub fn submit(
        &mut self,
        sender: &Address,
        now: Timestamp,
        params: &Params,
        halves: &Halves,
        lists: (&[Lock], &[Lock]),
        signatures: Signatures,
    ) -> Result<(), Revert> {
        let id = self.id(params);
        let (_, chain) = self.channels.get(&id).ok_or(Revert::NoChannel)?;
        let opens = match &chain.phase {
            ChainPhase::Open => true,
            ChainPhase::Closing(dispute) if now >= dispute.deadline => return Err(Revert::Late),
            ChainPhase::Closing(_) => false,
            ChainPhase::Cooperated | ChainPhase::Settled { .. } => return Err(Revert::NoChannel),
        };
        if opens {
            self.may_open(sender, now, params, &id, signatures.close)?;
        }
        let mut dispute = match &chain.phase {
            ChainPhase::Closing(dispute) => dispute.clone(),
            _ => Dispute {
                deadline: now + u64::from(params.window_secs),
                halves: Halves::ZERO,
                list_a: Vec::new(),
                list_b: Vec::new(),
            },
        };
        let zero = halves.a.version == 0 && halves.b.version == 0;
        if (halves.a.version == 0 && halves.a != Half::ZERO)
            || (halves.b.version == 0 && halves.b != Half::ZERO)
        {
            return Err(Revert::ZeroVersion);
        }
        if zero && !opens {
            return Err(Revert::Stale);
        }
        if !zero {
            let digest = digest::snapshot(&self.separator, &id, halves);
            self.authorised(sender, &params.signer_a, &digest, signatures.a)?;
            self.authorised(sender, &params.signer_b, &digest, signatures.b)?;
            merge(&mut dispute, halves, lists, self.merge)?;
        }
        if let Some((_, chain)) = self.channels.get_mut(&id) {
            chain.phase = ChainPhase::Closing(dispute);
        }
        Ok(())
    }

    /// The first submit: by a signer, or with a signer's close.
    fn may_open(
        &self,
        sender: &Address,
        now: Timestamp,
        params: &Params,
        id: &ChannelId,
        close: Option<(Signature, Timestamp)>,
    ) -> Result<(), Revert> {
        if *sender == params.signer_a || *sender == params.signer_b {
            return Ok(());
        }
        let (signature, valid_until) = close.ok_or(Revert::Unauthorised)?;
        if now > valid_until {
            return Err(Revert::Expired);
        }
        let digest = digest::close(&self.separator, id, valid_until);
        let signed = [params.signer_a, params.signer_b]
            .iter()
            .any(|signer| (self.signed_by)(signer, &digest, &signature));
        if signed {
            Ok(())
        } else {
            Err(Revert::Unauthorised)
        }
    }

    /// Pays out after the window, locks by the registry.
    ///
    /// # Errors
    /// [`Revert`].
    pub fn settle(
        &mut self,
        now: Timestamp,
        params: &Params,
        lists: (&[Lock], &[Lock]),
    ) -> Result<(), Revert> {
        let id = self.id(params);
        let (_, chain) = self.channels.get(&id).ok_or(Revert::NoChannel)?;
        let ChainPhase::Closing(dispute) = &chain.phase else {
            return Err(Revert::NoChannel);
        };
        if now < dispute.deadline {
            return Err(Revert::Early);
        }
        let halves = dispute.halves;
        let won_a = self.won(now, lists.0, &halves.a)?;
        let won_b = self.won(now, lists.1, &halves.b)?;
        let pot = chain.pot();
        let balance = chain.net_a + halves.b.paid as i128 - halves.a.paid as i128 + won_b - won_a;
        let pay_a = balance.clamp(0, pot);
        let settlement = Settlement {
            net: (chain.net_a, chain.net_b),
            pay: (pay_a, pot - pay_a),
            counted: (
                halves.a.paid + won_a.unsigned_abs(),
                halves.b.paid + won_b.unsigned_abs(),
            ),
        };
        self.settlements.insert(id, settlement);
        if let Some((_, chain)) = self.channels.get_mut(&id) {
            (chain.net_a, chain.net_b) = (0, 0);
            chain.phase = ChainPhase::Settled {
                version_a: halves.a.version,
                version_b: halves.b.version,
            };
        }
        self.pay(params.payout_a, pay_a as u128);
        self.pay(params.payout_b, (pot - pay_a) as u128);
        Ok(())
    }

    /// What a side's locks move: all revealed in time, none undecided.
    fn won(&self, now: Timestamp, list: &[Lock], half: &Half) -> Result<i128, Revert> {
        check_list(list, half.locks, u64::MAX).map_err(Revert::List)?;
        let mut sum = 0;
        for lock in list {
            let revealed = self.reveals.get(&lock.hash);
            if revealed.is_some_and(|(at, _)| *at <= lock.expiry) {
                sum += lock.amount.get() as i128;
            } else if now <= lock.expiry {
                return Err(Revert::Early);
            }
        }
        Ok(sum)
    }

    /// Records preimages; the first time counts.
    pub fn reveal(&mut self, now: Timestamp, preimages: &[Preimage]) {
        for preimage in preimages {
            self.reveals
                .entry(preimage.hash())
                .or_insert((now, *preimage));
        }
    }
}

/// Takes over what is newer; reverts if nothing is.
fn merge(
    dispute: &mut Dispute,
    halves: &Halves,
    lists: (&[Lock], &[Lock]),
    how: Merge,
) -> Result<(), Revert> {
    let (mut newer_a, mut newer_b) = (
        halves.a.version > dispute.halves.a.version,
        halves.b.version > dispute.halves.b.version,
    );
    if how == Merge::Whole {
        let sum = |halves: &Halves| u128::from(halves.a.version) + u128::from(halves.b.version);
        newer_a = sum(halves) > sum(&dispute.halves);
        newer_b = newer_a;
    }
    if !newer_a && !newer_b {
        return Err(Revert::Stale);
    }
    let latest = dispute.deadline + SETTLE_GRACE_SECS;
    if newer_a {
        check_list(lists.0, halves.a.locks, latest).map_err(Revert::List)?;
        dispute.halves.a = halves.a;
        dispute.list_a = lists.0.to_vec();
    }
    if newer_b {
        check_list(lists.1, halves.b.locks, latest).map_err(Revert::List)?;
        dispute.halves.b = halves.b;
        dispute.list_b = lists.1.to_vec();
    }
    Ok(())
}
