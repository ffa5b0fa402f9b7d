//! Groth16 over BN254 by ark-groth16: the reference that every faster backend is compared with.
//!
//! [`Backend::prepare`] (once per key) → [`PreparedKey::prove`] (assignment → proof), and [`Verifier`].
//!
//! No other file names that library. Proving evaluates A and B only: at every point of the domain C·z = A·z ∘ B·z, so the
//! third matrix is never needed.

use crate::circuit::Assignment;
use crate::key::{CircuitKey, KeyFileError, MappedKey};
use crate::matrices::ConstraintMatrices;
use crate::proof::Proof;
use ark_bn254::{Bn254, Fr};
use ark_ff::{PrimeField, UniformRand};
use ark_groth16::r1cs_to_qap::{R1CSToQAP, evaluate_constraint};
use ark_groth16::{Groth16, PreparedVerifyingKey};
use ark_poly::EvaluationDomain;
use ark_relations::gr1cs::{ConstraintSystemRef, Matrix, SynthesisError};
use rand::rngs::OsRng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use thiserror::Error;
use zeroize::Zeroize;

/// A Groth16 proving key over BN254.
pub type ProvingKey = ark_groth16::ProvingKey<Bn254>;
/// A Groth16 verifying key over BN254.
pub type VerifyingKey = ark_groth16::VerifyingKey<Bn254>;

/// Why a backend made no proof.
#[derive(Debug, Error)]
pub enum BackendError {
    /// The assignment belongs to another circuit.
    #[error(
        "the assignment has {got} values ({got_inputs} public), the key's circuit has {expected} ({expected_inputs})"
    )]
    WrongAssignment {
        /// Values of the key's circuit.
        expected: usize,
        /// Values given.
        got: usize,
        /// Inputs of the key's circuit, the constant included.
        expected_inputs: usize,
        /// Inputs given.
        got_inputs: usize,
    },
    /// The library failed.
    #[error("the proof system failed: {0}")]
    System(#[from] SynthesisError),
    /// The key's file is damaged.
    #[error(transparent)]
    KeyFile(#[from] Arc<KeyFileError>),
    /// Another implementation failed.
    #[error("{name} failed: {what}")]
    Peer {
        /// The implementation.
        name: &'static str,
        /// What it says.
        what: String,
    },
}

/// A way to make proofs. Backends differ in speed, never in what they prove.
pub trait Backend: Send + Sync {
    /// Its name in logs and benchmarks.
    fn name(&self) -> &'static str;

    /// Brings a key into the form that this backend proves from. Done once per key.
    fn prepare(&self, key: Arc<CircuitKey>) -> Box<dyn PreparedKey> {
        self.prepare_parts(key)
    }

    /// The same for a key from anywhere.
    fn prepare_parts(&self, key: Arc<dyn KeyParts>) -> Box<dyn PreparedKey>;

    /// The same for a key that stays in its file, as far as the backend can use it there.
    ///
    /// # Errors
    /// If the backend reads the file now, and it is damaged.
    fn prepare_mapped(&self, key: Arc<MappedKey>) -> Result<Box<dyn PreparedKey>, KeyFileError> {
        Ok(self.prepare(Arc::new(key.read()?)))
    }
}

impl Backend for Box<dyn Backend> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn prepare(&self, key: Arc<CircuitKey>) -> Box<dyn PreparedKey> {
        (**self).prepare(key)
    }

    fn prepare_parts(&self, key: Arc<dyn KeyParts>) -> Box<dyn PreparedKey> {
        (**self).prepare_parts(key)
    }

    fn prepare_mapped(&self, key: Arc<MappedKey>) -> Result<Box<dyn PreparedKey>, KeyFileError> {
        (**self).prepare_mapped(key)
    }
}

/// What any prover needs of a key, wherever it comes from.
pub trait KeyParts: Send + Sync {
    /// The constraints; the third matrix may be empty.
    fn matrices(&self) -> &ConstraintMatrices;

    /// The points, with the quotient's query in the Lagrange basis of the odd coset.
    fn proving_key(&self) -> &ProvingKey;
}

impl KeyParts for CircuitKey {
    fn matrices(&self) -> &ConstraintMatrices {
        &self.matrices
    }

