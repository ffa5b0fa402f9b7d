//! Proofs, public inputs and verifying keys in snarkjs' JSON, both ways.
//!
//! `snarkjs groth16 verify vkey.json public.json proof.json` accepts what this module writes.
//!
//! Numbers are decimal texts. G1 = [x, y, "1"]; G2 = [[x.c0, x.c1], [y.c0, y.c1], ["1", "0"]] (real part first, unlike the
//! EVM); infinity = ["0", "1", "0"] and [["0", "0"], ["1", "0"], ["0", "0"]].

use crate::evm::{PointError, check_g2};
use crate::groth16::VerifyingKey;
use crate::proof::Proof;
use ark_bn254::{Bn254, Fq, Fq2, Fr, G1Affine, G2Affine};
use ark_ec::AffineRepr;
use ark_ec::pairing::Pairing;
use ark_ff::{PrimeField, Zero};
use millrace_circuits::field::{self, Word, WordError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Why JSON is no proof, key or input.
#[derive(Debug, Error)]
pub enum SnarkjsError {
    /// The text is not of the expected form.
    #[error("not snarkjs' JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Another proof system or curve.
    #[error("expected protocol groth16 on curve bn128, got {protocol} on {curve}")]
    OtherSystem {
        /// The protocol named.
        protocol: String,
        /// The curve named.
        curve: String,
    },
    /// A coordinate is no number below the modulus.
    #[error("not a coordinate: {0}")]
    NotACoordinate(String),
    /// A point is not in its group.
    #[error(transparent)]
    Point(#[from] PointError),
    /// An input is no canonical word.
    #[error("public input: {0}")]
    Input(#[from] WordError),
    /// The key's points do not match its number of inputs.
    #[error("nPublic is {inputs}, so IC must have one point more, not {points}")]
    WrongInputCount {
        /// Inputs stated.
        inputs: usize,
        /// Points given.
        points: usize,
    },
}

type G1Text = [String; 3];
type G2Text = [[String; 2]; 3];

const PROTOCOL: &str = "groth16";
const CURVE: &str = "bn128";

#[derive(Serialize, Deserialize)]
struct ProofJson {
    pi_a: G1Text,
    pi_b: G2Text,
    pi_c: G1Text,
    protocol: String,
    curve: String,
}

#[derive(Serialize, Deserialize)]
struct KeyJson {
    protocol: String,
    curve: String,
    #[serde(rename = "nPublic")]
    inputs: usize,
    vk_alpha_1: G1Text,
    vk_beta_2: G2Text,
    vk_gamma_2: G2Text,
    vk_delta_2: G2Text,
    /// e(α, β) as three pairs of pairs; snarkjs writes it and never reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vk_alphabeta_12: Option<serde_json::Value>,
    #[serde(rename = "IC")]
    ic: Vec<G1Text>,
}

/// `proof.json`.
pub fn proof_json(proof: &Proof) -> String {
    pretty(&ProofJson {
        pi_a: g1_text(&proof.a),
        pi_b: g2_text(&proof.b),
        pi_c: g1_text(&proof.c),
        protocol: PROTOCOL.into(),
        curve: CURVE.into(),
    })
}

/// `public.json`.
pub fn public_json(inputs: &[Fr]) -> String {
    pretty(&inputs.iter().map(ToString::to_string).collect::<Vec<_>>())
}

/// `vkey.json`.
pub fn verifying_key_json(key: &VerifyingKey) -> String {
    pretty(&KeyJson {
        protocol: PROTOCOL.into(),
        curve: CURVE.into(),
        inputs: key.gamma_abc_g1.len().saturating_sub(1),
        vk_alpha_1: g1_text(&key.alpha_g1),
        vk_beta_2: g2_text(&key.beta_g2),
        vk_gamma_2: g2_text(&key.gamma_g2),
        vk_delta_2: g2_text(&key.delta_g2),
        vk_alphabeta_12: Some(alpha_beta(key)),
        ic: key.gamma_abc_g1.iter().map(g1_text).collect(),
    })
}

/// Reads a `proof.json`.
///
/// # Errors
/// If it is of another form or system, or holds points outside their groups.
pub fn read_proof(json: &str) -> Result<Proof, SnarkjsError> {
    let proof: ProofJson = serde_json::from_str(json)?;
    check_system(&proof.protocol, &proof.curve)?;
    Ok(Proof {
        a: read_g1(&proof.pi_a)?,
        b: read_g2(&proof.pi_b)?,
        c: read_g1(&proof.pi_c)?,
    })
}

/// Reads a `public.json`.
///
/// # Errors
/// If it is no list of canonical words.
pub fn read_public(json: &str) -> Result<Vec<Fr>, SnarkjsError> {
    let texts: Vec<String> = serde_json::from_str(json)?;
    texts
        .iter()
        .map(|text| Ok(field::from_text(text)?))
        .collect()
}

/// Reads a `vkey.json`.
///
/// # Errors
/// If it is of another form or system, or holds points outside their groups.
pub fn read_verifying_key(json: &str) -> Result<VerifyingKey, SnarkjsError> {
    let key: KeyJson = serde_json::from_str(json)?;
    check_system(&key.protocol, &key.curve)?;
    if key.ic.len() != key.inputs.saturating_add(1) {
        let (inputs, points) = (key.inputs, key.ic.len());
        return Err(SnarkjsError::WrongInputCount { inputs, points });
    }
    Ok(VerifyingKey {
        alpha_g1: read_g1(&key.vk_alpha_1)?,
        beta_g2: read_g2(&key.vk_beta_2)?,
        gamma_g2: read_g2(&key.vk_gamma_2)?,
        delta_g2: read_g2(&key.vk_delta_2)?,
        gamma_abc_g1: key.ic.iter().map(read_g1).collect::<Result<_, _>>()?,
    })
}

/// Inputs as words, for other formats.
pub fn words(inputs: &[Fr]) -> Vec<Word> {
    inputs.iter().copied().map(Word).collect()
}

fn pretty<T: Serialize>(value: &T) -> String {
    serde_json::to_string_pretty(value).expect("texts and lists always serialize")
}

fn check_system(protocol: &str, curve: &str) -> Result<(), SnarkjsError> {
    if protocol == PROTOCOL && (curve == CURVE || curve == "bn254") {
        return Ok(());
    }
    let short = |text: &str| text.chars().take(40).collect();
    Err(SnarkjsError::OtherSystem {
        protocol: short(protocol),
        curve: short(curve),
    })
}

fn g1_text(point: &G1Affine) -> G1Text {
    match point.xy() {
        Some((x, y)) => [x.to_string(), y.to_string(), "1".into()],
        None => ["0", "1", "0"].map(String::from),
    }
}

fn g2_text(point: &G2Affine) -> G2Text {
    match point.xy() {
        Some((x, y)) => [fq2_text(&x), fq2_text(&y), ["1".into(), "0".into()]],
        None => [["0", "0"], ["1", "0"], ["0", "0"]].map(|pair| pair.map(String::from)),
    }
}

fn fq2_text(value: &Fq2) -> [String; 2] {
    [value.c0.to_string(), value.c1.to_string()]
}

fn alpha_beta(key: &VerifyingKey) -> serde_json::Value {
    let pairing = Bn254::pairing(key.alpha_g1, key.beta_g2).0;
    let sixth = |half: &ark_bn254::Fq6| {
        serde_json::json!([fq2_text(&half.c0), fq2_text(&half.c1), fq2_text(&half.c2)])
    };
    serde_json::json!([sixth(&pairing.c0), sixth(&pairing.c1)])
}

fn read_fq(text: &str) -> Result<Fq, SnarkjsError> {
    let not_a_coordinate = || SnarkjsError::NotACoordinate(text.chars().take(80).collect());
    let digits = !text.is_empty() && text.len() <= 77 && text.bytes().all(|b| b.is_ascii_digit());
    let value: Fq = if digits { text.parse().ok() } else { None }.ok_or_else(not_a_coordinate)?;
    // The parser reduces; a canonical text is the one that comes out again.
    let canonical = value.into_bigint().to_string() == text.trim_start_matches('0')
        || (value.is_zero() && text.bytes().all(|b| b == b'0'));
    if canonical {
        Ok(value)
    } else {
        Err(not_a_coordinate())
    }
}

fn read_g1(text: &G1Text) -> Result<G1Affine, SnarkjsError> {
    match text[2].as_str() {
        "0" => return Ok(G1Affine::zero()),
        "1" => {}
        other => {
            return Err(SnarkjsError::NotACoordinate(
                other.chars().take(80).collect(),
            ));
        }
    }
    let point = G1Affine::new_unchecked(read_fq(&text[0])?, read_fq(&text[1])?);
    if point.is_on_curve() {
        Ok(point)
    } else {
        Err(PointError::NotOnCurve.into())
    }
}

fn read_g2(text: &G2Text) -> Result<G2Affine, SnarkjsError> {
    match [text[2][0].as_str(), text[2][1].as_str()] {
        ["0", "0"] => return Ok(G2Affine::zero()),
        ["1", "0"] => {}
        [other, _] => {
            return Err(SnarkjsError::NotACoordinate(
                other.chars().take(80).collect(),
            ));
        }
    }
    let pair = |[c0, c1]: &[String; 2]| -> Result<Fq2, SnarkjsError> {
        Ok(Fq2::new(read_fq(c0)?, read_fq(c1)?))
    };
    Ok(check_g2(G2Affine::new_unchecked(
        pair(&text[0])?,
        pair(&text[1])?,
    ))?)
}

#[cfg(test)]
mod tests;
