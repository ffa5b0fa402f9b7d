//! An L1 row: Deposit, ForcedExit, or absent.
//!
//! | row | leaf becomes | amount |
//! |---|---|---|
//! | absent | unchanged (leaf 0) | 0 |
//! | Deposit, index 0 | unchanged: refused | as queued |
//! | Deposit | balance + amount; created if empty | as queued |
//! | ForcedExit, claim holds | balance 0, nonce + 2^16 | the old balance |
//! | ForcedExit, else | unchanged | 0 |
//!
//! The circuit proves what happens to whatever the contract queued: no request can make a batch unprovable.

use super::leaf::{self, Update};
use super::wires::{
    boolean, combine, complement, enforce_product, enforce_zero_product, flag, is_zero, minus,
    pack, plus, private_input, product, unsigned, witness,
};
use crate::batch::data::L1Row;
use crate::batch::shape::L1_ROW_WORDS;
use crate::batch::witness::L1RowWitness;
use crate::field::power_of_two;
use crate::poseidon;
use crate::transaction::{KIND_DEPOSIT, KIND_FORCED_EXIT};
use crate::types::FORCED_EXIT_NONCE_STEP;
use ark_bn254::Fr;
use ark_ff::{One, Zero};
use ark_r1cs_std::boolean::Boolean;
use ark_r1cs_std::fields::fp::FpVar;
use ark_relations::gr1cs::{ConstraintSystemRef, SynthesisError};
use ark_relations::ns;

/// A served row.
pub struct L1RowVar {
    /// Its five words.
    pub words: [FpVar<Fr>; L1_ROW_WORDS],
    /// The root after it.
    pub root: FpVar<Fr>,
}

/// What the row says.
struct PostedVar {
    is_deposit: FpVar<Fr>,
    is_exit: FpVar<Fr>,
    index: Vec<Boolean<Fr>>,
    token: FpVar<Fr>,
    amount: FpVar<Fr>,
    party: FpVar<Fr>,
    key_x: FpVar<Fr>,
    key_y: FpVar<Fr>,
}

/// The leaf as it is found.
struct FoundVar {
    exists: FpVar<Fr>,
    owner: FpVar<Fr>,
    token: FpVar<Fr>,
    nonce: FpVar<Fr>,
    nonce_is_near_its_end: FpVar<Fr>,
    balance: FpVar<Fr>,
}

/// Serves a row on the state with this root.
pub fn apply(
    cs: &ConstraintSystemRef<Fr>,
    posted: Option<&L1Row>,
    opened: &L1RowWitness,
    root: &FpVar<Fr>,
) -> Result<L1RowVar, SynthesisError> {
    let row = PostedVar::new(cs, posted)?;
    let found = FoundVar::new(cs, opened)?;
    let index = pack(&row.index);

    let refused = is_zero(cs, &index)?;
    let credits = product(cs, &row.is_deposit, &complement(&refused))?;
    let tops_up = product(cs, &credits, &found.exists)?;
    let creates = minus(&credits, &tops_up);
    {
        let _ns = ns!(cs, "a deposit credits a leaf of its own owner and token");
        enforce_zero_product(cs, &tops_up, &minus(&found.owner, &row.party))?;
        enforce_zero_product(cs, &tops_up, &minus(&found.token, &row.token))?;
    }
    {
        let _ns = ns!(cs, "a deposit of nothing creates no leaf");
        let nothing = is_zero(cs, &row.amount)?;
        enforce_zero_product(cs, &creates, &nothing)?;
    }
    let pays = exit_pays(cs, &row, &found)?;
    let left = product(cs, &pays, &found.balance)?;
    {
        let _ns = ns!(cs, "a forced exit takes the whole balance or nothing");
        enforce_product(cs, &row.is_exit, &row.amount, &left)?;
    }

    let old = found.leaf(cs)?;
    let (new_owner, new_token) = (
        plus(&found.owner, &product(cs, &creates, &row.party)?),
        plus(&found.token, &product(cs, &creates, &row.token)?),
    );
    let jumps = product(cs, &pays, &complement(&found.nonce_is_near_its_end))?;
    let step = Fr::from(FORCED_EXIT_NONCE_STEP);
    let new_nonce = combine(&[(Fr::one(), &found.nonce), (step, &jumps)]);
    let gained = product(cs, &credits, &row.amount)?;
    let new_balance = minus(&plus(&found.balance, &gained), &left);
    let new_hash = leaf::hash(&new_owner, &new_token, &new_nonce, &new_balance)?;
    let new = product(cs, &plus(&found.exists, &creates), &new_hash)?;

    let update = Update {
        index: &row.index,
        path: &opened.leaf.path,
        old_leaf: &old,
        new_leaf: &new,
    };
    let _ns = ns!(cs, "L1 row");
    Ok(L1RowVar {
        root: update.apply(cs, root)?,
        words: row.words(&index),
    })
}