    fn proving_key(&self) -> &ProvingKey {
        &self.proving_key
    }
}

/// A key ready to prove with.
pub trait PreparedKey: Send + Sync {
    /// Proves that the assignment satisfies the circuit, blinded with randomness of the operating system. The proof of an
    /// assignment that does not satisfy it does not verify.
    ///
    /// # Errors
    /// If the assignment is of another circuit, or the backend fails.
    fn prove(&self, assignment: &Assignment) -> Result<Proof, BackendError>;

    /// Proves, and says where the time went as far as the backend knows.
    ///
    /// # Errors
    /// As [`PreparedKey::prove`].
    fn prove_split(&self, assignment: &Assignment) -> Result<(Proof, Split), BackendError> {
        Ok((self.prove(assignment)?, Split::default()))
    }
}

/// Seconds of a proof's parts, and its memory; zeros from a backend that does not tell.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Split {
    /// Sparse products and transforms.
    pub ntt_s: f64,
    /// Multi-scalar multiplications in G1.
    pub msm_g1_s: f64,
    /// Multi-scalar multiplications in G2.
    pub msm_g2_s: f64,
    /// Most bytes at a time that the proof took besides the key and the assignment.
    #[serde(default)]
    pub scratch_bytes: u64,
}

/// The reference backend.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reference;

impl Backend for Reference {
    fn name(&self) -> &'static str {
        "ark-groth16"
    }

    fn prepare_parts(&self, key: Arc<dyn KeyParts>) -> Box<dyn PreparedKey> {
        let matrices = vec![key.matrices().expanded(0), key.matrices().expanded(1)];
        Box::new(ReferenceKey { key, matrices })
    }
}

struct ReferenceKey {
    key: Arc<dyn KeyParts>,
    matrices: Vec<Matrix<Fr>>,
}

impl PreparedKey for ReferenceKey {
    fn prove(&self, assignment: &Assignment) -> Result<Proof, BackendError> {
        let matrices = self.key.matrices();
        check_length(matrices, assignment)?;
        let mut blinding = [Fr::rand(&mut OsRng), Fr::rand(&mut OsRng)];
        let proof = Groth16::<Bn254, OddCoset>::create_proof_with_reduction_and_matrices(
            self.key.proving_key(),
            blinding[0],
            blinding[1],
            &self.matrices,
            matrices.inputs,
            matrices.constraints(),
            assignment.values(),
        );
        blinding.zeroize();
        let proof = proof?;
        Ok(Proof {
            a: proof.a,
            b: proof.b,
            c: proof.c,
        })
    }
}

pub(crate) fn check_length(
    matrices: &ConstraintMatrices,
    assignment: &Assignment,
) -> Result<(), BackendError> {
    let (expected, got) = (matrices.variables(), assignment.values().len());
    let (expected_inputs, got_inputs) = (matrices.inputs, assignment.inputs());
    if expected == got && expected_inputs == got_inputs {
        Ok(())
    } else {
        Err(BackendError::WrongAssignment {
            expected,
            got,
            expected_inputs,
            got_inputs,
        })
    }
}

/// Checks proofs against one verifying key.
pub struct Verifier {
    key: PreparedVerifyingKey<Bn254>,
}

impl Verifier {
    /// Prepares a verifying key.
    pub fn new(key: &VerifyingKey) -> Self {
        Self {
            key: ark_groth16::prepare_verifying_key(key),
        }
    }

    /// Whether the proof proves the statement with these public inputs.
    pub fn accepts(&self, proof: &Proof, public_inputs: &[Fr]) -> bool {
        // The library ignores inputs beyond the key's and takes missing ones for zero.
        if public_inputs.len() + 1 != self.key.vk.gamma_abc_g1.len() {
            return false;
        }
        let proof = ark_groth16::Proof {
            a: proof.a,
            b: proof.b,
            c: proof.c,
        };
        Groth16::<Bn254, OddCoset>::verify_proof(&self.key, &proof, public_inputs).unwrap_or(false)
    }
}

