//! Solidity generated from a verifying key: a verifier contract, and a library of keys as the rollup's constructor takes them.
//!
//! verifying key → [`verifier`] (stand-alone contract) or [`key_library`] (for deployments and tests)
//!
//! Anyone can generate the source again from a key and compare.

use crate::evm::{EvmWord, VerifyingKeyWords};
use crate::groth16::VerifyingKey;
use crate::key::{KeyId, KeyOrigin};
use crate::matrices::CircuitIdentity;
use std::fmt::Write;

const PRAGMA: &str = "0.8.37";

/// What the generated source says about the key.
#[derive(Debug, Clone)]
pub struct Origin<'a> {
    /// Name of the circuit.
    pub circuit: &'a str,
    /// The circuit's content.
    pub identity: CircuitIdentity,
    /// The key.
    pub id: KeyId,
}

impl Origin<'_> {
    fn comment(&self, indent: &str) -> String {
        let mut text = format!(
            "{indent}/// @dev Circuit {}, identity {},\n{indent}///      key {}.\n",
            self.circuit, self.identity, self.id
        );
        if self.id.origin == KeyOrigin::InsecureDev {
            let warning =
                "INSECURE-DEV: one party knows the secrets of this key and can forge proofs.";
            text += &format!("{indent}///      {warning}\n");
        }
        text
    }
}

fn number(word: &EvmWord) -> String {
    format!("0x{}", hex::encode(word))
}

fn list(words: &[EvmWord]) -> String {
    words
        .iter()
        .map(|word| format!("uint256({})", number(word)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// A contract whose `verify(uint256[8] proof, uint256[n] inputs)` reverts unless the proof is valid.
///
/// The points −α, −γ and −δ are baked in, so the contract negates nothing.
pub fn verifier(name: &str, origin: &Origin, key: &VerifyingKey) -> String {
    let words = VerifyingKeyWords::negated(key);
    let inputs = words.ic.len().saturating_sub(1);
    let mut body = String::new();
    for (i, point) in words.ic.iter().enumerate().skip(1) {
        let position = i - 1;
        let _ = writeln!(
            body,
            "        sum = _add(sum, _multiply([{}], inputs[{position}], {position}));",
            list(point)
        );
    }
    let first = words.ic.first().copied().unwrap_or_default();
    format!(
        r#"// SPDX-License-Identifier: MIT
// Generated from the verifying key; do not edit.
pragma solidity {PRAGMA};

/// @title  Groth16 verifier for one circuit
{origin}contract {name} {{
    /// @notice A public input is not below the scalar field's modulus: it would be a second name for a smaller one.
    error InputNotCanonical(uint256 position, uint256 value);
    /// @notice A coordinate is not canonical, or a point is not in its group.
    error InvalidPoint();
    /// @notice The proof does not prove these inputs.
    error InvalidProof();

    uint256 private constant R = 21888242871839275222246405745257275088548364400416034343698204186575808495617;

    /// @notice Returns if the proof is valid and reverts otherwise.
    /// @param  proof  A, B with imaginary parts first, C
    /// @param  inputs public inputs
    function verify(uint256[8] calldata proof, uint256[{inputs}] calldata inputs) external view {{
        uint256[2] memory sum = [{constant}];
{body}        // e(A, B) · e(−alpha, beta) · e(sum, −gamma) · e(C, −delta) = 1
        uint256[24] memory pairs = [
            proof[0], proof[1], proof[2], proof[3], proof[4], proof[5],
            {alpha}, {beta},
            sum[0], sum[1], {gamma},
            proof[6], proof[7], {delta}
        ];
        uint256[1] memory result;
        bool done;
        assembly ("memory-safe") {{
            done := staticcall(gas(), 0x08, pairs, 0x300, result, 0x20)
        }}
        if (!done) revert InvalidPoint();
        if (result[0] != 1) revert InvalidProof();
    }}

    function _multiply(uint256[2] memory point, uint256 scalar, uint256 position)
        private
        view
        returns (uint256[2] memory product)
    {{
        if (scalar >= R) revert InputNotCanonical(position, scalar);
        uint256[3] memory words = [point[0], point[1], scalar];
        bool done;
        assembly ("memory-safe") {{
            done := staticcall(gas(), 0x07, words, 0x60, product, 0x40)
        }}
        if (!done) revert InvalidPoint();
    }}

    function _add(uint256[2] memory a, uint256[2] memory b) private view returns (uint256[2] memory sum) {{
        uint256[4] memory words = [a[0], a[1], b[0], b[1]];
        bool done;
        assembly ("memory-safe") {{
            done := staticcall(gas(), 0x06, words, 0x80, sum, 0x40)
        }}
        if (!done) revert InvalidPoint();
    }}
}}
"#,
        origin = origin.comment(""),
        constant = list(&first),
        alpha = list(&words.alpha),
        beta = list(&words.beta),
        gamma = list(&words.gamma),
        delta = list(&words.delta),
    )
}

/// A library with one function per key that returns it as the rollup's `VerifyingKey`: nothing negated.
///
/// `interface` is the import path of the file that declares `IRollup`.
pub fn key_library(name: &str, interface: &str, keys: &[(&str, Origin, &VerifyingKey)]) -> String {
    let mut functions = String::new();
    for (function, origin, key) in keys {
        functions += &key_function(function, origin, key);
    }
    format!(
        "// SPDX-License-Identifier: MIT\n// Generated from the verifying keys; do not edit.\npragma solidity {PRAGMA};\n\n\
         import {{IRollup}} from \"{interface}\";\n\n/// @title  Verifying keys of the rollup's circuits\nlibrary {name} {{\n{}}}\n",
        functions.trim_start_matches('\n')
    )
}

fn key_function(name: &str, origin: &Origin, key: &VerifyingKey) -> String {
    let words = VerifyingKeyWords::of(key);
    let mut text = format!(
        "\n{}    function {name}() internal pure returns (IRollup.VerifyingKey memory key) {{\n",
        origin.comment("    ")
    );
    for (field, values) in [
        ("alpha", &words.alpha[..]),
        ("beta", &words.beta),
        ("gamma", &words.gamma),
        ("delta", &words.delta),
    ] {
        let _ = writeln!(text, "        key.{field} = [{}];", list(values));
    }
    let _ = writeln!(
        text,
        "        key.ic = new uint256[2][]({});",
        words.ic.len()
    );
    for (i, point) in words.ic.iter().enumerate() {
        let _ = writeln!(text, "        key.ic[{i}] = [{}];", list(point));
    }
    text + "    }\n"
}

#[cfg(test)]
mod tests;
