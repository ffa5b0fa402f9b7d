//! Signatures: the JavaScript libraries' vectors, native and circuit side by side, and the attacks each rule stops.

use ark_bn254::Fr;
use ark_ec::twisted_edwards::TECurveConfig;
use ark_ec::{AffineRepr, CurveGroup};
use ark_ff::{AdditiveGroup, Field, PrimeField};
use proptest::prelude::*;

use super::gadget::{SCALAR_BITS, enforce_signature, multiply, multiply_base};
use super::native::challenge;
use super::{SecretKey, Signature, verify};
use crate::babyjubjub::gadget::PointVar;
use crate::babyjubjub::{BabyJubjub, Point, PublicKey, Scalar};
use crate::linear::witness;
use crate::testing::{Operand, Statement, arb_field, vectors};

fn word(value: &serde_json::Value) -> Fr {
    crate::field::from_text(value.as_str().expect("numbers are text"))
        .expect("numbers are canonical")
}

fn key_of(value: &serde_json::Value) -> PublicKey {
    PublicKey {
        x: word(&value[0]),
        y: word(&value[1]),
    }
}

struct Case {
    secret: SecretKey,
    key: PublicKey,
    message: Fr,
    signature: Signature,
}

fn cases() -> Vec<Case> {
    let list = vectors(include_str!("../vectors/eddsa.json"));
    let read = |case: &serde_json::Value| {
        let bytes = hex::decode(case["secret"].as_str().expect("secrets are text"))
            .expect("secrets are hexadecimal");
        Case {
            secret: SecretKey::from_bytes(bytes.try_into().expect("secrets have 32 bytes")),
            key: key_of(&case["public_key"]),
            message: word(&case["message"]),
            signature: Signature {
                r8: key_of(&case["r8"]),
                s: word(&case["s"]),
            },
        }
    };
    list.as_array()
        .expect("cases are a list")
        .iter()
        .map(read)
        .collect()
}

/// The circuit's view: key and message as wires of some kind.
fn statement_of(
    key: &PublicKey,
    signature: &Signature,
    message: Fr,
    kind: Operand,
) -> (Statement, Vec<usize>) {
    let (statement, wires) = Statement::synthesize(|cs| {
        let key = [kind.wire(&cs, key.x)?, kind.wire(&cs, key.y)?];
        let message = kind.wire(&cs, message)?;
        enforce_signature(&cs, &key, signature, &message)?;
        let [x, y] = key;
        Ok([x, y, message])
    });
    let columns = match kind {
        Operand::Witness => wires.iter().map(|wire| statement.column(wire)).collect(),
        _ => Vec::new(),
    };
    (statement, columns)
}

fn circuit(key: &PublicKey, signature: &Signature, message: Fr) -> Statement {
    statement_of(key, signature, message, Operand::Witness).0
}

/// Both refuse, the circuit by the named rule.
fn assert_refused(key: &PublicKey, signature: &Signature, message: Fr, rule: &str) {
    assert!(!verify(key, signature, message), "native accepts");
    assert!(
        circuit(key, signature, message).rejections().contains(rule),
        "{:?}",
        circuit(key, signature, message).rejections()
    );
}

fn example() -> (SecretKey, PublicKey, Fr, Signature) {
    let secret = SecretKey::from_bytes([7; 32]);
    let message = Fr::from(1234u64);
    (
        secret.clone(),
        secret.public_key(),
        message,
        secret.sign(message),
    )
}

/// A point of order 8.
fn torsion() -> Point {
    (2u64..)
        .filter_map(|y| Point::get_point_from_y_unchecked(Fr::from(y), true))
        .map(mul_by_order)
        .map(|point| point.into_affine())
        .find(|point| {
            !(point.into_group().double().double())
                .into_affine()
                .is_zero()
        })
        .expect("half of all points lead to a generator of the torsion")
}

fn mul_by_order(point: Point) -> crate::babyjubjub::ExtendedPoint {
    point.mul_bigint(Scalar::MODULUS)
}

fn torsion_points() -> Vec<Point> {
    let generator = torsion();
    std::iter::successors(Some(generator.into_group()), |p| Some(*p + generator))
        .take(8)
        .map(|p| p.into_affine())
        .collect()
}

#[test]
fn keys_and_signatures_match_zk_kit() {
    for case in cases() {
        assert_eq!(case.secret.public_key(), case.key);
        assert_eq!(case.secret.sign(case.message), case.signature);
        assert!(verify(&case.key, &case.signature, case.message));
    }
}

