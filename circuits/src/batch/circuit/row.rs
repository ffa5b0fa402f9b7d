//! A transaction row: Transfer, Withdraw or Noop, told apart by its indices alone.
//!
//! ```text
//! from = 0 → Noop: everything is zero          from ≠ 0, to = 0 → Withdraw          from ≠ 0, to ≠ 0 → Transfer
//! leaf `from` → signature, nonce, expiry → debit → root → leaf `to` → credit or create → root
//! ```
//!
//! # Soundness
//! - The signed token and nonce are the opened leaf's, the signed recipient is the owner with which the leaf `to` is opened
//!   or created: no equality can be forgotten, for there is one wire.
//! - Leaf 0 is never created, so a row's access to index 0 finds it empty and leaves it so.
//! - A Noop still carries a valid signature, of [`IdleSigner`]: the verifying gadget needs no switch that could be left off.
//! - Amount and address of a Withdraw are ranged by the contract, which posts them in 16 and 20 bytes.

use super::Context;
use super::leaf::{self, Update};
use super::wires::{
    boolean, combine, complement, enforce_nonzero, enforce_width, enforce_zero_product, flag,
    is_zero, minus, pack, plus, private_input, product, unsigned,
};
use crate::amount::{FeeCode, Float40};
use crate::babyjubjub::PublicKey;
use crate::batch::data::{Extra, Row};
use crate::batch::shape::EXTRA_WORDS;
use crate::batch::witness::RowWitness;
use crate::eddsa::{self, SecretKey, Signature};
use crate::field::power_of_two;
use crate::poseidon;
use crate::transaction::{Action, Domain, KIND_TRANSFER, KIND_WITHDRAW};
use ark_bn254::Fr;
use ark_ff::{One, Zero};
use ark_r1cs_std::boolean::Boolean;
use ark_r1cs_std::fields::fp::FpVar;
use ark_relations::gr1cs::{ConstraintSystemRef, SynthesisError};
use ark_relations::ns;

/// The signer of rows that do nothing. Its key is public and owns nothing.
pub struct IdleSigner {
    key: PublicKey,
    signature: Signature,
}

impl IdleSigner {
    /// Signs what a Noop's message is in this domain.
    pub fn new(domain: &Domain) -> Self {
        let secret = SecretKey::from_bytes([0; 32]);
        let core = poseidon::hash([Fr::from(KIND_WITHDRAW), Fr::zero(), Fr::zero()]);
        let message = poseidon::hash([domain.0.0, core, Fr::zero(), Fr::zero()]);
        Self {
            key: secret.public_key(),
            signature: secret.sign(message),
        }
    }
}

/// An applied row.
pub struct RowVar {
    /// Its 12 bytes as an integer.
    pub integer: FpVar<Fr>,
    /// Its extras.
    pub extras: [FpVar<Fr>; EXTRA_WORDS],
    /// Token moved; 0 for a Noop.
    pub token: FpVar<Fr>,
    /// Fee paid.
    pub fee: FpVar<Fr>,
    /// The root after it.
    pub root: FpVar<Fr>,
    core: FpVar<Fr>,
    link: FpVar<Fr>,
}

/// What the row says and implies.
struct PostedVar {
    from: Vec<Boolean<Fr>>,
    to: Vec<Boolean<Fr>>,
    from_value: FpVar<Fr>,
    integer: FpVar<Fr>,
    amount_code: FpVar<Fr>,
    amount: FpVar<Fr>,
    fee_code: FpVar<Fr>,
    fee: FpVar<Fr>,
    is_active: FpVar<Fr>,
    is_transfer: FpVar<Fr>,
    is_withdraw: FpVar<Fr>,
    withdrawn: FpVar<Fr>,
}

/// The paying leaf and the signer.
struct PayerVar {
    l1_address: FpVar<Fr>,
    key: [FpVar<Fr>; 2],
    token: FpVar<Fr>,
    nonce: FpVar<Fr>,
    balance: FpVar<Fr>,
    recipient: FpVar<Fr>,
    link: FpVar<Fr>,
    valid_until: FpVar<Fr>,
}

