//! Others' provers, to be measured beside ours: taceo-groth16, a CPU prover in Rust for circom's circuits, and programs
//! ([`program`]).
//!
//! No other file names that library.

use crate::circuit::Assignment;
use crate::groth16::{Backend, BackendError, KeyParts, PreparedKey, check_length};
use crate::proof::Proof;
use ark_bn254::{Bn254, Fr};
use ark_ff::UniformRand;
use rand::rngs::OsRng;
use std::sync::Arc;
use taceo_groth16::{CircomReduction, ConstraintMatrices, Groth16};
use zeroize::Zeroizing;

pub mod program;

/// taceo-groth16.
#[derive(Debug, Clone, Copy, Default)]
pub struct Taceo;

impl Backend for Taceo {
    fn name(&self) -> &'static str {
        "taceo"
    }

    fn prepare_parts(&self, key: Arc<dyn KeyParts>) -> Box<dyn PreparedKey> {
        let ours = key.matrices();
        let [a_num_non_zero, b_num_non_zero, c_num_non_zero] =
            [0, 1, 2].map(|matrix| ours.matrices[matrix].nonzeros());
        let matrices = ConstraintMatrices {
            num_instance_variables: ours.inputs,
            num_witness_variables: ours.witnesses,
            num_constraints: ours.constraints(),
            a_num_non_zero,
            b_num_non_zero,
            c_num_non_zero,
            a: ours.expanded(0),
            b: ours.expanded(1),
            // Its prover evaluates A and B only.
            c: vec![],
        };
        Box::new(TaceoKey { key, matrices })
    }
}

struct TaceoKey {
    key: Arc<dyn KeyParts>,
    matrices: ConstraintMatrices<Fr>,
}

impl PreparedKey for TaceoKey {
    fn prove(&self, assignment: &Assignment) -> Result<Proof, BackendError> {
        check_length(self.key.matrices(), assignment)?;
        let blinding = Zeroizing::new([Fr::rand(&mut OsRng), Fr::rand(&mut OsRng)]);
        let proof = Groth16::<Bn254>::prove::<CircomReduction>(
            self.key.proving_key(),
            blinding[0],
            blinding[1],
            &self.matrices,
            assignment.values(),
        );
        let proof = proof.map_err(|error| BackendError::Peer {
            name: "taceo-groth16",
            what: error.to_string(),
        })?;
        Ok(Proof {
            a: proof.a,
            b: proof.b,
            c: proof.c,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Chain;
    use crate::circuit::{Circuit, Statement};
    use crate::groth16::Verifier;
    use crate::key::CircuitKey;
    use crate::setup::Seed;

    #[test]
    fn its_proofs_verify_under_our_keys() {
        let key = CircuitKey::generate(Circuit::Chain(100), &Seed::development()).unwrap();
        let verifier = Verifier::new(key.verifying_key());
        let statement = Statement::Chain(Chain::new(100, 3));
        let prepared = Taceo.prepare(Arc::new(key));
        let proof = prepared.prove(&statement.assign().unwrap()).unwrap();
        assert!(verifier.accepts(&proof, &statement.public_inputs()));
    }
}