#[test]
fn zk_kit_signatures_satisfy_the_circuit() {
    for case in cases() {
        assert_eq!(
            circuit(&case.key, &case.signature, case.message).rejected_by(),
            None
        );
    }
}

#[test]
fn operands_of_every_kind_are_accepted() {
    let (_, key, message, signature) = example();
    for kind in Operand::ALL {
        assert_eq!(
            statement_of(&key, &signature, message, kind)
                .0
                .rejected_by(),
            None,
            "{kind:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn circuit_and_native_agree(secret in any::<[u8; 32]>(), message in arb_field(), other in arb_field(), part in 0usize..6) {
        let secret = SecretKey::from_bytes(secret);
        let (mut key, mut signature, mut signed) = (secret.public_key(), secret.sign(message), message);
        match part {
            0 => signed = other,
            1 => key = SecretKey::from_bytes([1; 32]).public_key(),
            2 => signature.r8 = SecretKey::from_bytes([2; 32]).public_key(),
            3 => signature.s += Fr::ONE,
            4 => signature.r8 = PublicKey { x: other, y: message },
            _ => {}
        }
        let accepted = verify(&key, &signature, signed);
        prop_assert_eq!(accepted, part == 5 || (part == 0 && signed == message));
        prop_assert_eq!(circuit(&key, &signature, signed).is_satisfied(), accepted);
    }
}

#[test]
fn a_wrong_message_is_rejected() {
    let (_, key, message, signature) = example();
    assert_refused(&key, &signature, message + Fr::ONE, "S·Base8 = R8 + h·8A");
}

#[test]
fn s_plus_the_order_is_rejected() {
    let (_, key, message, mut signature) = example();
    // S + l fits 251 bits for small S only: sign until it does.
    let order = Fr::from(num_bigint::BigUint::from(Scalar::MODULUS));
    let secret = SecretKey::from_bytes([7; 32]);
    let (message, signature) = (0u64..)
        .map(|i| (message + Fr::from(i), secret.sign(message + Fr::from(i))))
        .find(|(_, signature)| {
            num_bigint::BigUint::from(signature.s.into_bigint())
                + num_bigint::BigUint::from(Scalar::MODULUS)
                < num_bigint::BigUint::from(1u8) << 251
        })
        .map(|(message, found)| {
            signature = found;
            signature.s += order;
            (message, signature)
        })
        .expect("a third of all signatures have such an S");
    assert!(!verify(&key, &signature, message));
    let rejections = circuit(&key, &signature, message).rejections();
    assert_eq!(
        rejections.into_iter().collect::<Vec<_>>(),
        ["S is below the subgroup order"]
    );
}

#[test]
fn an_s_of_more_bits_is_rejected() {
    let (_, key, message, mut signature) = example();
    signature.s = -Fr::ONE;
    assert!(!verify(&key, &signature, message));
    assert!(!circuit(&key, &signature, message).is_satisfied());
}

#[test]
fn a_key_off_the_curve_is_rejected() {
    let (_, key, message, signature) = example();
    for bad in [
        PublicKey {
            x: key.x + Fr::ONE,
            y: key.y,
        },
        PublicKey {
            x: Fr::ZERO,
            y: Fr::ZERO,
        },
        PublicKey {
            x: Fr::ONE,
            y: Fr::ONE,
        },
    ] {
        assert_refused(&bad, &signature, message, "the key is on the curve");
    }
}

#[test]
fn keys_of_low_order_are_rejected() {
    // For a key of low order anyone can make R8 = S·Base8.
    let points = torsion_points();
    assert_eq!(
        points
            .iter()
            .collect::<std::collections::HashSet<_>>()
            .len(),
        8
    );
    assert!(points.contains(&Point::new_unchecked(Fr::ZERO, Fr::ONE)));
    assert!(points.contains(&Point::new_unchecked(Fr::ZERO, -Fr::ONE)));
    let signature = Signature {
        r8: (BabyJubjub::GENERATOR * Scalar::from(5u64))
            .into_affine()
            .into(),
        s: Fr::from(5u64),
    };
    for key in points {
        assert_refused(
            &key.into(),
            &signature,
            Fr::from(9u64),
            "8A is not the identity",
        );
    }
}

#[test]
fn an_r8_off_the_curve_or_with_torsion_is_rejected() {
    let (_, key, message, signature) = example();
    let r8 = signature
        .r8
        .point()
        .expect("honest signatures are on the curve");
    let shifted = torsion_points()
        .into_iter()
        .filter(|t| !t.is_zero())
        .map(|t| (r8 + t).into_affine().into());
    let off_curve = [
        PublicKey {
            x: r8.x,
            y: r8.y + Fr::ONE,
        },
        PublicKey { x: -r8.x, y: r8.y },
    ];
    for r8 in shifted.chain(off_curve) {
        assert_refused(
            &key,
            &Signature { r8, ..signature },
            message,
            "S·Base8 = R8 + h·8A",
        );
    }
}

/// Signs for a key with a torsion part, which 8·A removes.
fn sign_with_torsion(scalar: Scalar, torsion: Point, message: Fr) -> (PublicKey, Signature) {
    let key: PublicKey = (BabyJubjub::GENERATOR * scalar + torsion)
        .into_affine()
        .into();
    let r = Scalar::from(987_654_321u64);
    let r8: PublicKey = (BabyJubjub::GENERATOR * r).into_affine().into();
    let h = Scalar::from(num_bigint::BigUint::from(
        challenge(&r8, &key, message).into_bigint(),
    ));
    let s = r + h * Scalar::from(8u64) * scalar;
    (
        key,
        Signature {
            r8,
            s: Fr::from(num_bigint::BigUint::from(s.into_bigint())),
        },
    )
}

#[test]
fn a_key_with_a_torsion_part_is_treated_alike() {
    for torsion in torsion_points() {
        let (key, signature) = sign_with_torsion(Scalar::from(4711u64), torsion, Fr::from(3u64));
        assert!(verify(&key, &signature, Fr::from(3u64)));
        assert_eq!(
            circuit(&key, &signature, Fr::from(3u64)).rejected_by(),
            None
        );
    }
}

#[test]
fn small_and_structured_keys_do_not_reach_an_exception() {
    // Keys whose multiples collide with the window tables, and A with 8A = ±Base8.
    let inverse = Scalar::from(8u64).inverse().expect("8 is not zero");
    for scalar in [
        Scalar::ONE,
        -Scalar::ONE,
        inverse,
        -inverse,
        Scalar::from(2u64).inverse().expect("2 is not zero"),
    ] {
        let (key, signature) = sign_with_torsion(scalar, Point::zero(), Fr::from(8u64));
        assert!(verify(&key, &signature, Fr::from(8u64)));
        assert_eq!(
            circuit(&key, &signature, Fr::from(8u64)).rejected_by(),
            None
        );
    }
}

#[test]
fn every_wire_is_bound() {
    let (_, key, message, signature) = example();
    let (statement, columns) = statement_of(&key, &signature, message, Operand::Witness);
    assert_eq!(statement.loose_witnesses(), Vec::<usize>::new());
    // Key, message and S leave nothing open: R8 follows from S only through the final sum, so it is declared as well.
    let first = columns[2] + 1;
    let declared: Vec<usize> = columns.into_iter().chain([first, first + 1]).collect();
    assert_eq!(statement.undetermined(&declared), Vec::<usize>::new());
}

#[test]
fn cost_is_pinned() {
    let (_, key, message, signature) = example();
    let statement = circuit(&key, &signature, message);
    let census = statement.census();
    assert_eq!(
        statement.num_constraints() - census["poseidon"],
        2598,
        "{census:#?}"
    );
    let [a, b, c] = statement.nonzeros_per_constraint();
    assert!(a < 1.5 && b < 1.8 && c < 2.9, "{a} {b} {c}");
}

fn bits_of(
    cs: &ark_relations::gr1cs::ConstraintSystemRef<Fr>,
    integer: &num_bigint::BigUint,
    width: usize,
) -> Result<Vec<ark_r1cs_std::boolean::Boolean<Fr>>, ark_relations::gr1cs::SynthesisError> {
    (0..width as u64)
        .map(|i| crate::linear::bit(cs, Some(integer.bit(i))))
        .collect()
}

fn order() -> num_bigint::BigUint {
    Scalar::MODULUS.into()
}

/// Challenges that a hash never gives, but that the ladder's proof of completeness speaks about.
#[test]
fn the_ladder_is_exact_for_every_challenge_that_it_accepts() {
    let two = num_bigint::BigUint::from(2u8);
    let small = (0u8..=20).map(num_bigint::BigUint::from);
    let near_order = (1u8..=7).flat_map(|k| (0u8..=4).map(move |d| order() * k + d - 2u8));
    let powers = (240u32..254).flat_map(|k| [two.pow(k), two.pow(k) - 1u8]);
    let largest = [num_bigint::BigUint::from(Fr::MODULUS) - 1u8];
    let base = BabyJubjub::GENERATOR;
    for h in small.chain(near_order).chain(powers).chain(largest) {
        for q in [base, (base * Scalar::from(3u64)).into_affine(), -base] {
            let (statement, product) = Statement::synthesize(|cs| {
                let q = PointVar {
                    x: witness(&cs, Some(q.x))?,
                    y: witness(&cs, Some(q.y))?,
                };
                multiply(&cs, &q, &bits_of(&cs, &h, 254)?)
            });
            // After every other step the point of order 2 is gone, and a multiple of l leaves the identity, which no
            // coordinates hold. With it, a multiple of l is the point of order 2, and the ladder goes on.
            let representable = (0..=252)
                .step_by(2)
                .all(|k| ((&h >> k) | num_bigint::BigUint::from(1u8)) % order() != 0u8.into());
            assert_eq!(statement.is_satisfied(), representable, "{h}");
            if representable {
                assert_eq!(
                    product.value(),
                    Some((q * Scalar::from(h.clone())).into_affine()),
                    "{h}"
                );
            }
        }
    }
}

#[test]
fn windows_of_base8_are_exact_for_every_scalar() {
    let two = num_bigint::BigUint::from(2u8);
    let small = (0u8..=20).map(num_bigint::BigUint::from);
    let powers =
        (244u32..251).flat_map(|k| [two.pow(k), two.pow(k) - 1u8, order() - two.pow(k - 10)]);
    // Where 2S − 2^249 + 1 comes near a multiple of l, which would collide if the top bits were added like the others.
    let wraps = (1u8..=2).flat_map(|k| {
        let middle: num_bigint::BigUint = (order() * k + two.pow(249)) / 2u8;
        [middle.clone() - 1u8, middle.clone(), middle + 1u8]
    });
    let edges = [
        order() - 1u8,
        order() - 2u8,
        order() / 2u8,
        order() / 2u8 + 1u8,
    ];
    for s in small.chain(powers).chain(wraps).chain(edges) {
        if s >= two.pow(251) {
            continue;
        }
        let (statement, (low, high)) =
            Statement::synthesize(|cs| multiply_base(&cs, &bits_of(&cs, &s, SCALAR_BITS)?));
        assert_eq!(statement.rejected_by(), None, "{s}");
        let sum =
            low.value().expect("values are assigned") + high.value().expect("values are assigned");
        assert_eq!(
            sum.into_affine(),
            (BabyJubjub::GENERATOR * Scalar::from(s.clone())).into_affine(),
            "{s}"
        );
    }
}

/// Deletes constraints one by one: the rank notices each that determines something.
///
/// The two rows that compare the sum with R8 are taken out first, because they tie the ends together and would hide a
/// missing row between them. The other rows that only check, those of the curve and of the comparisons, have a forged
/// witness of their own above.
#[test]
fn deleted_constraints_are_noticed() {
    let (_, key, message, signature) = example();
    let (mut statement, columns) = statement_of(&key, &signature, message, Operand::Witness);
    let first = columns[2] + 1;
    let declared: Vec<usize> = columns.into_iter().chain([first, first + 1]).collect();
    let mut last = statement.rows_named("S·Base8 = R8 + h·8A");
    last.drain(..last.len() - 2);
    last.into_iter().for_each(|row| drop(statement.delete(row)));
    assert_eq!(statement.undetermined(&declared), Vec::<usize>::new());

    let names = [
        "eight times the key",
        "8A is not the identity",
        "h·8A",
        "S·Base8",
    ];
    let sampled = names.into_iter().flat_map(|name| {
        let rows = statement.rows_named(name);
        let step = 1 + rows.len() / 12;
        rows.into_iter().step_by(step)
    });
    let bits_of_s = statement.rows_named("S is below the subgroup order");
    let sampled: Vec<usize> = sampled
        // Bits of the chunk at which S and l differ are also given by the comparison.
        .chain(bits_of_s.into_iter().take(200).step_by(17))
        .collect();
    for row in sampled {
        let deleted = statement.delete(row);
        assert_ne!(
            statement.undetermined(&declared),
            Vec::<usize>::new(),
            "row {row} is not missed"
        );
        statement.restore(deleted);
    }
}