/// Applies a row on the state with this root.
pub fn apply(
    cs: &ConstraintSystemRef<Fr>,
    context: &Context,
    posted: &Row,
    opened: &RowWitness,
    root: &FpVar<Fr>,
) -> Result<RowVar, SynthesisError> {
    let row = PostedVar::new(cs, posted)?;
    let payer = PayerVar::new(cs, &context.idle, &row, opened)?;
    let core = payer.enforce_signature(cs, context, &row, opened)?;
    payer.enforce_in_time(cs, context, &row)?;
    let root = debit(cs, &row, &payer, opened, root)?;
    let (root, creates) = credit(cs, &row, &payer, opened, &root)?;
    let extras = {
        let _ns = ns!(cs, "extras state what the row implies");
        let address = product(cs, &row.is_withdraw, &payer.l1_address)?;
        let owner = product(cs, &creates, &payer.recipient)?;
        let token = product(cs, &row.is_withdraw, &payer.token)?;
        [plus(&address, &owner), token, row.withdrawn.clone()]
    };
    let PostedVar { integer, fee, .. } = row;
    let PayerVar { token, link, .. } = payer;
    Ok(RowVar {
        integer,
        extras,
        token,
        fee,
        root,
        core,
        link,
    })
}

/// Each row's link is 0 or the other row's core.
pub fn enforce_links(
    cs: &ConstraintSystemRef<Fr>,
    first: &RowVar,
    second: &RowVar,
) -> Result<(), SynthesisError> {
    let _ns = ns!(cs, "a linked row stands beside the one it names");
    enforce_zero_product(cs, &first.link, &minus(&first.link, &second.core))?;
    enforce_zero_product(cs, &second.link, &minus(&second.link, &first.core))
}

impl PostedVar {
    fn new(cs: &ConstraintSystemRef<Fr>, posted: &Row) -> Result<Self, SynthesisError> {
        let from = unsigned(cs, posted.from.get().into(), 24)?;
        let to = unsigned(cs, posted.to.get().into(), 24)?;
        let amount_code = unsigned(cs, posted.amount.code().into(), Float40::BITS as usize)?;
        let fee_code = unsigned(cs, posted.fee.code().into(), FeeCode::BITS as usize)?;
        let is_active = complement(&is_zero(cs, &from.value)?);
        let is_transfer = complement(&is_zero(cs, &to.value)?);
        let is_withdraw = minus(&is_active, &is_transfer);
        let integer = combine(&[
            (power_of_two(72), &from.value),
            (power_of_two(48), &to.value),
            (power_of_two(8), &amount_code.value),
            (Fr::one(), &fee_code.value),
        ]);
        {
            let _ns = ns!(cs, "a Noop row is all zero");
            enforce_zero_product(cs, &complement(&is_active), &integer)?;
        }
        {
            let _ns = ns!(cs, "a Withdraw has no amount in its row");
            enforce_zero_product(cs, &is_withdraw, &amount_code.value)?;
        }
        let withdrawn = match posted.extra {
            Extra::Withdrawal { amount, .. } => amount.into(),
            _ => Fr::zero(),
        };
        let withdrawn = private_input(cs, withdrawn)?;
        {
            let _ns = ns!(cs, "only a Withdraw has an amount in its extras");
            enforce_zero_product(cs, &complement(&is_withdraw), &withdrawn)?;
        }
        Ok(Self {
            amount: decimal(cs, &amount_code.bits, Float40::MANTISSA_BITS as usize)?,
            fee: decimal(cs, &fee_code.bits, FeeCode::MANTISSA_BITS as usize)?,
            from: from.bits,
            to: to.bits,
            from_value: from.value,
            integer,
            amount_code: amount_code.value,
            fee_code: fee_code.value,
            is_active,
            is_transfer,
            is_withdraw,
            withdrawn,
        })
    }
}