/// The reduction to polynomials with the quotient in the Lagrange basis of the odd coset.
///
/// At the odd points the vanishing polynomial is the constant −2, which the key's query has absorbed: what is left to
/// compute is A·B − C there, in six transforms.
struct OddCoset;

impl R1CSToQAP for OddCoset {
    fn instance_map_with_evaluation<F: PrimeField, D: EvaluationDomain<F>>(
        cs: ConstraintSystemRef<F>,
        t: &F,
    ) -> Result<(Vec<F>, Vec<F>, Vec<F>, F, usize, usize), SynthesisError> {
        // Keys of the library's own generator, in tests, come this way.
        ark_groth16::r1cs_to_qap::LibsnarkReduction::instance_map_with_evaluation::<F, D>(cs, t)
    }

    fn witness_map_from_matrices<F: PrimeField, D: EvaluationDomain<F>>(
        matrices: &[Matrix<F>],
        inputs: usize,
        constraints: usize,
        assignment: &[F],
    ) -> Result<Vec<F>, SynthesisError> {
        let domain =
            D::new(constraints + inputs).ok_or(SynthesisError::PolynomialDegreeTooLarge)?;
        let double = D::new(2 * domain.size()).ok_or(SynthesisError::PolynomialDegreeTooLarge)?;
        let rows = |matrix: &Matrix<F>| -> Vec<F> {
            let mut values: Vec<F> = matrix
                .par_iter()
                .map(|row| evaluate_constraint(row, assignment))
                .collect();
            values.resize(domain.size(), F::zero());
            values
        };
        let [mut a, mut b] = [rows(&matrices[0]), rows(&matrices[1])];
        a[constraints..constraints + inputs].copy_from_slice(&assignment[..inputs]);
        let mut c: Vec<F> = a.par_iter().zip(&b).map(|(a, b)| *a * b).collect();
        for polynomial in [&mut a, &mut b, &mut c] {
            domain.ifft_in_place(polynomial);
            D::distribute_powers(polynomial, double.group_gen());
            domain.fft_in_place(polynomial);
        }
        a.par_iter_mut()
            .zip(b)
            .zip(c)
            .for_each(|((a, b), c)| *a = *a * b - c);
        Ok(a)
    }