/// Whether this is a forced exit whose claim (leaf, token, owner) holds.
fn exit_pays(
    cs: &ConstraintSystemRef<Fr>,
    row: &PostedVar,
    found: &FoundVar,
) -> Result<FpVar<Fr>, SynthesisError> {
    let claimed =
        poseidon::gadget::hash(&[row.party.clone(), row.key_x.clone(), row.key_y.clone()])?;
    let _ns = ns!(cs, "a forced exit pays if and only if its claim holds");
    let same_owner = is_zero(cs, &minus(&found.owner, &claimed))?;
    let same_token = is_zero(cs, &minus(&found.token, &row.token))?;
    let same = product(cs, &same_owner, &same_token)?;
    let there = product(cs, &row.is_exit, &found.exists)?;
    product(cs, &there, &same)
}

impl PostedVar {
    fn new(cs: &ConstraintSystemRef<Fr>, posted: Option<&L1Row>) -> Result<Self, SynthesisError> {
        let zero = Fr::zero();
        let (index, token, [_, amount, party, key_x, key_y]) = match posted {
            None => (0, 0, [zero; L1_ROW_WORDS]),
            Some(
                row
                @ (L1Row::Deposit { index, token, .. } | L1Row::ForcedExit { index, token, .. }),
            ) => (index.get(), token.get(), row.words()),
        };
        let is_deposit = flag(&boolean(cs, matches!(posted, Some(L1Row::Deposit { .. })))?);
        let is_exit = flag(&boolean(
            cs,
            matches!(posted, Some(L1Row::ForcedExit { .. })),
        )?);
        let index = unsigned(cs, index.into(), 24)?;
        let token = unsigned(cs, token.into(), 32)?.value;
        let row = Self {
            is_deposit,
            is_exit,
            index: index.bits,
            token,
            amount: match posted {
                Some(L1Row::Deposit { .. }) => private_input(cs, amount)?,
                _ => witness(cs, amount)?, // follows from the leaf
            },
            party: private_input(cs, party)?,
            key_x: private_input(cs, key_x)?,
            key_y: private_input(cs, key_y)?,
        };
        row.enforce_form(cs, &index.value)?;
        Ok(row)
    }

    fn enforce_form(
        &self,
        cs: &ConstraintSystemRef<Fr>,
        index: &FpVar<Fr>,
    ) -> Result<(), SynthesisError> {
        {
            let _ns = ns!(cs, "an L1 row is of one kind");
            enforce_zero_product(cs, &self.is_deposit, &self.is_exit)?;
        }
        let absent = complement(&plus(&self.is_deposit, &self.is_exit));
        let _ns = ns!(cs, "an absent L1 row is all zero");
        let head = combine(&[(Fr::one(), index), (power_of_two(24), &self.token)]);
        for field in [&head, &self.amount, &self.party] {
            enforce_zero_product(cs, &absent, field)?;
        }
        let _ns = ns!(cs, "only a forced exit has a key");
        for field in [&self.key_x, &self.key_y] {
            enforce_zero_product(cs, &complement(&self.is_exit), field)?;
        }
        Ok(())
    }

    fn words(self, index: &FpVar<Fr>) -> [FpVar<Fr>; L1_ROW_WORDS] {
        let head = combine(&[
            (Fr::from(KIND_DEPOSIT), &self.is_deposit),
            (Fr::from(KIND_FORCED_EXIT), &self.is_exit),
            (power_of_two(8), index),
            (power_of_two(32), &self.token),
        ]);
        [head, self.amount, self.party, self.key_x, self.key_y]
    }
}

impl FoundVar {
    fn new(cs: &ConstraintSystemRef<Fr>, opened: &L1RowWitness) -> Result<Self, SynthesisError> {
        let account = opened.leaf.account.as_ref();
        let nonce = unsigned(cs, account.map_or(0, |a| a.nonce.get().into()), 40)?;
        // nonce + 2^16 leaves 40 bits exactly if its upper 24 bits are all ones.
        let upper = pack(&nonce.bits[16..]);
        let limit = FpVar::Constant(Fr::from((1u64 << 24) - 1));
        let found = Self {
            exists: flag(&boolean(cs, account.is_some())?),
            owner: private_input(cs, account.map_or(Fr::zero(), |a| a.owner.0))?,
            token: unsigned(cs, account.map_or(0, |a| a.token.get().into()), 32)?.value,
            nonce_is_near_its_end: is_zero(cs, &minus(&upper, &limit))?,
            nonce: nonce.value,
            balance: private_input(cs, account.map_or(Fr::zero(), |a| a.balance.into()))?,
        };
        let empty = complement(&found.exists);
        let _ns = ns!(cs, "an empty leaf has no fields");
        for field in [&found.owner, &found.token, &found.nonce, &found.balance] {
            enforce_zero_product(cs, &empty, field)?;
        }
        Ok(found)
    }

    fn leaf(&self, cs: &ConstraintSystemRef<Fr>) -> Result<FpVar<Fr>, SynthesisError> {
        let hash = leaf::hash(&self.owner, &self.token, &self.nonce, &self.balance)?;
        product(cs, &self.exists, &hash)
    }
}