/// mantissa·10^exponent, by squaring: 10^e = Π (1 + bit_i·(10^(2^i) − 1)).
fn decimal(
    cs: &ConstraintSystemRef<Fr>,
    bits: &[Boolean<Fr>],
    mantissa_bits: usize,
) -> Result<FpVar<Fr>, SynthesisError> {
    let one = FpVar::Constant(Fr::one());
    let mut base = Fr::from(10u64);
    let mut power: Option<FpVar<Fr>> = None;
    for bit in &bits[mantissa_bits..] {
        let factor = combine(&[(Fr::one(), &one), (base - Fr::one(), &flag(bit))]);
        power = Some(match power {
            None => factor,
            Some(power) => product(cs, &power, &factor)?,
        });
        base = base * base;
    }
    product(cs, &pack(&bits[..mantissa_bits]), &power.unwrap_or(one))
}

impl PayerVar {
    fn new(
        cs: &ConstraintSystemRef<Fr>,
        idle: &IdleSigner,
        row: &PostedVar,
        opened: &RowWitness,
    ) -> Result<Self, SynthesisError> {
        let account = opened.from.account.as_ref();
        let signed = opened.signed.as_ref();
        let recipient = match signed.map(|signed| signed.transaction.action) {
            Some(Action::Transfer { recipient, .. }) => recipient.0,
            _ => Fr::zero(),
        };
        let key = signed.map_or(idle.key, |signed| signed.key);
        let transaction = signed.map(|signed| signed.transaction);
        let payer = Self {
            l1_address: private_input(cs, signed.map_or(Fr::zero(), |s| s.l1_address.to_word()))?,
            key: [private_input(cs, key.x)?, private_input(cs, key.y)?],
            token: unsigned(cs, account.map_or(0, |a| a.token.get().into()), 32)?.value,
            nonce: unsigned(cs, account.map_or(0, |a| a.nonce.get().into()), 40)?.value,
            balance: private_input(cs, account.map_or(Fr::zero(), |a| a.balance.into()))?,
            recipient: private_input(cs, recipient)?,
            link: private_input(cs, transaction.map_or(Fr::zero(), |t| t.link.0))?,
            valid_until: private_input(
                cs,
                transaction.map_or(Fr::zero(), |t| t.valid_until.into()),
            )?,
        };
        let idle_row = complement(&row.is_active);
        {
            let _ns = ns!(cs, "a Noop pays nothing from nowhere");
            let packed = combine(&[(Fr::one(), &payer.token), (power_of_two(32), &payer.nonce)]);
            let fields = [
                &payer.l1_address,
                &packed,
                &payer.balance,
                &payer.link,
                &payer.valid_until,
            ];
            for field in fields {
                enforce_zero_product(cs, &idle_row, field)?;
            }
        }
        {
            let _ns = ns!(cs, "a Noop is signed by the idle key");
            for (wire, idle) in payer.key.iter().zip([idle.key.x, idle.key.y]) {
                enforce_zero_product(cs, &idle_row, &minus(wire, &FpVar::Constant(idle)))?;
            }
        }
        let _ns = ns!(cs, "only a transfer has a recipient");
        enforce_zero_product(cs, &complement(&row.is_transfer), &payer.recipient)?;
        Ok(payer)
    }

    /// The key signed this row; gives the core, for the row beside it.
    fn enforce_signature(
        &self,
        cs: &ConstraintSystemRef<Fr>,
        context: &Context,
        row: &PostedVar,
        opened: &RowWitness,
    ) -> Result<FpVar<Fr>, SynthesisError> {
        let kind = combine(&[
            (Fr::from(KIND_WITHDRAW), &FpVar::Constant(Fr::one())),
            (
                Fr::from(KIND_TRANSFER) - Fr::from(KIND_WITHDRAW),
                &row.is_transfer,
            ),
        ]);
        let head = combine(&[
            (Fr::one(), &kind),
            (power_of_two(8), &row.from_value),
            (power_of_two(32), &self.nonce),
            (power_of_two(72), &row.fee_code),
            (power_of_two(80), &self.token),
        ]);
        let amount = plus(&row.amount_code, &row.withdrawn);
        let core = poseidon::gadget::hash(&[head, amount, self.recipient.clone()])?;
        let message = poseidon::gadget::hash(&[
            context.domain.clone(),
            core.clone(),
            self.link.clone(),
            self.valid_until.clone(),
        ])?;
        let signature = opened
            .signed
            .as_ref()
            .map_or(context.idle.signature, |s| s.signature);
        let _ns = ns!(cs, "the key signed the row");
        eddsa::gadget::enforce_signature(cs, &self.key, &signature, &message)?;
        Ok(core)
    }