    fn h_query_scalars<F: PrimeField, D: EvaluationDomain<F>>(
        max_power: usize,
        t: F,
        _vanishing: F,
        delta_inverse: F,
    ) -> Result<Vec<F>, SynthesisError> {
        let double = D::new(2 * (max_power + 1)).ok_or(SynthesisError::PolynomialDegreeTooLarge)?;
        let all = double.evaluate_all_lagrange_coefficients(t);
        Ok(all
            .into_iter()
            .skip(1)
            .step_by(2)
            .map(|l| l * delta_inverse)
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chain::Chain;
    use crate::circuit::{Assignable, Circuit, Statement};
    use crate::setup::{Secrets, Seed, generate_from};
    use ark_bn254::{G1Projective, G2Projective};
    use ark_ec::PrimeGroup;
    use ark_poly::Radix2EvaluationDomain;
    use rand::{SeedableRng, rngs::StdRng};

    fn key(circuit: Circuit) -> Arc<CircuitKey> {
        Arc::new(CircuitKey::generate(circuit, &Seed::development()).unwrap())
    }

    fn statement(links: u32, start: u64) -> Statement {
        Statement::Chain(Chain::new(links, start))
    }

    #[test]
    fn a_proof_verifies_under_its_key_and_inputs_only() {
        let [first, second] = [20, 21].map(|links| key(Circuit::Chain(links)));
        let [one, other] = [statement(20, 5), statement(20, 6)];
        let proof = Reference
            .prepare(first.clone())
            .prove(&one.assign().unwrap())
            .unwrap();
        let verifier = Verifier::new(first.verifying_key());
        assert!(verifier.accepts(&proof, &one.public_inputs()));
        assert!(!verifier.accepts(&proof, &other.public_inputs()));
        assert!(!Verifier::new(second.verifying_key()).accepts(&proof, &one.public_inputs()));
        for position in 0..3 {
            let mut inputs = one.public_inputs();
            inputs[position] += Fr::from(1u64);
            assert!(!verifier.accepts(&proof, &inputs), "input {position}");
        }
    }

    #[test]
    fn another_number_of_inputs_is_refused() {
        let key = key(Circuit::Chain(4));
        let statement = statement(4, 1);
        let proof = Reference
            .prepare(key.clone())
            .prove(&statement.assign().unwrap())
            .unwrap();
        let verifier = Verifier::new(key.verifying_key());
        let mut inputs = statement.public_inputs();
        inputs.push(Fr::from(0u64));
        assert!(!verifier.accepts(&proof, &inputs));
        assert!(!verifier.accepts(&proof, &inputs[..2]));
        assert!(!verifier.accepts(&proof, &[]));
    }

    #[test]
    fn a_proof_with_any_point_changed_is_refused() {
        let key = key(Circuit::Chain(6));
        let statement = statement(6, 2);
        let proof = Reference
            .prepare(key.clone())
            .prove(&statement.assign().unwrap())
            .unwrap();
        let verifier = Verifier::new(key.verifying_key());
        let tampered = [
            Proof {
                a: -proof.a,
                ..proof.clone()
            },
            Proof {
                b: -proof.b,
                ..proof.clone()
            },
            Proof {
                c: -proof.c,
                ..proof.clone()
            },
            Proof {
                a: proof.c,
                c: proof.a,
                ..proof.clone()
            },
            Proof {
                a: Default::default(),
                ..proof.clone()
            },
            Proof {
                b: Default::default(),
                ..proof.clone()
            },
            Proof {
                c: Default::default(),
                ..proof.clone()
            },
        ];
        for proof in tampered {
            assert!(
                !verifier.accepts(&proof, &statement.public_inputs()),
                "{proof:?}"
            );
        }
    }

    #[test]
    fn proofs_of_one_statement_differ() {
        let key = key(Circuit::Chain(3));
        let assignment = statement(3, 9).assign().unwrap();
        let prepared = Reference.prepare(key);
        assert_ne!(
            prepared.prove(&assignment).unwrap(),
            prepared.prove(&assignment).unwrap()
        );
    }

    #[test]
    fn an_assignment_of_another_circuit_is_refused() {
        let prepared = Reference.prepare(key(Circuit::Chain(10)));
        let error = prepared
            .prove(&statement(11, 1).assign().unwrap())
            .unwrap_err();
        assert!(
            matches!(
                error,
                BackendError::WrongAssignment {
                    expected: 15,
                    got: 16,
                    ..
                }
            ),
            "{error}"
        );
    }

    /// The library's own generator, given the same secrets, makes the same key.
    #[test]
    fn our_setup_agrees_with_the_library() {
        for links in [1, 5, 40] {
            let matrices = Circuit::Chain(links).matrices().unwrap();
            let mut rng = StdRng::seed_from_u64(u64::from(links));
            let [alpha, beta, gamma, delta] = [(); 4].map(|()| Fr::rand(&mut rng));
            let domain = Radix2EvaluationDomain::<Fr>::new(matrices.domain()).unwrap();
            let tau = domain.sample_element_outside_domain(&mut rng.clone());
            let circuit = Assignable {
                witness: Chain::new(links, 0),
                public: [Fr::from(0u64); 3],
            };
            let expected = Groth16::<Bn254, OddCoset>::generate_parameters_with_qap(
                circuit,
                alpha,
                beta,
                gamma,
                delta,
                G1Projective::generator(),
                G2Projective::generator(),
                &mut rng,
            )
            .unwrap();
            let ours = generate_from(
                &matrices,
                &Secrets {
                    tau,
                    alpha,
                    beta,
                    gamma,
                    delta,
                },
            )
            .unwrap();
            assert_eq!(ours.vk, expected.vk);
            assert_eq!(ours.a_query, expected.a_query);
            assert_eq!(ours.b_g1_query, expected.b_g1_query);
            assert_eq!(ours.b_g2_query, expected.b_g2_query);
            assert_eq!(ours.l_query, expected.l_query);
            assert_eq!(ours.h_query, expected.h_query);
            assert_eq!(
                (ours.beta_g1, ours.delta_g1),
                (expected.beta_g1, expected.delta_g1)
            );
        }
    }
}
