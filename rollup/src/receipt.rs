//! The operator's word that a transaction is durable: a signature that anyone can check against the contract's operator.
//!
//! body → keccak256("millrace-receipt-1" ‖ domain ‖ id ‖ received at) → EIP-191 signature with the operator's L1 key

use alloy::primitives::{Signature, keccak256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use millrace_circuits::field;
use millrace_circuits::transaction::{Domain, TransactionId};
use millrace_circuits::types::L1Address;
use serde::{Deserialize, Serialize};

/// What the operator signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptBody {
    /// Contract and chain.
    pub domain: Domain,
    /// The transaction.
    pub id: TransactionId,
    /// Unix milliseconds of its acceptance.
    pub received_at_millis: u64,
}

/// A signed receipt. It proves receipt, not payment: money is received once its batch is proven and L1-final.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// What is signed.
    pub body: ReceiptBody,
    /// The operator's L1 address.
    pub operator: L1Address,
    /// 65 bytes r ‖ s ‖ v in hexadecimal, over the body's digest as an EIP-191 message.
    pub signature: String,
}

impl ReceiptBody {
    /// The 32 bytes that are signed as a message.
    pub fn digest(&self) -> [u8; 32] {
        let mut bytes = b"millrace-receipt-1".to_vec();
        bytes.extend(field::to_bytes(&self.domain.0.0));
        bytes.extend(self.id.0);
        bytes.extend(self.received_at_millis.to_be_bytes());
        keccak256(bytes).0
    }

    /// Signs with the operator's key. Equal bodies give equal receipts.
    pub fn sign(self, operator: &PrivateKeySigner) -> Receipt {
        let signature = operator
            .sign_message_sync(&self.digest())
            .expect("a key in memory signs any digest");
        Receipt {
            body: self,
            operator: L1Address(operator.address().into_array()),
            signature: format!("0x{}", hex::encode(signature.as_bytes())),
        }
    }
}

impl Receipt {
    /// Whether the named operator signed this body.
    pub fn is_valid(&self) -> bool {
        let Ok(signature) = self.signature.parse::<Signature>() else {
            return false;
        };
        let signer = signature.recover_address_from_msg(self.body.digest());
        signer.is_ok_and(|signer| signer.into_array() == self.operator.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ark_ff::Zero;
    use millrace_circuits::field::Word;

    #[test]
    fn a_receipt_verifies_and_a_changed_one_does_not() {
        let body = ReceiptBody {
            domain: Domain(Word(Zero::zero())),
            id: TransactionId([7; 32]),
            received_at_millis: 1_700_000_000_000,
        };
        let key = PrivateKeySigner::from_slice(&[9; 32]).unwrap();
        let receipt = body.sign(&key);
        assert!(receipt.is_valid());
        assert_eq!(receipt, body.sign(&key));
        let mut later = receipt.clone();
        later.body.received_at_millis += 1;
        assert!(!later.is_valid());
        let operator = L1Address([1; 20]);
        assert!(
            !Receipt {
                operator,
                ..receipt
            }
            .is_valid()
        );
    }
}