    /// timestamp ≤ valid_until < 2^64 + timestamp.
    fn enforce_in_time(
        &self,
        cs: &ConstraintSystemRef<Fr>,
        context: &Context,
        row: &PostedVar,
    ) -> Result<(), SynthesisError> {
        let now = product(cs, &row.is_active, &context.timestamp)?;
        let _ns = ns!(cs, "the row is not expired");
        enforce_width(cs, &minus(&self.valid_until, &now), 64).map(drop)
    }
}

/// Takes amount and fee from the paying leaf.
fn debit(
    cs: &ConstraintSystemRef<Fr>,
    row: &PostedVar,
    payer: &PayerVar,
    opened: &RowWitness,
    root: &FpVar<Fr>,
) -> Result<FpVar<Fr>, SynthesisError> {
    let owner = poseidon::gadget::hash(&[
        payer.l1_address.clone(),
        payer.key[0].clone(),
        payer.key[1].clone(),
    ])?;
    let one = Fr::one();
    let balance = combine(&[
        (one, &payer.balance),
        (-one, &row.amount),
        (-one, &row.withdrawn),
        (-one, &row.fee),
    ]);
    {
        let _ns = ns!(cs, "the balance covers amount and fee");
        enforce_width(cs, &balance, 128)?;
    }
    {
        let _ns = ns!(cs, "the nonce can grow");
        let last = FpVar::Constant(Fr::from((1u64 << 40) - 1));
        enforce_nonzero(cs, &minus(&payer.nonce, &last))?;
    }
    let next_nonce = plus(&payer.nonce, &FpVar::Constant(one));
    let old = leaf::hash(&owner, &payer.token, &payer.nonce, &payer.balance)?;
    let new = leaf::hash(&owner, &payer.token, &next_nonce, &balance)?;
    let _ns = ns!(cs, "paying leaf");
    let update = Update {
        index: &row.from,
        path: &opened.from.path,
        old_leaf: &product(cs, &row.is_active, &old)?,
        new_leaf: &product(cs, &row.is_active, &new)?,
    };
    update.apply(cs, root)
}

/// Credits the receiving leaf; gives the root and whether the leaf was created.
fn credit(
    cs: &ConstraintSystemRef<Fr>,
    row: &PostedVar,
    payer: &PayerVar,
    opened: &RowWitness,
    root: &FpVar<Fr>,
) -> Result<(FpVar<Fr>, FpVar<Fr>), SynthesisError> {
    let account = opened.to.account.as_ref();
    let exists = flag(&boolean(cs, account.is_some())?);
    let nonce = unsigned(cs, account.map_or(0, |a| a.nonce.get().into()), 40)?.value;
    let balance = private_input(cs, account.map_or(Fr::zero(), |a| a.balance.into()))?;
    {
        let _ns = ns!(cs, "an empty leaf has no fields");
        let empty = complement(&exists);
        enforce_zero_product(cs, &empty, &nonce)?;
        enforce_zero_product(cs, &empty, &balance)?;
    }
    {
        let _ns = ns!(cs, "only a transfer has a receiving leaf");
        enforce_zero_product(cs, &complement(&row.is_transfer), &exists)?;
    }
    let creates = minus(&row.is_transfer, &exists);
    {
        let _ns = ns!(cs, "a transfer of nothing creates no leaf");
        let nothing = is_zero(cs, &row.amount)?;
        enforce_zero_product(cs, &creates, &nothing)?;
    }
    let old = leaf::hash(&payer.recipient, &payer.token, &nonce, &balance)?;
    let new = leaf::hash(
        &payer.recipient,
        &payer.token,
        &nonce,
        &plus(&balance, &row.amount),
    )?;
    let _ns = ns!(cs, "receiving leaf");
    let update = Update {
        index: &row.to,
        path: &opened.to.path,
        old_leaf: &product(cs, &exists, &old)?,
        new_leaf: &product(cs, &row.is_transfer, &new)?,
    };
    Ok((update.apply(cs, root)?, creates))
}
